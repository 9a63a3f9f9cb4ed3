"""What the query of an address asks for: which business, which words, which page."""

from django.core.paginator import EmptyPage, PageNotAnInteger, Paginator
from django.http import Http404


def search_of(request):
    """The words that `?q=` looks for; a database refuses a zero byte."""
    return request.GET.get("q", "").replace("\0", "").strip()[:100]


def page_of(request, rows, size):
    """The page that `?page=` names; 404 for one that is not there."""
    try:
        return Paginator(rows, size).page(request.GET.get("page", 1))
    except (EmptyPage, PageNotAnInteger) as error:
        raise Http404 from error


def business_called(businesses, slug):
    """The one of `businesses` with this short name, by which the links of lists name it."""
    return next((business for business in businesses if business.slug == slug), None)


def named_business(businesses, name):
    """The one of `businesses` with this id, else with this short name, which may be a number as well.

    Compared here, for no database is asked for just any text.
    """
    by_name = {business.slug: business for business in businesses} | {str(one.pk): one for one in businesses}
    return by_name.get(name)

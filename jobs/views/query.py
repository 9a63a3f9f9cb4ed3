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


def business_by_slug(businesses, slug):
    """The one of `businesses` with this short name, by which the links of lists name it; None where there is none."""
    return next((business for business in businesses if business.slug == slug), None)


def business_by_id_or_slug(businesses, name):
    """The one with this id, as a form has it, else with this short name, which may be a number as well.

    Compared here, for no database is asked for just any text.
    """
    by_id = {str(business.pk): business for business in businesses}
    return by_id.get(name) or business_by_slug(businesses, name)

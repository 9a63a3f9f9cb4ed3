from django.contrib.auth.decorators import login_required
from django.core.paginator import EmptyPage, PageNotAnInteger, Paginator
from django.http import Http404
from django.shortcuts import render
from django.views.decorators.http import require_safe

from jobs.models import Business, Job
from jobs.rights import Right

JOBS_PER_PAGE = 50


@login_required
@require_safe
def job_list(request):
    jobs = Job.objects.seen_by(request.user).select_related("business", "requester")
    businesses = Business.objects.where(request.user, Right.VIEW)
    business = named_business(businesses, request.GET.get("business"))
    if business:
        jobs = jobs.filter(business=business)
    if (status := request.GET.get("status", "")) in Job.Status:
        jobs = jobs.filter(status=status)
    if search := search_of(request):
        jobs = jobs.found_by(search)
    context = {
        "businesses": businesses,
        "business": business,
        "status": status,
        "statuses": Job.Status.choices,
        "search": search,
        "may_ask_for": Business.objects.where(request.user, Right.CREATE),
        "page": page_of(request, jobs, JOBS_PER_PAGE),
    }
    return render(request, "jobs/job_list.html", context)


def search_of(request):
    """The words that `?q=` looks for; a database refuses a zero byte."""
    return request.GET.get("q", "").replace("\0", "").strip()[:100]


def page_of(request, rows, size):
    """The page that `?page=` names; 404 for one that is not there."""
    try:
        return Paginator(rows, size).page(request.GET.get("page", 1))
    except (EmptyPage, PageNotAnInteger) as error:
        raise Http404 from error


def named_business(businesses, name):
    """The one of `businesses` with this id, else with this short name, which may be a number as well.

    Compared here, for no database is asked for just any text.
    """
    by_name = {business.slug: business for business in businesses} | {str(one.pk): one for one in businesses}
    return by_name.get(name)

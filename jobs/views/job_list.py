from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_safe

from jobs.models import Business, Job
from jobs.rights import Right
from jobs.views.query import business_by_slug, page_of, search_of

JOBS_PER_PAGE = 50


@login_required
@require_safe
def job_list(request):
    jobs = Job.objects.seen_by(request.user).select_related("business", "requester")
    businesses = Business.objects.where(request.user, Right.VIEW)
    business = business_by_slug(businesses, request.GET.get("business"))
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

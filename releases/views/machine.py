from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import Http404
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from jobs.access import sees_job
from jobs.models import Business, Listing, Machine
from jobs.rights import Right
from jobs.views.query import business_by_slug, page_of, search_of
from releases.models import MachineRun
from releases.models.machine_run import with_versions

PER_PAGE = 100
RUNS_PER_PAGE = 50


@login_required
@require_safe
def machine_list(request):
    """The machines that a business has now, and what is on them."""
    businesses = Business.objects.where(request.user, Right.VIEW)
    wanted = request.GET.get("business")
    business = business_by_slug(businesses, wanted) if wanted else businesses.first()
    if wanted and business is None:
        raise Http404
    if business:
        business.refresh_machines()
    search = search_of(request)
    machines = with_versions(Machine.objects.live_in(business), business) if business else Machine.objects.none()
    found = machines.filter(Q(hostname__icontains=search) | Q(address__icontains=search) | Q(site__iexact=search))
    context = {"businesses": businesses, "business": business, "search": search}
    return render(request, "releases/machine_list.html", context | {"page": page_of(request, found, PER_PAGE)})


@login_required
@require_safe
def machine_page(request, machine_id):
    """What is on one machine, who holds it, and which jobs have touched it; as far as this person may see them."""
    businesses = Business.objects.where(request.user, Right.VIEW)
    listings = Listing.objects.filter(business__in=businesses, machine=machine_id).select_related("business")
    machine = get_object_or_404(Machine.objects.filter(listings__in=listings).distinct(), pk=machine_id)
    runs = MachineRun.objects.filter(machine=machine).select_related("run__stage__job__business", "run__started_by")
    holder = MachineRun.objects.holder_of(machine)
    is_of_others = listings.left_to_others().count() == len(listings)
    context = {
        "machine": machine,
        "is_of_others": is_of_others,
        # In a template, a label named items would be taken instead.
        "labels": [] if is_of_others else sorted(machine.labels.items()),
        "listings": [(one, *_there(machine, one.business)) for one in listings],
        "holder": holder,
        "holder_is_seen": holder and sees_job(request.user, holder.run.stage.job_id),
        "page": page_of(request, runs.filter(run__stage__job__business__in=businesses).order_by("-pk"), RUNS_PER_PAGE),
    }
    return render(request, "releases/machine.html", context)


def _there(machine, business):
    """The version last seen there, and how the last run ended where it did not leave one that was seen."""
    last = MachineRun.objects.last_touched(machine, business)
    since = last.get_status_display() if last and last.status != MachineRun.Status.SUCCEEDED else ""
    return MachineRun.objects.version_on(machine, business), since

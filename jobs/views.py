from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import EmptyPage, PageNotAnInteger, Paginator
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs.access import get_job
from jobs.forms import ApprovalForm, JobForm, ReasonForm
from jobs.machine_list import MachineList, lean
from jobs.models import Business, Freeze, Job, JobMoved, Notice
from jobs.rights import Right

JOBS_PER_PAGE = 50


@login_required
@require_GET
def job_list(request):
    jobs = Job.objects.seen_by(request.user).select_related("business", "requester")
    businesses = Business.objects.where(request.user, Right.VIEW)
    business = named_business(businesses, request.GET.get("business"))
    if business:
        jobs = jobs.filter(business=business)
    if (status := request.GET.get("status", "")) in Job.Status:
        jobs = jobs.filter(status=status)
    context = {
        "businesses": businesses,
        "business": business,
        "status": status,
        "statuses": Job.Status,
        "may_ask": Business.objects.where(request.user, Right.CREATE).exists(),
        "page": page_of(request, jobs, JOBS_PER_PAGE),
    }
    return render(request, "jobs/job_list.html", context)


@gzip_page
@login_required
@require_http_methods(["GET", "POST"])
def new_job(request):
    businesses = Business.objects.where(request.user, Right.CREATE)
    if not businesses:
        raise PermissionDenied(_("You lack the right to create a job for any business."))
    business = _chosen_business(request, businesses)
    business.refresh_machines()
    form = JobForm(_posted(request), user=request.user, business=business)
    if _is_sent(request) and form.is_valid():
        form.instance.ask(request.user, form.cleaned_data["machines"])
        return redirect("job", form.instance.pk)
    return _job_form(request, form, business)


@gzip_page
@login_required
@require_http_methods(["GET", "POST"])
def edit_job(request, job_id):
    job = get_job(request.user, job_id, Right.EDIT)
    if not job.is_before_first_stage:
        messages.error(request, _("A stage has begun: this job can no longer be edited."))
        return redirect("job", job.pk)
    job.business.refresh_machines()
    form = JobForm(_posted(request), user=request.user, business=job.business, instance=job)
    if _is_sent(request) and form.is_valid():
        saved = _("Saved. It needs approval again.") if job.business.approvers_needed else _("Saved.")
        return _step(request, job, saved, job.edit, form.cleaned_data["machines"])
    return _job_form(request, form, job.business)


@login_required
@require_POST
def withdraw_job(request, job_id):
    job = get_job(request.user, job_id, Right.EDIT)
    form = ReasonForm(request.POST, missing=_("Say why the job is withdrawn."))
    if not form.is_valid():
        messages.error(request, form.problem)
        return redirect("job", job.pk)
    return _step(request, job, _("Withdrawn."), job.withdraw, form.cleaned_data["reason"])


@login_required
@require_POST
def approve_job(request, job_id):
    job = get_job(request.user, job_id, Right.APPROVE)
    form = ApprovalForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.problem)
        return redirect("job", job.pk)
    job.revision = form.cleaned_data["revision"]
    left = job.approvals_left - 1
    words = ngettext("Approved; it waits for %(n)d more.", "Approved; it waits for %(n)d more.", left) % {"n": left}
    return _step(request, job, words if left > 0 else _("Approved."), job.approve, form.cleaned_data["reason"])


@login_required
@require_POST
def acknowledge(request, notice_id):
    notice = get_object_or_404(Notice.objects.filter(to=request.user).select_related("job", "to"), pk=notice_id)
    get_job(request.user, notice.job_id)
    notice.acknowledge()
    messages.success(request, _("Acknowledged."))
    return redirect("home")


def page_of(request, rows, size):
    """The page that `?page=` names; 404 for one that is not there."""
    try:
        return Paginator(rows, size).page(request.GET.get("page", 1))
    except (EmptyPage, PageNotAnInteger) as error:
        raise Http404 from error


def _chosen_business(request, businesses):
    chosen = request.POST.get("business") or request.GET.get("business")
    business = named_business(businesses, chosen) if chosen else businesses[0]
    if business is None:
        raise Http404
    return business


def named_business(businesses, name):
    """The one of `businesses` with this id or short name; compared here, for no database is asked for just any text."""
    return next((business for business in businesses if name in (str(business.pk), business.slug)), None)


def _posted(request):
    return request.POST if request.method == "POST" else None


def _is_sent(request):
    """Whether the form is to be taken; a page without scripts may only ask for another page of its list."""
    return request.method == "POST" and "list" not in request.POST


def _job_form(request, form, business):
    if "list" in request.POST:
        form.errors.clear()
    listed = MachineList(
        machines=lean(form.fields["machines"].queryset),
        chosen={"machines": form["machines"].value()},
        asked_page=request.POST.get("list"),
    )
    freezes = Freeze.objects.windows().of(business).ahead()
    context = {"form": form, "business": business, "list": listed, "freezes": freezes}
    approvers = business.members_with(Right.APPROVE).exclude(pk=request.user.pk)
    if form.instance.pk:
        approvers = form.instance.approvers().exclude(pk=request.user.pk)
    return render(request, "jobs/job_form.html", context | {"approvers": approvers})


def _step(request, job, done, step, *args):
    """Takes `step` as this user and says so on the job's page, or says why it was too late."""
    try:
        step(request.user, *args)
        messages.success(request, done)
    except JobMoved as moved:
        messages.error(request, str(moved))
    return redirect("job", job.pk)

import re
from uuid import uuid4

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods

from deploy_portal.converters import PkConverter
from jobs.access import get_job
from jobs.forms import JobForm
from jobs.machine_list import MachineList, lean
from jobs.models import Business, FormUsed, Freeze, JobMoved
from jobs.rights import Right
from jobs.views.query import business_by_id_or_slug


@gzip_page
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_job(request):
    businesses = Business.objects.where(request.user, Right.CREATE)
    if not businesses:
        raise PermissionDenied(_("You lack the right to create a job for any business."))
    business = _chosen_business(request, businesses)
    business.refresh_machines()
    form = JobForm(_posted(request), user=request.user, business=business, initial=_like(request))
    if not (_is_sent(request) and form.is_valid()):
        return _job_form(request, form, business)
    try:
        job = form.instance.ask_once(request.user, form.cleaned_data["machines"], form.cleaned_data["key"])
    except FormUsed as used:
        return _job_form(request, form, business, used, status=409)
    return redirect("job", job.pk)


@gzip_page
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit_job(request, job_id):
    job = get_job(request.user, job_id, Right.EDIT)
    if request.method != "POST" and not job.is_before_first_stage:
        messages.error(request, _("A job that has begun or was withdrawn is no longer edited."))
        return redirect("job", job.pk)
    job.business.refresh_machines()
    form = _edit_form(request, job)
    if not (_is_sent(request) and form.is_valid()):
        return _job_form(request, form, job.business)
    try:
        if not form.is_saved_already:
            job.edit(request.user, form.cleaned_data["machines"])
    except JobMoved as conflict:
        job = get_job(request.user, job_id, Right.EDIT)
        form = _edit_form(request, job)
        if form.is_valid() and not form.is_saved_already:
            form.add_error("revision", str(conflict))
        if form.errors:
            return _job_form(request, form, job.business, status=409)
    saved = _("Saved. It needs approval again.") if job.is_waiting else _("Saved.")
    messages.success(request, saved)
    return redirect("job", job.pk)


def _edit_form(request, job):
    return JobForm(_posted(request), user=request.user, business=job.business, instance=job)


def _like(request):
    """What a new job begins with when it is like another one: where, and by which plan; not what, or why."""
    number = request.GET.get("like")
    if not number or request.method == "POST":
        return {}
    if not re.fullmatch(PkConverter.regex, number):
        raise Http404
    job = get_job(request.user, int(number))
    plan = {"plan_pre_release": job.plan_pre_release, "plan_gray_release": job.plan_gray_release}
    return plan | {"machines": set(job.job_machines.values_list("machine", flat=True))}


def _chosen_business(request, businesses):
    chosen = request.POST.get("business") or request.GET.get("business")
    business = business_by_id_or_slug(businesses, chosen) if chosen else businesses[0]
    if business is None:
        raise Http404
    return business


def _posted(request):
    return request.POST if request.method == "POST" else None


def _is_sent(request):
    """Whether the form is to be taken; a page without scripts may only ask for another page of its list."""
    return request.method == "POST" and "list" not in request.POST


def _job_form(request, form, business, used=None, status=200):
    if "list" in request.POST:
        form.errors.clear()
    listed = MachineList(
        machines=lean(form.fields["machines"].queryset),
        chosen={"machines": form["machines"].value()},
        asked_page=request.POST.get("list"),
    )
    freezes = Freeze.objects.windows().of(business).ahead()
    context = {"form": form, "business": business, "list": listed, "freezes": freezes, "used": used}
    # The same form until it has made a job, mistakes and all.
    context["key"] = (form.is_bound and not used and form.cleaned_data.get("key")) or uuid4()
    job = form.instance
    # Turning a page of the list is no look at what somebody else saved meanwhile.
    context["revision"] = ("list" in request.POST and form["revision"].value()) or str(job.revision)
    approvers = (job.approvers() if job.pk else business.members_with(Right.APPROVE)).exclude(pk=request.user.pk)
    drift = _drift(job) if job.pk else {}
    return render(request, "jobs/job_form.html", context | drift | {"approvers": approvers}, status=status)


def _drift(job):
    """What is gone is told so, and not where another business may have it now."""
    gone = job.job_machines.gone()
    return {"moved": job.job_machines.moved().exclude(pk__in=gone.values("pk"))[:11], "gone": gone[:11]}

"""What is done with a job by a button on its page."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from jobs.access import get_job
from jobs.forms import ApprovalForm, ReasonForm
from jobs.models import JobMoved
from jobs.rights import Right


@login_required
@require_POST
def withdraw_job(request, job_id):
    job = get_job(request.user, job_id, Right.EDIT)
    form = ReasonForm(request.POST, missing=_("Say why the job is withdrawn."))
    if not form.is_valid():
        return ask_again(request, job, form, _("Withdraw this job"), _("Withdraw"), danger=True)
    return take_step(request, job, _("Withdrawn."), job.withdraw, form.cleaned_data["reason"])


@login_required
@require_POST
def approve_job(request, job_id):
    job = get_job(request.user, job_id, Right.APPROVE)
    form = ApprovalForm(request.POST)
    if "revision" in form.errors:
        messages.error(request, form.problem)
        return redirect("job", job.pk)
    if not form.is_valid():
        return ask_again(request, job, form, _("Approve this job"), _("Approve"))
    job.revision = form.cleaned_data["revision"]
    left = job.approvals_left - 1
    words = ngettext("Approved; it waits for %(n)d more.", "Approved; it waits for %(n)d more.", left) % {"n": left}
    return take_step(request, job, words if left > 0 else _("Approved."), job.approve, form.cleaned_data["reason"])


def take_step(request, job, done, step, *args):
    """Takes `step` as this user and says so on the job's page, or says why it was too late."""
    try:
        step(request.user, *args)
        messages.success(request, done)
    except JobMoved as moved:
        messages.error(request, str(moved))
    return redirect("job", job.pk)


def ask_again(request, job, form, title, button, danger=False):
    """Shows the reason that was typed for a step, and what is wrong with it."""
    context = {"job": job, "form": form, "title": title, "button": button, "danger": danger}
    return render(request, "jobs/step.html", context)

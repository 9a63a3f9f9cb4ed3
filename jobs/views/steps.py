"""What is done with a job by a button on its page."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from jobs.access import get_job
from jobs.forms import ApprovalForm, ReasonForm, SendBackForm
from jobs.models import Event, JobMoved
from jobs.rights import Right
from jobs.views.not_taken import ask_again, too_late


@login_required
@require_POST
def withdraw_job(request, job_id):
    job = get_job(request.user, job_id, Right.EDIT)
    form = ReasonForm(request.POST, missing=_("Say why the job is withdrawn."))
    if not form.is_valid():
        return ask_again(request, job, form, _("Withdraw this job"), _("Withdraw"), danger=True)
    return _take(request, job, Event.Verb.WITHDRAWN, job.withdraw, form.cleaned_data["reason"])


@login_required
@require_POST
def approve_job(request, job_id):
    job = get_job(request.user, job_id, Right.APPROVE)
    form = ApprovalForm(request.POST)
    if not form.is_valid():
        return ask_again(request, job, form, _("Approve this job"), _("Approve"))
    job.revision = form.cleaned_data["revision"]
    return _take(request, job, Event.Verb.APPROVED, job.approve, form.cleaned_data["reason"])


@login_required
@require_POST
def send_back_job(request, job_id):
    job = get_job(request.user, job_id, Right.APPROVE)
    form = SendBackForm(request.POST, missing=_("Say what has to be different."))
    if not form.is_valid():
        return ask_again(request, job, form, _("Send this job back"), _("Send back"), danger=True)
    job.revision = form.cleaned_data["revision"]
    return _take(request, job, Event.Verb.SENT_BACK, job.send_back, form.cleaned_data["reason"])


def _take(request, job, verb, step, reason):
    """Takes `step` as this user and says so on the job's page, or says why it was too late."""
    try:
        step(request.user, reason)
    except JobMoved as conflict:
        if not job.has_just(verb, request.user, reason):
            return too_late(request, conflict, reason, reverse("job", args=[job.pk]), job)
    job.refresh_from_db()
    messages.success(request, _done(job, verb))
    return redirect("job", job.pk)


def _done(job, verb):
    left = job.approvals_left
    if verb == Event.Verb.APPROVED and left:
        return ngettext("Approved; it waits for %(n)d more.", "Approved; it waits for %(n)d more.", left) % {"n": left}
    words = {"approved": _("Approved."), "withdrawn": _("Withdrawn."), "sent_back": _("Sent back.")}
    return words[verb]

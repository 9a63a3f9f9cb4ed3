from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from jobs.models import Event
from jobs.rights import Right
from jobs.views.not_taken import too_late
from releases.access import get_run
from releases.counts import counted, ordered
from releases.forms import RemarkForm
from releases.models import RunMoved
from releases.pictures import JobPicture, RunPicture


@gzip_page
@login_required
@require_safe
def run_page(request, job_id, run_id):
    """What became of a run. The newest of a stage is on the stage's own page, which goes on from there."""
    run = get_run(request.user, run_id, job_id, Right.VIEW)
    job, stage = run.stage.job, run.stage
    if not stage.runs.filter(pk__gt=run.pk).exists():
        return redirect("stage", job.pk, stage.kind)
    context = {"job": job, "stage": stage, "run": RunPicture(run), "pipeline": JobPicture(job).pipeline(stage)}
    return render(request, "releases/run.html", context)


@login_required
@require_POST
def pause_run(request, job_id, run_id):
    run = get_run(request.user, run_id, job_id)
    return _turn(request, run, run.pause, Event.Verb.PAUSED, _("Paused: nothing more begins until it is resumed."))


@login_required
@require_POST
def resume_run(request, job_id, run_id):
    run = get_run(request.user, run_id, job_id)
    return _turn(request, run, run.resume, Event.Verb.RESUMED, _("Resumed."))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def cancel_run(request, job_id, run_id):
    """Asks once more, saying what would be ended; a POST cancels."""
    run = get_run(request.user, run_id, job_id)
    form = RemarkForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        done = _("Cancelled: what has not begun stays so, what runs is being ended.")
        return _turn(request, run, run.cancel, Event.Verb.CANCELLED, done)
    counts = counted(run.machine_runs.counts(), run.action)
    context = {
        "job": run.stage.job,
        "stage": run.stage,
        "run": run,
        "counts": ordered(counts),
        "running": counts["running"],
        "pipeline": JobPicture(run.stage.job).pipeline(run.stage),
        "form": form,
    }
    return render(request, "releases/cancel.html", context)


def _turn(request, run, step, verb, done):
    stage, form = run.stage, RemarkForm(request.POST)
    page = reverse("stage", args=[stage.job_id, stage.kind])
    if not form.is_valid():
        messages.error(request, form.errors["reason"][0])
        return redirect(page)
    reason = form.cleaned_data["reason"]
    try:
        step(request.user, reason)
    except RunMoved as conflict:
        if not stage.job.has_just(verb, request.user, reason, stage.kind, run=run.pk):
            return too_late(request, conflict, reason, page, stage.job)
    messages.success(request, done)
    return redirect(page)

from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods

from jobs.access import get_job
from jobs.machine_list import MachineList, Mark
from jobs.models import JobMoved
from jobs.rights import Right
from releases import tokens
from releases.forms import RollbackForm, steps_in
from releases.models import MachinesHeld, ReleaseStage, Run, StageMoved
from releases.models.stage_moved import STILL_GOING_ON
from releases.pictures import JobPicture
from releases.rollback import Rollback


@gzip_page
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def roll_back_stage(request, job_id, kind):
    return _roll_back(request, job_id, kind)


@gzip_page
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def roll_back_job(request, job_id):
    return _roll_back(request, job_id, "job")


def _roll_back(request, job_id, what):
    """Shows each machine, now and back to; a POST starts a rollback run in every stage that has some of the chosen."""
    job = get_job(request.user, job_id, Right.PUBLISH)
    job.business.refresh_machines()
    rollback = Rollback(job, what, request.user)
    form = RollbackForm(request.POST if request.method == "POST" else None, rollback=rollback)
    if "list" in request.POST:  # from a page without scripts: another page of its list
        form.errors.clear()
    if "list" in request.POST or not form.is_bound:
        return _show(request, rollback, form)
    try:
        return _submit(request, rollback, form)
    except (StageMoved, JobMoved, MachinesHeld) as conflict:
        rollback = Rollback(get_job(request.user, job_id), what, request.user)
        form = RollbackForm(request.POST, rollback=rollback)
        return _show(request, rollback, form, str(conflict), status=409)


def _submit(request, rollback, form):
    job, what = rollback.job, rollback.what
    key, version = tokens.read(request.POST.get("token", ""), request.user, job, what)
    is_valid = form.is_valid()
    runs = Run.objects.filter(stage__job=job, submit_key__startswith=f"{key}:")
    if runs.of_just(form["machines"].value()):
        return _done(job, what)
    if version != rollback.version:
        raise StageMoved(_("This job has moved on since the page was loaded. Nothing was started."))
    if what != "job" and rollback.stages[0].is_running:
        raise StageMoved(STILL_GOING_ON)
    if not is_valid:
        return _show(request, rollback, form, status=409 if form.has_error("machines", "not_offered") else 200)
    chosen = {machine.pk for machine in form.cleaned_data["machines"]}
    reason, undo_later = form.cleaned_data["reason"], form.cleaned_data["undo_later"]
    ReleaseStage.objects.roll_back(rollback.stages, chosen, request.user, reason, key, undo_later)
    return _done(job, what)


def _show(request, rollback, form, conflict="", status=200):
    job, what = rollback.job, rollback.what
    stage = rollback.stages[0] if what != "job" else None
    context = {
        "job": job,
        "pipeline": JobPicture(job, rollback.stages[0].siblings).pipeline(stage),
        "list": _listed(rollback, form, request.POST.get("list")),
        "out_of_reach": rollback.out_of_reach,
        "why_not": dict.fromkeys(rollback.out_of_reach.values()),
        "tasks": {stage.rollback_task for stage in rollback.stages if stage.rollback_task},
        "form": form,
        "steps_in": steps_in(request.user, job),
        "token": tokens.issue(request.user, job, what, rollback.version),
        "conflict": conflict,
        "lately": job.events.lately(stage and stage.kind) if conflict else [],
    }
    return render(request, "releases/rollback.html", context, status=status)


def _listed(rollback, form, page):
    not_known = _("not known")
    return MachineList(
        machines=rollback.machines,
        chosen={"machines": form["machines"].value()},
        versions={run.machine_id: run.rollback_versions[0] or not_known for run in rollback.changed},
        notes=rollback.notes,
        marks={
            "unknown": Mark(_("Unknown %(n)s"), form.unknown),
            "overtaken": Mark(_("Ran later %(n)s"), form.overtaken),
        },
        asked_page=page,
    )


def _done(job, what):
    return redirect("job", job.pk) if what == "job" else redirect("stage", job.pk, what)

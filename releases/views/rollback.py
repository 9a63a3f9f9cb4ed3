from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from jobs.access import get_job
from jobs.models import JobMoved
from jobs.rights import Right
from releases import tokens
from releases.forms import RollbackForm
from releases.models import MachinesHeld, ReleaseStage, Run, StageMoved
from releases.pictures import JobPicture


@login_required
@require_http_methods(["GET", "POST"])
def roll_back_stage(request, job_id, kind):
    job = get_job(request.user, job_id, Right.PUBLISH)
    return _roll_back(request, job, [ReleaseStage.objects.of_kind(job, kind)], kind)


@login_required
@require_http_methods(["GET", "POST"])
def roll_back_job(request, job_id):
    job = get_job(request.user, job_id, Right.PUBLISH)
    return _roll_back(request, job, ReleaseStage.objects.of(job), "job")


def _roll_back(request, job, stages, what):
    """Shows each machine, now and back to; a POST starts a rollback run in every stage that has some of the chosen."""
    request.session["job_id"] = job.pk
    changed = [machine_run for stage in stages for machine_run in stage.changed_machines()]
    form = RollbackForm(request.POST if request.method == "POST" else None, changed=changed)
    if request.method == "GET":
        return _show(request, stages, what, changed, form)
    try:
        return _submit(request, stages, what, changed, form)
    except (StageMoved, JobMoved, MachinesHeld) as conflict:
        return _show(request, ReleaseStage.objects.of(job), what, changed, form, conflict=str(conflict), status=409)


def _submit(request, stages, what, changed, form):
    job = stages[0].job
    key, version = tokens.read(request.POST.get("token", ""), request.user, job, what)
    is_valid = form.is_valid()
    if Run.objects.filter(stage__job=job, submit_key__startswith=f"{key}:").exists():
        return _done(job, what)
    if version != _version(stages):
        raise StageMoved(_("This job has moved on since the page was loaded. Nothing was started."))
    if not is_valid:
        return _show(request, stages, what, changed, form)
    chosen = {machine.pk for machine in form.cleaned_data["machines"]}
    ReleaseStage.objects.roll_back(stages, chosen, request.user, form.cleaned_data["reason"], key)
    return _done(job, what)


def _show(request, stages, what, changed, form, conflict="", status=200):
    job = stages[0].job
    shown = [stage for stage in stages if what in (stage.kind, "job")]
    context = {
        "job": job,
        "what": what,
        "stage": shown[0] if what != "job" else None,
        "pipeline": JobPicture(job).pipeline(shown[0] if what != "job" else None),
        "changed": changed,
        "tasks": {stage.rollback_task for stage in shown if stage.rollback_task},
        "chosen": set(map(str, form["machines"].value() or [])) if form.is_bound else None,
        "form": form,
        "token": tokens.issue(request.user, job, what, _version(shown)),
        "conflict": conflict,
    }
    return render(request, "releases/rollback.html", context, status=status)


def _version(stages):
    return sum(stage.version for stage in stages)


def _done(job, what):
    return redirect("job", job.pk) if what == "job" else redirect("stage", job.pk, what)

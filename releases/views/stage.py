from zlib import crc32

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from jobs.access import get_job
from jobs.machine_list import MachineList, Mark
from jobs.models import Event, Freeze, JobMoved
from jobs.rights import Right
from jobs.views.not_taken import ask_again, too_late
from releases import tokens
from releases.candidates import candidates
from releases.check import check
from releases.forms import ReleaseStageForm, SkipForm, StartForm
from releases.models import Frozen, MachinesHeld, ReleaseStage, StageMoved
from releases.models.stage_machines import TO_TRY_AGAIN
from releases.models.stage_moved import NOT_OPEN
from releases.pictures import JobPicture, RunPicture
from releases.shared import Shared
from releases.tidying import tidy_if_alone

# Of a person's rights the live part asks for no others: so it is the same for more of those who watch.
_LIVE_RIGHTS = {Right.PUBLISH, Right.RESOLVE}
_live_answers = Shared()


@gzip_page
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def stage_page(request, job_id, kind):
    tidy_if_alone()
    job = get_job(request.user, job_id, Right.PUBLISH if request.method == "POST" else Right.VIEW)
    # The form narrows its machines by this: the URL's job, on every request and before the form is built.
    request.session["job_id"] = job.pk
    job.business.refresh_machines(before_start=request.POST.get("step") == "start")
    stage = ReleaseStage.objects.of_kind(job, kind)
    if request.method != "POST":
        what = request.GET.get("retry")
        initial = {"machines": stage.to_try_again(what) if what else stage.planned_machines}
        return _show(request, stage, ReleaseStageForm(request=request, instance=stage, initial=initial))
    form = ReleaseStageForm(request.POST, request=request, instance=stage)
    try:
        return _submit(request, stage, form)
    except (StageMoved, JobMoved, MachinesHeld) as conflict:
        stage = ReleaseStage.objects.of_kind(get_job(request.user, job_id), kind)
        form = ReleaseStageForm(request.POST, request=request, instance=stage)
        return _show(request, stage, form, conflict, status=409)


def _submit(request, stage, form):
    """Checks what was chosen, or starts it; one token starts one run, however often just that is posted."""
    if "list" in request.POST:  # another page of the list, of a page without scripts, or back to choosing
        _require_open(stage, form)
        form.errors.clear()
        return _show(request, stage, form)
    if "break_glass" in request.POST:
        stage.job.require(request.user, Right.BREAK_GLASS)
    step = request.POST.get("step", "check")  # which starts nothing
    if step not in ("check", "start"):
        raise BadRequest(_("A stage form is posted with step=check or step=start."))
    key, version = tokens.read(request.POST.get("token", ""), request.user, stage.job, stage.kind)
    is_valid = form.is_valid()
    if step == "start" and stage.runs.filter(submit_key=key).of_just(form.named):
        return redirect("stage", stage.job_id, stage.kind)
    if version != stage.version:
        raise StageMoved(_("This stage has moved on since the page was loaded. Nothing was started."))
    _require_open(stage, form)
    if not is_valid:
        return _show(request, stage, form)
    answers = request.POST if step == "start" else None
    counted = StartForm(answers, machines=form.chosen, stage=stage, moved=form.cleaned_data["moved"])
    if step == "check" or not counted.is_valid():
        return _show_check(request, stage, form, counted)
    named = [form.cleaned_data["when_free"], counted.moved]
    stage.start(request.user, form.chosen, key, *named, break_glass=form.breaks_glass, **counted.facts)
    return redirect("stage", stage.job_id, stage.kind)


def _require_open(stage, form):
    if not (stage.is_open or form.breaks_glass):
        raise StageMoved(NOT_OPEN)


def _show(request, stage, form, conflict=None, status=200):
    context = _told_of(stage)
    if conflict:
        is_frozen = isinstance(conflict, Frozen)  # which is nothing that happened
        context["conflict"] = conflict.in_short if is_frozen else str(conflict)
        context["lately"] = [] if is_frozen else stage.job.events.lately(stage.kind)
    # After a conflict the form is shown even where it leads nowhere now: what was typed is in it.
    if Right.PUBLISH in context["rights"] and (stage.is_open or form.breaks_glass or conflict):
        seen = candidates(stage.job, request.user)
        context |= {
            "form": form,
            "list": _listed(stage, form, seen, request.POST.get("list")),
            "drift": seen.drifted,
            "token": tokens.issue(request.user, stage.job, stage.kind, stage.version),
        }
    return render(request, "releases/stage.html", context, status=status)


def _listed(stage, form, seen, page):
    blocked = seen.notes
    waiting = form["when_free"].value()
    # Whoever would have waited for a machine that came free meanwhile still wants it.
    chosen = {"machines": form["machines"].value() | waiting, "when_free": waiting, "moved": form["moved"].value()}
    return MachineList(
        machines=seen.machines,
        chosen=chosen,
        versions=seen.versions,
        notes=blocked,
        marks={
            "planned": Mark(_("Planned %(n)s"), stage.planned_machines, _("planned")),
            "blocked": Mark(_("Blocked %(n)s"), blocked.keys()),
        },
        asked_page=page,
    )


def _told_of(stage):
    """What the page of a stage and its live part tell alike: its newest run, and how one can go on from there."""
    picture = JobPicture(stage.job, stage.siblings)
    run = picture.runs.get(stage.pk)
    unknown = picture.unknown_in(stage)
    may_turn = run and run.is_active and not run.cancelled_at and Right.PUBLISH in stage.job.rights
    return _freezes(stage.job) | {
        "job": stage.job,
        "stage": stage,
        "rights": stage.job.rights,
        "pipeline": picture.pipeline(stage),
        "are_left": picture.are_left,
        "are_to_excuse": picture.are_to_excuse,
        "run": run and RunPicture(run),
        "controls": run.status if may_turn else "",
        # Told once it has ended: while it goes on, a page asks each second.
        "changed": stage.count_rollback_candidates() if run and not run.is_active else 0,
        "unknown": unknown,
        "retry": _to_try_again(stage, unknown) if run and stage.is_open and not stage.is_done else {},
    }


def _freezes(job):
    """What the page tells of freezes, and a number for it, so that its live part sends it only when it is another."""
    freezes = Freeze.objects.windows().of(job.business).ahead()
    leaves = list(job.leaves.live()) if freezes else []
    told = [f"{one.in_words} {one.is_in_force}" for one in freezes] + [leave.pk for leave in leaves]
    return {"freezes": freezes, "leaves": leaves, "freezes_told": crc32("\n".join(map(str, told)).encode())}


def _to_try_again(stage, unknown):
    """How many of the machines that failed, were cancelled midway or not run can be had now, and how many cannot.

    Those that are unknown are told apart.
    """
    offered = set(stage.offered_machines().values_list("pk", flat=True))
    wanted = {what: set(stage.to_try_again(what)) for what in TO_TRY_AGAIN}
    can_be_had = {what: len(machines & offered) for what, machines in wanted.items()}
    not_offered = set().union(*wanted.values()) - offered - {ran.machine_id for ran in unknown}
    numbers = can_be_had | {"not_offered": len(not_offered)}
    return {what: number for what, number in numbers.items() if number}


def _show_check(request, stage, form, counted):
    context = check(stage, form, request.user) | {
        "job": stage.job,
        "stage": stage,
        "pipeline": JobPicture(stage.job, stage.siblings).pipeline(stage),
        "form": form,
        "carried": form.carried,
        "tasks": [(stage.release_task, _("Release task")), (stage.rollback_task, _("Rollback task"))],
        "counted": counted,
        "token": tokens.issue(request.user, stage.job, stage.kind, stage.version),
    }
    return render(request, "releases/stage_check.html", context)


@gzip_page
@login_required
@require_safe
def stage_live(request, job_id, kind):
    """What a stage page swaps in while its run goes on; one answer for all who ask alike at nearly the same time."""
    tidy_if_alone()
    job = get_job(request.user, job_id)
    job.rights &= _LIVE_RIGHTS
    who = (frozenset(job.rights), request.user.is_ops, get_language(), bool(request.htmx))
    asked = (job.pk, kind, *who, request.META["QUERY_STRING"])
    return HttpResponse(_live_answers.get(asked, settings.LIVE_SHARED_SECONDS, lambda: _live(request, job, kind)))


def _live(request, job, kind):
    context = _told_of(ReleaseStage.objects.of_kind(job, kind))
    if context["run"] is None:
        raise Http404
    # New buttons come with the token of who asked.
    is_for_all = context["controls"] == request.GET.get("controls")
    return render_to_string("releases/_run_live.html", context, request), is_for_all


@login_required
@require_POST
def skip_stage(request, job_id, kind):
    job = get_job(request.user, job_id, Right.PUBLISH)
    stage = ReleaseStage.objects.of_kind(job, kind)
    form = SkipForm(request.POST, missing=_("Say why the stage is skipped."))
    if not form.is_valid():
        return ask_again(request, job, form, _("Skip %(stage)s") % {"stage": stage.get_kind_display()}, _("Skip"))
    reason, page = form.cleaned_data["reason"], reverse("job", args=[job_id])
    try:
        stage.skip(request.user, reason, form.cleaned_data["seen"])
    except StageMoved as conflict:
        if not job.has_just(Event.Verb.SKIPPED, request.user, reason, kind):
            return too_late(request, conflict, reason, page, job)
    messages.success(request, _("Skipped."))
    return redirect(page)

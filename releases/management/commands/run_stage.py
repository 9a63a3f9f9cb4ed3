from dataclasses import dataclass
from functools import partial
from operator import itemgetter

from django.core.management.base import CommandError

from deploy_portal.models import User
from jobs.commands import CONFLICT, HOSTNAMES, MISTAKE, checked, named_machines
from jobs.rights import Right
from releases.candidates import candidates
from releases.check import check
from releases.commands import StartCommand, first_few, grouped, machine_to, names_of, task_named, what_comes_first
from releases.forms import ReleaseStageForm, StartForm
from releases.models import Action, Kind, MachineRun, ReleaseStage, StageMoved, Task
from releases.models.stage_machines import TO_TRY_AGAIN

# Why a machine that no run holds is left out of those that are yet to be released.
NOT_NOW = {"gone": "gone from the config service", "changed": "moved; --moved releases it where it is now"}


@dataclass
class Acting:
    """What a stage form asks of a request: who acts, and on which job."""

    user: User
    session: dict


class Command(StartCommand):
    help = "Starts a stage of an approved job on some or all of the machines that it can still release."
    action = Action.RELEASE
    not_done = "Not released now"

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("stage", choices=Kind.values, help="which stage")
        parser.add_argument("machines", nargs="*", default=[], metavar="HOSTNAME", help=HOSTNAMES)
        parser.add_argument("--all", action="store_true", help="every machine that the stage offers")
        parser.add_argument("--release-task", metavar="NAME", help="needed when there is more than one")
        parser.add_argument("--rollback-task", metavar="NAME", help="needed when there is more than one")
        parser.add_argument("--planned", action="store_true", help="the machines that are planned for the stage")
        parser.add_argument(
            "--retry",
            choices=list(TO_TRY_AGAIN),
            help="the machines that failed, were cancelled midway, or were not run",
        )
        parser.add_argument("--batch-size", default="", help="machines at a time, as 10 or 10%% (default: all)")
        parser.add_argument("--canary", action="store_true", help="the first batch is one machine")
        parser.add_argument("--batch-pause", type=int, default=0, help="seconds between batches (default %(default)s)")
        parser.add_argument(
            "--stop-after", default="1", help="failures, as 2 or 5%%; '' never stops by itself (default %(default)s)"
        )
        parser.add_argument("--when-free", action="store_true", help="machines that other jobs hold wait for their end")
        parser.add_argument("--moved", action="store_true", help="also machines that moved since they were chosen")
        parser.add_argument(
            "--old-list", action="store_true", help="start though the config service gives no list now; needs --remark"
        )
        parser.add_argument("--remark", default="", help="why now; ops who step in must say it")
        parser.add_argument(
            "--break-glass", metavar="REASON", help="for ops: start a job that is not approved; kept, told to approvers"
        )

    def start(self, user, job, key, *, stage, dry_run, **options):
        self.refresh_machines(job.business, before_start=True)
        stage = ReleaseStage.objects.of_kind(job, stage)
        if options["break_glass"] is not None:
            _require_break_glass(user, stage, options["break_glass"], options["remark"])
            options["remark"] = options["break_glass"]
        _require_open(stage, breaks_glass=True)
        form, counted = _filled(user, stage, **options)
        asked_for = [form.cleaned_data["when_free"], counted.moved, form.breaks_glass]
        left_out = {} if options["machines"] else _left_out(stage, user, form.chosen, **options)
        if dry_run:
            facts = _facts(stage, form, user)
            ask = partial(_may_start, stage, user, form, *asked_for)
            return self.only_look(ask, left_out, _in_words(stage, facts), options["json"], facts)
        _require_open(stage, form.breaks_glass)
        run = stage.start(user, form.chosen, key, *asked_for, **counted.facts)
        self.tell_left_out(left_out)
        return [run], left_out


def _require_break_glass(user, stage, reason, remark):
    stage.job.require(user, Right.BREAK_GLASS)
    if not reason.strip():
        raise CommandError("--break-glass needs a reason.", returncode=MISTAKE)
    if remark:
        raise CommandError("--break-glass says why; leave --remark out.", returncode=MISTAKE)
    if stage.is_open:
        raise CommandError("This stage does not wait for an approval; leave --break-glass out.", returncode=CONFLICT)


def _may_start(stage, user, form, *asked_for):
    """Raises what the start would."""
    _require_open(stage, form.breaks_glass)
    stage.may_release(user, form.chosen, *asked_for)


def _require_open(stage, breaks_glass):
    """`breaks_glass`: whether it is enough that it would be open, were the job approved."""
    if not (stage.is_open or (breaks_glass and stage.needs_break_glass)):
        why = what_comes_first(stage, breaks_glass=breaks_glass)
        why = why or f"{stage.awaited.kind} soaks first; job_status tells until when."
        raise StageMoved(f"This stage is not open now. {why}")


def _filled(user, stage, **options):
    """The forms of the stage's page as these options fill them in."""
    data = {name: options[name] for name in ("remark", "batch_size", "canary", "batch_pause")}
    data |= _machines(stage, **options) | {"failure_budget": options["stop_after"]}
    for name, action in (("release_task", Action.RELEASE), ("rollback_task", Action.ROLLBACK)):
        data[name] = _task(stage.job.business, action, options[name]).pk
    data["break_glass"] = options["break_glass"] is not None
    form = ReleaseStageForm(data, instance=stage, request=Acting(user, {"job_id": stage.job_id}))
    checked(form, failure_budget="--stop-after", remark="--break-glass" if data["break_glass"] else "--remark")
    answers = {"old_list": options["old_list"], "typed_count": len(form.chosen)}
    return form, checked(StartForm(answers, machines=form.chosen, stage=stage, moved=form.cleaned_data["moved"]))


def _facts(stage, form, user):
    """What the page's check tells."""
    found = check(stage, form, user)
    waits = {machine.pk for machine in found["waiting"]}
    departures = [[machine.hostname for machine in some] for some in found["departures"]]
    return {
        "job": stage.job_id,
        "stage": stage.kind,
        "revision": stage.job.revision,
        "machines": [
            machine_to(hostname, site, found["now_on"].get(pk), stage.job.version) | {"waits": pk in waits}
            for pk, hostname, site in sorted(found["machines"], key=itemgetter(1))
        ],
        "release_task": task_named(stage.release_task),
        "rollback_task": task_named(stage.rollback_task),
        "batches": found["batches"],
        "failure_budget": found["budget"],
        **dict(zip(("beyond_plan", "planned_but_not_chosen"), departures, strict=True)),
        "drift": {one.machine.hostname: str(one.drift) for one in candidates(stage.job, user).drifted},
        "freezes": [
            {"words": str(one.in_words), "is_in_force": one.is_in_force, "leave_by": leave and leave.by.username}
            for one, leave in found["freezes"]
        ],
        "sites_without_worker": [str(site) for site in found["sites_without_worker"]],
        "break_glass": form.breaks_glass or form.steps_in,
    }


def _in_words(stage, facts):
    """The facts as lines, by their names."""
    machines, sizes = facts["machines"], facts["batches"]
    freezes = [one["words"] + (f" (leave by {one['leave_by']})" if one["leave_by"] else "") for one in facts["freezes"]]
    return {
        "release": f"{stage} on {len(machines)} machine{'' if len(machines) == 1 else 's'}",
        "now on": grouped({one["hostname"]: one["version_before"] or "not known" for one in machines}),
        "where": grouped({one["hostname"]: one["site"] or "no site" for one in machines}),
        "waits for other runs": names_of(one["hostname"] for one in machines if one["waits"]),
        "tasks": f"{stage.release_task}, {stage.rollback_task}",
        "batches": first_few(sizes) if len(sizes) > 1 else "all at once",
        "stops after failures": facts["failure_budget"] or "never",
        "beyond the plan": names_of(facts["beyond_plan"]),
        "planned but not chosen": names_of(facts["planned_but_not_chosen"]),
        "changed since the job was asked for": names_of(facts["drift"]),
        "break-glass": facts["break_glass"] and "every approver is told",
        "freezes": " ".join(freezes),
        "no worker for": ", ".join(facts["sites_without_worker"]),
    }


def _machines(stage, *, machines, all, planned, retry, when_free, moved, **_):
    """What the form is sent: the machines to release, and those of them that may wait or are named as moved."""
    if sum(map(bool, (machines, all, planned, retry))) != 1:
        raise CommandError("Name the machines, or say --all, --planned or --retry; one of them.", returncode=MISTAKE)
    free, moves = _ids(stage.offered_machines()), _ids(stage.offered_machines(moved=True))
    waits = _ids(stage.offered_machines(when_free=True))
    wanted = _wanted(stage, machines, planned, retry)
    ids = wanted & (free | (moves if moved else set()) | (waits if when_free else set()))
    # Who names none goes without those that are not offered; where that is all of them, the form tells why.
    not_offered = wanted - ids if machines or not ids else set()
    return {
        "machines": sorted((ids & free) | not_offered),
        "moved": list(ids & (moves - free)),
        "when_free": list(ids - moves),
    }


def _left_out(stage, user, chosen, *, planned, retry, **_):
    """{host name: why it is not among the chosen}, of what --all, --planned or --retry stand for and is yet to do."""
    wanted = _wanted(stage, [], planned, retry) - {machine.pk for machine in chosen}
    not_free = candidates(stage.job, user).not_free.values() if wanted else ()
    left_out = [one for one in not_free if one.machine.pk in wanted and not one.is_done]
    return {one.machine.hostname: _why(one) for one in left_out}


def _why(candidate):
    if candidate.state in NOT_NOW:
        return NOT_NOW[candidate.state]
    if candidate.by.status == MachineRun.Status.UNKNOWN and not candidate.is_hidden:
        return f"unknown in #{candidate.by.run.stage.job_id}; resolve_machines says how it ended"
    whose = "a job of another business" if candidate.is_hidden else f"#{candidate.by.run.stage.job_id}"
    return f"held by {whose}" + ("; --when-free waits for its end" if candidate.can_wait else "")


def _wanted(stage, machines, planned, retry):
    if machines:
        return {machine.pk for machine in named_machines(stage.job.machines, machines)}
    if not (planned or retry):
        return _ids(stage.job.machines)
    wanted = stage.planned_machines if planned else set(stage.to_try_again(retry))
    if not wanted:
        nothing = "no machine is planned for this stage; name them, or say --all."
        words = nothing if planned else "this stage has none of those; job_status tells how each stands."
        raise CommandError(f"machines: {words}", returncode=CONFLICT)
    return wanted


def _ids(machines):
    return set(machines.values_list("pk", flat=True))


def _task(business, action, name):
    tasks = list(Task.objects.offered_to(business, action))
    named = [task for task in tasks if name in (None, task.name)]
    if len(named) != 1:
        names = ", ".join(task.name for task in tasks) or "none"
        raise CommandError(f"Name one {action} task (--{action}-task): {names}.", returncode=MISTAKE)
    return named[0]

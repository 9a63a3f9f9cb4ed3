from functools import partial

from django.core.management.base import CommandError

from jobs.commands import CONFLICT, HOSTNAMES, checked_reason, named_machines
from releases.commands import StartCommand, grouped, machine_to, task_named, told_left_out
from releases.forms import steps_in
from releases.models import Action, Kind, MachineRun, ReleaseStage, StageMoved


class Command(StartCommand):
    action = Action.ROLLBACK
    not_done = "Not rolled back"
    help = (
        "Rolls back machines that a job changed, each to the version it had before: of one stage, or of the whole job."
    )

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("stage", choices=[*Kind.values, "all"], help="which stage, or all of them")
        which = f"{HOSTNAMES} (default: all it changed)"
        parser.add_argument("machines", nargs="*", default=[], metavar="HOSTNAME", help=which)
        parser.add_argument(
            "--looked", action="store_true", help="also unknown machines: you looked, and nothing runs there any more"
        )
        parser.add_argument(
            "--undo-later",
            action="store_true",
            help="also machines on which a later job ran: what it put there goes, too",
        )
        parser.add_argument("--reason", required=True, help="why; kept in the job's history")

    def start(self, user, job, key, *, stage, machines, looked, undo_later, reason, dry_run, **options):
        reason = checked_reason(reason)
        self.refresh_machines(job.business)
        stages = ReleaseStage.objects.of(job)
        if stage != "all":
            stages = [ReleaseStage.objects.of_kind(job, stage)]
        going, left_out = self._sort(job, stages, machines, looked, undo_later)
        if dry_run:
            facts = _facts(job, stages, going) | {"break_glass": steps_in(user, job)}
            ask = partial(ReleaseStage.objects.may_roll_back, stages, _ids(going), undo_later)
            return self.only_look(ask, left_out, _in_words(facts), options["json"], facts)
        runs = ReleaseStage.objects.roll_back(stages, _ids(going), user, reason, key, undo_later)
        self.tell_left_out(left_out)
        return runs, left_out

    def _sort(self, job, stages, machines, looked, undo_later):
        """The machine runs to take back, and {host name: why} of those that nobody named and that are left out."""
        changed = [machine_run for stage in stages for machine_run in stage.rollback_candidates()]
        left_out = _left_out(changed, stages, looked, undo_later)
        going = [machine_run for machine_run in changed if machine_run.machine.hostname not in left_out]
        if not going:
            self._refuse(stages, left_out)
        if not machines:
            return going, left_out
        named, can_go = named_machines(job.machines, machines), _ids(going)
        if refused := [machine.hostname for machine in named if machine.pk not in can_go]:
            nothing = f"no change of this {'job' if len(stages) > 1 else 'stage'} is there"
            why_not = {hostname: left_out.get(hostname, nothing) for hostname in refused}
            raise CommandError(told_left_out(self.not_done, why_not), returncode=CONFLICT)
        chosen = {machine.pk for machine in named}
        return [machine_run for machine_run in going if machine_run.machine_id in chosen], {}

    def _refuse(self, stages, left_out):
        """Tells why none of their machines can be rolled back."""
        kept = [stage.pk for stage in stages]
        if ReleaseStage.objects.filter(pk__in=kept, status=ReleaseStage.Status.RUNNING).exists():
            raise StageMoved("A run is still going on there. Wait for its end, or cancel it.")
        nothing = "This job changed no machine there that could be rolled back."
        raise CommandError(told_left_out(self.not_done, left_out) or nothing, returncode=CONFLICT)


def _ids(machine_runs):
    return {machine_run.machine_id for machine_run in machine_runs}


def _facts(job, stages, going):
    """What would go back, and to what, by stage."""
    machines = {stage.pk: [] for stage in stages}
    for one in sorted(going, key=lambda one: one.machine.hostname):
        machine = machine_to(one.machine.hostname, one.machine.site, *one.rollback_versions)
        machines[one.run.stage_id].append(machine | {"status": one.status})
    told = [
        {"stage": stage.kind, "task": task_named(stage.rollback_task), "machines": machines[stage.pk]}
        for stage in stages
        if machines[stage.pk]
    ]
    undone = {later.run.stage.job_id for one in going for later in one.overtaken_by}
    return {"job": job.pk, "stages": told, "undone_jobs": sorted(undone)}


def _in_words(facts):
    """The facts as lines, by their names."""
    lines = {}
    for stage in facts["stages"]:
        goes = {one["hostname"]: _goes(**one) for one in stage["machines"]}
        lines[stage["stage"]] = f"by {stage['task']['name']} · v{stage['task']['version']}: {grouped(goes)}"
    lines["undone, too"] = ", ".join(f"#{job}" for job in facts["undone_jobs"])
    return lines | {"break-glass": facts["break_glass"] and "every approver is told"}


def _goes(*, version_before, version_after, status, **_):
    now = "unknown" if status == MachineRun.Status.UNKNOWN else version_before or "not known"
    return f"{now} -> {version_after or 'not known'}"


def _left_out(changed, stages, looked, undo_later):
    """{host name: why it is not rolled back}, of those that the job changed."""
    left_out = {}
    for machine_run in changed:
        if machine_run.status == MachineRun.Status.UNKNOWN and not looked:
            left_out[machine_run.machine.hostname] = "unknown; --looked says that nothing runs there any more"
        elif machine_run.overtaken_by and not undo_later:
            left_out[machine_run.machine.hostname] = (
                "a later job ran there; --undo-later takes back what that put there, too"
            )
    out_of_reach = [machine_run for stage in stages for machine_run in stage.changed_out_of_reach()]
    why = "held by another run, or gone from the config service"
    return left_out | {machine_run.machine.hostname: why for machine_run in out_of_reach}

import secrets

from django.core.management.base import CommandError

from jobs.access import get_job
from jobs.commands import HOSTNAMES, MISTAKE, checked, hostnames, named_machines
from jobs.forms import ReasonForm
from jobs.rights import Right
from releases.commands import RunCommand, told_left_out
from releases.models import Kind, MachineRun, ReleaseStage, StageMoved

NOT_ROLLED_BACK = "Not rolled back"


class Command(RunCommand):
    help = (
        "Rolls back machines that a job changed, each to the version it had before: of one stage, or of the whole job."
    )

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
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

    def act(self, user, *, job, stage, machines, looked, undo_later, reason, **options):
        job = get_job(user, job, Right.PUBLISH)
        reason = checked(ReasonForm({"reason": reason})).cleaned_data["reason"]
        stages = ReleaseStage.objects.of(job)
        if stage != "all":
            stages = [ReleaseStage.objects.of_kind(job, stage)]
        changed = [machine_run for stage in stages for machine_run in stage.rollback_candidates()]
        left_out = _left_out(changed, stages, looked, undo_later)
        chosen = {machine_run.machine_id for machine_run in changed if machine_run.machine.hostname not in left_out}
        if not chosen:
            _refuse(stages, left_out)
        if machines:
            wanted = set(hostnames(machines))
            if named := {hostname: why for hostname, why in left_out.items() if hostname in wanted}:
                raise CommandError(told_left_out(NOT_ROLLED_BACK, named), returncode=MISTAKE)
            chosen = {machine.pk for machine in named_machines(job.machines, machines, chosen)}
        runs = ReleaseStage.objects.roll_back(stages, chosen, user, reason, secrets.token_urlsafe(16), undo_later)
        left_out = {} if machines else left_out
        if left_out:
            self.stderr.write(told_left_out(NOT_ROLLED_BACK, left_out))
        self.finish(runs, left_out, **options)


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


def _refuse(stages, left_out):
    """Tells why none of their machines can be rolled back."""
    kept = [stage.pk for stage in stages]
    if ReleaseStage.objects.filter(pk__in=kept, status=ReleaseStage.Status.RUNNING).exists():
        raise StageMoved("A run is still going on there. Wait for its end, or cancel it.")
    nothing = "This job changed no machine there that could be rolled back."
    raise CommandError(told_left_out(NOT_ROLLED_BACK, left_out) or nothing, returncode=MISTAKE)

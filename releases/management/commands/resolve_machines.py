from jobs.commands import HOSTNAMES, PortalCommand, checked, named_machines
from jobs.models import JobMoved, Machine
from jobs.rights import Right
from releases.access import get_run
from releases.commands import names_of
from releases.forms import ResolveForm
from releases.models import MachineRun, NotUnknown


class Command(PortalCommand):
    help = "Says how unknown machines of a run really ended, as you found by looking at each; frees them. All or none."
    conflicts = (JobMoved, NotUnknown)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("run", type=int, help="the run's number, as job_status tells it")
        parser.add_argument("ended", choices=["succeeded", "failed"], help="how they ended")
        parser.add_argument("machines", nargs="+", metavar="HOSTNAME", help=HOSTNAMES)
        parser.add_argument("--reason", required=True, help="what you saw there; kept in the job's history")

    def act(self, user, *, run, ended, machines, reason, json, **options):
        run = get_run(user, run, right=Right.RESOLVE)
        reason = checked(ResolveForm({"status": ended, "reason": reason})).cleaned_data["reason"]
        named = named_machines(Machine.objects.filter(runs__run=run), machines)
        run.resolve(named, user, ended, reason)
        hostnames = sorted(machine.hostname for machine in named)
        left = run.machine_runs.filter(status=MachineRun.Status.UNKNOWN).count()
        words = f"Run {run.pk}: {names_of(hostnames)} resolved as {ended}; {left} more unknown."
        self.say(words, json, run=run.pk, status=ended, machines=hostnames, unknown_left=left)

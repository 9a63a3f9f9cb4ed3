from jobs.access import get_job
from jobs.commands import HOSTNAMES, PortalCommand, checked_reason, named_machines
from jobs.models import JobMoved
from jobs.plan import folded
from jobs.rights import Right
from releases.candidates import candidates, left_to_do
from releases.models import MachinesHeld, ReleaseStage


class Command(PortalCommand):
    help = "Lets a job that has begun be done without machines that it cannot, or need not, release. All or none."
    conflicts = (JobMoved, MachinesHeld)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("machines", nargs="+", metavar="HOSTNAME", help=HOSTNAMES)
        parser.add_argument("--reason", required=True, help="why; kept in the job's history")

    def act(self, user, *, job, machines, reason, json, **options):
        job = get_job(user, job, Right.PUBLISH)
        reason = checked_reason(reason)
        left = {candidate.machine.pk for candidate in left_to_do(job, candidates(job, user))}
        named = named_machines(job.machines, machines)
        if refused := [machine for machine in named if machine.pk not in left]:
            raise MachinesHeld(refused)
        ReleaseStage.objects.excuse(job, named, user, reason)
        job.refresh_from_db()
        hostnames = sorted(machine.hostname for machine in named)
        words = f"{job} is done without {', '.join(folded(hostnames))}; {len(left) - len(named)} more left to do."
        self.say(words, json, job=job.pk, status=job.status, machines=hostnames, left=len(left) - len(named))

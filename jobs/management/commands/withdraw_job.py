from jobs.access import get_job
from jobs.commands import PortalCommand, checked_reason
from jobs.rights import Right


class Command(PortalCommand):
    help = "Withdraws a job of which no stage has begun, as a pipeline does that is itself called off."

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("--reason", required=True, help="why; kept in the job's history")

    def act(self, user, *, job, reason, json, **options):
        job = get_job(user, job, Right.EDIT)
        job.withdraw(user, checked_reason(reason))
        self.say(f"{job} is withdrawn.", json, job=job.pk, status=job.status)

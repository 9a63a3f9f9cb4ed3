from django.core.management.base import CommandError

from jobs.access import get_job
from jobs.commands import MISTAKE, PortalCommand, checked
from jobs.freeze_forms import LeaveForm
from jobs.models import Leave
from jobs.rights import Right


class Command(PortalCommand):
    help = "Gives leave for a job to pass one time of a freeze, when others than you start it."

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("--freeze", metavar="NAME", help="which one, as this command names it when there are more")
        parser.add_argument("--reason", required=True, help="why; kept in the job's history")

    def act(self, user, *, job, freeze, reason, json, **options):
        job = get_job(user, job, Right.APPROVE)
        form = LeaveForm({"occurrence": freeze or _only_one(job), "reason": reason}, job=job)
        occurrence = checked(form, occurrence="--freeze").cleaned_data["occurrence"]
        Leave.objects.give(job, user, occurrence, form.cleaned_data["reason"])
        until = occurrence.ends.isoformat()
        self.say(f"{job} has leave. {occurrence.in_words}", json, job=job.pk, freeze=occurrence.key, until=until)


def _only_one(job):
    """The name of the freeze that leave can be given for, when there is but one."""
    occurrences = LeaveForm(job=job).occurrences
    if len(occurrences) != 1:
        lines = [f"  --freeze {key}  {one.in_words}" for key, one in occurrences.items()] or ["  there is none"]
        raise CommandError("\n".join(["Name a freeze that is in force or near:", *lines]), returncode=MISTAKE)
    return next(iter(occurrences))

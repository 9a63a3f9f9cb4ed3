from jobs.access import get_job
from jobs.commands import PortalCommand, checked
from jobs.forms import SendBackForm
from jobs.rights import Right


class Command(PortalCommand):
    help = "Sends a job back to who asked for it, also one that was approved; once edited it is asked for anew."

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("--reason", required=True, help="what has to be different; kept in the job's history")
        parser.add_argument("--revision", type=int, help="send back only this one, as job_status told it")

    def act(self, user, *, job, reason, revision, json, **options):
        job = get_job(user, job, Right.APPROVE)
        read = job.revision if revision is None else revision
        form = checked(SendBackForm({"revision": read, "reason": reason}))
        job.revision = form.cleaned_data["revision"]
        job.send_back(user, form.cleaned_data["reason"])
        self.say(f"{job} is sent back.", json, job=job.pk, status=job.status)

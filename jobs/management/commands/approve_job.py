from jobs.access import get_job
from jobs.commands import PortalCommand, checked
from jobs.forms import ApprovalForm
from jobs.rights import Right


class Command(PortalCommand):
    help = "Approves a job, so that its stages can be started. Nobody approves a job that they asked for."

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("--remark", default="", help="kept with the approval")

    def act(self, user, *, job, remark, json, **options):
        job = get_job(user, job, Right.APPROVE)
        form = checked(ApprovalForm({"revision": job.revision, "reason": remark}))
        job.approve(user, form.cleaned_data["reason"])
        words = f"{job} waits for {left} more." if (left := job.approvals_left) else f"{job} is approved."
        self.say(words, json, job=job.pk, status=job.status, approvals_left=left)

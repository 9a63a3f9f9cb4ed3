from jobs.access import get_job
from jobs.commands import PortalCommand, checked
from jobs.forms import ApprovalForm
from jobs.rights import Right
from releases.preview import Preview


class Command(PortalCommand):
    help = "Approves a job, so that its stages can be started. Nobody approves a job that they asked for or edited."

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("--remark", default="", help="kept with the approval")
        parser.add_argument(
            "--dry-run", action="store_true", help="only print what would be approved, and end as the approval would"
        )
        parser.add_argument("--revision", type=int, help="approve only this one, as --dry-run told it")

    def act(self, user, *, job, remark, dry_run, revision, json, **options):
        job = get_job(user, job, Right.APPROVE)
        facts = _told(Preview(job))
        if not json:
            self.show("\n".join(f"{name}: {value}" for name, value in facts.items() if value))
        read = job.revision if revision is None else revision
        form = checked(ApprovalForm({"revision": read, "reason": remark}), reason="--remark")
        if dry_run:
            job.may_approve(user, form.cleaned_data["revision"])
            return self.say(f"{job} would be approved with --revision {job.revision}.", json, **facts)
        job.revision = form.cleaned_data["revision"]
        job.approve(user, form.cleaned_data["reason"])
        words = f"{job} waits for {left} more." if (left := job.approvals_left) else f"{job} is approved."
        return self.say(words, json, job=job.pk, status=job.status, approvals_left=left)


def _told(preview):
    """The preview of the job page, in short."""
    job, last = preview.job, preview.last
    counted = {"by site": preview.sites, "planned": preview.stages}
    facts = {"job": job.pk, "revision": job.revision, "version": job.version, "last": last and last.version}
    facts |= {name: ", ".join(f"{one.title} {len(one.hostnames)}" for one in some) for name, some in counted.items()}
    if last:
        facts |= {"added": preview.added.names, "left out": preview.left_out.names}
    changed = {True: " (changed)", False: ""}
    return facts | {"tasks": ", ".join(f"{one.task}{changed[one.is_changed]}" for one in preview.tasks)}

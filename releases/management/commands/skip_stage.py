from jobs.access import get_job
from jobs.commands import PortalCommand, checked_reason
from jobs.models import JobMoved
from jobs.rights import Right
from releases.models import Kind, ReleaseStage, StageMoved


class Command(PortalCommand):
    help = "Skips pre-release or gray release of an approved job, so that the stage after it opens."
    conflicts = (JobMoved, StageMoved)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("stage", choices=[Kind.PRE_RELEASE.value, Kind.GRAY_RELEASE.value], help="which stage")
        parser.add_argument("--reason", required=True, help="why; kept in the job's history")

    def act(self, user, *, job, stage, reason, json, **options):
        stage = ReleaseStage.objects.of_kind(get_job(user, job, Right.PUBLISH), stage)
        reason = checked_reason(reason)
        if not stage.can_be_skipped:
            raise StageMoved(f"{stage} cannot be skipped now; job_status {job} tells how it stands.")
        stage.skip(user, reason)
        self.say(f"{stage} is skipped.", json, job=job, stage=stage.kind, status=stage.status)

from django.core.management.base import CommandError

from jobs.access import get_job
from jobs.commands import CONFLICT, HOSTNAMES, PortalCommand, checked_reason, named_machines
from jobs.models import JobMoved
from jobs.rights import Right
from releases.candidates import candidates, left_to_do
from releases.commands import names_of, told_left_out
from releases.models import MachinesHeld, ReleaseStage

DONE = {"released": "released by this job", "excused": "excused already"}


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
        if job.is_before_first_stage or not job.is_releasable:
            stands = f"The job is {job.get_status_display().lower()}."
            raise JobMoved(f"{stands} Machines are excused from a job that has begun; before that it is edited.")
        seen = candidates(job, user)
        left = {candidate.machine.pk for candidate in left_to_do(job, seen)}
        named = named_machines(job.machines, machines)
        refused = [machine for machine in named if machine.pk not in left]
        if why := {machine.hostname: _why_not(job, seen.not_free.get(machine.pk)) for machine in refused}:
            raise CommandError(told_left_out("Not to be had now", why), returncode=CONFLICT)
        ReleaseStage.objects.excuse(job, named, user, reason)
        job.refresh_from_db()
        hostnames = sorted(machine.hostname for machine in named)
        words = f"{job} is done without {names_of(hostnames)}; {len(left) - len(named)} more left to do."
        self.say(words, json, job=job.pk, status=job.status, machines=hostnames, left=len(left) - len(named))


def _why_not(job, candidate):
    """Why a machine that is not left to do is not: what is free may have been rolled back."""
    if candidate and candidate.state in DONE:
        return DONE[candidate.state]
    is_own = candidate and candidate.by and candidate.by.run.stage.job_id == job.pk
    return "a run of this job is about to touch it" if is_own else "rolled back"

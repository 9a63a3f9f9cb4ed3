"""What the newest machine runs of a stage come to, for it and for its job."""

from django.db.models import F
from django.db.models.functions import Now

from jobs.models import Job
from releases.models.machine_run import MachineRun
from releases.models.queue import BAD
from releases.models.run import Run
from releases.models.task import Action


class StageOutcome:
    """How a ReleaseStage takes the state that its runs amount to."""

    def conclude(self):
        """Takes the state that the newest machine runs of this stage amount to, and gives the job its own."""
        if self.take_outcome():
            self.conclude_job()

    def take_outcome(self):
        """`conclude` without the job; returns whether this stage has run, and does not now."""
        last = self.runs.last()
        if last is None or last.is_active:
            return False
        status = self._outcome(last)
        # A stage that a person skipped stays skipped, whatever becomes of its unknown machines.
        row = type(self).objects.filter(pk=self.pk).exclude(status__in=[status, self.Status.SKIPPED])
        row.update(status=status, version=F("version") + 1, done_at=Now())
        return True

    def conclude_job(self):
        self.job.conclude(self._job_status())

    def _outcome(self, last):
        """What the newest runs of its machines come to, those left aside that were excused; `last` is its last run."""
        here = MachineRun.objects.filter(run__stage=self)
        runs = here.exclude(machine__in=self._excused())
        touched = runs.latest_touched()
        if last.is_rollback and touched.exists() and not touched.not_rolled_back().exists():
            return self.Status.ROLLED_BACK
        latest = runs.not_called_off().latest_per_machine().order_by()
        ends = set(latest.values_list("status", "run__action").distinct())
        statuses = {status for status, _action in ends}
        if statuses & set(BAD):
            return self.Status.FAILED
        if MachineRun.Status.CANCELLED in statuses:
            return self.Status.CANCELLED
        if (MachineRun.Status.SUCCEEDED, Action.RELEASE) in ends:
            return self.Status.SUCCEEDED
        # With nothing else left here, what went back tells, also where it was excused.
        went_back = here.latest_touched().rolled_back().exists()
        return self.Status.ROLLED_BACK if went_back else self.Status.WAITING

    def _job_status(self):
        """Released when every machine was, or was rolled back or excused; rolled back when nothing of it is left.

        Not released when every machine was excused.
        """
        if Run.objects.active().filter(stage__job=self.job).exists():
            return Job.Status.IN_PROGRESS
        touched = MachineRun.objects.in_job(self.job).latest_touched()
        released, back = touched.released(), touched.rolled_back()
        wanted = self.job.job_machines.filter(excused_at=None)
        if released.exists():
            left = wanted.exclude(machine__in=(released | back).values("machine"))
            return Job.Status.IN_PROGRESS if left.exists() else Job.Status.RELEASED
        changed = touched.exclude(pk__in=back.values("pk")).exclude(machine__in=self._excused())
        if back.exists() and not changed.exists():
            return Job.Status.ROLLED_BACK
        return Job.Status.IN_PROGRESS if wanted.exists() else Job.Status.NOT_RELEASED

    def _excused(self):
        return self.job.job_machines.exclude(excused_at=None).values("machine")

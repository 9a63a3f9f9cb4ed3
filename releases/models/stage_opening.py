"""When a stage opens: after the one before it, and once that has soaked."""

from datetime import timedelta

from django.utils.functional import cached_property

from deploy_portal.clock import database_now


class StageOpening:
    """What a ReleaseStage waits for before it may begin."""

    @property
    def is_open(self):
        return self.job.is_releasable and self._is_next

    @property
    def needs_break_glass(self):
        """Whether it would be open, were the job approved."""
        return self.job.is_waiting and self._is_next

    @property
    def _is_next(self):
        return not (self.is_running or self.comes_first or self.is_soaking)

    @property
    def comes_first(self):
        """The stage that must do well, or be skipped, before this one opens; None where it has."""
        return None if self.awaited is None or self.awaited.is_done else self.awaited

    @property
    def awaited(self):
        """The stage that must have succeeded before this one opens: the one before it that was not skipped."""
        before = self.previous
        while before is not None and before.status == self.Status.SKIPPED:
            before = before.previous
        return before

    @cached_property
    def opens_at(self):
        """Until when the stage that it awaits must have done well; None when there is nothing to wait for."""
        before, soak = self.awaited, self.job.business.soak_minutes
        if not soak or before is None or before.status != self.Status.SUCCEEDED or self.status != self.Status.WAITING:
            return None
        return before.done_at + timedelta(minutes=soak)

    @property
    def is_soaking(self):
        return self.opens_at is not None and self.opens_at > database_now()

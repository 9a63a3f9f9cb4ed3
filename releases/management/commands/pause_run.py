from releases.commands import TurnCommand
from releases.models import MachineRun


class Command(TurnCommand):
    help = "Pauses a run: nothing more of it begins, what runs goes on."
    step = "pause"
    wants_its_end = False

    def is_going_on(self, run):
        """A paused run does not end; what runs of it does."""
        under_way = [MachineRun.Status.CLAIMED, MachineRun.Status.RUNNING]
        return run.machine_runs.filter(status__in=under_way).exists()

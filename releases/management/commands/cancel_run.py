from releases.commands import TurnCommand
from releases.models import Run


class Command(TurnCommand):
    help = "Cancels a run: what has not begun never will, what runs is ended."
    step = "cancel"
    wants_its_end = False
    unwanted = (Run.Status.FAILED,)

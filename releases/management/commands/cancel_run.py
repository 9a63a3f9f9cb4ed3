from releases.commands import TurnCommand


class Command(TurnCommand):
    help = "Cancels a run: what has not begun never will, what runs is ended."
    step = "cancel"

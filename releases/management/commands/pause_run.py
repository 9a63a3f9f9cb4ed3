from releases.commands import TurnCommand


class Command(TurnCommand):
    help = "Pauses a run: nothing more of it begins, what runs goes on."
    step = "pause"

from releases.commands import TurnCommand


class Command(TurnCommand):
    help = "Resumes a run: it goes on where it was paused."
    step = "resume"

from jobs.access import require_ops
from jobs.commands import PortalCommand, checked
from jobs.freeze_forms import ResumeForm
from jobs.models import Freeze, FreezeMoved


class Command(PortalCommand):
    help = "Ends what stop_world began: what waits goes on. For ops."
    conflicts = (FreezeMoved,)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, help="why it may go on; kept in the history")

    def act(self, user, *, reason, json, **options):
        require_ops(user)
        Freeze.objects.resume_world(user, checked(ResumeForm({"reason": reason})).cleaned_data["reason"])
        self.say("The stop is ended: what waits goes on.", json, stopped=False)

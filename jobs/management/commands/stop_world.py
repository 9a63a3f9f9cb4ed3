from jobs.access import require_ops
from jobs.commands import PortalCommand, checked
from jobs.freeze_forms import StopForm
from jobs.models import Freeze, FreezeMoved


class Command(PortalCommand):
    help = "Stops everything: no release of any business begins on another machine until resume_world. For ops."
    conflicts = (FreezeMoved,)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, help="why; everybody sees it on every page")

    def act(self, user, *, reason, json, **options):
        require_ops(user)
        reason = checked(StopForm({"reason": reason, "confirmed": True})).cleaned_data["reason"]
        Freeze.objects.stop_world(user, reason)
        self.say("Stopped: no release begins on another machine.", json, stopped=True)

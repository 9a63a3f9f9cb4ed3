"""Why a stage does not do what it was asked for."""

from django.utils.translation import gettext_lazy as _

from deploy_portal.words import in_sentences

NOT_OPEN = _("This stage is not open now. The job's page says what comes first.")
STILL_GOING_ON = _("A run of this stage is still going on. Wait for its end, or cancel it.")
NOT_TO_SKIP = _("This stage cannot be skipped now. The job's page says what comes next.")
MOVED_ON = _("This stage has moved on. Look at it again.")


class StageMoved(Exception):
    """The stage is no longer as the person saw it, or is not open; nothing was changed."""


class Frozen(StageMoved):
    """No release may begin now; `in_short` leaves out why, for pages, which tell of freezes anyway."""

    def __init__(self, holding, who_can_help):
        super().__init__(in_sentences([*(one.in_words for one in holding), who_can_help]))
        self.in_short = in_sentences([_("No release may begin now."), who_can_help])

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import ReadOnlyAdmin, pairs, status
from jobs.models import Sync


def taken(error):
    """Whether an answer of a config service was taken, as a state."""
    return status("failed", _("Not taken")) if error else status("succeeded", _("Taken"))


@admin.register(Sync)
class SyncAdmin(ReadOnlyAdmin):
    """What the config services answered: each answer that changed something, had rows refused, or was not taken."""

    COUNTS = ["listed", "added_count", "gone_count", "moved_count", "refused_count"]
    list_display = ["at", "business", "outcome", *COUNTS]
    list_filter = ["business"]
    list_select_related = ["business"]
    date_hierarchy = "at"
    fields = ["at", "business", "outcome", "why_not_taken", "origin", *COUNTS, "changes"]

    @admin.display(description=_("Outcome"))
    def outcome(self, sync):
        return taken(sync.error)

    @admin.display(description=_("why it was not taken"))
    def why_not_taken(self, sync):
        return sync.why_not_taken or self.get_empty_value_display()

    @admin.display(description=_("changes"))
    def changes(self, sync):
        """The first names of each kind, one a line."""
        moved = [(one["hostname"], f"{one['was']} → {one['now']}") for one in sync.moved]
        refused = [(f"{row} {name}", why) for row, name, why in sync.refused_in_words]
        kinds = [(_("new"), [(name, "") for name in sync.added]), (_("gone"), [(name, "") for name in sync.gone])]
        kinds += [(_("moved"), moved), (_("refused"), refused)]
        return pairs([(f"{kind} {name}", words) for kind, rows in kinds for name, words in rows])

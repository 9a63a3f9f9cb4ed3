"""Who may do what: the one table that pages, admin and commands go by."""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Role(TextChoices):
    REQUESTER = "requester", _("Requester")
    APPROVER = "approver", _("Approver")
    PUBLISHER = "publisher", _("Publisher")


class Right(TextChoices):
    VIEW = "view", _("see this job")
    CREATE = "create", _("create a job for this business")
    EDIT = "edit", _("edit or withdraw this job")
    APPROVE = "approve", _("approve this job")
    BREAK_GLASS = "break_glass", _("start this job without approval")
    PUBLISH = "publish", _("run or roll back a stage of this job")
    RESOLVE = "resolve", _("resolve a machine of this job")


# Only the job's own requester edits it (`Job.rights_of`).
GRANTED = {
    Role.REQUESTER: {Right.VIEW, Right.CREATE, Right.EDIT},
    Role.APPROVER: {Right.VIEW, Right.APPROVE},
    Role.PUBLISHER: {Right.VIEW, Right.CREATE, Right.EDIT, Right.PUBLISH, Right.RESOLVE},
}
# Ops publish as break-glass only: with a reason, and the event says so.
GRANTED_TO_OPS = {Right.VIEW, Right.CREATE, Right.EDIT, Right.BREAK_GLASS, Right.PUBLISH, Right.RESOLVE}


def roles_with(right):
    return [role for role, rights in GRANTED.items() if right in rights]

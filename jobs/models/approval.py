from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Approval(models.Model):
    """That a person has read one revision of a job and agrees. An edit makes a new revision, which needs its own."""

    job = models.ForeignKey("jobs.Job", models.PROTECT, related_name="approvals", verbose_name=_("job"))
    revision = models.PositiveIntegerField(_("revision"))
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("approver"))
    # The job's own requester, so that the database can refuse that both are one person.
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("requester")
    )
    at = models.DateTimeField(_("when"), db_default=Now())
    remark = models.TextField(_("remark"), blank=True)

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["job", "revision", "by"], name="one_approval_per_person"),
            models.CheckConstraint(condition=~Q(by=F("requester")), name="approval_not_by_requester"),
        ]

    def __str__(self):
        return f"#{self.job_id}: {self.by}"

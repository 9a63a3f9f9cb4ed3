from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Event(models.Model):
    """Who did what to which job, when, from where and why; or what a person must look at. Append-only."""

    class Verb(models.TextChoices):
        ASKED = "asked", _("asked for")
        EDITED = "edited", _("edited")
        WITHDRAWN = "withdrawn", _("withdrew")
        APPROVED = "approved", _("approved")
        LAPSED = "lapsed", _("made approvals void")
        STARTED = "started", _("started")
        SKIPPED = "skipped", _("skipped")
        ROLLED_BACK = "rolled_back", _("started the rollback of")
        ENDED = "ended", _("ended")
        LOST = "lost", _("lost sight of")
        RESOLVED = "resolved", _("resolved")
        PAUSED = "paused", _("paused")
        RESUMED = "resumed", _("resumed")
        CANCELLED = "cancelled", _("cancelled")
        EXCUSED = "excused", _("excused")

    job = models.ForeignKey("jobs.Job", models.PROTECT, related_name="events", verbose_name=_("job"))
    at = models.DateTimeField(_("when"), db_default=Now(), editable=False)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, verbose_name=_("who"))
    origin = models.CharField(_("from where"), max_length=255, blank=True)
    verb = models.CharField(_("what"), max_length=20, choices=Verb)
    stage = models.CharField(_("stage"), max_length=20, blank=True)
    was = models.CharField(_("from"), max_length=20, blank=True)
    became = models.CharField(_("to"), max_length=20, blank=True)
    reason = models.TextField(_("why"), blank=True)
    detail = models.JSONField(_("detail"), default=dict)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-at", "-pk"]
        indexes = [
            models.Index(fields=["job", "-at"], name="event_by_job"),
            models.Index(fields=["-at"], name="event_by_time"),
        ]

    def __str__(self):
        return f"#{self.job_id} {self.get_verb_display()}"

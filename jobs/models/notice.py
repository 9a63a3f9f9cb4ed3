from django.conf import settings
from django.core.mail import send_mail
from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from jobs.models.business import Business
from jobs.models.event import Event
from jobs.rights import Right


class NoticeQuerySet(models.QuerySet):
    def tell_approvers(self, job, by, reason):
        """A notice for each approver of the job's business; a mail too, once the transaction is through."""
        people = list(job.business.members_with(Right.APPROVE))
        self.bulk_create([Notice(job=job, to=user, by=by, reason=reason) for user in people])
        if addresses := [user.email for user in people if user.email]:
            subject = _("Break-glass: %(job)s") % {"job": job}
            told = {"by": by, "job": job, "reason": reason}
            words = _("%(by)s broke the glass for %(job)s: %(reason)s\n\nAcknowledge it on your home page.") % told
            # Robust: a mail server that fails is logged, and stops nothing.
            transaction.on_commit(lambda: send_mail(subject, words, None, addresses), robust=True)

    def open_for(self, user):
        seen = Business.objects.where(user, Right.VIEW)
        return self.filter(to=user, acknowledged_at=None, job__business__in=seen)


class Notice(models.Model):
    """That an approver is told of a break-glass, until they say that they have seen it."""

    job = models.ForeignKey("jobs.Job", models.PROTECT, related_name="notices", verbose_name=gettext_lazy("job"))
    to = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="notices")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    reason = models.TextField()
    at = models.DateTimeField(db_default=Now())
    acknowledged_at = models.DateTimeField(null=True)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["to"], condition=models.Q(acknowledged_at=None), name="notice_not_acknowledged"),
        ]

    def __str__(self):
        return f"#{self.job_id}: {self.to}"

    def acknowledge(self):
        """Says so in the job's history, once."""
        with transaction.atomic():
            if Notice.objects.filter(pk=self.pk, acknowledged_at=None).update(acknowledged_at=Now()):
                self.job.record(Event.Verb.ACKNOWLEDGED, self.to)

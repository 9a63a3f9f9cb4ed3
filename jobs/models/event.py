import json

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from deploy_portal import origin
from deploy_portal.clock import database_now
from deploy_portal.database import take_turns
from deploy_portal.templatetags.portal import inert
from jobs.chain import seal
from jobs.plan import Kind

# Any number that nobody else takes turns under.
PORTALS_OWN_CHAIN = 7_236_455
# How many machines an event names.
NAMES_KEPT = 20
# How many events tell somebody who came too late what happened meanwhile.
TOLD_LATELY = 3


class EventQuerySet(models.QuerySet):
    def tell(self, by, verb, subject, reason="", **detail):
        """Writes what was done to `subject`, which is of no job, into the portal's own chain."""
        with transaction.atomic(savepoint=False):
            take_turns(PORTALS_OWN_CHAIN)
            return self.append(None, actor=by, verb=verb, subject=subject[:255], reason=reason, detail=detail)

    def lately(self, stage=None):
        """The newest few; where a stage is named, of those about it and about its job as a whole."""
        events = self.filter(stage__in=["", stage]) if stage else self
        return events.select_related("actor")[:TOLD_LATELY]

    def append(self, job, *, actor, detail, **words):
        """Writes the next event of a chain, for those who hold its lock."""
        last = self.filter(job=job).order_by("-number").values_list("number", "digest", Now()).first()
        number, previous, now = last or (0, "", database_now())
        event = Event(job=job, number=number + 1, actor=actor, at=now, origin=origin.current(), previous=previous)
        for name, text in words.items():
            setattr(event, name, str(text))
        event.detail = json.loads(json.dumps(detail))  # as it is read again
        event.digest = seal(event)
        event.save(force_insert=True)
        return event


class Event(models.Model):
    """Who did what to which job, or what else, when, from where and why; or what a person must look at.

    Append-only: the database refuses updates and deletes. The events of a job are a chain, those of none are another.
    """

    class Verb(models.TextChoices):
        ASKED = "asked", _("asked for")
        EDITED = "edited", _("edited")
        WITHDRAWN = "withdrawn", _("withdrew")
        APPROVED = "approved", _("approved")
        SENT_BACK = "sent_back", _("sent back")
        LAPSED = "lapsed", _("made approvals void")
        BREAK_GLASS = "break_glass", _("broke the glass")
        ACKNOWLEDGED = "acknowledged", _("acknowledged")
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
        ADDED = "added", _("added")
        CHANGED = "changed", _("changed")
        DELETED = "deleted", _("deleted")
        ASKED_AGAIN = "asked_again", _("asked for the machines of")
        SIGNED_OUT = "signed_out", _("ended all sessions of")
        UNLOCKED = "unlocked", _("unlocked the login of")
        EXPORTED = "exported", _("exported")
        PRUNED = "pruned", _("pruned")
        STOPPED = "stopped", _("stopped")
        LEAVE = "leave", _("gave leave for")

    job = models.ForeignKey("jobs.Job", models.PROTECT, null=True, related_name="events", verbose_name=_("job"))
    number = models.PositiveIntegerField(_("number in its chain"))
    subject = models.CharField(_("of no job, but of"), max_length=255, blank=True)
    at = models.DateTimeField(_("when"), db_default=Now(), editable=False)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, verbose_name=_("who"))
    origin = models.CharField(_("from where"), max_length=255, blank=True)
    verb = models.CharField(_("what"), max_length=20, choices=Verb)
    stage = models.CharField(_("stage"), max_length=20, blank=True)
    was = models.CharField(_("from"), max_length=20, blank=True)
    became = models.CharField(_("to"), max_length=20, blank=True)
    reason = models.TextField(_("why"), blank=True)
    detail = models.JSONField(_("detail"), default=dict)
    previous = models.CharField(_("hash of the event before"), max_length=64, blank=True)
    digest = models.CharField(_("hash"), max_length=64)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-at", "-pk"]
        indexes = [
            models.Index(fields=["job", "-at"], name="event_by_job"),
            models.Index(fields=["-at"], name="event_by_time"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="one_event_per_number"),
            models.UniqueConstraint(fields=["number"], condition=Q(job=None), name="one_own_event_per_number"),
            models.CheckConstraint(
                condition=Q(job__isnull=False, subject="") | (Q(job=None) & ~Q(subject="")),
                name="event_of_job_or_subject",
            ),
        ]

    def __str__(self):
        of = f"#{self.job_id}" if self.job_id else inert(self.subject)
        return f"{of} {self.get_verb_display()}"

    @property
    def stage_in_words(self):
        return dict(Kind.choices).get(self.stage, self.stage)


def first_names(told):
    """What an event keeps of {what: host names}: the first of each, and how many where there are more."""
    names = {what: sorted(some)[:NAMES_KEPT] for what, some in told.items() if some}
    return names | {f"{what}_in_all": len(some) for what, some in told.items() if len(some) > NAMES_KEPT}


def told_of_machines(machines):
    """What an event keeps of machines: how many, and the first names."""
    return {"machines": len(machines), "hostnames": [machine.hostname for machine in machines[:NAMES_KEPT]]}


def told_of_moves(moved):
    """What an event keeps of moves that are accepted, each a host name, where it was and is: the first, by name."""
    told = [{"hostname": name, "was": str(was), "now": str(now)} for name, was, now in sorted(moved)[:NAMES_KEPT]]
    return {"moved": told} if told else {}

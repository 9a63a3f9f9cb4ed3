"""When no release may begin on another machine: freezes, the stop of everything, and leave for one job."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import IntegrityError, models, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from deploy_portal.clock import database_now
from deploy_portal.words import enumerated
from jobs.models.business import Business, Membership
from jobs.models.event import Event
from jobs.models.job import Job, JobMoved
from jobs.rights import Right
from jobs.validators import printable_line

# How far ahead pages tell of freezes, and leave can be given.
AHEAD = timedelta(days=7)
# No time of a weekly freeze is longer than a week, so those that matter begin and end within this of a moment.
AROUND = timedelta(days=8)
# What the events of a stop are of.
ALL_RELEASES = "all releases"


class FreezeMoved(Exception):
    """The freeze is no longer in the state that this step begins from; nothing was changed."""


class FreezeQuerySet(models.QuerySet):
    def live(self):
        """Those that are or will be in force, with `clock`: the database's time."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=Now()), ended_at=None).annotate(clock=Now())

    def windows(self):
        """Those with an end that is known: none is a stop of everything."""
        return self.exclude(kind=Freeze.Kind.STOP)

    def of(self, business):
        return self.filter(Q(business=None) | Q(business=business))

    def seen_by(self, user):
        return self.filter(Q(business=None) | Q(business__in=Business.objects.where(user, Right.VIEW)))

    def ahead(self, within=AHEAD):
        """The occurrences that are in force now or begin within this time, the first to begin first."""
        found = [one for freeze in self.live() for one in freeze.occurrences(freeze.clock, freeze.clock + within)]
        return sorted(found, key=lambda occurrence: occurrence.starts)

    def in_force(self):
        return self.ahead(timedelta())

    def met(self, job, starter, within=timedelta()):
        """(occurrence, leave or None): what releases of `job` that `starter` starts meet, and what lets them pass."""
        leaves = Leave.objects.filter(job=job).select_related("by")
        return [(one, leaves.passing(one, starter).first()) for one in self.of(job.business).ahead(within)]

    def holding(self, job, starter):
        """What keeps the releases of `job` that `starter` starts from beginning on another machine now."""
        return [one for one, leave in self.met(job, starter) if leave is None]

    def who_can_help(self, holding, job, starter):
        """A sentence for `starter`, who may not start a release of `job` because of these occurrences."""
        if any(occurrence.freeze.is_stop for occurrence in holding):
            return _("Only ops can end that.")
        if approvers := job.approvers().exclude(pk=starter.pk):
            names = enumerated(approvers)
            return _("Leave can be given on the job's page, by one of: %(names)s.") % {"names": names}
        return _("Nobody else may give leave for this job: ask ops for an approver.")

    def stop(self):
        """The stop of everything that is in force, or None."""
        return self.filter(kind=Freeze.Kind.STOP, ended_at=None).first()

    def stop_world(self, by, reason):
        """From now on no release of any business begins on another machine, until the stop is ended."""
        try:
            with transaction.atomic():
                stop = self.create(kind=Freeze.Kind.STOP, starts_at=database_now(), made_by=by, reason=reason)
                Event.objects.tell(by, Event.Verb.STOPPED, ALL_RELEASES, reason)
                return stop
        except IntegrityError as error:
            raise FreezeMoved(_("Everything is stopped already.")) from error

    def resume_world(self, by, reason):
        stop = self.stop()
        if stop is None:
            raise FreezeMoved(_("There is no stop to end."))
        stop.end(by, reason)


_SINGLE = Q(weekdays=None, from_time=None, hours=None)
# A condition on an empty field is neither true nor false, and the database would let it pass.
ONCE = _SINGLE & Q(kind="once", starts_at__isnull=False, ends_at__isnull=False, starts_at__lt=F("ends_at"))
WEEKLY = Q(kind="weekly", starts_at=None, ends_at=None, from_time__isnull=False) & Q(
    weekdays__isnull=False, weekdays__range=(1, 127), hours__isnull=False, hours__gt=0, hours__lt=168
)
STOP = _SINGLE & Q(kind="stop", business=None, starts_at__isnull=False, ends_at=None)


class Freeze(models.Model):
    """No release of a business, or of any, begins on another machine: once, every week, or until it is ended."""

    class Kind(models.TextChoices):
        ONCE = "once", _("Once")
        WEEKLY = "weekly", _("Every week")
        STOP = "stop", _("Stop of everything")

    business = models.ForeignKey(
        Business,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="freezes",
        verbose_name=_("business"),
        help_text=_("Empty: all of them."),
    )
    kind = models.CharField(_("how often"), max_length=10, choices=Kind)
    starts_at = models.DateTimeField(pgettext_lazy("time", "from"), null=True, blank=True)
    ends_at = models.DateTimeField(pgettext_lazy("time", "to"), null=True, blank=True)
    # A bit for each: 1 is Monday, 64 is Sunday.
    weekdays = models.PositiveSmallIntegerField(_("begins on"), null=True, blank=True)
    from_time = models.TimeField(_("begins at"), null=True, blank=True)
    hours = models.DecimalField(
        _("for how many hours"),
        max_digits=5,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0.25), MaxValueValidator(167.75)],
        help_text=_("By the clock on the wall: 62 is from Friday 18:00 to Monday 08:00."),
    )
    reason = models.CharField(_("why"), max_length=200, validators=[printable_line])
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("made by"), editable=False
    )
    made_at = models.DateTimeField(_("made"), db_default=Now(), editable=False)
    ended_at = models.DateTimeField(_("ended early"), null=True, editable=False)
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+", verbose_name=_("by"), editable=False
    )
    end_reason = models.CharField(_("why it was ended"), max_length=200, blank=True, editable=False)

    objects = FreezeQuerySet.as_manager()

    class Meta:
        verbose_name = _("freeze")
        verbose_name_plural = _("freezes")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind"], condition=Q(kind="stop", ended_at=None), name="one_stop_of_everything"
            ),
            models.CheckConstraint(condition=ONCE | WEEKLY | STOP, name="freeze_has_its_times"),
            models.CheckConstraint(condition=~Q(reason=""), name="freeze_has_a_reason"),
            models.CheckConstraint(
                condition=Q(ended_at=None, ended_by=None, end_reason="")
                | (Q(ended_at__isnull=False, ended_by__isnull=False) & ~Q(end_reason="")),
                name="freeze_ended_with_reason",
            ),
        ]

    def __str__(self):
        return self.reason

    @property
    def is_stop(self):
        return self.kind == self.Kind.STOP

    def has_begun(self, now):
        """Whether it has ever been in force: from then on it can be ended, but neither changed nor deleted."""
        return bool(self.occurrences(self.made_at, now))

    def occurrences(self, since, until):
        """Its occurrences that are in force at some moment from `since` to `until`."""
        times = self._weekly(since, until) if self.kind == self.Kind.WEEKLY else [(self.starts_at, self.ends_at)]
        return [
            Occurrence(self, starts, ends)
            for starts, ends in times
            # A stop begins when it is made, also where the database's clock was set back since.
            if (starts <= until and (ends is None or ends > since)) or self.is_stop
        ]

    def upcoming(self, now):
        """Its next occurrence that has not begun, or None."""
        if self.kind == self.Kind.ONCE:
            return Occurrence(self, self.starts_at, self.ends_at) if self.starts_at > now else None
        return next((one for one in self.occurrences(now, now + AROUND) if one.starts > now), None)

    def end(self, by, reason):
        """Ends it for good, before its time; what it was stays known."""
        row = Freeze.objects.filter(pk=self.pk, ended_at=None)
        verb, subject = Event.Verb.ENDED, f"freeze {self}"
        if self.is_stop:
            verb, subject = Event.Verb.RESUMED, ALL_RELEASES
        with transaction.atomic():
            if not row.update(ended_at=Now(), ended_by=by, end_reason=reason):
                raise FreezeMoved(_("This was ended meanwhile. There is nothing left to end."))
            Event.objects.tell(by, verb, subject, reason)
        self.refresh_from_db(fields=["ended_at", "ended_by", "end_reason"])

    def begins_on(self, weekday):
        """Whether one begins on this day of the week; 0 is Monday."""
        return bool(self.weekdays & (1 << weekday))

    @property
    def never_pauses(self):
        """Whether each time of this weekly freeze reaches into the next, so that nothing could ever be released."""
        days = [day for day in range(7) if self.begins_on(day)]
        gaps = [following - day for day, following in zip(days, [*days[1:], days[0] + 7], strict=True)]
        return self.hours >= 24 * max(gaps)

    def _weekly(self, since, until):
        """From when to when it is in force around these; days that touch each other are one."""
        zone = timezone.get_default_timezone()
        first, last = (since - AROUND).astimezone(zone).date(), (until + AROUND).astimezone(zone).date()
        days = [first + timedelta(days=number) for number in range((last - first).days)]
        times = []
        for day in days:
            if not self.begins_on(day.weekday()):
                continue
            begins = datetime.combine(day, self.from_time, zone)
            starts, ends = min(_moments(begins)), max(_moments(begins + timedelta(minutes=int(self.hours * 60))))
            if times and starts <= times[-1][1]:
                starts = times.pop()[0]
            times.append((starts, ends))
        return times


def _moments(on_the_wall):
    """What a time on the wall may mean: two moments where a change of the clocks repeats or skips it."""
    return [on_the_wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]


@dataclass(frozen=True)
class Occurrence:
    """One time that a freeze is in force; a stop has no end until somebody ends it."""

    freeze: Freeze
    starts: datetime
    ends: datetime | None

    @property
    def key(self):
        """Names it among the occurrences of all freezes."""
        return f"{self.freeze.pk}-{self.ends:%Y%m%d%H%M%S}"

    @property
    def is_in_force(self):
        return self.freeze.is_stop or self.starts <= self.freeze.clock

    @property
    def in_words(self):
        if self.freeze.is_stop:
            facts = {"start": shown(self.starts), "reason": self.freeze.reason}
            return _("Everything is stopped since %(start)s: %(reason)s.") % facts
        return in_words(self.told)

    @property
    def told(self):
        """What an event keeps of one with an end."""
        return {"from": self.starts.isoformat(), "to": self.ends.isoformat(), "reason": self.freeze.reason}


def in_words(told):
    """What an event keeps of a freeze, for who reads it now; older events kept words instead."""
    if isinstance(told, str):
        return told
    start, end = (shown(datetime.fromisoformat(told[name])) for name in ("from", "to"))
    return _("Frozen from %(start)s to %(end)s: %(reason)s.") % {"start": start, "end": end, "reason": told["reason"]}


def shown(moment):
    return date_format(timezone.localtime(moment), "D Y-m-d H:i")


class LeaveQuerySet(models.QuerySet):
    def live(self):
        """What may still count; not what was given for a job that was edited since."""
        return self.filter(void_at=None, until__gt=Now(), revision=F("job__revision")).select_related("by")

    def passing(self, occurrence, starter):
        """Leave that lets a job pass `occurrence`; not for what its giver starts, nor once the job was edited.

        Nor once its giver may no longer give it, also where nobody has looked at the job since.
        """
        may_give = Membership.objects.granting(Right.APPROVE).filter(
            user=OuterRef("by"), business=OuterRef("job__business")
        )
        given = self.filter(
            Exists(may_give),
            freeze=occurrence.freeze,
            until=occurrence.ends,
            revision=F("job__revision"),
            void_at=None,
        )
        return given.exclude(by=starter)

    def give(self, job, by, occurrence, reason):
        """Lets this revision of `job` pass `occurrence`, as far as others than `by` start it."""
        with transaction.atomic():
            now = job.locked()
            if now.revision != job.revision or now.status == Job.Status.WITHDRAWN:
                raise JobMoved(_("This job was edited or withdrawn meanwhile. Look at it again."))
            facts = {"freeze": occurrence.freeze, "until": occurrence.ends, "revision": job.revision, "void_at": None}
            words = {"reason": reason, "requester_id": job.requester_id}
            leave, is_new = self.get_or_create(job=job, by=by, **facts, defaults=words)
            if not is_new:
                raise JobMoved(_("You have given this leave already."))
            job.record(Event.Verb.LEAVE, by, reason, freeze=occurrence.told)
        return leave

    def lapse(self, job):
        """Makes void what was given for `job` by who may no longer approve it."""
        lapsed = job.lapsed(list(self.live().filter(job=job).select_related(None)))
        if not lapsed:
            return
        with transaction.atomic():
            job.lock()
            # Whoever looked at the job just before may have made some of it void.
            still = self.filter(pk__in=[leave.pk for leave in lapsed], void_at=None)
            if names := sorted({str(leave.by) for leave in still.select_related("by")}):
                still.update(void_at=Now())
                job.record(Event.Verb.LAPSED, None, leave=True, approvers=names)


class Leave(models.Model):
    """An approver lets one revision of a job pass one occurrence of a freeze: the one that ends at `until`."""

    job = models.ForeignKey(Job, models.PROTECT, related_name="leaves", verbose_name=_("job"))
    freeze = models.ForeignKey(Freeze, models.PROTECT, related_name="leaves", verbose_name=_("freeze"))
    until = models.DateTimeField(_("until"))
    revision = models.PositiveIntegerField(_("revision"))
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("by"))
    # The job's own requester, so that the database can refuse that both are one person.
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name=_("requester")
    )
    reason = models.TextField(_("why"), max_length=2000)
    at = models.DateTimeField(_("when"), db_default=Now())
    void_at = models.DateTimeField(_("void since"), null=True)

    objects = LeaveQuerySet.as_manager()

    class Meta:
        verbose_name = _("leave")
        verbose_name_plural = _("leaves")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["job", "freeze", "until", "revision", "by"],
                condition=Q(void_at=None),
                name="one_leave_per_person_and_occurrence",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="leave_has_a_reason"),
            models.CheckConstraint(condition=~Q(by=F("requester")), name="leave_not_by_requester"),
        ]

    def __str__(self):
        return _("#%(job)s until %(end)s") % {"job": self.job_id, "end": shown(self.until)}

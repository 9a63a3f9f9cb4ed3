import contextlib
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from deploy_portal import origin
from deploy_portal.clock import database_now
from deploy_portal.database import take_turns, unless_away
from deploy_portal.words import in_each_language, in_readers_language
from jobs import config_service
from jobs.models.machine import PLACE, Listing, Machine, Place
from jobs.models.shared_machines import settle
from jobs.models.sync import Sync
from jobs.rights import GRANTED, GRANTED_TO_OPS, Right, Role, roles_with
from jobs.validators import printable_line

# Any number that nobody else takes turns under.
ANSWERS = 7_236_456
SOURCE_CHANGED = _("The source was changed while it was asked, and its answer does not count. Ask again.")


class BusinessQuerySet(models.QuerySet):
    def where(self, user, right):
        """The businesses in which `user` has `right`."""
        if user.is_ops:
            return self if right in GRANTED_TO_OPS else self.none()
        memberships = Membership.objects.filter(user=user, role__in=roles_with(right))
        return self.filter(pk__in=memberships.values("business"))


class Business(models.Model):
    name = models.CharField(_("name"), max_length=100, unique=True, validators=[printable_line])
    slug = models.SlugField(_("short name"), unique=True, help_text=_("Stands in addresses and in DEPLOY_BUSINESS."))
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", verbose_name=_("members"))
    source = models.CharField(_("source of its machines"), max_length=30, default="http_json")
    source_options = models.JSONField(
        _("options of the source"), default=dict, blank=True, help_text=_("See docs/config-service.md.")
    )
    soak_minutes = models.PositiveIntegerField(
        _("soak time"),
        default=0,
        validators=[MaxValueValidator(10_080)],
        help_text=_("In minutes: how long a stage must have succeeded before the next one opens."),
    )
    ssh_key = models.SlugField(
        _("SSH key"),
        blank=True,
        db_index=False,
        help_text=_(
            "The name of a file in SSH_KEYS_DIR on the workers' hosts, such as payment; never the key itself. "
            "Empty: the portal's own keys."
        ),
    )
    approvers_needed = models.PositiveSmallIntegerField(
        _("approvals needed"),
        default=1,
        validators=[MaxValueValidator(9)],
        help_text=_("How many people must approve a job, none of whom wrote it. 0: a job needs no approval."),
    )
    asked_at = models.DateTimeField(_("config service asked"), null=True, editable=False)
    # When the answer that was taken was asked for: it may be as old as that.
    synced_at = models.DateTimeField(_("config service answered"), null=True, editable=False)
    sync_error = models.TextField(_("why the last answer was not taken"), blank=True, editable=False)
    sync_error_texts = models.JSONField(_("the same in each language"), default=dict, editable=False)
    refused_rows = models.PositiveIntegerField(_("rows refused in the last answer"), default=0, editable=False)

    objects = BusinessQuerySet.as_manager()

    class Meta:
        verbose_name = _("business")
        verbose_name_plural = _("businesses")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(approvers_needed__lte=9), name="business_approvers_needed_to_nine")
        ]

    def __str__(self):
        return self.name

    def clean(self):
        if self.source not in settings.CONFIG_SOURCES:
            raise ValidationError({"source": _("There is no such source.")})
        if not isinstance(self.source_options, dict):
            raise ValidationError({"source_options": _("Write a JSON object: {…}.")})
        if problems := config_service.check(self.source, self.source_options):
            raise ValidationError({"source_options": problems})

    def rights_of(self, user):
        if not user.is_active:
            return set()
        return GRANTED_TO_OPS if user.is_ops else self.rights_by_role(user)

    def rights_by_role(self, user):
        """What the roles of `user` in this business grant, without what being ops adds."""
        roles = self.membership_set.filter(user=user).values_list("role", flat=True)
        return set().union(*(GRANTED[Role(role)] for role in roles))

    def members_with(self, right):
        members = self.members.filter(membership__in=Membership.objects.granting(right))
        return members.distinct().order_by("username")

    @property
    def is_unused(self):
        """Whether it never had a machine or a job, which history would name."""
        return not self.listings.exists() and not self.jobs.exists()

    @property
    def lacks_approvers(self):
        """Whether even a job that none of its approvers wrote could not be approved."""
        return self.members_with(Right.APPROVE).count() < self.approvers_needed

    def refresh_machines(self, before_start=False):
        """Asks the config service if that was not tried lately; the last good list stays on an error."""
        seconds = settings.CONFIG_SERVICE_MAX_AGE_AT_START if before_start else settings.CONFIG_SERVICE_MAX_AGE
        age = timedelta(seconds=seconds)
        # A time to come is from before the clock was set back, or of another who asks just now.
        lately = (Now() - age, Now() + age)
        too_old = ~Q(asked_at__range=lately)
        if before_start:  # what another request has only asked for is no answer yet
            too_old |= Q(sync_error="") & ~Q(synced_at__range=lately)
        stale = Business.objects.filter(too_old, pk=self.pk)
        # Read first: on SQLite an UPDATE waits for whoever writes, also where it changes nothing.
        asking = False
        with contextlib.nullcontext() if before_start else unless_away():
            asking = stale.exists() and stale.update(asked_at=Now())
        if asking:
            # The reason is kept in sync_error and shown beside the age of the list.
            with contextlib.suppress(config_service.SourceError):
                self.sync_machines()
        if asking or before_start:  # what another request was told meanwhile counts too
            self.refresh_from_db(fields=["asked_at", "synced_at", "sync_error", "sync_error_texts", "refused_rows"])

    @property
    def why_not_taken(self):
        return in_readers_language(self.sync_error_texts, self.sync_error)

    def listed_places(self):
        """{hostname: Place} of the machines that are live here."""
        live = Machine.objects.live_in(self).values_list("hostname", *PLACE)
        return {hostname: Place(*place) for hostname, *place in live}

    def sync_machines(self, accept_loss=False, dry_run=False, progress=None):
        """Takes the whole list of the config service, or raises SourceError and leaves the last good one.

        Returns the Sync, which changes nothing when a later question was answered sooner. `dry_run` changes nothing;
        `progress` is called with each row as it comes.
        """
        asked_at = database_now()
        try:
            machines, refused = config_service.read(self, progress)
            return self._take(asked_at, machines, refused, accept_loss, dry_run)
        except config_service.SourceError as error:
            if not dry_run:
                self._keep_error(asked_at, error.reason)
            raise

    @transaction.atomic
    def _keep_error(self, asked_at, reason):
        now = self._locked()
        if now._was_answered_since(asked_at):
            return
        texts = in_each_language(reason if self._has_the_source_of(now) else SOURCE_CHANGED)
        error = texts[settings.LANGUAGE_CODE]
        Business.objects.filter(pk=self.pk).update(asked_at=Now(), sync_error=error, sync_error_texts=texts)
        Sync.objects.keep(Sync(business=self, origin=origin.current(), error=error, error_texts=texts))

    @transaction.atomic
    def _take(self, asked_at, machines, refused, accept_loss, dry_run):
        # One answer after the other, of whatever business: each compares what it says with what is there.
        take_turns(ANSWERS)
        now = self._locked()
        if not self._has_the_source_of(now):
            raise config_service.SourceError(SOURCE_CHANGED)
        if now._was_answered_since(asked_at):
            return Sync.of_nothing(now)
        machines, refused, refused_places = settle(self, machines, refused)
        sync = Sync.of(self, machines, refused)
        sync.origin = origin.current()
        if not accept_loss:
            self._refuse_sudden_loss(sync)
        if dry_run:
            return sync
        Listing.objects.take(self, machines)
        Listing.objects.keep_refused_places(self, refused_places)
        Business.objects.filter(pk=self.pk).update(
            asked_at=Now(), synced_at=asked_at, sync_error="", sync_error_texts={}, refused_rows=sync.refused_count
        )
        Sync.objects.keep(sync)
        return sync

    def _locked(self):
        return Business.objects.select_for_update(no_key=True).get(pk=self.pk)

    def _has_the_source_of(self, now):
        return (self.source, self.source_options) == (now.source, now.source_options)

    def _was_answered_since(self, asked_at):
        """Whether an answer was taken that was asked for later; a time to come, of a clock set back, is none."""
        return self.synced_at is not None and asked_at < self.synced_at <= database_now()

    def _refuse_sudden_loss(self, sync):
        lost, known = sync.gone_count, sync.listed - sync.added_count + sync.gone_count
        sudden = lost > 1 and lost * 100 > known * settings.CONFIG_SERVICE_MAX_LOSS_PERCENT
        if lost and (sudden or not sync.listed):
            raise config_service.SourceError(lazy(_suddenly_missing, str)(lost, known, self.slug))


def _suddenly_missing(lost, known, slug):
    words = ngettext(
        "The only machine is suddenly missing from the answer; it was not taken. "
        "If it is really gone: sync_machines %(slug)s --accept-loss",
        "%(lost)d of %(known)d machines are suddenly missing from the answer; it was not taken. "
        "If they are really gone: sync_machines %(slug)s --accept-loss",
        known,
    )
    return words % {"lost": lost, "known": known, "slug": slug}


class MembershipQuerySet(models.QuerySet):
    def granting(self, right):
        """Those by which a person has `right` in their business now."""
        granting = self.filter(role__in=roles_with(right), user__is_active=True)
        # Ops have the rights of ops, whatever roles they may have given themselves.
        return granting if right in GRANTED_TO_OPS else granting.exclude(user__is_superuser=True)


class Membership(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, verbose_name=_("user"))
    business = models.ForeignKey(Business, models.CASCADE, verbose_name=_("business"))
    role = models.CharField(_("role"), max_length=20, choices=Role)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [
            models.UniqueConstraint(fields=["user", "business", "role"], name="one_membership_per_role"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self):
        words = {"user": self.user, "role": self.get_role_display(), "business": self.business}
        return _("%(user)s: %(role)s, %(business)s") % words

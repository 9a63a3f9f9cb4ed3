from typing import NamedTuple

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from deploy_portal.clock import database_now


class Place(NamedTuple):
    """Where a machine is, and which workers reach it. A job remembers it, to tell when the machine has moved since."""

    address: str
    port: int
    user: str
    site: str

    @classmethod
    def of(cls, row):
        return cls(row.address, row.port, row.user, row.site)

    def __str__(self):
        user = f"{self.user}@" if self.user else ""
        return f"{user}{with_port(self.address, self.port)} {self.site}".strip()


PLACE = Place._fields
# What tells one host from another, whatever its name; private addresses repeat from site to site.
HOST = ("address", "port", "site")
# What a config service says of a machine besides its name.
FACTS = [*PLACE, "labels"]
# As many as any SQLite takes in one query.
NAMES_AT_ONCE = 900


class MachineQuerySet(models.QuerySet):
    def live_in(self, business):
        """The machines that the config service gives for `business` now."""
        return self.filter(listings__business=business, listings__gone_at=None)

    def of_list(self, business, rows):
        """All machines with the names of `rows`, and some more: with the years, most of the portal's are none of them.

        Nearly all of a list were in the list of `business` before.
        """
        here = Machine.objects.filter(listings__business=business).order_by()
        new = {row.hostname for row in rows}.difference(here.values_list("hostname", flat=True))
        return self.filter(Q(pk__in=here.values("pk")) | Q(hostname__in=new)) if len(new) <= NAMES_AT_ONCE else self

    def put(self, business, rows):
        """Writes those of `rows` that are new or not as they were; returns {hostname: id}, of others too."""
        seen = self.of_list(business, rows).order_by()
        known = {name: (pk, facts) for pk, name, *facts in seen.values_list("pk", "hostname", *FACTS)}
        changed = [row for row in rows if known.get(row.hostname, (0, None))[1] != _facts(row)]
        if not changed:
            return {name: pk for name, (pk, _) in known.items()}
        self.bulk_create(
            [Machine(hostname=row.hostname, **dict(zip(FACTS, _facts(row), strict=True))) for row in changed],
            batch_size=2000,
            update_conflicts=True,
            unique_fields=["hostname"],
            update_fields=FACTS,
        )
        return dict(self.order_by().values_list("hostname", "pk"))


def _facts(row):
    return [getattr(row, name) for name in FACTS]


def with_port(address, port):
    """`10.0.0.1:22`, or `[2001:db8::1]:22`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Machine(models.Model):
    """A host as the config service gives it; its host name is what it is known by."""

    hostname = models.CharField(_("host name"), max_length=253, unique=True)
    address = models.CharField(_("address"), max_length=253)
    port = models.PositiveIntegerField(_("SSH port"), default=22)
    user = models.CharField(_("SSH user"), max_length=32, blank=True)
    site = models.CharField(_("site"), max_length=255, blank=True)
    labels = models.JSONField(_("labels"), default=dict, blank=True)
    businesses = models.ManyToManyField(
        "jobs.Business", through="Listing", related_name="machines", verbose_name=_("businesses")
    )

    objects = MachineQuerySet.as_manager()

    class Meta:
        verbose_name = _("machine")
        verbose_name_plural = _("machines")
        ordering = ["site", "hostname"]
        indexes = [models.Index(fields=["address", "port"], name="machine_by_host")]
        constraints = [
            models.CheckConstraint(condition=Q(port__gte=1, port__lte=65535), name="machine_port_in_range"),
            models.CheckConstraint(condition=~Q(hostname=""), name="machine_has_host_name"),
        ]

    def __str__(self):
        return self.hostname

    @property
    def address_and_port(self):
        return with_port(self.address, self.port)


class ListingQuerySet(models.QuerySet):
    def live(self):
        return self.filter(gone_at=None)

    def left_to_others(self):
        """Those that are gone while another business lists the machine, or did for longer: its facts are that one's."""
        longer = Q(gone_at=None) | Q(gone_at__gt=OuterRef("gone_at"))
        others = Listing.objects.filter(longer, machine=OuterRef("machine")).exclude(business=OuterRef("business"))
        return self.filter(Exists(others), gone_at__isnull=False)

    def take(self, business, rows):
        """Makes `rows` the whole list of `business`: machines are added and updated, those not in it are gone.

        Only what is new or has changed is written row by row.
        """
        # One moment for all, since SQLite's Now() is too coarse to compare; one order, so that no two syncs deadlock.
        seen_at = database_now()
        rows = sorted(rows, key=lambda row: row.hostname)
        ids = Machine.objects.put(business, rows)
        listed = [ids[row.hostname] for row in rows]
        live = set(self.live().filter(business=business).values_list("machine", flat=True))
        self._leave(business, sorted(live.difference(listed)))
        self.live().filter(business=business).update(last_seen_at=seen_at)
        self.bulk_create(
            [
                Listing(business=business, machine_id=machine_id, last_seen_at=seen_at, gone_at=None)
                for machine_id in listed
                if machine_id not in live
            ],
            batch_size=2000,
            update_conflicts=True,
            unique_fields=["business", "machine"],
            update_fields=["last_seen_at", "gone_at"],
        )

    def keep_refused_places(self, business, places):
        """Remembers where the last answer of `business` gave machines that others list elsewhere: {hostname: place}."""
        listings = self.filter(business=business)
        if not places:
            listings = listings.exclude(refused_place__isnull=True)
        listed = listings.values_list("machine", "machine__hostname", "refused_place")
        self.bulk_create(
            [
                Listing(business=business, machine_id=machine_id, refused_place=places.get(hostname))
                for machine_id, hostname, refused_place in listed
                if refused_place != places.get(hostname)
            ],
            batch_size=2000,
            update_conflicts=True,
            unique_fields=["business", "machine"],
            update_fields=["refused_place"],
        )

    def _leave(self, business, machine_ids):
        for first in range(0, len(machine_ids), 500):
            gone = self.live().filter(business=business, machine__in=machine_ids[first : first + 500])
            gone.update(gone_at=Now())


class Listing(models.Model):
    """That the config service gives a machine for a business, and since when it no longer does."""

    business = models.ForeignKey("jobs.Business", models.PROTECT, related_name="listings", verbose_name=_("business"))
    machine = models.ForeignKey(Machine, models.PROTECT, related_name="listings", verbose_name=_("machine"))
    first_seen_at = models.DateTimeField(_("first seen"), db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(_("last seen"), db_default=Now(), editable=False)
    gone_at = models.DateTimeField(_("gone"), null=True, editable=False)
    # The place that the last answer gave, where it could not count because another business lists the machine.
    refused_place = models.JSONField(_("refused place"), null=True, editable=False)

    objects = ListingQuerySet.as_manager()

    class Meta:
        verbose_name = _("listing")
        verbose_name_plural = _("listings")
        constraints = [models.UniqueConstraint(fields=["business", "machine"], name="one_listing_per_machine")]

    def __str__(self):
        return _("%(machine)s in %(business)s") % {"machine": self.machine, "business": self.business}

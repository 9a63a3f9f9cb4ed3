from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from deploy_portal.clock import database_now


class MachineQuerySet(models.QuerySet):
    def live_in(self, business):
        """The machines that the config service gives for `business` now."""
        return self.filter(pk__in=Listing.objects.live().filter(business=business).values("machine"))


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
        constraints = [
            models.CheckConstraint(condition=Q(port__gte=1, port__lte=65535), name="machine_port_in_range"),
            models.CheckConstraint(condition=~Q(hostname=""), name="machine_has_host_name"),
        ]

    def __str__(self):
        return self.hostname


class ListingQuerySet(models.QuerySet):
    def live(self):
        return self.filter(gone_at=None)

    def take(self, business, rows):
        """Makes `rows` the whole list of `business`: machines are added and updated, those not in it are gone."""
        # One moment for all, since SQLite's Now() is too coarse to compare; one order, so that no two syncs deadlock.
        seen_at = database_now()
        rows = sorted(rows, key=lambda row: row.hostname)
        Machine.objects.bulk_create(
            [
                Machine(hostname=r.hostname, address=r.address, port=r.port, user=r.user, site=r.site, labels=r.labels)
                for r in rows
            ],
            batch_size=2000,
            update_conflicts=True,
            unique_fields=["hostname"],
            update_fields=["address", "port", "user", "site", "labels"],
        )
        ids = dict(Machine.objects.values_list("hostname", "pk"))
        self.bulk_create(
            [Listing(business=business, machine_id=ids[r.hostname], last_seen_at=seen_at, gone_at=None) for r in rows],
            batch_size=2000,
            update_conflicts=True,
            unique_fields=["business", "machine"],
            update_fields=["last_seen_at", "gone_at"],
        )
        self.live().filter(business=business, last_seen_at__lt=seen_at).update(gone_at=Now())


class Listing(models.Model):
    """That the config service gives a machine for a business, and since when it no longer does."""

    business = models.ForeignKey("jobs.Business", models.PROTECT, related_name="listings", verbose_name=_("business"))
    machine = models.ForeignKey(Machine, models.PROTECT, related_name="listings", verbose_name=_("machine"))
    first_seen_at = models.DateTimeField(_("first seen"), db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(_("last seen"), db_default=Now(), editable=False)
    gone_at = models.DateTimeField(_("gone"), null=True, editable=False)

    objects = ListingQuerySet.as_manager()

    class Meta:
        verbose_name = _("listing")
        verbose_name_plural = _("listings")
        constraints = [models.UniqueConstraint(fields=["business", "machine"], name="one_listing_per_machine")]

    def __str__(self):
        return f"{self.machine} in {self.business}"

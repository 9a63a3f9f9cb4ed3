from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from deploy_portal.words import in_each_language, in_readers_language
from jobs.models.machine import Place

LISTS = ("added", "gone", "moved", "refused")
NAMES_KEPT = 200


class SyncQuerySet(models.QuerySet):
    def keep(self, sync):
        """Saves a row of `sync`, unless it tells what the last one of its business told: pages ask every minute."""
        last = self.filter(business=sync.business).first()
        if last is None or sync.has_news or (last.error, last.refused_count) != (sync.error, sync.refused_count):
            lists = {what: getattr(sync, what)[:NAMES_KEPT] for what in LISTS}
            lists["refused"] = [_for_every_reader(row) for row in lists["refused"]]
            counts = {f"{what}_count": getattr(sync, f"{what}_count") for what in LISTS}
            self.create(
                business=sync.business,
                origin=sync.origin,
                listed=sync.listed,
                error=sync.error,
                error_texts=sync.error_texts,
                **counts,
                **lists,
            )


class Sync(models.Model):
    """One answer of a config service: what it changed, which rows were refused, or why it was not taken.

    The lists hold names, and pairs of old and new for what moved; a row keeps only the beginning of long ones.
    """

    business = models.ForeignKey("jobs.Business", models.CASCADE, related_name="syncs", verbose_name=_("business"))
    at = models.DateTimeField(_("when"), db_default=Now(), editable=False)
    origin = models.CharField(_("from where"), max_length=255, blank=True)
    listed = models.PositiveIntegerField(_("machines listed"), default=0)
    added_count = models.PositiveIntegerField(_("new"), default=0)
    gone_count = models.PositiveIntegerField(_("gone"), default=0)
    moved_count = models.PositiveIntegerField(_("moved"), default=0)
    refused_count = models.PositiveIntegerField(_("rows refused"), default=0)
    added = models.JSONField(_("new machines"), default=list)
    gone = models.JSONField(_("gone machines"), default=list)
    moved = models.JSONField(_("moved machines"), default=list)
    refused = models.JSONField(_("refused rows"), default=list)
    error = models.TextField(_("why it was not taken"), blank=True)
    error_texts = models.JSONField(_("the same in each language"), default=dict)

    objects = SyncQuerySet.as_manager()

    class Meta:
        verbose_name = _("answer of a config service")
        verbose_name_plural = _("answers of config services")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["business", "-id"], name="sync_by_business")]
        constraints = [
            models.CheckConstraint(
                condition=Q(error="") | Q(added_count=0, gone_count=0, moved_count=0),
                name="sync_not_taken_changed_nothing",
            )
        ]

    def __str__(self):
        return self.why_not_taken or self.in_words

    @classmethod
    def of(cls, business, machines, refused):
        """What taking `machines` as the whole list of `business` would change, and what was `refused` of it."""
        known = business.listed_places()
        listed = {row.hostname: Place.of(row) for row in machines}
        lists = {
            "added": sorted(listed.keys() - known.keys()),
            "gone": sorted(known.keys() - listed.keys()),
            "moved": [
                {"hostname": name, "was": str(known[name]), "now": str(now)}
                for name, now in sorted(listed.items())
                if known.get(name, now) != now
            ],
            "refused": [{"row": row.row_number, "name": row.name, "reason": row.reason} for row in refused],
        }
        counts = {f"{what}_count": len(names) for what, names in lists.items()}
        return cls(business=business, listed=len(listed), **counts, **lists)

    @classmethod
    def of_nothing(cls, business):
        """Of an answer that came too late to change anything: the list is as a newer one left it."""
        return cls(business=business, listed=len(business.listed_places()), refused_count=business.refused_rows)

    @property
    def why_not_taken(self):
        return in_readers_language(self.error_texts, self.error)

    @property
    def refused_in_words(self):
        """(row, name, why) of the rows that were refused."""
        told = [(row, row.get("reason_texts", {})) for row in self.refused]
        return [(row["row"], row["name"], in_readers_language(texts, row["reason"])) for row, texts in told]

    @property
    def has_news(self):
        return bool(self.added_count or self.gone_count or self.moved_count)

    @property
    def in_words(self):
        listed = ngettext("%(n)d machine", "%(n)d machines", self.listed) % {"n": self.listed}
        counts = {"added": self.added_count, "gone": self.gone_count, "moved": self.moved_count}
        changes = _("%(added)d new, %(gone)d gone, %(moved)d moved, refused rows: %(refused)d")
        told = {"listed": listed, "changes": changes % (counts | {"refused": self.refused_count})}
        return _("%(listed)s; %(changes)s") % told


def _for_every_reader(row):
    texts = in_each_language(row["reason"])
    return row | {"reason": texts[settings.LANGUAGE_CODE], "reason_texts": texts}

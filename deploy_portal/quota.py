import math
from datetime import timedelta

from django.db import IntegrityError, models, transaction
from django.db.models import F
from django.db.models.functions import Now

from deploy_portal.clock import database_now

WINDOW = timedelta(minutes=1)
FORGOTTEN_AFTER = timedelta(days=1)


class QuotaQuerySet(models.QuerySet):
    def take(self, who, limit):
        """Counts one more for `who`; the seconds to wait when there were `limit` within this minute already, else 0."""
        # Once more at the end: somebody else may have begun the minute in between.
        if self._use(who, limit) or self._begin(who) or self._use(who, limit):
            return 0
        since = self.filter(who=who).values_list("since", flat=True).first()
        return max(1, math.ceil((since + WINDOW - database_now()).total_seconds()))

    def _use(self, who, limit):
        return self.filter(who=who, since__gt=Now() - WINDOW, used__lt=limit).update(used=F("used") + 1)

    def _begin(self, who):
        # A time to come is from before the clock was set back.
        this_minute = {"since__gt": Now() - WINDOW, "since__lt": Now() + WINDOW}
        if self.filter(who=who).exclude(**this_minute).update(since=Now(), used=1):
            return True
        if self.filter(who=who).exists():
            return False
        self.filter(since__lt=Now() - FORGOTTEN_AFTER).delete()
        try:
            with transaction.atomic():
                return bool(self.create(who=who, used=1))
        except IntegrityError:  # somebody was quicker
            return False


class Quota(models.Model):
    """How often somebody did something within a minute, counted by the one thing that all web processes share."""

    who = models.CharField(max_length=100, unique=True)
    since = models.DateTimeField(db_default=Now())
    used = models.PositiveIntegerField(default=0)

    objects = QuotaQuerySet.as_manager()

    def __str__(self):
        return f"{self.who}: {self.used}"

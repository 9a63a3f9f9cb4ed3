"""Workers as the ledger sees them."""

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from releases.models import Worker


def fall_silent(worker, suspected=True):
    """Makes the last heartbeat of `worker` old; `suspected`: for long enough to be given up by whoever looks next."""
    suspected_at = Now() - timedelta(seconds=settings.WORKER_DEAD_AFTER / 2) if suspected else None
    Worker.objects.filter(pk=worker.pk).update(heartbeat_at="2020-01-01T00:00:00Z", suspected_at=suspected_at)

"""Workers as the ledger sees them."""

from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from releases.models import MachineRun, Worker
from releases.models.worker import time_to_beat
from releases.tidying import move_on


def fall_silent(worker, suspected=True):
    """Makes the last heartbeat of `worker` old; `suspected`: for long enough to be given up by whoever looks next."""
    suspected_at = Now() - timedelta(seconds=settings.WORKER_DEAD_AFTER * 0.4) if suspected else None
    Worker.objects.filter(pk=worker.pk).update(heartbeat_at="2020-01-01T00:00:00Z", suspected_at=suspected_at)


def grow_old(worker):
    """Lets the time pass in which `worker`, which is suspected, could have beaten."""
    Worker.objects.filter(pk=worker.pk).update(suspected_at=F("suspected_at") - time_to_beat() - timedelta(seconds=1))


def claim(worker, room=1000):
    """Claims what is due; returns the ids of all that `worker` has claimed."""
    MachineRun.objects.claim(worker, room)
    return list(MachineRun.objects.claimed_by(worker).order_by("pk").values_list("pk", flat=True))


def begin(worker, room=1000):
    """Claims and begins what is due; returns the ids."""
    return sorted(MachineRun.objects.begin(worker, claim(worker, room)))


def end(worker, ids, status="succeeded"):
    """Records ends and moves on what is due, as a worker does."""
    MachineRun.objects.end(worker, ids, status, None)
    move_on()


def state(run):
    """The run as the database has it: its state, its open batch, and how many of its machines are in which state."""
    run.refresh_from_db()
    return run.status, run.open_batch, run.machine_runs.counts()

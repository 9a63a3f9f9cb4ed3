import os
import socket
from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


def _grace():
    return timedelta(seconds=settings.WORKER_DEAD_AFTER)


def time_to_beat():
    """For how long a silent worker is suspected before it is given up."""
    return _grace() / 3


class WorkerQuerySet(models.QuerySet):
    # A heartbeat of a time to come is from before the clock was set back: who lives soon has another.
    def alive(self):
        return self.filter(stopped_at=None, heartbeat_at__range=(Now() - _grace(), Now() + _grace()))

    def unserved(self, sites):
        """Those of `sites` that no living worker serves, as pages name them; none where no worker lives at all."""
        served = list(self.alive().values_list("sites", flat=True))
        left = sorted(set(sites).difference(*served)) if served and all(served) else []
        return [site or _("machines without a site") for site in left]

    def given_up(self):
        """Workers that stopped, or were fenced off: what they still hold is nobody's."""
        return self.exclude(stopped_at=None)

    def silent(self):
        too_old, to_come = Q(heartbeat_at__lt=Now() - _grace()), Q(heartbeat_at__gt=Now() + _grace())
        return self.filter(too_old | to_come, stopped_at=None)

    def enlist(self, sites):
        return self.create(name=f"{socket.gethostname()[:80]}-{os.getpid()}", sites=sites)

    def bury_dead(self):
        """Fences off the workers that no longer beat and puts what they held where it belongs.

        A silent worker is suspected first and given up only when it still is a while later: after the database was
        away, everybody has been silent, and has to be given the time to beat. Of a suspicion that is old itself, or of
        a time to come, nobody knows whether there was that time.
        """
        from releases.models.machine_run import MachineRun

        lately = Q(suspected_at__range=(Now() - _grace(), Now()))
        if (silent := self.silent()).exists():  # asked by pages, too, and on SQLite an UPDATE waits for whoever writes
            with transaction.atomic():
                silent.filter(lately, suspected_at__lte=Now() - time_to_beat()).update(stopped_at=Now())
                silent.filter(Q(suspected_at=None) | ~lately).update(suspected_at=Now())
        # After the commit: who waits for a job holds no worker. What a reaper that dies here leaves, the next takes.
        return MachineRun.objects.recover()


class Worker(models.Model):
    """A process that claims and executes machine runs of its sites (none named: of every site)."""

    name = models.CharField(_("name"), max_length=100)
    sites = models.JSONField(_("sites"), default=list, blank=True)
    started_at = models.DateTimeField(_("started"), db_default=Now())
    heartbeat_at = models.DateTimeField(_("last heartbeat"), db_default=Now())
    suspected_at = models.DateTimeField(_("suspected to be dead"), null=True)
    stopped_at = models.DateTimeField(_("stopped"), null=True)
    served_last = 0  # the run that it claimed of last; known to its own process alone

    objects = WorkerQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ["-pk"]

    def __str__(self):
        return self.name

    def beat(self):
        """Says that this worker lives; False when it has been given up, and must end itself."""
        beating = Worker.objects.filter(pk=self.pk, stopped_at=None)
        return bool(beating.update(heartbeat_at=Now(), suspected_at=None))

    def leave(self):
        """Ends this worker's service; what it still held is recovered as that of a dead one."""
        Worker.objects.filter(pk=self.pk, stopped_at=None).update(stopped_at=Now())
        return Worker.objects.bury_dead()

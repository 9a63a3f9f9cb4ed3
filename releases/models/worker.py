import os
import socket
from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class WorkerQuerySet(models.QuerySet):
    def alive(self):
        return self.filter(stopped_at=None, heartbeat_at__gte=Now() - timedelta(seconds=settings.WORKER_DEAD_AFTER))

    def given_up(self):
        """Workers that stopped, or that stopped beating: what they still hold is nobody's."""
        return self.exclude(pk__in=self.model.objects.alive().values("pk"))

    def enlist(self, sites):
        return self.create(name=f"{socket.gethostname()[:80]}-{os.getpid()}", sites=sites)

    def bury_dead(self):
        """Fences off the workers that no longer beat and puts what they held where it belongs."""
        from releases.models.machine_run import MachineRun

        with transaction.atomic():
            self.given_up().filter(stopped_at=None).update(stopped_at=Now())
            return MachineRun.objects.recover()


class Worker(models.Model):
    """A process that claims and executes machine runs of its sites (none named: of every site)."""

    name = models.CharField(_("name"), max_length=100)
    sites = models.JSONField(_("sites"), default=list, blank=True)
    started_at = models.DateTimeField(_("started"), db_default=Now())
    heartbeat_at = models.DateTimeField(_("last heartbeat"), db_default=Now())
    stopped_at = models.DateTimeField(_("stopped"), null=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ["-pk"]

    def __str__(self):
        return self.name

    def beat(self):
        """Says that this worker lives; False when it has been given up, and must end itself."""
        return bool(Worker.objects.filter(pk=self.pk, stopped_at=None).update(heartbeat_at=Now()))

    def leave(self):
        """Ends this worker's service; what it still held is recovered as that of a dead one."""
        Worker.objects.filter(pk=self.pk, stopped_at=None).update(stopped_at=Now())
        return Worker.objects.bury_dead()

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from jobs.models import Event, Job
from releases.models.machine_run import BAD, MachineRun, Status
from releases.models.task import Action, TaskVersion


class MachinesHeld(Exception):
    """Some of the machines cannot be had now: held by another run, gone or already done. `machines` are those."""

    def __init__(self, machines):
        self.machines = list(machines)
        super().__init__(_("Not to be had now: %(names)s") % {"names": ", ".join(str(m) for m in self.machines[:20])})


class RunQuerySet(models.QuerySet):
    def running(self):
        return self.filter(status=Run.Status.RUNNING)

    def stuck(self):
        """Running runs whose open batch has nothing pending: whoever ended it could not move them on."""
        pending = MachineRun.objects.pending().filter(run=OuterRef("pk"), batch=OuterRef("open_batch"))
        return self.running().filter(~models.Exists(pending))


class Run(models.Model):
    """One execution of a task on some machines of a stage, batch after batch; nobody owns it."""

    class Status(models.TextChoices):
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")

    stage = models.ForeignKey("ReleaseStage", models.PROTECT, related_name="runs", verbose_name=_("stage"))
    action = models.CharField(_("action"), max_length=10, choices=Action)
    task_version = models.ForeignKey(TaskVersion, models.PROTECT, verbose_name=_("task"))
    timeout = models.PositiveIntegerField(_("time limit"))
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.RUNNING)
    batch_size = models.PositiveIntegerField(_("batch size"), null=True)
    open_batch = models.PositiveIntegerField(_("open batch"), default=1)
    batches = models.PositiveIntegerField(_("batches"), default=1)
    remark = models.TextField(_("remark"), blank=True)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, verbose_name=_("started by"))
    started_at = models.DateTimeField(_("started"), db_default=Now())
    ended_at = models.DateTimeField(_("ended"), null=True)
    submit_key = models.CharField(max_length=64, unique=True, editable=False)

    objects = RunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["pk"]
        indexes = [models.Index(fields=["status"], name="run_by_status")]
        constraints = [
            models.UniqueConstraint(fields=["stage"], condition=Q(status="running"), name="one_running_run_per_stage"),
            models.CheckConstraint(
                condition=Q(open_batch__gte=1, open_batch__lte=F("batches")), name="run_batch_in_range"
            ),
        ]

    def __str__(self):
        return _("run %(id)s") % {"id": self.pk}

    @property
    def is_rollback(self):
        return self.action == Action.ROLLBACK

    @property
    def took(self):
        """How long it ran, None while it runs."""
        return self.ended_at and self.ended_at - self.started_at

    def queue(self, versions):
        """Queues a machine run per machine, in batches; `versions` gives (before, after) by machine id, in order."""
        size = self.batch_size or len(versions)
        MachineRun.objects.bulk_create(
            [
                MachineRun(
                    run=self,
                    machine_id=machine_id,
                    batch=1 + index // size,
                    version_before=before,
                    version_after=after,
                )
                for index, (machine_id, (before, after)) in enumerate(versions.items())
            ],
            batch_size=1000,
        )

    def advance(self):
        """Once the open batch has ended, opens the next one or ends the run. Safe at any time, from anyone."""
        with transaction.atomic():
            Job.objects.select_for_update().get(pk=self.stage.job_id)
            self.refresh_from_db(fields=["open_batch", "status"])
            batch = self.machine_runs.filter(batch=self.open_batch)
            if self.status != self.Status.RUNNING or batch.pending().exists():
                return
            if self.open_batch < self.batches and not batch.filter(status__in=BAD).exists():
                self._still().update(open_batch=F("open_batch") + 1)
            else:
                self._end()

    def _still(self):
        return Run.objects.filter(pk=self.pk, status=self.Status.RUNNING, open_batch=self.open_batch)

    def _end(self):
        """Ends the run; batches after one with a failure are not run."""
        bad = self.machine_runs.filter(status__in=BAD).exists()
        self.status = self.Status.FAILED if bad else self.Status.SUCCEEDED
        if self._still().update(status=self.status, ended_at=Now()):
            self.machine_runs.filter(status=Status.QUEUED).update(status=Status.NOT_RUN, ended_at=Now())
            self.stage.conclude()
            self.stage.record(
                Event.Verb.ENDED,
                None,
                was=self.Status.RUNNING,
                became=self.status,
                run=self.pk,
                action=self.action,
                counts=self.machine_runs.counts(),
            )


def with_versions(machines, business):
    """`machines` with `now_on`: the version that the ledger last saw put there for `business`, or None."""
    latest = MachineRun.objects.filter(
        machine=OuterRef("pk"), run__stage__job__business=business, status=Status.SUCCEEDED
    ).order_by("-ended_at", "-pk")
    return machines.annotate(now_on=Subquery(latest.values("version_after")[:1]))

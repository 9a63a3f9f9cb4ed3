from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from deploy_portal.clock import database_now
from deploy_portal.words import enumerated
from jobs.models import Event, Freeze, Leave, Machine
from jobs.models.machine import HOST, PLACE
from releases.batches import batches
from releases.models.machine_run import MachineRun
from releases.models.queue import ACTIVE, BAD, NOT_BEGUN, SPENT, RunStatus, Status, no_earlier_than
from releases.models.task import Action, TaskVersion, run_named, shown_as


class MachinesHeld(Exception):
    """Some of the machines cannot be had now: held by another run, gone or already done. `machines` are those."""

    def __init__(self, machines):
        self.machines = list(machines)
        names = enumerated(self.machines[:20])
        ended = _("Another run took some of these machines meanwhile. Look again.")
        super().__init__(_("Not to be had now: %(names)s") % {"names": names} if names else ended)


class RunMoved(Exception):
    """The run is no longer in the state that this step begins from; nothing was changed."""


class RunQuerySet(models.QuerySet):
    def active(self):
        return self.filter(status__in=ACTIVE)

    def running(self):
        return self.filter(status=Run.Status.RUNNING)

    def held_by(self, occurrences):
        """Active releases that these keep from beginning on another machine: no rollback, and none that has leave."""
        held = Q()
        for occurrence in occurrences:
            leave = Leave.objects.passing(occurrence, OuterRef("started_by")).filter(job=OuterRef("stage__job"))
            of_business = (
                Q(stage__job__business=occurrence.freeze.business_id) if occurrence.freeze.business_id else Q()
            )
            held |= Q(~models.Exists(leave)) & of_business
        return self.active().filter(held, action=Action.RELEASE)

    def of_just(self, machine_ids):
        """All of these, if together they are of just these machines; else none."""
        found = MachineRun.objects.filter(run__in=self).values_list("machine", flat=True)
        return list(self) if set(found) == set(machine_ids) else []

    def due(self):
        """Active runs that somebody must move on: the open batch has ended, or the failure budget is spent."""
        pending = MachineRun.objects.pending().filter(run=OuterRef("pk"))
        has_ended = ~models.Exists(pending.filter(batch=OuterRef("open_batch")))
        is_spent = Q(failure_budget__lte=_failures_of(OuterRef("pk")))
        return self.active().filter(has_ended | (is_spent & models.Exists(pending.filter(status__in=NOT_BEGUN))))

    def shorten_pauses(self):
        """None lasts longer than it is to last, also where the database's clock was set back since it began."""
        in_pause = self.active().filter(batch_opens_at__gt=Now())
        for pk, seconds in in_pause.values_list("pk", "batch_pause"):
            latest = database_now() + timedelta(seconds=seconds)
            self.filter(pk=pk, batch_opens_at__gt=latest).update(batch_opens_at=latest)

    def advance(self):
        for run in self.select_related("stage__job"):
            run.advance()


def _failures_of(run):
    failures = MachineRun.objects.failures().filter(run=run).order_by().values("run")
    return Subquery(failures.annotate(number=models.Count("pk")).values("number"))


class Run(models.Model):
    """One execution of a task on some machines of a stage, batch after batch; nobody owns it."""

    Status = RunStatus

    stage = models.ForeignKey("ReleaseStage", models.PROTECT, related_name="runs", verbose_name=_("stage"))
    action = models.CharField(_("action"), max_length=10, choices=Action)
    retry_of = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="retries", verbose_name=_("tries again")
    )
    task_version = models.ForeignKey(TaskVersion, models.PROTECT, verbose_name=_("task"))
    timeout = models.PositiveIntegerField(_("time limit"))
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.RUNNING)
    batch_size = models.PositiveIntegerField(_("batch size"), null=True)
    canary = models.BooleanField(_("first batch is one machine"), default=False)
    batch_pause = models.PositiveIntegerField(_("pause between batches"), default=0)
    failure_budget = models.PositiveIntegerField(_("failure budget"), null=True)
    open_batch = models.PositiveIntegerField(_("open batch"), default=1)
    batches = models.PositiveIntegerField(_("batches"), default=1)
    batch_opens_at = models.DateTimeField(_("open batch begins"), null=True)
    remark = models.TextField(_("remark"), blank=True)
    break_glass = models.BooleanField(_("break-glass"), default=False)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, verbose_name=_("started by"))
    started_at = models.DateTimeField(_("started"), db_default=Now())
    cancelled_at = models.DateTimeField(_("cancelled"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)
    submit_key = models.CharField(max_length=64, unique=True, editable=False)

    objects = RunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["status"], name="run_by_status"),
            models.Index(fields=["-ended_at"], name="run_by_end"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["stage"], condition=Q(status__in=ACTIVE), name="one_active_run_per_stage"),
            models.CheckConstraint(
                condition=Q(open_batch__gte=1, open_batch__lte=F("batches")), name="run_batch_in_range"
            ),
        ]

    def __str__(self):
        return _("run %(id)s") % {"id": self.pk}

    @property
    def is_active(self):
        return self.status in ACTIVE

    @property
    def is_rollback(self):
        return self.action == Action.ROLLBACK

    @property
    def shown_status(self):
        return shown_as(self.status, self.action)

    @property
    def what(self):
        """Which stage it releases, or rolls back, as a sentence names it."""
        return run_named(self.action, self.stage.get_kind_display())

    @property
    def took(self):
        """How long it ran, None while it runs."""
        return self.ended_at and self.ended_at - self.started_at

    def frozen_by(self):
        """The freezes that keep this run from beginning on another machine now; none keeps a rollback."""
        return [] if self.is_rollback else Freeze.objects.holding(self.stage.job, self.started_by)

    def queue(self, versions, held):
        """Queues a machine run per machine, in batches; `versions` gives (before, after) by machine id, in order.

        Those in `held` wait for their machine, and come last, in every run in the same order of hosts: no two runs must
        wait for each other.
        """
        free = [machine_id for machine_id in versions if machine_id not in held]
        places = self._places()
        ids = free + [pk for pk in places if pk in held and pk in versions]
        sizes = batches(len(ids), self.batch_size, self.canary)
        numbers = [number for number, size in enumerate(sizes, 1) for _ in range(size)]
        MachineRun.objects.bulk_create(
            [
                MachineRun(
                    run=self,
                    machine_id=machine_id,
                    **dict(zip(PLACE, places[machine_id], strict=True)),
                    batch=number,
                    status=Status.HELD if machine_id in held else Status.QUEUED,
                    version_before=versions[machine_id][0],
                    version_after=versions[machine_id][1],
                )
                for machine_id, number in zip(ids, numbers, strict=True)
            ],
            batch_size=1000,
        )

    def _places(self):
        """{machine id: where a command for it goes} in the order of hosts: a release only to where it was chosen."""
        if self.is_rollback:
            places = Machine.objects.filter(jobs=self.stage.job).values_list("pk", *PLACE)
        else:
            places = self.stage.job.job_machines.values_list("machine", *PLACE)
        return {machine_id: place for machine_id, *place in places.order_by(*HOST, "pk")}

    def pause(self, by, reason=""):
        """Begins nothing more; what runs goes on."""
        self._turn(Event.Verb.PAUSED, by, reason, self.Status.RUNNING, self.Status.PAUSED)

    def resume(self, by, reason=""):
        self._turn(Event.Verb.RESUMED, by, reason, self.Status.PAUSED, self.Status.RUNNING)

    def cancel(self, by, reason=""):
        """Calls off what has not begun, and asks the workers to end what runs."""
        with transaction.atomic():
            self.stage.job.lock()
            row = Run.objects.active().filter(pk=self.pk, cancelled_at=None)
            self._require(row.update(cancelled_at=Now()))
            self.refresh_from_db(fields=["status"])
            called_off = self.machine_runs.call_off(Status.CANCELLED)
            facts = {"run": self.pk, "action": self.action, "machines": called_off}
            facts["running"] = self.machine_runs.pending().count()
            self.stage.record(Event.Verb.CANCELLED, by, reason, self.status, Status.CANCELLED, **facts)
        # After the commit: who ends the last machine just then, and this, must see each other.
        self.advance()

    def resolve(self, machines, by, status, reason):
        """Says how unknown machines of it really ended, as a person found them; frees them. All or none."""
        with transaction.atomic():
            self.stage.job.lock()
            for machine_run in self.machine_runs.filter(machine__in=machines).select_related("machine"):
                machine_run.run = self
                machine_run.settle(by, status, reason)
            self.stage.conclude()

    def advance(self):
        """Once the open batch has ended, opens the next one or ends the run. Safe at any time, from anyone."""
        with transaction.atomic():
            self.stage.job.lock()
            self.refresh_from_db(fields=["open_batch", "status"])
            if not self.is_active:
                return
            if self.failure_budget and self.machine_runs.failures().count() >= self.failure_budget:
                self.machine_runs.call_off(Status.NOT_RUN, SPENT)
            elif self.canary and self.open_batch == 1 and self._has_no_canary():
                self.machine_runs.call_off(Status.NOT_RUN, gettext_noop("The one that was to go first was not run."))
            pending = set(self.machine_runs.pending().order_by().values_list("batch", flat=True).distinct())
            if self.open_batch in pending:
                return
            if pending:
                opens_at = Now() + timedelta(seconds=self.batch_pause) if self.batch_pause else None
                self._still().update(open_batch=F("open_batch") + 1, batch_opens_at=opens_at)
            else:
                self._end()

    def _turn(self, verb, by, reason, old, new):
        with transaction.atomic():
            self.stage.job.lock()
            self._require(Run.objects.filter(pk=self.pk, status=old, cancelled_at=None).update(status=new))
            self.status = new
            self.stage.record(verb, by, reason, old, new, run=self.pk, action=self.action)

    def _require(self, changed):
        if not changed:
            raise RunMoved(_("This run is no longer in the state this step begins from. Look at how it stands now."))

    def _has_no_canary(self):
        """Whether the machine that the others follow was called off: it has shown nothing to anybody."""
        return self.machine_runs.filter(batch=1, status=Status.NOT_RUN).exists()

    def _still(self):
        return Run.objects.active().filter(pk=self.pk, open_batch=self.open_batch)

    def _end(self):
        counts = self.machine_runs.counts()
        was, self.status = self.status, self._outcome(counts)
        if self._still().update(status=self.status, ended_at=no_earlier_than(F("started_at"))):
            self.stage.conclude()
            facts = {"run": self.pk, "action": self.action, "counts": counts}
            self.stage.record(Event.Verb.ENDED, None, was=was, became=self.status, **facts)

    def _outcome(self, counts):
        if Status.CANCELLED in counts:
            return self.Status.CANCELLED
        return self.Status.FAILED if counts.keys() & set(BAD) else self.Status.SUCCEEDED

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from jobs.models import Event, Job, Machine
from jobs.rights import Right
from jobs.validators import printable_text
from releases.models.machine_run import BAD, MachineRun
from releases.models.run import MachinesHeld, with_versions
from releases.models.task import Action


class Kind(models.TextChoices):
    PRE_RELEASE = "pre-release", _("Pre-release")
    GRAY_RELEASE = "gray-release", _("Gray release")
    RELEASE = "release", _("Release")


class StageMoved(Exception):
    """The stage is no longer as the person saw it, or is not open; nothing was changed."""


class ReleaseStageQuerySet(models.QuerySet):
    def of(self, job):
        """The job's three stages in order, made when they are first looked at."""
        stages = list(self.filter(job=job).select_related("release_task__latest", "rollback_task__latest"))
        if len(stages) < len(Kind):
            self.bulk_create([ReleaseStage(job=job, kind=kind) for kind in Kind], ignore_conflicts=True)
            return self.of(job)
        for stage in stages:
            stage.job = job
        return sorted(stages, key=lambda stage: stage.order)

    def next_of(self, job):
        """The first stage that is neither done nor closed; None when a run goes on there or nothing is left."""
        stage = next((stage for stage in self.of(job) if not stage.is_done), None)
        return stage if stage and stage.is_open else None

    def roll_back(self, stages, machine_ids, by, reason, submit_key):
        """Rolls the machines back in every one of `stages` that changed some of them: all or none. Returns the runs."""
        runs = []
        with transaction.atomic():
            for stage in stages:
                changed = [run.machine for run in stage.changed_machines() if run.machine_id in machine_ids]
                if changed:
                    runs.append(stage.roll_back(by, changed, reason, f"{submit_key}:{stage.kind}"))
        return runs

    def of_kind(self, job, kind):
        return next(stage for stage in self.of(job) if stage.kind == kind)


class ReleaseStage(models.Model):
    """One of a job's three stages: its tasks, machines and remark as last chosen, and its state."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        ROLLED_BACK = "rolled_back", _("Rolled back")
        SKIPPED = "skipped", _("Skipped")

    job = models.ForeignKey(Job, models.PROTECT, related_name="stages", verbose_name=_("job"))
    kind = models.CharField(_("stage"), max_length=20, choices=Kind)
    release_task = models.ForeignKey(
        "Task", models.PROTECT, null=True, related_name="+", verbose_name=_("release task")
    )
    rollback_task = models.ForeignKey(
        "Task", models.PROTECT, null=True, related_name="+", verbose_name=_("rollback task")
    )
    machines = models.ManyToManyField(Machine, related_name="+", verbose_name=_("machines"))
    remark = models.TextField(_("remark"), blank=True, max_length=2000, validators=[printable_text])
    batch_size = models.PositiveIntegerField(
        _("batch size"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(100_000)],
        help_text=_("Machines at a time; empty: all at once."),
    )
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.WAITING, editable=False)
    version = models.PositiveIntegerField(_("version"), default=0, editable=False)

    objects = ReleaseStageQuerySet.as_manager()

    class Meta:
        verbose_name = _("release stage")
        verbose_name_plural = _("release stages")
        constraints = [
            models.UniqueConstraint(fields=["job", "kind"], name="one_stage_per_kind"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="stage_kind_known"),
            models.CheckConstraint(
                condition=Q(batch_size=None) | Q(batch_size__gte=1), name="stage_batch_size_positive"
            ),
        ]

    def __str__(self):
        return f"{self.job} {self.get_kind_display()}"

    @property
    def order(self):
        return Kind.values.index(self.kind)

    @property
    def is_done(self):
        return self.status in (self.Status.SUCCEEDED, self.Status.SKIPPED)

    @property
    def is_running(self):
        return self.status == self.Status.RUNNING

    @cached_property
    def previous(self):
        """The stage before this one, None for the first."""
        return self.job.stages.get(kind=Kind.values[self.order - 1]) if self.order else None

    @property
    def is_open(self):
        return self.job.is_releasable and not self.is_running and (self.previous is None or self.previous.is_done)

    @property
    def can_be_skipped(self):
        return self.is_open and self.kind != Kind.RELEASE and not self.is_done

    def offered_machines(self):
        """What may be released now: the job's machines, live in its business, free, and not yet released by the job."""
        touched = MachineRun.objects.in_job(self.job).latest_touched()
        return (
            Machine.objects.live_in(self.job.business)
            .filter(jobs=self.job)
            .exclude(pk__in=MachineRun.objects.holding().values("machine"))
            .exclude(pk__in=touched.released().values("machine"))
        )

    def changed_machines(self):
        """The newest touched machine run of each machine that this stage changed and that can be rolled back now.

        Such a machine is not yet rolled back, free, and still in this business: another's is not touched.
        """
        return (
            self._changed_here()
            .filter(machine__in=Machine.objects.live_in(self.job.business))
            .exclude(machine__in=MachineRun.objects.holding().values("machine"))
        )

    def changed_out_of_reach(self):
        """Those of the other machines that this stage changed: held, or gone from the config service."""
        return self._changed_here().exclude(pk__in=self.changed_machines().order_by().values("pk"))

    def start(self, by, machines, submit_key):
        """Starts the release task on `machines` and keeps what was chosen on this stage; returns the run.

        The same `submit_key` again returns the run it started. Raises StageMoved, JobMoved or MachinesHeld.
        """

        def release():
            self._require(self.is_open, _("This stage is not open now."))
            offered = with_versions(self.offered_machines(), self.job.business)
            now_on = dict(offered.values_list("pk", "now_on"))
            self._hold_to(machines, now_on)
            was = self._move(
                self.Status.RUNNING,
                release_task=self.release_task,
                rollback_task=self.rollback_task,
                remark=self.remark,
                batch_size=self.batch_size,
            )
            self.machines.set(machines)
            before = now_on | {changed.machine_id: changed.rollback_versions[1] for changed in self._changed_by_job()}
            versions = {machine.pk: (before[machine.pk] or "", self.job.version) for machine in machines}
            return self._open_run(
                by, Action.RELEASE, was, versions, submit_key, remark=self.remark, batch_size=self.batch_size
            )

        return self._once(submit_key, release)

    def roll_back(self, by, machines, reason, submit_key):
        """Starts the rollback task on `machines`, each to the version it had before this job; as `start` otherwise."""

        def roll_back():
            changed = {machine_run.machine_id: machine_run for machine_run in self.changed_machines()}
            self._require(not self.is_running, _("A run of this stage is still going on."))
            self._require(self.rollback_task, _("No rollback task was chosen for this stage."))
            self._hold_to(machines, changed)
            was = self._move(self.Status.RUNNING)
            versions = {machine.pk: changed[machine.pk].rollback_versions for machine in machines}
            return self._open_run(by, Action.ROLLBACK, was, versions, submit_key, remark=reason)

        return self._once(submit_key, roll_back)

    def skip(self, by, reason):
        with transaction.atomic():
            self._lock()
            self._require(self.can_be_skipped, _("This stage cannot be skipped now."))
            was = self._move(self.Status.SKIPPED)
            self.record(Event.Verb.SKIPPED, by, reason, was, self.Status.SKIPPED)

    def conclude(self):
        """Takes the state that the newest machine runs of this stage amount to, and gives the job its own."""
        if self.runs.running().exists():
            return
        latest = MachineRun.objects.filter(run__stage=self).latest_per_machine()
        if latest.filter(status__in=BAD).exists():
            status = self.Status.FAILED
        elif latest.released().exists():
            status = self.Status.SUCCEEDED
        else:
            status = self.Status.ROLLED_BACK
        # A stage that a person skipped stays skipped, whatever becomes of its unknown machines.
        row = ReleaseStage.objects.filter(pk=self.pk).exclude(status__in=[status, self.Status.SKIPPED])
        row.update(status=status, version=F("version") + 1)
        self.job.conclude(self._job_status())

    def record(self, verb, by, reason="", was="", became="", **detail):
        return self.job.record(verb, by, reason, was, became, stage=self.kind, **detail)

    def _job_status(self):
        """Released when every machine that is still there was; rolled back when nothing of the job is left anywhere."""
        touched = MachineRun.objects.in_job(self.job).latest_touched()
        back = touched.rolled_back().values("machine")
        left = Machine.objects.live_in(self.job.business).filter(jobs=self.job)
        left = left.exclude(pk__in=touched.released().values("machine")).exclude(pk__in=back)
        if touched.exists() and not touched.exclude(pk__in=touched.rolled_back().values("pk")).exists():
            return Job.Status.ROLLED_BACK
        if left.exists() or not touched.released().exists():
            return Job.Status.IN_PROGRESS
        return Job.Status.RELEASED

    def _once(self, submit_key, begin):
        """Runs `begin` as one transaction under the job's lock, unless `submit_key` has started a run already."""
        try:
            with transaction.atomic():
                self._lock()
                return self.runs.filter(submit_key=submit_key).first() or begin()
        except IntegrityError as error:
            raise MachinesHeld(self._taken_meanwhile()) from error

    def _lock(self):
        """Starts, rollbacks and ends of one job go one after the other: each locks the job's row first."""
        seen = self.job.revision
        self.job = Job.objects.select_for_update(of=("self",)).select_related("business").get(pk=self.job_id)
        self.__dict__.pop("previous", None)
        self._require(self.job.revision == seen, _("This job was edited meanwhile."))

    def _require(self, condition, words):
        if not condition:
            raise StageMoved(words)

    def _hold_to(self, machines, allowed):
        self._require(machines, _("No machine was chosen."))
        if refused := [machine for machine in machines if machine.pk not in allowed]:
            raise MachinesHeld(refused)

    def _taken_meanwhile(self):
        return Machine.objects.filter(jobs=self.job, pk__in=MachineRun.objects.holding().values("machine"))

    def _move(self, status, **chosen):
        """Takes this version of the stage to `status`; returns from which."""
        was = self.status
        row = ReleaseStage.objects.filter(pk=self.pk, version=self.version).exclude(status=self.Status.RUNNING)
        self._require(row.update(status=status, version=F("version") + 1, **chosen), _("This stage has moved on."))
        self.refresh_from_db(fields=["status", "version"])
        return was

    def _changed_by_job(self):
        touched = MachineRun.objects.in_job(self.job).latest_touched()
        return touched.exclude(pk__in=touched.rolled_back().values("pk")).select_related("run")

    def _changed_here(self):
        changed = self._changed_by_job().filter(run__stage=self).select_related("machine", "run")
        return changed.order_by("machine__site", "machine__hostname")

    def _open_run(self, by, action, was, versions, submit_key, *, remark, batch_size=None):
        break_glass = Right.PUBLISH not in self.job.business.rights_by_role(by)
        self._require(remark or not break_glass, _("Ops who step in say why."))
        self.job.begin()
        task = self.release_task if action == Action.RELEASE else self.rollback_task
        run = self.runs.create(
            action=action,
            task_version=task.latest,
            timeout=task.timeout,
            started_by=by,
            submit_key=submit_key,
            remark=remark,
            batch_size=batch_size,
            batches=-(-len(versions) // (batch_size or len(versions))),
        )
        run.queue(versions)
        verb = Event.Verb.STARTED if action == Action.RELEASE else Event.Verb.ROLLED_BACK
        facts = {"run": run.pk, "machines": len(versions), "break_glass": break_glass}
        self.record(verb, by, remark, was, self.status, **facts)
        return run

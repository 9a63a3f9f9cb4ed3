from django.core.validators import MaxValueValidator
from django.db import IntegrityError, OperationalError, models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from deploy_portal.database import is_deadlock
from deploy_portal.words import enumerated
from jobs.models import Event, Freeze, Job, JobMoved, Machine
from jobs.models.event import told_of_moves
from jobs.plan import Kind
from jobs.rights import Right
from jobs.shares import share, share_of
from jobs.validators import printable_text
from releases.batches import batches
from releases.models.machine_run import MachineRun, versions_before
from releases.models.run import MachinesHeld, Run
from releases.models.stage_machines import StageMachines
from releases.models.stage_moved import MOVED_ON, NOT_OPEN, NOT_TO_SKIP, STILL_GOING_ON, Frozen, StageMoved
from releases.models.stage_opening import StageOpening
from releases.models.stage_outcome import StageOutcome
from releases.models.task import Action

# How the publisher wants the machines to follow each other.
PACE = ["batch_size", "canary", "batch_pause", "failure_budget"]


class ReleaseStageQuerySet(models.QuerySet):
    def of(self, job):
        """The job's three stages in order, made when they are first looked at."""
        return self.of_each([job])[job]

    def of_each(self, jobs):
        """{job: its three stages in order}, by as many queries as for one job."""
        by_job = {job: [] for job in jobs}
        jobs_by_id = {job.pk: job for job in jobs}
        for stage in self.filter(job__in=jobs).select_related("release_task__latest", "rollback_task__latest"):
            by_job[jobs_by_id[stage.job_id]].append(stage)
        if new := [job for job, stages in by_job.items() if len(stages) < len(Kind)]:
            missing = [ReleaseStage(job=job, kind=kind) for job in new for kind in Kind]
            self.bulk_create(missing, ignore_conflicts=True)
            return self.of_each(jobs)
        for job, stages in by_job.items():
            stages.sort(key=lambda stage: stage.order)
            for before, stage in zip([None, *stages], stages, strict=False):
                stage.job, stage.previous, stage.siblings = job, before, stages
        return by_job

    def next_of(self, job, stages=None):
        """The first of its stages that is neither done nor closed; None when a run goes on there or nothing is left."""
        stage = first_left(stages or self.of(job))
        return stage if stage and stage.is_open else None

    def roll_back(self, stages, machine_ids, by, reason, submit_key, undo_later=False):
        """Rolls the machines back in every one of `stages` that changed some of them: all or none. Returns the runs."""
        job, left = stages[0].job, set(machine_ids)
        with transaction.atomic():
            job.lock()
            if runs := Run.objects.filter(stage__job=job, submit_key__startswith=f"{submit_key}:").of_just(left):
                return runs
            now = dict(self.filter(job=job).values_list("pk", "version"))
            if any(stage.version != now[stage.pk] for stage in stages):
                raise StageMoved(MOVED_ON)
            for stage, changed in _changed_of(stages, left):
                runs.append(stage.roll_back(by, changed, reason, f"{submit_key}:{stage.kind}", undo_later))
                left -= {machine.pk for machine in changed}
            if left:  # another run took them since they were looked at
                raise MachinesHeld(Machine.objects.filter(pk__in=sorted(left)[:20]))
        return runs

    def may_roll_back(self, stages, machine_ids, undo_later=False):
        """Raises what `roll_back` would."""
        for stage, changed in _changed_of(stages, machine_ids):
            stage.may_roll_back(changed, undo_later)

    def shorten_soaks(self):
        """None lasts longer than it is to last, also where the database's clock was set back since it began."""
        soaking = self.filter(job__in=Job.objects.under_way().filter(business__soak_minutes__gt=0))
        to_come = soaking.filter(status=ReleaseStage.Status.SUCCEEDED, done_at__gt=Now())
        if to_come.exists():  # on SQLite an UPDATE waits for whoever writes, also where it changes nothing
            to_come.update(done_at=Now())

    def excuse(self, job, machines, by, reason):
        """Lets the job be done without `machines`: none that it released or that a run of it is about to touch."""
        with transaction.atomic():
            now = job.locked()
            if not now.is_releasable:
                raise JobMoved(_("This job is not approved; edit it instead."))
            runs = MachineRun.objects.in_job(job)
            busy = set(runs.pending().values_list("machine", flat=True))
            released = set(runs.latest_touched().released().values_list("machine", flat=True))
            if refused := [machine for machine in machines if machine.pk in busy | released]:
                raise MachinesHeld(refused)
            job.excuse(by, machines, reason)
            stages = self.of(job)
            for stage in stages:
                stage.take_outcome()
            if not now.is_before_first_stage:
                stages[0].conclude_job()

    def of_kind(self, job, kind):
        return next(stage for stage in self.of(job) if stage.kind == kind)


def _changed_of(stages, machine_ids):
    """(stage, machines): those of these machines that each stage changed, where it changed some."""
    for stage in stages:
        if changed := [run.machine for run in stage.rollback_candidates() if run.machine_id in machine_ids]:
            yield stage, changed


class ReleaseStage(StageOpening, StageMachines, StageOutcome, models.Model):
    """One of a job's three stages: its tasks, machines and remark as last chosen, and its state."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
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
    batch_size = models.CharField(
        _("batch size"),
        max_length=8,
        blank=True,
        validators=[share],
        help_text=_("Machines at a time, such as 10 or 10 %; empty: all at once."),
    )
    canary = models.BooleanField(_("first batch is one machine"), default=False)
    batch_pause = models.PositiveIntegerField(
        _("pause between batches"),
        default=0,
        validators=[MaxValueValidator(86_400)],
        help_text=_("In seconds."),
    )
    failure_budget = models.CharField(
        _("stop after failures"),
        max_length=8,
        blank=True,
        default="1",
        validators=[share],
        help_text=_("Such as 2 or 5 %: what has not begun by then is not run. Empty: never stops by itself."),
    )
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.WAITING, editable=False)
    version = models.PositiveIntegerField(_("version"), default=0, editable=False)
    done_at = models.DateTimeField(_("done"), null=True, editable=False)

    objects = ReleaseStageQuerySet.as_manager()

    class Meta:
        verbose_name = _("release stage")
        verbose_name_plural = _("release stages")
        constraints = [
            models.UniqueConstraint(fields=["job", "kind"], name="one_stage_per_kind"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="stage_kind_known"),
        ]

    def __str__(self):
        return f"{self.job} {self.get_kind_display()}"

    @property
    def order(self):
        return Kind.values.index(self.kind)

    @property
    def is_done(self):
        return self.status in DONE

    @property
    def is_running(self):
        return self.status == self.Status.RUNNING

    @cached_property
    def previous(self):
        """The stage before this one, None for the first."""
        return self.job.stages.get(kind=Kind.values[self.order - 1]) if self.order else None

    @property
    def as_seen(self):
        """What a page that shows it sends along, to tell whether it has moved on since."""
        return f"{self.job.revision}.{self.version}"

    @property
    def can_be_skipped(self):
        return self.is_open and self.kind != Kind.RELEASE and not self.is_done

    def pace_of(self, total):
        """The pace of a run on `total` machines: a share becomes a number."""
        shares = {name: share_of(total, getattr(self, name)) for name in ("batch_size", "failure_budget")}
        return self._pace() | shares

    def start(self, by, machines, submit_key, when_free=(), moved=(), break_glass=False, **facts):
        """Starts the release task on `machines` and keeps what was chosen on this stage; returns the run.

        Those in `when_free` may be held by other jobs: they wait for the end of what holds them. Those of `moved`,
        which are rows of the job, may be elsewhere than when they were chosen: where a person saw them, as these rows
        have it, is where they are meant from here on. With `break_glass`, ops need no approval. `facts` are kept in the
        event. The same `submit_key` and machines again return their run. Raises StageMoved, JobMoved or MachinesHeld.
        """

        def release():
            self.job.lapse()
            before, waiting = self.may_release(by, machines, when_free, moved, break_glass)
            was = self._move(
                self.Status.RUNNING,
                release_task=self.release_task,
                rollback_task=self.rollback_task,
                remark=self.remark,
                **self._pace(),
            )
            self.machines.set([machine.pk for machine in machines])
            versions = {machine.pk: (before[machine.pk], self.job.version) for machine in machines}
            chosen = facts | self._departures(machines) | self._accept_moves(moved)
            pace = self.pace_of(len(versions)) | {"retry_of": self._tried_before(), "remark": self.remark}
            return self._open_run(by, Action.RELEASE, was, versions, submit_key, chosen, waiting, **pace)

        return self._once(submit_key, machines, release)

    def roll_back(self, by, machines, reason, submit_key, undo_later=False):
        """Starts the rollback task on `machines`, each to the version it had before this job; as `start` otherwise.

        Naming an unknown machine says that nothing of its run goes on there: it is settled as failed first. What later
        jobs put on some of them goes too, which only `undo_later` allows.
        """

        def roll_back():
            changed, overtaking = self.may_roll_back(machines, undo_later)
            for machine in machines:
                if changed[machine.pk].status == MachineRun.Status.UNKNOWN:
                    changed[machine.pk].settle(by, MachineRun.Status.FAILED, reason)
            was = self._move(self.Status.RUNNING)
            versions = {machine.pk: changed[machine.pk].rollback_versions for machine in machines}
            undone = sorted({machine_run.run.stage.job_id for machine_run in overtaking})
            facts = {"undone_jobs": undone} if undone else {}
            return self._open_run(by, Action.ROLLBACK, was, versions, submit_key, facts, remark=reason)

        return self._once(submit_key, machines, roll_back)

    def may_release(self, by, machines, when_free=(), moved=(), break_glass=False):
        """Raises what `start` would; else the version on each machine offered, by its id, and the ids that wait."""
        is_open = self.is_open or (break_glass and self.needs_break_glass)
        self._require(is_open, NOT_OPEN)
        self._refuse_if_frozen(by)
        # What is held or elsewhere is offered only where some of it was named. Held first: what comes free after that
        # waits all the same, and is asked for its version then; the one that is read here may be older.
        held = set(self._held_machines().values_list("pk", flat=True)) if when_free else set()
        waiting = held & {machine.pk for machine in when_free}
        before = versions_before(self.offered_machines(bool(when_free), bool(moved)), self.job)
        elsewhere = set(self.job.job_machines.moved().values_list("machine", flat=True)) if moved else set()
        elsewhere -= {one.machine_id for one in moved}
        self._hold_to(machines, before.keys() - (held - waiting) - elsewhere)
        return before, waiting

    def may_roll_back(self, machines, undo_later=False):
        """Raises what `roll_back` would; else what it may undo, by machine id, and what of later jobs goes, too."""
        changed = {machine_run.machine_id: machine_run for machine_run in self.rollback_candidates()}
        self._require(not self.is_running, STILL_GOING_ON)
        self._require(self.rollback_task, _("No rollback task was chosen for this stage."))
        self._hold_to(machines, changed)
        overtaking = [later for machine in machines for later in changed[machine.pk].overtaken_by]
        words = _("A later job ran on some of these machines. Nothing was started.")
        self._require(undo_later or not overtaking, words)
        return changed, overtaking

    def skip(self, by, reason, seen=""):
        """Skips it as a page showed it (`as_seen`), if one did."""
        with transaction.atomic():
            self._lock()
            self._require(seen in ("", self.as_seen), MOVED_ON)
            self.job.lapse()
            self._require(self.can_be_skipped, NOT_TO_SKIP)
            was = self._move(self.Status.SKIPPED)
            # What it was skipped for is this revision: from here on there is no other.
            self.job.begin()
            self.record(Event.Verb.SKIPPED, by, reason, was, self.Status.SKIPPED)
            self.conclude_job()

    def record(self, verb, by, reason="", was="", became="", **detail):
        return self.job.record(verb, by, reason, was, became, stage=self.kind, **detail)

    def _once(self, submit_key, machines, begin):
        """Runs `begin` as one transaction under the job's lock, unless `submit_key` has started just this run already.

        The database refuses it where another run took some of `machines` meanwhile.
        """
        try:
            with transaction.atomic():
                self._lock()
                same = self.runs.filter(submit_key=submit_key).of_just(machine.pk for machine in machines)
                return same[0] if same else begin()
        except (IntegrityError, OperationalError) as error:
            # Two may each have taken some of the other's: the database ends one of them.
            if not (isinstance(error, IntegrityError) or is_deadlock(error)):
                raise
            held = set(self._held_machines().values_list("pk", flat=True))
            raise MachinesHeld(machine for machine in machines if machine.pk in held) from error

    def _lock(self):
        """Starts, rollbacks and ends of one job go one after the other: each locks the job's row first."""
        seen = self.job.revision
        self.job = self.job.locked()
        for read_before in ("previous", "opens_at"):
            self.__dict__.pop(read_before, None)
        self._require(self.job.revision == seen, _("This job was edited meanwhile. Look at it again."))

    def _refuse_if_frozen(self, by):
        if holding := Freeze.objects.holding(self.job, by):
            raise Frozen(holding, Freeze.objects.who_can_help(holding, self.job, by))

    def _require(self, condition, words):
        if not condition:
            raise StageMoved(words)

    def _hold_to(self, machines, allowed):
        self._require(machines, _("No machine was chosen."))
        if refused := [machine for machine in machines if machine.pk not in allowed]:
            raise MachinesHeld(refused)
        names = enumerated(self._names_of_one_host(machines)[:20])
        words = _("These names are of the same host now: %(names)s. Choose one of them.")
        self._require(not names, words % {"names": names})

    def _move(self, status, **chosen):
        """Takes this version of the stage to `status`; returns from which."""
        was = self.status
        row = ReleaseStage.objects.filter(pk=self.pk, version=self.version).exclude(status=self.Status.RUNNING)
        self._require(row.update(status=status, version=self.version + 1, **chosen), MOVED_ON)
        self.status, self.version = status, self.version + 1
        return was

    def _accept_moves(self, moved):
        """Takes where these were seen as where they are meant to be; what the event keeps of that."""
        told = told_of_moves([(one.machine.hostname, one.was_at, one.is_at) for one in moved])
        self.job.job_machines.accept_moves(moved)
        return told

    def _pace(self):
        return {name: getattr(self, name) for name in PACE}

    def _open_run(self, by, action, was, versions, submit_key, chosen, waiting=(), *, remark, **pace):
        break_glass = self.job.is_waiting or Right.PUBLISH not in self.job.business.rights_by_role(by)
        self._require(remark or not break_glass, _("Ops who step in say why."))
        if break_glass:
            self.job.begin_by_break_glass(by, remark)
        else:
            self.job.begin()
        task = self.release_task if action == Action.RELEASE else self.rollback_task
        run = self.runs.create(
            action=action,
            task_version=task.latest,
            timeout=task.timeout,
            started_by=by,
            submit_key=submit_key,
            remark=remark,
            break_glass=break_glass,
            batches=len(batches(len(versions), pace.get("batch_size"), pace.get("canary", False))),
            **pace,
        )
        run.queue(versions, waiting)
        verb = Event.Verb.STARTED if action == Action.RELEASE else Event.Verb.ROLLED_BACK
        facts = {"run": run.pk, "machines": len(versions), "break_glass": break_glass} | chosen
        if run.retry_of_id:
            facts["retry_of"] = run.retry_of_id
            if run.retry_of.task_version_id != run.task_version_id:
                facts["task"] = {"now": str(run.task_version), "before": str(run.retry_of.task_version)}
        self.record(verb, by, remark, was, self.status, **facts)
        return run


DONE = [ReleaseStage.Status.SUCCEEDED, ReleaseStage.Status.SKIPPED]


def first_left(stages):
    """Of the stages of a job in order, the first that is not done; None when all are."""
    return next((stage for stage in stages if not stage.is_done), None)

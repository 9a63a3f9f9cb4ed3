from collections import defaultdict
from datetime import timedelta
from functools import cache

from django.db import IntegrityError, models, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Greatest, Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from jobs.models import Event, Freeze, Job, Listing, Machine
from jobs.models.job_machine import SAME_PLACE
from jobs.models.machine import HOST, PLACE
from releases.models.task import Action
from releases.models.worker import Worker


class Status(models.TextChoices):
    HELD = "held", _("Waits for its machine")
    QUEUED = "queued", _("Waiting")
    CLAIMED = "claimed", _("Claimed")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    TIMED_OUT = "timed_out", _("Timed out")
    UNREACHABLE = "unreachable", _("Unreachable")
    UNKNOWN = "unknown", _("Unknown")
    CANCELLED = "cancelled", _("Cancelled")
    NOT_RUN = "not_run", _("Not run")


NOT_BEGUN = [Status.HELD, Status.QUEUED, Status.CLAIMED]
PENDING = [*NOT_BEGUN, Status.RUNNING]
# An unknown machine is held: something may still be running there.
HOLDING = [Status.QUEUED, Status.CLAIMED, Status.RUNNING, Status.UNKNOWN]
FAILURES = [Status.FAILED, Status.TIMED_OUT, Status.UNREACHABLE, Status.UNKNOWN]
BAD = [*FAILURES, Status.NOT_RUN]
GONE = gettext_noop("It left the business line before its turn came.")
MOVED = gettext_noop("It moved before its turn came. Look where it is now, then choose it as moved.")
# The least by which times differ on every database.
A_MOMENT = timedelta(milliseconds=1)


class MachineRunQuerySet(models.QuerySet):
    def holding(self):
        return self.filter(status__in=HOLDING)

    def pending(self):
        return self.filter(status__in=PENDING)

    def failures(self):
        """What counts against a run's failure budget."""
        return self.filter(status__in=FAILURES)

    def on_host_of(self, machine):
        """Those of `machine`, wherever they were sent, and those sent to its host, by whatever name."""
        return self.filter(Q(machine=machine) | Q(**{name: getattr(machine, name) for name in HOST}))

    def on_host(self, of=""):
        """The same as a condition; `of` leads from what is asked to its machine."""
        of_machine = Exists(self.filter(machine=OuterRef(f"{of}pk")))
        return of_machine | Exists(self.filter(**{name: OuterRef(f"{of}{name}") for name in HOST}))

    def in_job(self, job):
        return self.filter(run__stage__job=job)

    def latest_per_machine(self):
        """Of these, the newest of each machine."""
        return self.filter(pk__in=self.order_by().values("machine").annotate(newest=models.Max("pk")).values("newest"))

    def latest_touched(self):
        """Of these, the newest of each machine whose command was sent, so that the machine may have changed."""
        return self.filter(started_at__isnull=False).latest_per_machine()

    def released(self):
        return self.filter(run__action=Action.RELEASE, status=Status.SUCCEEDED)

    def rolled_back(self):
        return self.filter(run__action=Action.ROLLBACK, status=Status.SUCCEEDED)

    def not_called_off(self):
        """Leaves out the rollbacks that were cancelled before they sent anything: those left everything as it was."""
        return self.exclude(run__action=Action.ROLLBACK, status=Status.CANCELLED, started_at=None)

    def not_rolled_back(self):
        return self.exclude(run__action=Action.ROLLBACK, status=Status.SUCCEEDED)

    def version_on(self, machine, business):
        """What the ledger last saw put on `machine` for `business`; empty when nothing."""
        latest = self.filter(machine=machine, run__stage__job__business=business, status=Status.SUCCEEDED)
        return latest.order_by("-ended_at", "-pk").values_list("version_after", flat=True).first() or ""

    def newest(self, field):
        """That field of the one of these that ended last, as a subquery."""
        return Subquery(self.order_by("-ended_at", "-pk").values(field)[:1])

    def counts(self):
        """How many are in each status, as {status: number}."""
        return dict(self.order_by().values_list("status").annotate(models.Count("pk")))

    def lock(self):
        """Inside a transaction, before several are changed: in one order, so that no two who do wait for each other."""
        list(self.order_by("pk").select_for_update(of=("self",), no_key=True).values_list("pk"))

    def in_turn(self):
        """Queued machine runs whose batch is open."""
        queued = self.filter(status=Status.QUEUED, run__status="running", batch=F("run__open_batch"))
        return queued.filter(Q(run__batch_opens_at=None) | Q(run__batch_opens_at__lte=Now()))

    def in_reach(self):
        """Leaves out those whose machine moved since they were queued, and releases whose machine has gone."""
        return self.filter(SAME_PLACE, Q(run__action=Action.ROLLBACK) | is_listed())

    def due(self, sites=()):
        """Those whose turn it is and that are in reach, for these sites (none named: all), rollbacks first."""
        due = self.in_turn().in_reach()
        if sites:
            due = due.filter(machine__site__in=sites)
        return due.order_by(models.Case(models.When(run__action=Action.ROLLBACK, then=0), default=1), "run_id", "pk")

    def claimable(self, sites=()):
        """What is due and not held by a freeze."""
        return self.due(sites).not_frozen()

    def not_frozen(self):
        """Leaves out the releases that a freeze holds now, unless their job has leave; a rollback is never held."""
        from releases.models.run import Run  # which imports this module

        occurrences = Freeze.objects.in_force()
        return self.exclude(run__in=Run.objects.held_by(occurrences)) if occurrences else self

    def claim(self, worker, room, but=()):
        """Claims up to `room` for `worker` by one conditional UPDATE, none of the ids in `but`; returns how many."""
        due = self.due(worker.sites).exclude(pk__in=but)
        # What a freeze holds may be due for days: freezes are asked for only then, and nothing is locked for it.
        if not due.exists():
            return 0
        claimable = due.not_frozen()
        if claimable is not due and not claimable.exists():
            return 0
        free = claimable.select_for_update(skip_locked=True, of=("self",))
        alive = Worker.objects.filter(pk=worker.pk, stopped_at=None)
        with transaction.atomic():
            # Read first: as a subquery PostgreSQL may run it once for each row, and claim more than there is room for.
            ids = list(free.values_list("pk", flat=True)[:room])
            return self.filter(models.Exists(alive), pk__in=ids, status=Status.QUEUED).update(
                status=Status.CLAIMED, worker=worker, claimed_at=Now()
            )

    def claimed_by(self, worker):
        return self.filter(worker=worker, status=Status.CLAIMED)

    def running_on(self, worker):
        return self.filter(worker=worker, status=Status.RUNNING)

    def to_cancel(self, worker):
        """What `worker` runs and somebody wants ended."""
        return self.running_on(worker).filter(run__cancelled_at__isnull=False)

    def call_off_astray(self):
        """Ends the releases whose turn has come while their machine is out of reach; a person may try them again."""
        releases = self.in_turn().filter(run__action=Action.RELEASE)
        for astray, reason in ((releases.filter(~is_listed()), GONE), (releases.exclude(SAME_PLACE), MOVED)):
            # What a freeze holds is not its turn either; freezes are asked for only where there is something to end.
            if astray.exists():
                not_frozen = astray.not_frozen()
                with transaction.atomic():
                    not_frozen.lock()
                    not_frozen.update(status=Status.NOT_RUN, reason=reason, ended_at=Now())

    def follow_moves(self):
        """Sends the rollbacks that are queued to where their machines have moved; none to a host that is held."""
        held = gettext_noop("It moved, to a host that another run holds. Roll it back again once that has ended.")
        moved = self.filter(status=Status.QUEUED, run__action=Action.ROLLBACK).exclude(SAME_PLACE)
        for machine_run in moved.select_related("machine"):
            queued = self.model.objects.filter(pk=machine_run.pk, status=Status.QUEUED)
            try:
                with transaction.atomic():
                    queued.update(**{name: getattr(machine_run.machine, name) for name in PLACE})
            except IntegrityError:
                queued.update(status=Status.NOT_RUN, reason=held, ended_at=Now())

    def call_off(self, status, reason=""):
        """Ends what has not begun as `status`; a worker that is about to begin one finds that it may not."""
        not_begun = self.filter(status__in=NOT_BEGUN)
        with transaction.atomic():
            not_begun.lock()
            return not_begun.update(status=status, reason=reason, ended_at=Now())

    def admit(self):
        """Queues machine runs that waited for their machine and now can have it, the oldest of each machine."""
        waiting = self.filter(status=Status.HELD, run__status__in=["running", "paused"])
        if not waiting.exists():
            return 0
        free = waiting.exclude(self.model.objects.holding().on_host("machine__"))
        oldest = free.order_by().values("machine").annotate(oldest=models.Min("pk")).values("oldest")
        admitted = free.filter(pk__in=oldest).select_related("machine", "run__stage__job__business")
        return sum(machine_run.take_machine() for machine_run in list(admitted))

    @transaction.atomic
    def begin(self, worker, ids):
        """Marks these as running before their commands are sent; returns the ids of those that may begin.

        Not those that `worker` no longer holds. Those that a freeze or a move of their machine came before are queued
        again.
        """
        self.filter(pk__in=ids).lock()
        mine = self.filter(pk__in=ids, worker=worker)
        claimed = mine.filter(status=Status.CLAIMED)
        may_begin = claimed.in_reach().not_frozen()
        if may_begin.update(status=Status.RUNNING, started_at=_after_others_there()) == len(ids):
            return set(ids)
        claimed.update(status=Status.QUEUED, worker=None, claimed_at=None)
        return set(mine.filter(status=Status.RUNNING).values_list("pk", flat=True))

    def end(self, worker, ids, status, exit_status=None, reason=""):
        """Records how these ended; a worker that was given up changes nothing, and leaves a note of what it saw."""
        old = Status.CLAIMED if status == Status.UNREACHABLE else Status.RUNNING
        mine = self.filter(pk__in=ids, worker=worker)
        told = {"exit_status": exit_status, "reason": reason, "ended_at": _no_earlier_than(F("started_at"))}
        ended = mine.filter(status=old).update(status=status, **told)
        if ended < len(ids):
            note = gettext_noop("Its worker, given up by then, saw: %(status)s, exit status %(exit_status)s.")
            ended_so = {"status": status, "exit_status": exit_status, "reason": reason}
            late = mine.filter(note="", started_at__isnull=False).exclude(status__in=PENDING).exclude(**ended_so)
            late.update(note=note % {"status": status, "exit_status": exit_status})
        return ended

    def recover(self):
        """Takes what given-up workers hold: claimed is queued again, running becomes unknown and an event.

        Job after job: nobody waits for a job while holding runs of another.
        """
        nobodys = self.filter(worker__in=Worker.objects.given_up(), status__in=[Status.CLAIMED, Status.RUNNING])
        if not nobodys.exists():
            return []
        with transaction.atomic():
            claimed = nobodys.filter(status=Status.CLAIMED)
            claimed.lock()
            claimed.update(status=Status.QUEUED, worker=None, claimed_at=None)
        running = nobodys.filter(status=Status.RUNNING)
        jobs = Job.objects.filter(pk__in=running.order_by().values("run__stage__job"))
        return [pk for job in jobs.order_by("pk") for pk in running.in_job(job).lose(job)]

    def lose(self, job):
        """Marks these, of `job`, as unknown, and tells it; returns the ids."""
        reason = gettext_noop("Its worker was lost while the command ran; it may still be running.")
        by_run = defaultdict(list)
        with transaction.atomic():
            job.lock()
            lost = list(self.select_for_update(of=("self",)).select_related("machine", "run__stage__job"))
            for machine_run in lost:
                by_run[machine_run.run].append(machine_run.machine.hostname)
            ids = [machine_run.pk for machine_run in lost]
            ended_at = _no_earlier_than(F("started_at"))
            self.model.objects.filter(pk__in=ids).update(status=Status.UNKNOWN, reason=reason, ended_at=ended_at)
            for run, hostnames in by_run.items():
                facts = {"run": run.pk, "machines": len(hostnames), "hostnames": hostnames[:20]}
                run.stage.record(Event.Verb.LOST, None, "", Status.RUNNING, Status.UNKNOWN, **facts)
        return ids


def _no_earlier_than(moment):
    """The database's time or, should its clock have been set back since, `moment`; now, where that is empty."""
    return Greatest(Now(), Coalesce(moment, Now()))


def _after_others_there():
    """The same, after the end of all that ran on the machine before: by these times it is told what is there now."""
    there = MachineRun.objects.filter(machine=OuterRef("machine"), ended_at__isnull=False).order_by("-ended_at")
    return _no_earlier_than(Subquery(there.annotate(next=F("ended_at") + A_MOMENT).values("next")[:1]))


# Put together once: a worker asks for it all the time, and that takes longer than the answer.
@cache
def is_listed():
    """Whether the business of a machine run's job lists its machine now."""
    # Not `machine__in`: beside the ids of the newest machine runs, SQLite would try each pair of the two lists.
    listed = Listing.objects.live().filter(business=OuterRef("run__stage__job__business"), machine=OuterRef("machine"))
    return Exists(listed)


def with_versions(machines, business):
    """`machines` with `now_on`: the version that the ledger last saw put there for `business`, or None."""
    there = MachineRun.objects.filter(machine=OuterRef("pk"), run__stage__job__business=business)
    return machines.annotate(now_on=there.filter(status=Status.SUCCEEDED).newest("version_after"))


def with_version_before(machines, job):
    """`machines` with `before`: what a release by `job` finds there, or found before it put its own there; or empty."""
    there = MachineRun.objects.filter(machine=OuterRef("pk"), run__stage__job__business=job.business).released()
    own = there.in_job(job).newest("version_before")
    # Another job may have put the same version there; one that went back again since has left what it found.
    went_back = MachineRun.objects.rolled_back().filter(
        machine=OuterRef("machine"), run__stage__job=OuterRef("run__stage__job"), pk__gt=OuterRef("pk")
    )
    same = there.filter(Q(run__stage__job=job) | ~Exists(went_back), version_after=job.version)
    put_by = same.newest("run__stage__job")
    own_is_there = models.When(now_on=job.version, put_by=job.pk, then=own)
    return with_versions(machines, job.business).annotate(
        put_by=put_by, before=Coalesce(models.Case(own_is_there, default="now_on"), Value(""))
    )


class NotUnknown(Exception):
    """The machine run was resolved meanwhile; nothing was changed."""


class MachineRun(models.Model):
    """One machine in one run: its state, when, what was seen, and the version before and, on success, after."""

    Status = Status

    run = models.ForeignKey("Run", models.PROTECT, related_name="machine_runs", verbose_name=_("run"))
    machine = models.ForeignKey("jobs.Machine", models.PROTECT, related_name="runs", verbose_name=_("machine"))
    # Where the machine was when this was queued: the command goes there or nowhere, and holds that host.
    address = models.CharField(_("address"), max_length=253)
    port = models.PositiveIntegerField(_("SSH port"), default=22)
    user = models.CharField(_("SSH user"), max_length=32, blank=True)
    site = models.CharField(_("site"), max_length=255, blank=True)
    batch = models.PositiveIntegerField(_("batch"), default=1)
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.QUEUED)
    worker = models.ForeignKey(Worker, models.PROTECT, null=True, verbose_name=_("worker"), db_index=False)
    version_before = models.CharField(_("version before"), max_length=64, blank=True)
    version_after = models.CharField(_("version after, on success"), max_length=64, blank=True)
    exit_status = models.IntegerField(_("exit status"), null=True)
    reason = models.TextField(_("reason"), blank=True)
    note = models.TextField(_("note"), blank=True)
    queued_at = models.DateTimeField(_("queued"), db_default=Now())
    claimed_at = models.DateTimeField(_("claimed"), null=True)
    started_at = models.DateTimeField(_("started"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)

    # Machine runs of other jobs that a rollback of this one would undo, and the one that tells what is there now.
    overtaken_by = ()
    newest_there = None

    objects = MachineRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("machine run")
        verbose_name_plural = _("machine runs")
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["machine", "-ended_at"], name="machine_run_by_machine"),
            models.Index(fields=["address", "port"], name="machine_run_by_host"),
            models.Index(fields=["worker", "status"], name="machine_run_by_worker"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["machine"],
                condition=Q(status__in=["queued", "claimed", "running", "unknown"]),
                name="one_active_run_per_machine",
            ),
            models.UniqueConstraint(
                fields=HOST,
                condition=Q(status__in=["queued", "claimed", "running", "unknown"]),
                name="one_active_run_per_host",
            ),
            models.UniqueConstraint(fields=["run", "machine"], name="one_machine_run_per_run"),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="machine_run_status_known"),
            models.CheckConstraint(
                condition=~Q(status__in=["running", "succeeded", "failed", "timed_out", "unknown"])
                | Q(started_at__isnull=False),
                name="machine_run_started_before_it_ended",
            ),
        ]

    def __str__(self):
        return _("%(machine)s in run %(run)s") % {"machine": self.machine, "run": self.run_id}

    @property
    def is_pending(self):
        return self.status in PENDING

    @property
    def environment(self):
        """What the script is told; the previous version is what the machine had before this job."""
        stage, is_rollback = self.run.stage, self.run.action == Action.ROLLBACK
        return {
            "DEPLOY_VERSION": stage.job.version,
            "DEPLOY_PREVIOUS_VERSION": self.version_after if is_rollback else self.version_before,
            "DEPLOY_JOB": str(stage.job_id),
            "DEPLOY_STAGE": stage.kind,
            "DEPLOY_ACTION": self.run.action,
            "DEPLOY_BUSINESS": stage.job.business.slug,
            "DEPLOY_MACHINE": self.machine.hostname,
            "DEPLOY_RUN": str(self.pk),
        }

    @property
    def version_now(self):
        """What is on the machine as far as this run tells."""
        return self.version_after if self.status == Status.SUCCEEDED else self.version_before

    @property
    def rollback_versions(self):
        """(now, back to) of a rollback of this machine run; now is empty when a failure left it unclear."""
        newest = self.newest_there or self
        now = newest.version_after if newest.status == Status.SUCCEEDED else ""
        return now, self.version_after if self.run.action == Action.ROLLBACK else self.version_before

    def look_at_later(self, others):
        """Sees whether this one is overtaken. `others`: the newest machine run of each other job here, in order."""
        since = []
        for other in others:
            if other.started_at > self.started_at:
                since = [] if other._put_back(self) else [*since, other]
        if since:
            self.newest_there = since[-1]
            self.overtaken_by = [other for other in since if not other.went_back] or since[-1:]

    @property
    def was_called_off(self):
        """Whether it is a rollback that was cancelled before it sent anything; see `not_called_off`."""
        return self.run.is_rollback and self.status == Status.CANCELLED and self.started_at is None

    @property
    def went_back(self):
        """Whether it is a rollback that succeeded; pages show that as such, not as a success of the release."""
        return self.run.is_rollback and self.status == Status.SUCCEEDED

    def _put_back(self, other):
        return self.went_back and self.version_after == other.version_now

    @property
    def resolution(self):
        """The event of the person who said how it ended, where nobody had seen that."""
        if self.exit_status is not None or self.status not in (Status.SUCCEEDED, Status.FAILED):
            return None
        events = self.run.stage.job.events.filter(verb=Event.Verb.RESOLVED, detail__run=self.run_id)
        named = [self.machine.hostname]
        return next((event for event in events.select_related("actor") if event.detail["hostnames"] == named), None)

    def take_machine(self):
        """Queues this one, whose machine has come free, unless it went or moved meanwhile; whether it did."""
        held = MachineRun.objects.filter(pk=self.pk, status=Status.HELD)
        job = self.run.stage.job
        for there, reason in ((held.filter(is_listed()), GONE), (held.filter(SAME_PLACE), MOVED)):
            if not there.exists():
                held.update(status=Status.NOT_RUN, reason=reason, ended_at=Now())
                return False
        before = with_version_before(Machine.objects.filter(pk=self.machine_id), job).get().before
        try:
            with transaction.atomic():
                return bool(held.update(status=Status.QUEUED, queued_at=Now(), version_before=before))
        except IntegrityError:  # another run was faster
            return False

    def resolve(self, by, status, reason):
        """Says how an unknown machine really ended, as a person found it; frees the machine."""
        if status not in (Status.SUCCEEDED, Status.FAILED):
            raise ValueError(f"An unknown machine is resolved as succeeded or failed, not {status}.")
        with transaction.atomic():
            self.run.stage.job.lock()
            self.settle(by, status, reason)
            self.run.stage.conclude()

    def settle(self, by, status, reason):
        """The transition of `resolve`, for those who hold the job's lock and conclude the stage themselves."""
        hostname = self.machine.hostname
        if not MachineRun.objects.filter(pk=self.pk, status=Status.UNKNOWN).update(status=status, reason=reason):
            raise NotUnknown(_("%(machine)s is no longer unknown.") % {"machine": hostname})
        facts = {"run": self.run_id, "hostnames": [hostname]}
        self.run.stage.record(Event.Verb.RESOLVED, by, reason, Status.UNKNOWN, status, **facts)

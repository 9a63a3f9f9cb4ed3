from collections import defaultdict

from django.db import IntegrityError, connection, models, transaction
from django.db.models import Exists, OuterRef, Q, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from deploy_portal.database import Constant, half_likely
from jobs.columns import Columns
from jobs.models import Event, Machine
from jobs.models.job_machine import SAME_PLACE
from jobs.models.machine import HOST
from releases.models.queue import FAILURES, GONE, HOLDING, MOVED, PENDING, Queue, Status, is_listed
from releases.models.task import Action, shown_as
from releases.models.worker import Worker


class MachineRunQuerySet(Queue, models.QuerySet):
    def holding(self):
        """What holds its machine: it is looked up in the indexes that hold each to one, however long the history."""
        return self.filter(status__in=[Constant(status) for status in HOLDING])

    def pending(self):
        return self.filter(status__in=PENDING)

    def failures(self):
        """What counts against a run's failure budget."""
        return self.filter(status__in=FAILURES)

    def holder_of(self, machine, at=None):
        """The one that holds `machine`, or its host (or `at`'s) by whatever name, with its job; None when none does."""
        on_host = Q(**{name: getattr(at or machine, name) for name in HOST})
        holding = self.holding().filter(Q(machine=machine) | on_host)
        return holding.select_related("run__stage__job__business", "run__started_by").first()

    def on_host(self, of=""):
        """The condition that one of these is on the machine or its host; `of` leads to that from what is asked."""
        of_machine, of_host = self._holders(of, "pk")
        return of_machine | of_host

    def off_host(self, of="", machine="pk"):
        """Not `on_host`, as two conditions: PostgreSQL looks up each once, and `not (a or b)` for each machine.

        `machine` is where the machine's id is, beside its host.
        """
        of_machine, of_host = self._holders(of, machine)
        return Q(~of_machine, ~of_host)

    def _holders(self, of, machine):
        of_host = self.filter(**{name: OuterRef(f"{of}{name}") for name in HOST})
        return Exists(self.filter(machine=OuterRef(f"{of}{machine}"))), Exists(of_host)

    def in_job(self, job):
        return self.filter(run__stage__job=job)

    def in_business(self, business):
        """Those of its jobs, for who looks for the newest of a machine.

        Of one business among many PostgreSQL takes next to none of a machine's history to be.
        """
        return self.filter(half_likely(Q(run__stage__job__business=business)))

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
        latest = self.filter(machine=machine, status=Status.SUCCEEDED).in_business(business)
        return latest.order_by("-ended_at", "-pk").values_list("version_after", flat=True).first() or ""

    def last_touched(self, machine, business):
        """The newest one on `machine` for `business` whose command was sent; None when none was."""
        touched = self.filter(machine=machine, started_at__isnull=False).in_business(business)
        return touched.order_by("-started_at", "-pk").first()

    def newest(self, field):
        """That field of the one of these that ended last, as a subquery."""
        return Subquery(self.order_by("-ended_at", "-pk").values(field)[:1])

    def counts(self):
        """How many are in each status, as {status: number}."""
        return dict(self.order_by().values_list("status").annotate(models.Count("pk")))

    def counts_by_run(self):
        """How many of each run are in each status, as {run id: {status: number}}."""
        found = defaultdict(dict)
        for run_id, status, number in self.order_by().values_list("run", "status").annotate(models.Count("pk")):
            found[run_id][status] = number
        return found

    def lock(self):
        """Inside a transaction, before several are changed: in one order, so that no two who do wait for each other."""
        if connection.features.has_select_for_update:  # SQLite has one writer at a time anyway
            list(self.order_by("pk").select_for_update(of=("self",), no_key=True).values_list("pk"))


def with_versions(machines, business):
    """`machines` with `now_on`: the version that the ledger last saw put there for `business`, or None."""
    return machines.annotate(now_on=newest_version(machine="pk", business=business))


def versions_now(machines, business):
    """{machine id: the version last seen there, or None}, of ten thousand at next to no cost."""
    return dict(Columns.of(with_versions(machines, business).order_by(), "pk", "now_on").rows("pk", "now_on"))


def newest_version(machine, business, field="version_after"):
    """The version last seen there, or another field of the run that put it there; `machine` names where its id is."""
    there = MachineRun.objects.filter(machine=OuterRef(machine), status=Status.SUCCEEDED)
    return there.in_business(business).newest(field)


def versions_before(machines, job):
    """{machine id: what a release by `job` finds there, or found before it put its own there; or empty}."""
    there = with_versions(machines, job.business)
    before = {pk: version or "" for pk, version in there.values_list("pk", "now_on")}
    if job.version in before.values():  # seldom, and dear to ask
        before |= _found_before_own(there.filter(now_on=job.version), job)
    return before


def _found_before_own(machines, job):
    """Of these, which have the job's version, {machine id: what there was before} of those on which `job` put it."""
    there = MachineRun.objects.filter(machine=OuterRef("pk")).in_business(job.business).released()
    # Another job may have put the same version there; one that went back again since has left what it found.
    went_back = MachineRun.objects.rolled_back().filter(
        machine=OuterRef("machine"), run__stage__job=OuterRef("run__stage__job"), pk__gt=OuterRef("pk")
    )
    same = there.filter(Q(run__stage__job=job) | ~Exists(went_back), version_after=job.version)
    own = machines.alias(put_by=same.newest("run__stage__job")).filter(put_by=job.pk)
    return dict(own.values_list("pk", there.in_job(job).newest("version_before")))


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
            # As `newest` asks, to the last column: else SQLite sorts what it found of each machine.
            models.Index(fields=["machine", "-ended_at", "-id"], name="machine_run_by_machine"),
            models.Index(fields=["address", "port"], name="machine_run_by_host"),
            models.Index(fields=["worker", "status"], name="machine_run_by_worker"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["machine"],
                condition=Q(status__in=HOLDING),
                name="one_active_run_per_machine",
            ),
            models.UniqueConstraint(
                fields=HOST,
                condition=Q(status__in=HOLDING),
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
        stage = self.run.stage
        return {
            "DEPLOY_VERSION": stage.job.version,
            "DEPLOY_PREVIOUS_VERSION": self.version_after if self.run.is_rollback else self.version_before,
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
    def version_reached(self):
        """What it put on the machine; None unless it succeeded."""
        return self.version_after if self.status == Status.SUCCEEDED else None

    @property
    def rollback_versions(self):
        """(now, back to) of a rollback of this machine run; now is empty when a failure left it unclear."""
        newest = self.newest_there or self
        now = newest.version_after if newest.status == Status.SUCCEEDED else ""
        return now, self.version_after if self.run.is_rollback else self.version_before

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
    def went_back(self):
        """Whether it is a rollback that succeeded."""
        return self.run.is_rollback and self.status == Status.SUCCEEDED

    @property
    def shown_status(self):
        return shown_as(self.status, self.run.action)

    def _put_back(self, other):
        return self.went_back and self.version_after == other.version_now

    @property
    def holder(self):
        """The machine run for whose end this one waits; None unless it is held, and once it is its turn."""
        if self.status != Status.HELD:
            return None
        return MachineRun.objects.holder_of(self.machine_id, at=self)

    @property
    def next_unknown(self):
        """The next machine run of the stage of which somebody must say how it ended, after the last the first again."""
        unknown = MachineRun.objects.filter(run__stage=self.run.stage_id, status=Status.UNKNOWN).exclude(pk=self.pk)
        return unknown.filter(pk__gt=self.pk).first() or unknown.first()

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
                held.call_off(Status.NOT_RUN, reason)
                return False
        before = versions_before(Machine.objects.filter(pk=self.machine_id), job)[self.machine_id]
        try:
            with transaction.atomic():
                return bool(held.update(status=Status.QUEUED, queued_at=Now(), version_before=before))
        except IntegrityError:  # another run was faster
            return False

    def resolve(self, by, status, reason):
        """Says how an unknown machine really ended, as a person found it; frees the machine."""
        with transaction.atomic():
            self.run.stage.job.lock()
            self.settle(by, status, reason)
            self.run.stage.conclude()

    def settle(self, by, status, reason):
        """The transition of `resolve`, for those who hold the job's lock and conclude the stage themselves."""
        if status not in (Status.SUCCEEDED, Status.FAILED):
            raise ValueError(f"An unknown machine is resolved as succeeded or failed, not {status}.")
        if not MachineRun.objects.filter(pk=self.pk, status=Status.UNKNOWN).update(status=status, reason=reason):
            raise NotUnknown(_("%(machine)s is no longer unknown.") % {"machine": self.machine.hostname})
        # Its own reason goes with the row that says so now: the event keeps why nobody knew.
        facts = self._facts | {"why_unknown": self.reason}
        self.run.stage.record(Event.Verb.RESOLVED, by, reason, Status.UNKNOWN, status, **facts)

    def has_just_been_resolved(self, by, status, reason):
        """Whether this person has just resolved it so."""
        self.refresh_from_db(fields=["status"])
        stage = self.run.stage
        return self.status == status and stage.job.has_just(Event.Verb.RESOLVED, by, reason, stage.kind, **self._facts)

    @property
    def _facts(self):
        return {"run": self.run_id, "hostnames": [self.machine.hostname]}

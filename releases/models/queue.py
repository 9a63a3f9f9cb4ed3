"""The ledger as a queue: whose turn it is, who claims it, how it begins and ends, and what a dead worker left."""

from collections import Counter, defaultdict
from datetime import timedelta
from functools import cache
from heapq import heapify, heapreplace

from django.db import IntegrityError, models, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Greatest, Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from deploy_portal.database import half_likely
from jobs.models import Event, Freeze, Job, Listing
from jobs.models.event import told_of_machines
from jobs.models.job_machine import SAME_PLACE
from jobs.models.machine import PLACE
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


class RunStatus(models.TextChoices):
    RUNNING = "running", _("Running")
    PAUSED = "paused", _("Paused")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


ACTIVE = [RunStatus.RUNNING, RunStatus.PAUSED]
NOT_BEGUN = [Status.HELD, Status.QUEUED, Status.CLAIMED]
PENDING = [*NOT_BEGUN, Status.RUNNING]
# An unknown machine is held: something may still be running there.
HOLDING = [Status.QUEUED, Status.CLAIMED, Status.RUNNING, Status.UNKNOWN]
FAILURES = [Status.FAILED, Status.TIMED_OUT, Status.UNREACHABLE, Status.UNKNOWN]
BAD = [*FAILURES, Status.NOT_RUN]
GONE = gettext_noop("It left the business line before its turn came.")
SPENT = gettext_noop("Its run had stopped itself before its turn came.")
MOVED = gettext_noop("It moved before its turn came. Look where it is now, then choose it as moved.")
IN_PLACE = half_likely(SAME_PLACE)
# The least by which times differ on every database.
A_MOMENT = timedelta(milliseconds=1)


class Queue:
    """What workers ask of a MachineRunQuerySet, and those who tidy up after them."""

    def in_turn(self):
        """Queued machine runs whose batch is open."""
        queued = self.filter(status=Status.QUEUED, run__status=RunStatus.RUNNING, batch=F("run__open_batch"))
        return queued.filter(Q(run__batch_opens_at=None) | Q(run__batch_opens_at__lte=Now()))

    def in_reach(self):
        """Leaves out those whose machine moved since they were queued, and releases whose machine has gone."""
        return self.filter(IN_PLACE, Q(run__action=Action.ROLLBACK) | is_listed())

    def due(self, sites=()):
        """Those whose turn it is and that are in reach, for these sites (none named: all)."""
        due = self.in_turn().in_reach()
        return due.filter(machine__site__in=sites) if sites else due

    def not_frozen(self):
        """Leaves out the releases that a freeze holds now, unless their job has leave; a rollback is never held."""
        from releases.models.run import Run  # which imports this module

        occurrences = Freeze.objects.in_force()
        return self.exclude(run__in=Run.objects.held_by(occurrences)) if occurrences else self

    def runs(self):
        """The running runs that any of these is of; where only one is running, that."""
        from releases.models.run import Run

        runs = Run.objects.running().only("action")
        return list(runs if len(runs) == 1 else runs.filter(Exists(self.filter(run=OuterRef("pk")))))

    def claim(self, worker, room, but=()):
        """Claims up to `room` for `worker` by one conditional UPDATE, none of the ids in `but`; returns how many."""
        due = self.due(worker.sites).exclude(pk__in=but)
        # What a freeze holds may be due for days: freezes are asked for only then, and nothing is locked for it.
        if not due.exists():
            return 0
        claimable = due.not_frozen()
        if claimable is not due and not claimable.exists():
            return 0
        runs = claimable.runs()
        alive = Worker.objects.filter(pk=worker.pk, stopped_at=None)
        with transaction.atomic():
            # Read first: as a subquery PostgreSQL may run it once for each row, and claim more than there is room for.
            ids = claimable.lock_some_of_each(runs, worker, room)
            return self.filter(Exists(alive), pk__in=ids, status=Status.QUEUED).update(
                status=Status.CLAIMED, worker=worker, claimed_at=Now()
            )

    def in_hand(self, worker):
        """How many of each run `worker` has claimed or runs."""
        its_own = self.filter(worker=worker, status__in=[Status.CLAIMED, Status.RUNNING])
        return Counter(its_own.order_by().values_list("run", flat=True))

    def lock_some_of_each(self, runs, worker, room):
        """Locks up to `room` of these, for `worker`; returns their ids.

        Rollbacks go before all else, and then the runs of which the fewest are in hand: none waits for the end of a
        large one.
        """
        free = self.select_for_update(skip_locked=True, of=("self",)).order_by("pk")
        in_hand = self.model.objects.in_hand(worker) if len(runs) > 1 else Counter()
        ids = []
        while runs and len(ids) < room:
            for run, share in _shares(runs, in_hand, worker.served_last, room - len(ids)).items():
                found = free.filter(run=run).exclude(pk__in=ids).values_list("pk", flat=True)[:share]
                if found:
                    worker.served_last = run.pk
                if len(found) < share:
                    runs.remove(run)
                in_hand[run.pk] += len(found)
                ids += found
        return ids

    def claimed_by(self, worker):
        return self.filter(worker=worker, status=Status.CLAIMED)

    def to_cancel(self, worker):
        """What `worker` runs and somebody wants ended."""
        return self.filter(worker=worker, status=Status.RUNNING, run__cancelled_at__isnull=False)

    def call_off_astray(self):
        """Ends the releases whose turn has come while their machine is out of reach; a person may try them again."""
        releases = self.in_turn().filter(run__action=Action.RELEASE)
        for astray, reason in ((releases.filter(~is_listed()), GONE), (releases.exclude(SAME_PLACE), MOVED)):
            # What a freeze holds is not its turn either; freezes are asked for only where there is something to end.
            if astray.exists():
                astray.not_frozen().call_off(Status.NOT_RUN, reason)

    def follow_moves(self):
        """Sends the rollbacks that are queued to where their machines have moved; none to a host that is held."""
        held = gettext_noop("It moved, to a host that another run holds. Roll it back again once that has ended.")
        # Of the runs that go on: so it is not looked for among all that ever ran.
        queued = self.filter(status=Status.QUEUED, run__action=Action.ROLLBACK, run__status__in=ACTIVE)
        moved = queued.exclude(SAME_PLACE)
        moving = {machine_run.pk: machine_run.machine for machine_run in moved.select_related("machine")}
        if not moving:
            return
        them = self.filter(pk__in=moving)
        with transaction.atomic():
            them.lock()
            # None holds its host meanwhile: they may have taken each other's.
            them.filter(status=Status.QUEUED).update(status=Status.HELD)
            for pk, machine in moving.items():
                one = self.filter(pk=pk, status=Status.HELD)
                try:
                    with transaction.atomic():
                        one.update(status=Status.QUEUED, **{name: getattr(machine, name) for name in PLACE})
                except IntegrityError:
                    one.call_off(Status.NOT_RUN, held)

    def call_off(self, status, reason=""):
        """Ends what has not begun as `status`; a worker that is about to begin one finds that it may not."""
        not_begun = self.filter(status__in=NOT_BEGUN)
        with transaction.atomic():
            not_begun.lock()
            return not_begun.update(status=status, reason=reason, ended_at=Now())

    def admit(self):
        """Queues machine runs that waited for their machine and now can have it, the oldest of each machine."""
        waiting = self.filter(status=Status.HELD, run__status__in=ACTIVE)
        if not waiting.exists():
            return 0
        # By the host that each was queued for, in whose order all wait; one whose machine moved since ends there.
        free = waiting.filter(self.model.objects.holding().off_host(machine="machine"))
        oldest = free.order_by().values("machine").annotate(oldest=models.Min("pk")).values("oldest")
        admitted = free.filter(pk__in=oldest).select_related("machine", "run__stage__job__business")
        return sum(machine_run.take_machine() for machine_run in list(admitted))

    @transaction.atomic
    def begin(self, worker, ids):
        """Marks these as running before their commands are sent; returns the ids of those that may begin.

        Not those that `worker` no longer holds. Those that a pause, a freeze or a move of their machine came before are
        queued again.
        """
        self.filter(pk__in=ids).lock()
        mine = self.filter(pk__in=ids, worker=worker)
        may_begin = mine.filter(status=Status.CLAIMED, run__status=RunStatus.RUNNING).in_reach().not_frozen()
        if may_begin.update(status=Status.RUNNING, started_at=_after_others_there(self.model.objects)) == len(ids):
            return set(ids)
        mine.put_back()
        return set(mine.filter(status=Status.RUNNING).values_list("pk", flat=True))

    def put_back(self):
        """Queues those again that were claimed and have not begun."""
        self.filter(status=Status.CLAIMED).update(status=Status.QUEUED, worker=None, claimed_at=None)

    def end(self, worker, ids, status, exit_status=None, reason=""):
        """Records how these ended; a worker that was given up changes nothing, and leaves a note of what it saw."""
        old = Status.CLAIMED if status == Status.UNREACHABLE else Status.RUNNING
        mine = self.filter(pk__in=ids, worker=worker)
        told = {"exit_status": exit_status, "reason": reason, "ended_at": no_earlier_than(F("started_at"))}
        ended = mine.filter(status=old).update(status=status, **told)
        if ended < len(ids):
            # Kept with what it saw in it, so for all readers in one language.
            note = f"Its worker, given up by then, saw: {status}, exit status {exit_status}."
            ended_so = {"status": status, "exit_status": exit_status, "reason": reason}
            late = mine.filter(note="", started_at__isnull=False).exclude(status__in=PENDING).exclude(**ended_so)
            late.update(note=note)
        return ended

    def recover(self):
        """Takes what given-up workers hold: claimed is queued again, running becomes unknown and an event.

        Job after job: nobody waits for a job while holding runs of another.
        """
        nobodys = self.filter(worker__in=Worker.objects.given_up(), status__in=[Status.CLAIMED, Status.RUNNING])
        if not nobodys.exists():
            return []
        with transaction.atomic():
            nobodys.filter(status=Status.CLAIMED).lock()
            nobodys.put_back()
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
                by_run[machine_run.run].append(machine_run.machine)
            ids = [machine_run.pk for machine_run in lost]
            ended_at = no_earlier_than(F("started_at"))
            self.model.objects.filter(pk__in=ids).update(status=Status.UNKNOWN, reason=reason, ended_at=ended_at)
            for run, machines in by_run.items():
                facts = {"run": run.pk} | told_of_machines(machines)
                run.stage.record(Event.Verb.LOST, None, "", Status.RUNNING, Status.UNKNOWN, **facts)
        return ids


def _shares(runs, in_hand, served_last, room):
    """How many of `room` each of these runs gets; where as many are in hand, whose turn is next after `served_last`."""
    if len(runs) == 1:  # as it mostly is, and a worker asks for it all the time
        return {runs[0]: room}
    shares = Counter()
    turns = [(not run.is_rollback, in_hand[run.pk], run.pk <= served_last, run.pk, run) for run in runs]
    heapify(turns)
    for _place in range(room):
        is_release, number, *turn, run = turns[0]
        heapreplace(turns, (is_release, number + 1, *turn, run))
        shares[run] += 1
    return shares


def no_earlier_than(moment):
    """The database's time or, should its clock have been set back since, `moment`; now, where that is empty."""
    return Greatest(Now(), Coalesce(moment, Now()))


def _after_others_there(machine_runs):
    """Now, but after the end of all that ran on the machine before: by these times it is told what is there now."""
    there = machine_runs.filter(machine=OuterRef("machine"), ended_at__isnull=False).order_by("-ended_at")
    return no_earlier_than(Subquery(there.annotate(next=F("ended_at") + A_MOMENT).values("next")[:1]))


# Put together once: a worker asks for it all the time, and that takes longer than the answer.
@cache
def is_listed():
    """Whether the business of a machine run's job lists its machine now."""
    # Not `machine__in`: beside the ids of the newest machine runs, SQLite would try each pair of the two lists.
    listed = Listing.objects.live().filter(business=OuterRef("run__stage__job__business"), machine=OuterRef("machine"))
    return Exists(listed)

"""Which machines a stage offers, how a choice departs from its plan, and which of them it has changed."""

from collections import defaultdict
from operator import attrgetter

from django.db.models import F, Max, OuterRef, Q
from django.utils.functional import cached_property

from jobs.models import Machine
from jobs.models.event import first_names
from jobs.models.machine import HOST, PLACE
from releases.models.machine_run import MachineRun
from releases.models.queue import FAILURES, Status, is_listed
from releases.models.run import Run
from releases.models.task import Action

CANCELLED = Q(status=MachineRun.Status.CANCELLED)
TO_TRY_AGAIN = {
    "failed": Q(status__in=FAILURES),
    "cancelled": CANCELLED & Q(started_at__isnull=False),
    "not_run": Q(status=MachineRun.Status.NOT_RUN) | (CANCELLED & Q(started_at=None)),
}


class StageMachines:
    """What a ReleaseStage asks the ledger about its machines."""

    def offered_machines(self, when_free=False, moved=False, job_id=None):
        """What may be released now: the job's machines, live in its business, free, neither released nor excused.

        None that is elsewhere now than when it was chosen: `moved` adds those, `when_free` those that other jobs hold.
        None at all if `job_id` is given and is another job's.
        """
        in_job = MachineRun.objects.in_job(self.job)
        holding = (in_job.pending() | in_job.holding()) if when_free else MachineRun.objects.holding()
        where_chosen = {} if moved else {f"job_machines__{name}": F(name) for name in PLACE}
        # In one filter, which asks for one row of the job: each of its own would join all of them once more.
        of_job = [Q(job_machines__job=self.job), Q(job_machines__job=self.job if job_id is None else job_id)]
        return (
            Machine.objects.live_in(self.job.business)
            .filter(*of_job, job_machines__excused_at=None, **where_chosen)
            .filter(holding.off_host())
            .exclude(pk__in=self.machines_released())
            .exclude(pk__in=self._waited_for())
        )

    def machines_released(self):
        """The ids of the machines that the job has released, in whatever stage."""
        released = MachineRun.objects.in_job(self.job).latest_touched().released()
        return released.values_list("machine", flat=True)

    @cached_property
    def siblings(self):
        """The stages of its job in order, itself among them."""
        return type(self).objects.of(self.job)

    @cached_property
    def planned_machines(self):
        """The ids of the machines that the requester planned for this stage."""
        planned = self.job.job_machines.by_plan()
        for stage in self.siblings:
            stage.planned_machines = planned.get(stage.kind, set())
        return planned.get(self.kind, set())

    def departures(self, machines):
        """(added, left out): how a choice departs from the plan of this stage; both empty when there is no plan."""
        planned = self.planned_machines
        if not planned:
            return [], []
        if left_out := planned - {machine.pk for machine in machines}:
            left_out -= set(self.machines_released())
        added = sorted((machine for machine in machines if machine.pk not in planned), key=attrgetter("hostname"))
        of_stage = Machine.objects.filter(job_machines__job=self.job, job_machines__planned=self.kind)
        in_order = of_stage.order_by("hostname") if left_out else ()
        return added, [machine for machine in in_order if machine.pk in left_out]

    def _departures(self, machines):
        """What the event keeps of how a choice departs from the plan."""
        added, left_out = self.departures(machines)
        told = {"beyond_plan": added, "left_out": left_out}
        return first_names({what: [machine.hostname for machine in some] for what, some in told.items()})

    def to_try_again(self, what):
        """The ids of the machines here that went wrong (`what` is "failed"), or whose turn never came ("not_run").

        Or whose command a cancel ended ("cancelled"). None whose rollback went wrong: that one is to be tried again,
        not the release.
        """
        if what not in TO_TRY_AGAIN:
            return []
        latest = MachineRun.objects.filter(run__stage=self).latest_per_machine().filter(run__action=Action.RELEASE)
        return list(latest.filter(TO_TRY_AGAIN[what]).values_list("machine", flat=True))

    def rollback_candidates(self):
        """What a rollback may name: the newest touched machine run of each machine that this stage changed.

        Such a machine is not yet rolled back, free, and still in this business: another's is not touched. Unknown ones
        are among them: the rollback settles them first.
        """
        candidates = list(self._changed_in_reach())
        since = self._by_others_since(min(machine_run.started_at for machine_run in candidates)) if candidates else {}
        for machine_run in candidates:
            machine_run.look_at_later(since.get(machine_run.machine_id, []))
        return candidates

    def count_rollback_candidates(self):
        return self._changed_in_reach().count()

    def changed_out_of_reach(self):
        """The other machines that this stage changed: held by another run or waited for, or gone from the source."""
        held = self._others_holding().on_host("machine__") | Q(machine__in=self._waited_for())
        return self._changed_here().filter(~Q(is_listed()) | held)

    def _others_holding(self):
        return MachineRun.objects.holding().exclude(pk=OuterRef("pk"))

    def _waited_for(self):
        """The ids of the machines that the job waits for: of a machine's runs in a job, the newer one begins later."""
        return MachineRun.objects.in_job(self.job).filter(status=Status.HELD).values("machine")

    def _held_machines(self):
        """This job's machines that any run holds now."""
        return Machine.objects.filter(MachineRun.objects.holding().on_host(), jobs=self.job)

    def _names_of_one_host(self, machines):
        """Those of the chosen names that are not the only one of their host: each that waits would get it in turn."""
        chosen, names = {machine.pk for machine in machines}, defaultdict(list)
        for pk, hostname, *host in Machine.objects.filter(jobs=self.job).values_list("pk", "hostname", *HOST):
            if pk in chosen:
                names[tuple(host)].append(hostname)
        return [hostname for some in names.values() if len(some) > 1 for hostname in some]

    def _tried_before(self):
        """The first run here that had some of the machines chosen now, which a new one tries again."""
        if self.version == 1:  # just moved for the first time
            return None
        before = self.runs.filter(machine_runs__machine__in=self.machines.values("pk"))
        return before.order_by("pk").first()

    def _by_others_since(self, time):
        """{machine id: the newest touched machine run of each other job of the business since then, in order}."""
        here = MachineRun.objects.filter(run__stage=self).values("machine")
        in_business = MachineRun.objects.filter(run__stage__job__business=self.job.business_id, machine__in=here)
        others = in_business.filter(started_at__gt=time).exclude(run__stage__job=self.job)
        newest = others.order_by().values("machine", "run__stage__job").annotate(newest=Max("pk")).values("newest")
        since = defaultdict(list)
        machine_runs = list(others.filter(pk__in=newest).order_by("started_at"))
        # Of an old job these are of thousands of runs: SQLite takes no more than a thousand at once of a prefetch.
        runs = Run.objects.select_related("stage__job__business").in_bulk({one.run_id for one in machine_runs})
        for machine_run in machine_runs:
            machine_run.run = runs[machine_run.run_id]
            since[machine_run.machine_id].append(machine_run)
        return since

    def _changed_in_reach(self):
        """An unknown machine is held by its own run, and can go back once a person says that nothing runs there."""
        in_reach = self._changed_here().filter(is_listed(), self._others_holding().off_host("machine__"))
        return in_reach.exclude(machine__in=self._waited_for())

    def _changed_here(self):
        changed = MachineRun.objects.in_job(self.job).latest_touched().not_rolled_back().filter(run__stage=self)
        # Many machine runs are of few runs: those are fetched once.
        return changed.select_related("machine").prefetch_related("run").order_by("machine__site", "machine__hostname")

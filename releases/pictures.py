"""What pages draw of a job: its pipeline, and its machines as tiles; by few queries, however many machines."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from statistics import median
from typing import NamedTuple

from django.db.models import OuterRef, Subquery
from django.utils.functional import cached_property

from deploy_portal.clock import database_now
from jobs.models import Machine
from releases.counts import WAITS, bar, ordered
from releases.models import LogBlock, MachineRun, ReleaseStage, Run, Worker
from releases.models.machine_run import newest_version, with_versions
from releases.models.queue import FAILURES, PENDING, SPENT
from releases.models.task import shown_as
from releases.tiles import Tile, by_site, size_of

Status = MachineRun.Status

TELLING = 20  # one of so many machines has ended: from then on a run can be told how long it takes
WRONG_SHOWN = 100
LIKE_THIS = 50  # so many of the last runs of its task tell how long it takes on a machine
TILE = ["pk", "status", "batch", "reason", "started_at", "version_before", "version_after"]


@dataclass
class StageBox:
    """One box of the pipeline."""

    stage: ReleaseStage
    counts: Counter
    is_current: bool = False
    run: object = None
    planned: int = 0
    are_left: bool = True

    @property
    def total(self):
        return sum(self.counts.values())

    @property
    def bar(self):
        return bar(self.counts)


class Ran(NamedTuple):
    """What a job's picture keeps of a machine run: its status as pages show it."""

    pk: int
    machine_id: int
    stage_id: int
    status: str


class JobPicture:
    """Reads the machine runs of a job once; everything drawn of it comes from them.

    They are read as rows, as are those of a run: everybody who watches asks for thousands every few seconds.
    `stages` are the job's, if they are known already; `runs` has the newest run of each, by the stage's id,
    `excused` the ids of the machines that the job is done without.
    """

    def __init__(self, job, stages=None):
        self.job = job
        self.stages = stages or ReleaseStage.objects.of(job)
        self.total = job.job_machines.count()
        self.excused = set(job.job_machines.exclude(excused_at=None).values_list("machine", flat=True))
        self.latest, self.touched, self.by_stage, self.runs = {}, {}, defaultdict(dict), {}
        machine_runs = MachineRun.objects.in_job(job).order_by("pk")
        rows = list(machine_runs.values_list("pk", "run", "machine", "status", "started_at"))
        runs = Run.objects.select_related("started_by").in_bulk({run_id for _pk, run_id, *_others in rows})
        for pk, run_id, machine_id, status, started_at in rows:
            run = runs[run_id]
            self.runs[run.stage_id] = run
            ran = Ran(pk, machine_id, run.stage_id, shown_as(status, run.action))
            if started_at:
                self.touched[machine_id] = ran
            # A rollback that was cancelled before it sent anything left everything as it was.
            if started_at or status != Status.CANCELLED or not run.is_rollback:
                self.latest[machine_id] = self.by_stage[run.stage_id][machine_id] = ran
        for stage in self.stages:
            if stage.pk in self.runs:
                self.runs[stage.pk].stage = stage

    @property
    def out(self):
        """On how many machines the job's version was put, whatever else is told of them."""
        return sum(ran.status == Status.SUCCEEDED for ran in self.touched.values())

    @cached_property
    def are_left(self):
        """Whether any machine is still to be released, or will be once it has gone back."""
        return self._are_others_than(Status.SUCCEEDED)

    @property
    def are_to_excuse(self):
        """Whether any keeps the job, which has begun, from being done, and nothing of it is about to touch it."""
        has_begun = self.job.is_releasable and not self.job.is_before_first_stage
        return has_begun and self._are_others_than(Status.SUCCEEDED, "rolled_back", *PENDING)

    def _are_others_than(self, *states):
        """Whether any is neither excused nor in one of these: what it waits for or, else, what touched it last."""
        now = self.touched | {pk: ran for pk, ran in self.latest.items() if ran.status in PENDING}
        return self.total > len(self.excused.union(pk for pk, ran in now.items() if ran.status in states))

    def count_changed(self):
        """How many machines can be rolled back now."""
        ended = [stage for stage in self.stages if stage.pk in self.runs and not stage.is_running]
        return sum(stage.count_rollback_candidates() for stage in ended)

    @cached_property
    def wrong_ids(self):
        """The machine runs that somebody must look at: the last of machines that went wrong and were not excused."""
        return [ran.pk for ran in self.latest.values() if self._status(ran) in FAILURES]

    @cached_property
    def wrong(self):
        """Those of them that were queued first; see `in_last_words`."""
        shown = sorted(self.wrong_ids)[:WRONG_SHOWN]
        return in_last_words(MachineRun.objects.filter(pk__in=shown)) if shown else []

    def pipeline(self, current=None):
        return [
            StageBox(
                stage,
                Counter(map(self._status, self.by_stage[stage.pk].values())),
                stage == current,
                self.runs.get(stage.pk),
                len(stage.planned_machines),
                self.are_left,
            )
            for stage in self.stages
        ]

    def unknown_in(self, stage):
        """What ran there and nobody saw end, also in an earlier run than the newest."""
        return [ran for ran in self.by_stage[stage.pk].values() if ran.status == Status.UNKNOWN]

    def _status(self, ran):
        """An unknown machine is held, and waits for whoever resolves it, though the job is done without it.

        One whose turn has not come waits as those that nobody has chosen yet.
        """
        if ran.machine_id in self.excused and ran.status != Status.UNKNOWN:
            return "excused"
        return "waiting" if ran.status in WAITS else ran.status

    def tiles(self):
        """Every machine of the job, by site and name."""
        stage_of = {stage.pk: stage for stage in self.stages}
        machines = with_versions(Machine.objects.filter(jobs=self.job), self.job.business).order_by("site", "hostname")
        gone = dict(self.job.job_machines.gone().values_list("machine", "site"))
        moved = set(self.job.job_machines.moved().values_list("machine", flat=True))

        def tile(machine_id, hostname, site, labels, version, put_by):
            ran, site = self.latest.get(machine_id), gone.get(machine_id, site)
            more = {"put_by": put_by, "labels": labels}
            if ran is None:
                known = (("excused", self.excused), ("gone", gone), ("changed", moved))
                status = next((status for status, ids in known if machine_id in ids), "waiting")
                return Tile(machine_id, hostname, site, status, version, **more)
            status = self._status(ran)
            stage = None if status == "excused" else stage_of[ran.stage_id]
            return Tile(machine_id, hostname, site, status, version, ran, stage, **more)

        put_by = newest_version("pk", self.job.business, "run__stage__job")
        tiles = [tile(*row) for row in machines.values_list("pk", "hostname", "site", "labels", "now_on", put_by)]
        return sorted(tiles, key=attrgetter("site", "hostname")) if gone else tiles


class RunPicture:
    """One run as it is now: its counts, its machines by site, and what went wrong with its last words."""

    SQUARES_SHOWN = 10

    def __init__(self, run):
        self.run = run
        machine_runs = run.machine_runs.order_by("site", "machine__hostname")
        rows = machine_runs.values_list(*TILE, "machine", "machine__hostname", "site", named=True)
        self.tiles = [self._tile(row) for row in rows]
        if self.is_running:
            self._estimate()
        self.groups = by_site(self.tiles, shown_as(Status.SUCCEEDED, run.action))
        self.total = len(self.tiles)
        self.counter = Counter(tile.status for tile in self.tiles)
        self.tile_size = size_of(self.groups)

    def _tile(self, row):
        version = row.version_after if row.status == Status.SUCCEEDED else row.version_before
        status = shown_as(row.status, self.run.action)
        return Tile(row.machine, row.machine__hostname, row.site, status, version, row)

    def _estimate(self):
        """Fills running tiles by elapsed time against the median of this task, in tenths; never more than nine."""
        # Of the last runs: in the years before there are too many to go through each time that a page asks.
        runs = Run.objects.filter(task_version__task=self.run.task_version.task).order_by("-pk")[:LIKE_THIS]
        ended = MachineRun.objects.filter(run__in=runs.values("pk"), status=Status.SUCCEEDED).order_by("-pk")
        took = [end - start for start, end in ended.values_list("started_at", "ended_at")[:200]]
        usual = median(took) if took else None
        now = database_now()
        for tile in self.tiles:
            if usual and tile.status == Status.RUNNING:
                tile.fill = 10 * max(0, min(9, int(10 * ((now - tile.ran.started_at) / usual))))

    @property
    def is_running(self):
        return self.run.is_active

    @property
    def poll_seconds(self):
        """How often a page asks anew: drawing ten thousand tiles takes a second or two."""
        return 1 + self.total // 1000

    @property
    def opens_in(self):
        """How long the pause before the open batch still lasts, in seconds; 0 when it does not."""
        opens_at = self.run.batch_opens_at
        return max(0, round((opens_at - database_now()).total_seconds())) if self.is_running and opens_at else 0

    @cached_property
    def time_left(self):
        """About how long it takes to its end if it goes on as it has; None while nobody can tell."""
        waits = self.run.cancelled_at or self.counter[Status.HELD] or self.frozen_by
        left = self.total - self.ended
        if self.run.status != Run.Status.RUNNING or waits or not left or self.ended * TELLING < self.total:
            return None
        so_far = database_now() - self.run.started_at
        # Since the database's clock was set back it has run for no time that anybody knows.
        return so_far * left / self.ended if so_far > timedelta() else None

    @cached_property
    def frozen_by(self):
        """The freezes for whose end it waits."""
        return self.run.frozen_by() if self.is_running and self.counter[Status.QUEUED] else []

    @cached_property
    def sites_without_worker(self):
        """Where machines wait for a worker, though others live."""
        sites = {tile.site for tile in self.tiles if tile.status == Status.QUEUED}
        return Worker.objects.unserved(sites) if self.is_running and sites else []

    @property
    def touched(self):
        """On how many machines a command was sent, so that they may have changed."""
        return sum(tile.ran.started_at is not None for tile in self.tiles)

    @property
    def untouched(self):
        return self.total - self.touched

    @property
    def is_spent(self):
        """Whether so many machines went wrong that nothing more begins."""
        return bool(self.run.failure_budget) and self.wrong_total >= self.run.failure_budget

    @property
    def stopped_itself(self):
        """What went wrong may have been resolved since: what was not run tells it too, though not of old runs."""
        told = self.is_spent or any(tile.ran.reason == SPENT for tile in self.tiles)
        return not self.is_running and told and bool(self.counter[Status.NOT_RUN])

    @property
    def lacked_its_canary(self):
        """Whether it ended because the machine that was to go first was not run."""
        return not self.is_running and self.run.canary and not self.touched and bool(self.counter[Status.NOT_RUN])

    @property
    def budget_squares(self):
        """The failure budget, one after the other: True where it is used up; none when it is too long to draw."""
        budget = self.run.failure_budget or 0
        return [number < self.wrong_total for number in range(budget)] if budget <= self.SQUARES_SHOWN else []

    @property
    def left_to_cancel(self):
        """What has begun since somebody cancelled, and is being ended."""
        return self.counter[Status.RUNNING] if self.run.cancelled_at and self.is_running else 0

    @property
    def counts(self):
        return ordered(self.counter)

    @property
    def bar(self):
        return bar(self.counter)

    @property
    def ended(self):
        return self.total - sum(self.counter[status] for status in PENDING)

    @property
    def wrong_total(self):
        return sum(self.counter[status] for status in FAILURES)

    @property
    def first_to_read(self):
        """The machine run whose log is shown before anybody asked for one; of what waits, one of the first batch."""
        running = (tile.ran for tile in self.tiles if tile.status == Status.RUNNING)
        rows = [tile.ran for tile in self.tiles]
        return next(iter(self.wrong), None) or next(running, min(rows, key=attrgetter("batch")))

    @cached_property
    def wrong(self):
        """The machine runs that went wrong; see `in_last_words`."""
        return in_last_words(self.run.machine_runs.failures()) if self.wrong_total else []


def in_last_words(machine_runs):
    """The first of these to end, each with `last_words`: the end of what it said."""
    blocks = LogBlock.objects.filter(machine_run=OuterRef("pk")).exclude(stream=LogBlock.Stream.MARK)
    told = machine_runs.annotate(last_block=Subquery(blocks.order_by("-number").values("text")[:1]))
    told = told.select_related("machine").defer("machine__labels").order_by("ended_at", "pk")
    rows = list(told[:WRONG_SHOWN])
    for machine_run in rows:
        machine_run.last_words = ((machine_run.last_block or "").rstrip().rsplit("\n", 1)[-1])[-200:]
    return rows

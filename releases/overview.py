"""What the home page answers: what waits for me, what runs, is it out yet.

`businesses` are those that it tells of: all that a person sees, or one of them.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import (
    Case,
    Count,
    DateTimeField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
    Window,
)
from django.db.models.functions import Cast, Now, RowNumber
from django.db.models.lookups import GreaterThan

from jobs.models import Job, JobMachine, Listing
from jobs.rights import Right
from releases.counts import bar, counted, ordered
from releases.models import Kind, MachineRun, ReleaseStage, Run
from releases.models.machine_run import newest_version
from releases.models.queue import ACTIVE
from releases.models.stage import DONE, first_left

SHOWN = 20
OTHERS_SHOWN = 3
STOPPED = [ReleaseStage.Status.FAILED, ReleaseStage.Status.CANCELLED]
TO_BEGIN = [ReleaseStage.Status.WAITING, ReleaseStage.Status.ROLLED_BACK]


@dataclass
class Waiting:
    """One thing that waits for a person: `what` is unknown, failed, to_publish, left, to_approve or sent_back.

    Of a stage's unknown machines `machine_run` is the one that waits longest; as `number` it says how many they are.
    """

    what: str
    job: Job
    stage: ReleaseStage | None = None
    machine_run: MachineRun | None = None

    @property
    def key(self):
        """Tells it from all others on a page."""
        return f"{self.what}-{self.job.pk}" + (f"-{self.stage.kind}" if self.stage else "")


def waiting_for(user, businesses):
    """The most stuck first; when there is more than is SHOWN, one more than that."""
    waiting = [*_unknown(user, businesses), *_to_publish(user, businesses)]
    waiting += [*_to_approve(user, businesses), *_sent_back(user, businesses)]
    return waiting[: SHOWN + 1]


def _unknown(user, businesses):
    # Said twice: so SQLite begins with the machines that are held, and does not read all that has ever run.
    machine_runs = MachineRun.objects.filter(
        status=MachineRun.Status.UNKNOWN,
        machine__in=MachineRun.objects.holding().values("machine"),
        run__stage__job__business__in=businesses.where(user, Right.RESOLVE),
    )
    in_stage, longest_first = F("run__stage"), ["ended_at", "pk"]
    number = Window(Count("pk"), partition_by=in_stage)
    place = Window(RowNumber(), partition_by=in_stage, order_by=longest_first)
    first = machine_runs.annotate(number=number, place=place).filter(place=1).order_by(*longest_first)
    rows = first.select_related("machine", "run__stage__job__business")[: SHOWN + 1]
    return [Waiting("unknown", row.run.stage.job, row.run.stage, row) for row in rows]


def _to_publish(user, businesses):
    """Failed stages, then those that are open and have not begun, then jobs with machines left whose stages have ended.

    Ops only step in, so nothing waits for them.
    """
    if user.is_ops:
        return []
    not_excused = JobMachine.objects.filter(job=OuterRef("pk"), excused_at=None)
    running = ReleaseStage.objects.filter(job=OuterRef("pk"), status=ReleaseStage.Status.RUNNING)
    publishes_in = businesses.where(user, Right.PUBLISH)
    jobs = _with_first_left(Job.objects.under_way().filter(Exists(not_excused), business__in=publishes_in))
    jobs = jobs.select_related("business").prefetch_related("approvals__by").order_by("-pk")
    ready = _without_soaking(jobs.filter(~Exists(running), left_status__in=TO_BEGIN))
    left = [Waiting("left", job) for job in jobs.filter(left_status=None)[: SHOWN + 1]]
    return [*_stages("failed", jobs.filter(left_status__in=STOPPED)), *_stages("to_publish", ready), *left]


def _stages(what, jobs):
    stages = map(first_left, ReleaseStage.objects.of_each(list(jobs[: SHOWN + 1])).values())
    return [Waiting(what, stage.job, stage) for stage in stages if stage]


def _with_first_left(jobs):
    """`jobs` with `left_status` of the first stage left, None where none is.

    Those whose stages nobody has looked at have none yet: it will be waiting.
    """
    stages = _numbered_stages()
    status = Case(When(~Exists(stages), then=Value("waiting")), default=Subquery(_left(stages).values("status")[:1]))
    return jobs.alias(left_status=status)


def _without_soaking(jobs):
    """Without those, of jobs with `left_status`, whose first stage left waits for the end of a soak time.

    What was skipped is not waited for, but the last before it that was not.
    """
    stages = _numbered_stages()
    before = stages.filter(status=ReleaseStage.Status.SUCCEEDED, number__lt=OuterRef("left_number"))
    jobs = jobs.alias(left_number=Subquery(_left(stages).values("number")[:1]))
    jobs = jobs.alias(awaited=Subquery(before.order_by("-number").values("pk")[:1]))
    soaking = _soaking(stages).filter(pk=OuterRef("awaited"))
    return jobs.filter(Q(left_status=ReleaseStage.Status.ROLLED_BACK) | ~Exists(soaking))


def _numbered_stages():
    in_order = Case(*[When(kind=kind, then=number) for number, kind in enumerate(Kind.values)])
    return ReleaseStage.objects.filter(job=OuterRef("pk")).annotate(number=in_order)


def _left(stages):
    return stages.exclude(status__in=DONE).order_by("number")


def _soaking(stages):
    """Those that have succeeded so lately that the one after them is not open yet."""
    soak = Cast("job__business__soak_minutes", IntegerField()) * Value(timedelta(minutes=1))
    opens_at = F("done_at") + ExpressionWrapper(soak, DurationField())
    return stages.filter(status=ReleaseStage.Status.SUCCEEDED, job__business__soak_minutes__gt=0).filter(
        GreaterThan(ExpressionWrapper(opens_at, DateTimeField()), Now())
    )


def _to_approve(user, businesses):
    jobs = Job.objects.to_approve(user).filter(business__in=businesses).order_by("pk")
    return [Waiting("to_approve", job) for job in _with_people(jobs)]


def _sent_back(user, businesses):
    editable = Job.objects.filter(business__in=businesses.where(user, Right.EDIT))
    jobs = editable.filter(requester=user, status=Job.Status.SENT_BACK)
    return [Waiting("sent_back", job) for job in _with_people(jobs)]


def _with_people(jobs):
    return jobs.select_related("business", "requester")[: SHOWN + 1]


def asked_for(user, businesses):
    """What `user` asked for and others have to do something about, the newest first; one more than is SHOWN."""
    open_to_others = [Job.Status.WAITING, *Job.UNDER_WAY]
    jobs = Job.objects.filter(business__in=businesses, requester=user, status__in=open_to_others)
    return jobs.select_related("business")[: SHOWN + 1]


def running_now(businesses):
    runs = list(_whole(Run.objects.active().filter(stage__job__business__in=businesses))[:SHOWN])
    by_run = MachineRun.objects.filter(run__in=runs).counts_by_run()
    for run in runs:
        counts = counted(by_run[run.pk], run.action)
        run.bar, run.ordered_counts, run.total = bar(counts), ordered(counts), counts.total()
    return runs


def ended_lately(businesses):
    # By their ids: for a business in which hardly any ended PostgreSQL would go through those of all others.
    ended = Run.objects.filter(stage__job__business__in=list(businesses)).exclude(status__in=ACTIVE)
    # Which they are is asked first: all that ever ran would be sorted with all that is shown of it.
    newest = ended.order_by("-ended_at").values("pk")[:10]
    return _whole(Run.objects.filter(pk__in=newest)).order_by("-ended_at")


def _whole(runs):
    return runs.select_related("stage__job__business", "started_by")


def out_yet(businesses):
    """Per business: which version is on how many of its machines, the newest job's first."""
    # By one query for all of them, and numbers instead of machines: ops see every business.
    now_on = newest_version("machine", business=OuterRef("business"))
    there = Listing.objects.live().filter(business__in=businesses).annotate(now_on=now_on)
    numbers = there.values_list("business", "now_on").annotate(Count("pk"))
    versions = defaultdict(Counter)
    for business_id, name, number in numbers.order_by("now_on"):
        versions[business_id][name or ""] += number
    jobs = Job.objects.filter(business=OuterRef("pk"), status__in=Job.RELEASABLE).order_by("-pk")
    newest = businesses.annotate(newest=Subquery(jobs.values("version")[:1])).exclude(newest=None)
    return [_row(business, business.newest, versions[business.pk]) for business in newest if versions[business.pk]]


def _row(business, version, versions):
    others = [(name, number) for name, number in versions.most_common() if name != version]
    on_it, total = versions[version], versions.total()
    return {
        "business": business,
        "version": version,
        "on_it": on_it,
        "total": total,
        "others": others[:OTHERS_SHOWN],
        "rest": sum(number for _name, number in others[OTHERS_SHOWN:]),
        "bar": [("ok", on_it)],
    }

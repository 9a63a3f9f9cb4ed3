"""What an approver reads before approving: where a job goes, what it runs there, and what is new since the last one."""

from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property

from django.db.models import Max

from deploy_portal.templatetags.portal import status_word
from jobs.models import Job
from jobs.plan import folded
from releases.models import Action, Kind, Run, Task, TaskVersion

# A longer text is not compared line by line: that would take too long.
LONGEST_COMPARED = 2000


@dataclass
class Group:
    """Some machines of a job, under one title."""

    title: str
    hostnames: list[str]

    @property
    def names(self):
        # By length first, so that web-10 follows web-9.
        return ", ".join(folded(sorted(self.hostnames, key=lambda name: (len(name), name))))


@dataclass
class TaskNow:
    """A task that the job may run, and the text that it had at the last release, if any."""

    task: Task
    before: TaskVersion | None

    @property
    def is_changed(self):
        return self.before is not None and self.before.pk != self.task.latest_id

    @property
    def lines(self):
        """(class, line) of its text; of what changed, where it did, as far as that can be compared."""
        now = _text(self.task.latest)
        then = _text(self.before) if self.is_changed else now
        if then == now or max(len(then), len(now)) > LONGEST_COMPARED:
            return [("", line) for line in now]
        steps = SequenceMatcher(None, then, now).get_opcodes()
        return [pair for step in steps for pair in _marked(then, now, *step)]


def _marked(then, now, step, *span):
    first, last, start, end = span
    if step == "equal":
        return [("", line) for line in now[start:end]]
    return [("del", line) for line in then[first:last]] + [("add", line) for line in now[start:end]]


def _text(version):
    check = ["", "# ---", *version.check_script.splitlines()] if version.check_script else []
    return [*version.script.splitlines(), *check]


class Preview:
    """What one job would do; a handful of queries, however many machines it has."""

    def __init__(self, job):
        self.job = job
        rows = job.job_machines.filter(excused_at=None).order_by("machine__site", "machine__hostname")
        self._rows = list(rows.values_list("machine__hostname", "machine__site", "planned"))

    @cached_property
    def sites(self):
        """Where they are now, and at the end those that are gone."""
        gone = set(self.job.job_machines.gone().values_list("machine__hostname", flat=True))
        live = _grouped((site, name) for name, site, _ in self._rows if name not in gone)
        return live + _grouped((status_word("gone"), name) for name, _, _ in self._rows if name in gone)

    @cached_property
    def stages(self):
        """What the plan gives each stage; none without a plan."""
        groups = {group.title: group for group in _grouped((planned, name) for name, _, planned in self._rows)}
        return [Group(word, groups[stage].hostnames) for stage, word in Kind.choices if stage in groups]

    @cached_property
    def _last_run(self):
        runs = Run.objects.filter(stage__job__business=self.job.business, stage__job__status=Job.Status.RELEASED)
        runs = runs.filter(action=Action.RELEASE).exclude(stage__job=self.job)
        return runs.select_related("stage__job").order_by("-pk").first()

    @property
    def last(self):
        """The job of this business that released last, and is released."""
        return self._last_run and self._last_run.stage.job

    @cached_property
    def added(self):
        return Group("", [name for name, _, _ in self._rows if name not in self._last_names])

    @cached_property
    def left_out(self):
        return Group("", sorted(self._last_names.difference(name for name, _, _ in self._rows)))

    @cached_property
    def _last_names(self):
        if not self.last:
            return set()
        return set(self.last.job_machines.filter(excused_at=None).values_list("machine__hostname", flat=True))

    @cached_property
    def tasks(self):
        """Every task that a publisher could choose for this job, release tasks first."""
        tasks = [task for action in Action for task in Task.objects.offered_to(self.job.business, action)]
        then = self._texts_then(tasks)
        return [TaskNow(task, then.get(task.pk)) for task in tasks]

    def _texts_then(self, tasks):
        if not self.last:
            return {}
        before = TaskVersion.objects.filter(task__in=tasks, created_at__lte=self._last_run.started_at)
        newest = before.order_by().values("task").annotate(newest=Max("pk")).values("newest")
        return {version.task_id: version for version in TaskVersion.objects.filter(pk__in=newest)}


def _grouped(pairs):
    groups = {}
    for title, hostname in pairs:
        groups.setdefault(title, Group(title, [])).hostnames.append(hostname)
    return list(groups.values())

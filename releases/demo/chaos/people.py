"""The demo's people, who keep jobs under way while chaos strikes: each step is a random one of those that are open."""

import itertools
import logging
import random
import time
from collections import Counter
from datetime import timedelta

from django.core.management import CommandError
from django.db import InterfaceError, OperationalError, connection
from django.db.models.functions import Now

from deploy_portal.models import User
from jobs.models import Business, Job, JobMoved, Machine
from releases.demo.world import BUSINESSES
from releases.models import Kind, MachineRun, MachinesHeld, NotUnknown, ReleaseStage, Run, RunMoved, StageMoved
from releases.models.stage_machines import TO_TRY_AGAIN

log = logging.getLogger(__name__)

# How often each kind of step is tried, in proportion
STEPS = {
    "ask": 2,
    "approve": 4,
    "release": 9,
    "pause": 1,
    "resume": 3,
    "cancel": 0.4,
    "roll_back": 1,
    "resolve": 9,
    "excuse": 1,
    "skip": 1,
}
REFUSALS = (CommandError, JobMoved, StageMoved, RunMoved, MachinesHeld, NotUnknown)
OPEN_JOBS = 8
RECENT_JOBS = 12
LOOK_AFTER = timedelta(seconds=2)  # a person is not there at once
BETWEEN = (0.02, 0.3)  # seconds between two steps
AWAY = 0.3  # seconds until the portal is tried again


class People:
    """A group of people that acts on its own; several of them get in each other's way."""

    numbers = itertools.count(1)

    def __init__(self, demo, machines, seed):
        self.demo, self.machines = demo, machines
        self.random = random.Random(seed)  # noqa: S311
        self.steps, self.refused, self.errors = Counter(), Counter(), []
        self.away = 0

    def work(self, stop):
        """Steps until `stop` is set; the database may go away meanwhile."""
        try:
            while not stop.wait(self.random.uniform(*BETWEEN)):
                name = self.random.choices(list(STEPS), STEPS.values())[0]
                self._try(name, getattr(self, name))
        finally:
            connection.close()

    def finish(self):
        """Resumes what is paused and resolves what is unknown; whether nothing is under way any more."""
        for run in Run.objects.filter(status=Run.Status.PAUSED):
            self._try("resume", lambda run=run: self.demo.act("publisher", "resume_run", run.pk))
        for machine_run in MachineRun.objects.filter(status=MachineRun.Status.UNKNOWN):
            self._try("resolve", lambda machine_run=machine_run: self._resolve(machine_run))
        return not Run.objects.active().exists() and not MachineRun.objects.holding().exists()

    def _try(self, name, step):
        try:
            if step():
                self.steps[name] += 1
        except REFUSALS as refusal:
            self.refused[name] += 1
            log.info("%s: refused: %s", name, refusal)
        except (OperationalError, InterfaceError) as error:
            self.away += 1
            log.info("%s: the database is away: %s", name, error)
            connection.close()
            time.sleep(AWAY)
        except Exception as error:
            log.exception("%s failed", name)
            self.errors.append(f"{name}: {error!r}")

    # The steps. Each answers something true when it was taken: there may be nothing to take it with.

    def ask(self):
        if Job.objects.waiting().count() + Run.objects.active().count() + len(self._open_stages()) >= OPEN_JOBS:
            return None
        slug = self.random.choice(sorted(BUSINESSES))
        live = Machine.objects.live_in(Business.objects.get(slug=slug)).order_by("hostname")
        hostnames = self._some(live.values_list("hostname", flat=True))
        version = f"3.{Job.objects.count()}.{next(self.numbers)}"
        return self.demo.act("requester", "create_job", slug, version, *hostnames)

    def approve(self):
        job = self._one(Job.objects.waiting().order_by("pk"))
        return job and self.demo.act("approver", "approve_job", job.pk)

    def release(self):
        stage = self._one(self._open_stages())
        which = stage and self._which_machines(stage)
        if not which:
            return None
        slug = stage.job.business.slug
        tasks = [f"--release-task=deploy-{slug}", f"--rollback-task=rollback-{slug}"]
        return self.demo.act("publisher", "run_stage", stage.job.pk, stage.kind, *which, *tasks, *self._pace())

    def pause(self):
        return self._turn("pause_run", Run.Status.RUNNING)

    def resume(self):
        return self._turn("resume_run", Run.Status.PAUSED)

    def cancel(self):
        return self._turn("cancel_run", Run.Status.RUNNING, Run.Status.PAUSED)

    def roll_back(self):
        job = self._one(self._recent_jobs())
        stages = ReleaseStage.objects.of(job) if job else []
        candidates = [machine_run for stage in stages for machine_run in stage.rollback_candidates()]
        unknown = [machine_run for machine_run in candidates if machine_run.status == MachineRun.Status.UNKNOWN]
        looked = ["--looked"] if unknown and all(map(self._can_be_told, unknown)) else []
        if len(candidates) == len(unknown) and not looked:
            return None
        what = self.random.choice([*Kind.values, "all"])
        options = [*looked, *self.random.choice([[], ["--undo-later"]])]
        return self.demo.act("publisher", "rollback_stage", job.pk, what, "--reason", "It made trouble.", *options)

    def resolve(self):
        unknown = MachineRun.objects.filter(status=MachineRun.Status.UNKNOWN)
        machine_run = self._one(unknown.order_by("pk"))
        return machine_run and self._resolve(machine_run)

    def excuse(self):
        job = self._one(self._recent_jobs())
        failed = self._one(MachineRun.objects.in_job(job).latest_per_machine().failures().order_by("pk") if job else [])
        if not failed:
            return False
        ReleaseStage.objects.excuse(job, [failed.machine], self._user("publisher"), "It goes to be repaired.")
        return True

    def skip(self):
        ended_badly = (ReleaseStage.Status.FAILED, ReleaseStage.Status.CANCELLED)
        open_stages = [stage for stage in self._open_stages() if stage.can_be_skipped]
        stage = self._one(stage for stage in open_stages if stage.status in ended_badly)
        if not stage:
            return False
        stage.skip(self._user("publisher"), "The rest can do without.")
        return True

    def _turn(self, command, *statuses):
        run = self._one(Run.objects.filter(status__in=statuses).order_by("pk"))
        return run and self.demo.act("publisher", command, run.pk)

    def _resolve(self, machine_run):
        """As somebody who looked at the machine's own log would; not before nothing runs there any more."""
        if not self._can_be_told(machine_run):
            return False
        is_there = self.machines.has_executed(machine_run.machine.hostname, machine_run.pk)
        status = MachineRun.Status.SUCCEEDED if is_there else MachineRun.Status.FAILED
        machine_run.resolve(self._user("publisher"), status, "Looked at the machine's own log.")
        return True

    def _can_be_told(self, machine_run):
        has_waited = MachineRun.objects.filter(pk=machine_run.pk, ended_at__lt=Now() - LOOK_AFTER).exists()
        return has_waited and self.machines.is_quiet(machine_run.machine.hostname)

    def _which_machines(self, stage):
        """What run_stage is told of the machines; nothing when there are none."""
        when_free = self.random.random() < 0.3
        offered = stage.offered_machines(when_free).order_by("hostname").values_list("hostname", flat=True)
        options = ["--when-free"] if when_free else []
        again = self.random.choice(list(TO_TRY_AGAIN))
        if set(stage.to_try_again(again)) & set(offered.values_list("pk", flat=True)):
            return ["--retry", again, *options]
        hostnames = list(offered) if stage.kind == Kind.RELEASE else self._some(offered)
        return hostnames and [*hostnames, *options]

    def _pace(self):
        options = [
            f"--batch-size={self.random.choice(['', 1, 2, '50%'])}",
            f"--stop-after={self.random.choice(['', 1, 2, '50%'])}",
            f"--batch-pause={self.random.choice([0, 0, 1])}",
        ]
        return [*options, *self.random.choice([[], ["--canary"]])]

    def _recent_jobs(self):
        jobs = Job.objects.exclude(status__in=[Job.Status.WAITING, Job.Status.WITHDRAWN]).select_related("business")
        return list(jobs.order_by("-pk")[:RECENT_JOBS])

    def _open_stages(self):
        return list(filter(None, map(ReleaseStage.objects.next_of, self._recent_jobs())))

    def _user(self, role):
        return User.objects.get(username=self.demo.username(role))

    def _one(self, things):
        things = list(things)
        return self.random.choice(things) if things else None

    def _some(self, things):
        things = list(things)
        return self.random.sample(things, self.random.randint(1, len(things))) if things else []

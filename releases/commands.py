"""What the commands that run stages share."""

import argparse
import math
import signal
import sys
import time
from itertools import groupby
from operator import itemgetter

from django.core.management.base import CommandError
from django.db import Error, connection

from deploy_portal.database import is_away, unless_away
from deploy_portal.templatetags.portal import inert
from jobs.access import get_job
from jobs.commands import CONFLICT, FAILED, PortalCommand, add_once, checked, hostnames, once_key
from jobs.models import JobMoved
from jobs.plan import folded
from jobs.rights import Right
from releases.access import get_run
from releases.forms import RemarkForm
from releases.models import MachineRun, MachinesHeld, Run, RunMoved, StageMoved, Worker
from releases.models.queue import FAILURES, PENDING
from releases.tidying import tidy_if_alone

POLL = 0.2
WAIT_LIMIT = 3600
NO_WORKER = "No worker is alive: what was started waits until one is."


def seconds(text):
    """An argument that says how long."""
    number = float(text)
    if not number >= 0:  # which is how "nan" is told
        raise argparse.ArgumentTypeError(f"seconds, 0 or more, not {text!r}")
    return number


def what_comes_first(stage, are_left=True, breaks_glass=False):
    """What must happen before it opens, whatever the time; empty for nothing. With `breaks_glass` no approval must.

    `are_left`: whether its job has machines to release.
    """
    job, before = stage.job, stage.comes_first
    if stage.is_running:
        return "A run of it goes on."
    if not (job.is_releasable or (breaks_glass and job.is_waiting)):
        return f"The job is {job.get_status_display().lower()}."
    if not are_left:
        return "No machine is left to release."
    return f"{before.kind} comes first." if before else ""


def told_left_out(what, left_out):
    """The lines that tell of machines left out, by {host name: why}."""
    return "\n".join(f"{what}: {names} ({why})." for why, names in names_by(left_out).items())


def names_by(told):
    """{what: the names of whom it is told} out of {host name: what}."""
    names = {}
    for hostname, what in sorted(told.items()):
        names.setdefault(what, []).append(hostname)
    return {what: names_of(some) for what, some in names.items()}


def grouped(told):
    """What `names_by` gives, in one line."""
    return ", ".join(f"{what} ({names})" for what, names in sorted(names_by(told).items()))


def names_of(hostnames):
    return ", ".join(folded(sorted(hostnames)))


def first_few(words):
    """The first ten of them, and how many more there are."""
    more = len(words) - 10
    return ", ".join(map(str, words[:10])) + (f" and {more} more" if more > 0 else "")


def task_named(task):
    return {"name": task.name, "version": task.latest.number}


def machine_to(hostname, site, before, after):
    """A machine as --dry-run tells it: from which version to which."""
    return {"hostname": hostname, "site": site, "version_before": before or "", "version_after": after or ""}


def _goes_on(run):
    """How who no longer waits for it looks after it."""
    job = run.stage.job_id
    return f"Run {run.pk} ({run.action}) goes on: job_status {job} tells how it stands, cancel_run {run.pk} ends it."


def _how_far(run, counts):
    """How many have ended, a tenth at a time, and how many went wrong: a few lines for any number of machines."""
    total, wrong = sum(counts.values()), sum(counts.get(status, 0) for status in FAILURES)
    wrong = wrong if wrong < 10 else "10 or more"
    ended = total - sum(counts.get(status, 0) for status in PENDING)
    if told := ended - ended % math.ceil(total / 10):
        yield f"Run {run.pk}: {told} of {total} machines have ended" + (f", {wrong} went wrong." if wrong else ".")


def _what_keeps(run, counts):
    """Why it may not come to its end by itself."""
    if run.status == Run.Status.PAUSED:
        yield f"Run {run.pk} is paused; resume_run {run.pk} lets it go on."
    elif MachineRun.Status.QUEUED in counts:
        yield from (f"Run {run.pk} is held. {one.in_words}" for one in run.frozen_by())
    if MachineRun.Status.HELD in counts:
        yield f"Run {run.pk} waits for machines that others hold; job_status {run.stage.job_id} tells which."


def _not_succeeded(runs):
    """A line for each way in which machines ended; none where the database is away by now: the exit code tells."""
    with unless_away():
        ended = MachineRun.objects.filter(run__in=runs).exclude(status=MachineRun.Status.SUCCEEDED)
        ended = ended.order_by("status", "machine__hostname").values_list("status", "machine__hostname")
        by_status = groupby(ended, key=itemgetter(0))
        return [f"{status}: {first_few([hostname for _status, hostname in some])}" for status, some in by_status]
    return []


class RunCommand(PortalCommand):
    """A command that starts runs and can wait for their end."""

    conflicts = (JobMoved, StageMoved, RunMoved, MachinesHeld)
    unwanted = (Run.Status.FAILED, Run.Status.CANCELLED)
    wants_its_end = True  # and not that it stops: who waits for that need not hear what keeps it
    told = ()  # what it has said while it waits

    def run_from_argv(self, argv):
        """As a process of its own it takes SIGTERM, by which a pipeline cancels a step, as Ctrl-C."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            self.stderr.write("Ended before it could tell what it did: look at the job.")
            sys.exit(CONFLICT)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--wait", action="store_true", help="wait for the end; exit code 3 when a machine failed")
        limit = f"seconds to wait (default {WAIT_LIMIT}); waits also without --wait"
        parser.add_argument("--wait-limit", type=seconds, help=limit)

    def finish(self, runs, left_out=None, *, wait, wait_limit, json, **_):
        """Tells what was started, and what not, as {host name: why}; with `wait`, what became of it."""
        limit = WAIT_LIMIT if wait_limit is None else wait_limit
        given_up = self._wait(runs, limit) if wait or wait_limit is not None else ""
        told = [{"id": run.pk, "action": run.action, "status": run.status} for run in runs]
        words = "\n".join(f"Run {run.pk} ({run.action}) of {run.stage}: {run.status}" for run in runs)
        facts = {} if left_out is None else {"left_out": left_out}
        self.say(words, json, runs=told, **facts)
        if given_up:
            raise CommandError(given_up, returncode=CONFLICT)
        if unwanted := [run for run in runs if run.status in self.unwanted]:
            raise CommandError(
                "\n".join(["Not every machine succeeded.", *_not_succeeded(unwanted)]), returncode=FAILED
            )

    def _wait(self, runs, limit):
        """Waits for their end; why no longer, when that has not come."""
        deadline = time.monotonic() + limit
        try:
            while why := self._look(runs):
                if time.monotonic() > deadline:
                    return why
                time.sleep(POLL)
        except KeyboardInterrupt:
            return "\n".join(["No longer waiting.", *(_goes_on(run) for run in runs if run.is_active)])
        return ""

    def _look(self, runs):
        """Brings them up to date; why their end has not come, if so. A database that is away may come back."""
        try:
            if any(run.is_active for run in runs):
                tidy_if_alone()
                for run in runs:
                    run.refresh_from_db(fields=["status"])
                self._tell_what_is_new([run for run in runs if run.is_active])
            return "Still running; look at the job." if any(self.is_going_on(run) for run in runs) else ""
        except Error as error:
            if not is_away(error):
                raise
            connection.close()
            return "The database is away. What was started goes on; look at the job later."

    def _tell_what_is_new(self, runs):
        """Says once each thing that who waits wants to know."""
        for words in self.what_is_new(runs):
            if words not in self.told:
                self.told = (*self.told, words)
                self.stderr.write(inert(words))

    def what_is_new(self, runs):
        """How far these runs, which are not at their end, have come, and why they may not come to it by themselves."""
        if runs and not Worker.objects.alive().exists():
            yield NO_WORKER
        for run in runs if self.wants_its_end else ():
            counts = run.machine_runs.counts()
            yield from _how_far(run, counts)
            yield from _what_keeps(run, counts)

    def is_going_on(self, run):
        """Whether `--wait` has still something to wait for."""
        return run.is_active


class StartCommand(RunCommand):
    """A command that starts runs of a job, or tells what it would start. `start` does either, for the key of a step."""

    action = ""
    not_done = ""  # what it says of machines that are left out

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        dry_run = "start nothing: tell what would be, and end as the start would be refused"
        parser.add_argument("--dry-run", action="store_true", help=dry_run)
        add_once(parser)

    def act(self, user, *, job, once, **options):
        job = get_job(user, job, Right.PUBLISH)
        key = once_key(once, user.pk, job.pk, options["stage"], self.action).hex
        started = self.started_before(job, key, **options)
        if not started:
            try:
                started = self.start(user, job, key, **options)
            except (CommandError, *self.conflicts):
                # At the same moment this very step may have been started by another process
                started = self.started_before(job, key, **options)
                if not started:
                    raise
        if started:
            self.finish(*started, **options)

    def start(self, user, job, key, **options):
        """Starts it; returns the runs and what was left out, as {host name: why}. None with `--dry-run`."""
        raise NotImplementedError

    def started_before(self, job, key, *, machines, **_):
        """What `start` returned when this step, by its key, was started; None when it was not.

        CommandError where it was started on others than are named now. What --all and the like stand for changes.
        """
        runs = Run.objects.filter(stage__job=job, submit_key__startswith=key).select_related("stage__job__business")
        if not runs:
            return None
        on = set(MachineRun.objects.filter(run__in=runs).values_list("machine__hostname", flat=True))
        if machines and on != set(hostnames(machines)):
            which = ", ".join(f"run {run.pk}" for run in runs)
            words = f"This step started {which} before, on other machines: {names_of(on)}. Name another step."
            raise CommandError(words, returncode=CONFLICT)
        self.stderr.write("This step has started already; nothing was started now.")
        return list(runs), {}

    def tell_left_out(self, left_out):
        if left_out:
            self.stderr.write(inert(told_left_out(self.not_done, left_out)))

    def only_look(self, ask, left_out, in_words, json, facts):
        """Tells the facts and raises what `ask` raises: that is what a start would."""
        refused, workers = self._refusal(ask), Worker.objects.alive().count()
        self.tell_left_out(left_out)
        in_words |= {"workers": "" if workers else "none is alive; it would wait"}
        lines = [f"{name}: {told}" for name, told in in_words.items() if told]
        lines += [] if refused else ["It would be started; nothing was."]
        facts |= {"workers": workers, "refused": refused and str(refused), "left_out": left_out}
        self.say("\n".join(lines), json, dry_run=True, **facts)
        if refused:
            raise refused

    def _refusal(self, ask):
        try:
            ask()
        except self.conflicts as error:
            return error
        return None


class TurnCommand(RunCommand):
    """A command that takes one step with a run: the method of Run that `step` names."""

    step = ""

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("run", type=int, help="the run's number, as run_stage and job_status tell it")
        parser.add_argument("--reason", default="", help="why; kept in the job's history")

    def act(self, user, *, run, reason, **options):
        run = get_run(user, run)
        reason = checked(RemarkForm({"reason": reason})).cleaned_data["reason"]
        getattr(run, self.step)(user, reason)
        self.finish([run], **options)

"""What the commands that run stages share."""

import argparse
import time
from dataclasses import dataclass

from django.core.management.base import CommandError
from django.db import Error, connection

from deploy_portal.database import is_away
from deploy_portal.models import User
from jobs.commands import CONFLICT, FAILED, PortalCommand, checked
from jobs.models import JobMoved
from jobs.plan import folded
from releases.access import get_run
from releases.forms import RemarkForm
from releases.models import MachinesHeld, Run, RunMoved, StageMoved, Worker
from releases.tidying import tidy_if_alone

POLL = 0.2
NO_WORKER = "No worker is alive: what was started waits until one is."


def seconds(text):
    """An argument that says how long."""
    number = float(text)
    if not number >= 0:  # which is how "nan" is told
        raise argparse.ArgumentTypeError(f"seconds, 0 or more, not {text!r}")
    return number


def told_left_out(what, left_out):
    """The lines that tell of machines left out, by {host name: why}."""
    names = {}
    for hostname, why in left_out.items():
        names.setdefault(why, []).append(hostname)
    return "\n".join(f"{what}: {', '.join(folded(sorted(some)))} ({why})." for why, some in names.items())


@dataclass
class Acting:
    """What a stage form asks of a request: who acts, and on which job."""

    user: User
    session: dict


class RunCommand(PortalCommand):
    """A command that starts runs and can wait for their end."""

    conflicts = (JobMoved, StageMoved, RunMoved, MachinesHeld)
    unwanted = (Run.Status.FAILED, Run.Status.CANCELLED)
    has_told_of_workers = False

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--wait", action="store_true", help="wait for the end; exit code 3 when a machine failed")
        parser.add_argument("--wait-limit", type=seconds, default=3600, help="seconds to wait (default %(default)s)")

    def finish(self, runs, left_out=None, *, wait, wait_limit, json, **_):
        """Tells what was started, and what not, as {host name: why}; with `wait`, what became of it."""
        given_up = self._wait(runs, wait_limit) if wait else ""
        told = [{"id": run.pk, "action": run.action, "status": run.status} for run in runs]
        words = "\n".join(f"Run {run.pk} ({run.action}) of {run.stage}: {run.status}" for run in runs)
        facts = {} if left_out is None else {"left_out": left_out}
        self.say(words, json, runs=told, **facts)
        if given_up:
            raise CommandError(given_up, returncode=CONFLICT)
        if any(run.status in self.unwanted for run in runs):
            raise CommandError("Not every machine succeeded.", returncode=FAILED)

    def _wait(self, runs, limit):
        """Waits for their end; why no longer, when that has not come."""
        deadline = time.monotonic() + limit
        try:
            while why := self._look(runs):
                if time.monotonic() > deadline:
                    return why
                time.sleep(POLL)
        except KeyboardInterrupt:
            return "No longer waiting. What was started goes on; cancel_run ends it."
        return ""

    def _look(self, runs):
        """Brings them up to date; why their end has not come, if so. A database that is away may come back."""
        try:
            if any(run.is_active for run in runs):
                tidy_if_alone()
                self._tell_of_workers()
                for run in runs:
                    run.refresh_from_db(fields=["status"])
            return "Still running; look at the job." if any(self.is_going_on(run) for run in runs) else ""
        except Error as error:
            if not is_away(error):
                raise
            connection.close()
            return "The database is away. What was started goes on; look at the job later."

    def _tell_of_workers(self):
        """Says it once when who waits waits for a worker, too."""
        if not (self.has_told_of_workers or Worker.objects.alive().exists()):
            self.has_told_of_workers = True
            self.stderr.write(NO_WORKER)

    def is_going_on(self, run):
        """Whether `--wait` has still something to wait for."""
        return run.is_active


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

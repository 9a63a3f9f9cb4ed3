"""What the commands that run stages share."""

import time
from dataclasses import dataclass

from django.core.management.base import CommandError

from deploy_portal.models import User
from jobs.commands import CONFLICT, FAILED, PortalCommand
from jobs.models import JobMoved
from releases.models import MachinesHeld, Run, StageMoved

POLL = 0.2


@dataclass
class Acting:
    """What a stage form asks of a request: who acts, and on which job."""

    user: User
    session: dict


class RunCommand(PortalCommand):
    """A command that starts runs and can wait for their end."""

    conflicts = (JobMoved, StageMoved, MachinesHeld)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--wait", action="store_true", help="wait for the end; exit code 3 when a machine failed")
        parser.add_argument("--wait-limit", type=float, default=3600, help="seconds to wait (default %(default)s)")

    def finish(self, runs, wait, wait_limit, as_json):
        """Tells what was started; with `wait`, what became of it."""
        deadline = time.monotonic() + wait_limit
        while wait and any(run.status == Run.Status.RUNNING for run in runs):
            if time.monotonic() > deadline:
                raise CommandError("Still running; look at the job.", returncode=CONFLICT)
            time.sleep(POLL)
            for run in runs:
                run.refresh_from_db(fields=["status"])
        facts = [{"id": run.pk, "action": run.action, "status": run.status} for run in runs]
        words = "\n".join(f"Run {run.pk} ({run.action}) of {run.stage}: {run.status}" for run in runs)
        self.say(words, as_json, runs=facts)
        if any(run.status == Run.Status.FAILED for run in runs):
            raise CommandError("Not every machine succeeded.", returncode=FAILED)

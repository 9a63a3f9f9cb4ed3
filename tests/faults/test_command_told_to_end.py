"""A command that waits and is told to end, as a pipeline does with a step that is cancelled: the run goes on."""

import signal
import subprocess
import sys

import pytest
from django.conf import settings

from releases.models import Run
from tests.commands import CONFLICT
from tests.faults.worker import environment
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_end_tells_what_goes_on(job, publisher, release_task, rollback_task, tmp_path, number):
    told = tmp_path / "told"
    line = ["run_stage", "--as", "publisher", job.pk, "pre-release", "--all", "--wait"]
    with (
        told.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "manage.py", *map(str, line)],
            cwd=settings.BASE_DIR,
            env=environment(CONFIG_SERVICE_MAX_AGE_AT_START=3600),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        wait_until(lambda: process.poll() is not None or "No worker" in told.read_text())
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE)
    run = Run.objects.get()
    assert (process.returncode, run.status) == (CONFLICT, Run.Status.RUNNING)
    assert said == f"Run {run.pk} (release) of {run.stage}: running\n"
    assert told.read_text().splitlines()[-2:] == [
        "CommandError: No longer waiting.",
        f"Run {run.pk} (release) goes on: job_status {job.pk} tells how it stands, cancel_run {run.pk} ends it.",
    ]

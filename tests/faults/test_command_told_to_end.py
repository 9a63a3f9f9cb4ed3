"""A command that waits and is told to end, as a pipeline does with a step that is cancelled: the run goes on."""

import os
import signal
import subprocess
import sys

import pytest
from django.conf import settings

from releases.demo.fleet import listening_socket
from releases.models import Run
from tests.commands import CONFLICT
from tests.faults.worker import environment
from tests.waiting import PATIENCE, wait_until

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def portal(environment, errors, *line):
    return subprocess.Popen(
        # A shell that starts the tests in the background has them ignore SIGINT
        ["env", "--default-signal=INT", sys.executable, "manage.py", *map(str, line)],
        cwd=settings.BASE_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", SIGNALS)
def test_who_is_told_to_end_tells_what_goes_on(job, publisher, release_task, rollback_task, tmp_path, number):
    told = tmp_path / "told"
    line = ["run_stage", "--as", "publisher", job.pk, "pre-release", "--all", "--wait"]
    ours = environment(CONFIG_SERVICE_MAX_AGE_AT_START=3600)
    with told.open("wb") as errors, portal(ours, errors, *line) as process:
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


@pytest.mark.parametrize("number", SIGNALS)
def test_so_does_who_is_told_before_anything_was_started(number):
    """While it waits for a database that does not answer."""
    with listening_socket() as silent:
        silent.settimeout(PATIENCE)
        url = f"postgres://portal@127.0.0.1:{silent.getsockname()[1]}/portal?connect_timeout={PATIENCE}"
        line = ["run_stage", "--as", "publisher", 1, "pre-release", "--all", "--wait"]
        ours = os.environ | {"DATABASE_URL": url, "DEBUG": "1"}
        with portal(ours, subprocess.PIPE, *line) as process, silent.accept()[0]:
            process.send_signal(number)
            said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, *said) == (CONFLICT, "", "Ended before it could tell what it did: look at the job.\n")

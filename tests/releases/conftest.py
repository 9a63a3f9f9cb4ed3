"""What the tests of releases share."""

import contextlib

import pytest

from jobs.models import Job
from releases.models import ReleaseStage, Worker
from tests.at_work import ScriptedExecutor, Working
from tests.databases import no_answers
from tests.waiting import PATIENCE, wait_until


@pytest.fixture
def worker(db):
    return Worker.objects.enlist([])


@pytest.fixture
def soaking(payment, job, start, finish, machines):
    """A job whose next stage waits for the soak time of the first."""
    payment.soak_minutes = 30
    payment.save()
    start(job, machines[:1])
    finish()
    return job


@pytest.fixture
def at_work(monkeypatch):
    """Starts workers, and ends at the end of the test those that still work. No slow host makes them impatient."""
    for limit in ("CANCEL_GRACE", "LEAVE_WITHIN"):
        monkeypatch.setattr(f"releases.worker.{limit}", 2 * PATIENCE)
    working = []

    def at_work(executor=None, **options):
        started = Working(executor or ScriptedExecutor(), **options)
        started.thread.start()
        working.append(started)
        wait_until(lambda: getattr(started.worker, "worker", None))
        return started

    yield at_work
    for started in working:
        with contextlib.suppress(RuntimeError):  # its loop has ended by now
            started.drain()
            started.drain()
        started.end()


@pytest.fixture
def away_when_waited_for(monkeypatch, transactional_db):
    """A way to call a command whose database goes away once it has done its work, and does not come back."""

    def call(command, *arguments, **options):
        with contextlib.ExitStack() as stack:
            monkeypatch.setattr("releases.commands.tidy_if_alone", lambda: stack.enter_context(no_answers()))
            return command(*arguments, **options)

    return call


@pytest.fixture
def start_when_free(publisher, release_task, rollback_task):
    """As `start`, but `waiting` machines (all, unless told otherwise) may be held by other jobs."""

    def start_when_free(job, machines, waiting=None, key=None, **fields):
        stage = ReleaseStage.objects.of_kind(Job.objects.get(pk=job.pk), "pre-release")
        stage.release_task, stage.rollback_task = release_task, rollback_task
        for name, value in fields.items():
            setattr(stage, name, value)
        waiting = machines if waiting is None else waiting
        return stage.start(publisher, machines, key or f"{job.pk}-{stage.version}", waiting)

    return start_when_free

"""The command. What a worker does is in test_worker.py, how it ends in the midst of work in tests/faults/."""

import signal
from contextlib import ExitStack

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from jobs.models import Machine
from releases.worker import ReleaseWorker
from tests.commands import FAILED, MISTAKE, fail, help_of, say
from tests.faults.seen import statuses
from tests.faults.worker import WorkerProcess
from tests.waiting import wait_until


@pytest.fixture
def worker(tmp_path, transactional_db):
    """Starts the command as a process that reaches no machine."""
    with ExitStack() as stack:

        def worker(*arguments):
            started = WorkerProcess(tmp_path / "worker.log", None, arguments, EXECUTOR="dummy")
            stack.callback(started.put_down)
            return started

        yield worker


@pytest.fixture
def made(monkeypatch, settings):
    """The workers that the command makes; they do no work."""
    made = []

    async def work(worker, tell):
        made.append(worker)
        return True

    monkeypatch.setattr(ReleaseWorker, "work", work)
    settings.EXECUTOR = "dummy"
    return made


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_its_site_only_and_ends_well_when_told_to(worker, make_job, machines, start, signum):
    Machine.objects.filter(hostname="pay-2").update(site="bj-2")
    there = list(Machine.objects.filter(hostname__in=["pay-1", "pay-2"]))
    run = start(make_job(on=there), there)
    started = worker("--site", "sh-1", "--at-once", 1)
    row = started.row
    wait_until(lambda: statuses(run)["pay-1"] == "succeeded")
    started.process.send_signal(signum)
    assert started.end() == 0
    assert statuses(run) == {"pay-1": "succeeded", "pay-2": "queued"}
    row.refresh_from_db()
    assert row.sites == ["sh-1"]
    assert row.stopped_at
    assert "Ctrl-C ends it" in started.output


@pytest.mark.parametrize(
    ("change", "undo", "migration", "told"),
    [
        # A constraint may be missing, such as that of one active run for each host.
        ("unapplied", "applied", "0005_one_active_run_per_host", "older than the portal: run manage.py migrate"),
        # It was forgotten on its host, and has other rules than those that the database and the others go by.
        ("applied", "unapplied", "9999_to_come", "newer than the portal: start the newer one here, too"),
    ],
    ids=["older", "newer"],
)
def test_on_a_database_of_another_version_it_does_nothing(
    worker, make_job, machines, start, change, undo, migration, told
):
    run = start(make_job(), machines[:1])
    recorder = MigrationRecorder(connection)
    getattr(recorder, f"record_{change}")("releases", migration)
    try:
        started = worker()
        assert started.end() == MISTAKE
    finally:
        getattr(recorder, f"record_{undo}")("releases", migration)
    assert f"it is {told}" in started.output
    assert "Working" not in started.output
    assert statuses(run) == {"pay-1": "queued"}


def test_a_worker_without_a_site_serves_all_with_the_settings(made, settings):
    settings.WORKER_MACHINES_AT_ONCE = 7
    say("release_worker")
    [worker] = made
    assert (worker.sites, worker.at_once, worker.grace) == ([], 7, 60)


def test_what_is_asked_for_is_what_it_works_with(made):
    say("release_worker", "--site", "sh-1", "--site", "bj-2", "--at-once", 3, "--grace", 0.5)
    [worker] = made
    assert (worker.sites, worker.at_once, worker.grace) == (["sh-1", "bj-2"], 3, 0.5)


@pytest.mark.parametrize(("number", "said"), [("0", "1 or more"), ("-1", "1 or more"), ("two", "invalid int")])
def test_a_number_of_machines_that_makes_no_sense_is_a_mistake(made, number, said):
    assert said in fail("release_worker", f"--at-once={number}", code=MISTAKE)
    assert made == []


@pytest.mark.parametrize("grace", ["nan", "-1", "soon"])
def test_seconds_that_make_no_sense_are_a_mistake(made, grace):
    assert "--grace" in fail("release_worker", f"--grace={grace}", code=MISTAKE)
    assert made == []


def test_a_worker_that_was_given_up_says_so(made, monkeypatch):
    async def given_up(worker, tell):
        return False

    monkeypatch.setattr(ReleaseWorker, "work", given_up)
    assert "given up" in fail("release_worker", code=FAILED)


def test_help_says_what_a_new_user_needs(capsys, settings):
    settings.WORKER_MACHINES_AT_ONCE = 7
    said = help_of("release_worker", capsys)
    assert "executes their tasks over SSH" in said
    assert "Any number of workers may run at once" in said
    assert "SIGTERM lets it finish what it runs; a second one ends it at once" in said
    assert "--site SITE serve this site only; may be given again" in said
    assert "machines at the same time (default 7)" in said
    assert "seconds to finish in after SIGTERM (default 60)" in said
    assert "3 it was given up by the others" in said

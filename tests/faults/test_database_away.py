"""The database goes away under a worker and comes back."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Timer

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from jobs.models import Event
from releases.models import MachineRun, Run, Worker
from tests.commands import CONFLICT, FAILED
from tests.faults import database
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.manage import manage
from tests.faults.seen import ended, events, is_so, row, statuses, text
from tests.fleet import Fault
from tests.pages import page, stage_fields, words
from tests.waiting import PATIENCE, wait_until
from tests.workers import fall_silent

pytestmark = pytest.mark.django_db(transaction=True)

ENDS = TELL + UNTIL_GO + 'echo the end; case "$DEPLOY_MACHINE" in pay-2) exit 7;; esac'


@pytest.fixture
def away():
    """Takes the database away for a block: by its lock, or by turning everybody out."""
    return database.locked if connection.vendor == "sqlite" else database.closed


@pytest.fixture
def only(request):
    """Skips on other databases."""

    def only(vendor):
        if connection.vendor != vendor:
            pytest.skip(f"{vendor} only")

    return only


def let_pass(seconds):
    """For what only time brings: a heartbeat that grows old."""
    time.sleep(seconds)


def recorded(run, first):
    """Nothing was lost: the true results are there, and the worker that saw them lives."""
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {"pay-1": "succeeded", "pay-2": "failed", "pay-3": "succeeded"}
    assert row(run, "pay-2").exit_status == 7
    assert text(run, "pay-1") == "on pay-1\nthe end\n"
    assert not events(run, Event.Verb.LOST).exists()
    assert first.is_alive


def test_away_while_commands_end(worker, release, fleet, away):
    first = worker()
    run = release(ENDS)
    is_so(run, pay_1="running", pay_2="running", pay_3="running")
    wait_until(lambda: all(map(fleet.executed, fleet.hostnames)))
    with away():
        fleet.let_go()
        for hostname in fleet.hostnames:
            fleet.is_quiet(hostname)
        let_pass(0.5)
    recorded(run, first)
    assert [len(fleet.executed(name)) for name in fleet.hostnames] == [1, 1, 1]


@pytest.mark.parametrize("number", [1, 2])
def test_away_for_longer_than_a_worker_may_be_silent(worker, release, fleet, away, settings, number):
    """Nobody could beat, so nobody is dead: neither its own worker nor another may say so afterwards."""
    settings.WORKER_DEAD_AFTER = 12  # a third of it is the time that each has to beat again
    first, *others = [worker() for _ in range(number)]
    assert all(other.row for other in others)
    run = release(ENDS)
    is_so(run, pay_1="running", pay_2="running", pay_3="running")
    wait_until(lambda: all(map(fleet.executed, fleet.hostnames)))
    with away():
        let_pass(settings.WORKER_DEAD_AFTER + 2)
        fleet.let_go()
        for hostname in fleet.hostnames:
            fleet.is_quiet(hostname)
    recorded(run, first)
    assert all(other.is_alive for other in others)
    assert run.machine_runs.exclude(worker=None).count() == 3


@pytest.mark.fleet(pay_1=Fault("slow"))
def test_away_before_the_command_could_start(worker, release, fleet, away):
    """What is not in the ledger as running is not sent."""
    first = worker()
    run = release(TELL)
    wait_until(lambda: fleet.is_reached("pay-1"))
    assert statuses(run) == {"pay-1": "claimed"}
    with away():
        fleet.strike("pay-1")
        wait_until(lambda: fleet.commands == 1)  # a session, which waits for its script
        let_pass(0.5)
        assert fleet.executed("pay-1") == []
    assert ended(run).status == Run.Status.SUCCEEDED
    assert fleet.executed("pay-1") == [row(run, "pay-1").pk]
    assert first.is_alive


@pytest.mark.fleet("pay-1")
def test_away_and_told_to_end(worker, release, fleet, away):
    """It does not wait for a database that may never come back; others recover what it held."""
    first = worker("--grace", 1, LEAVE_WITHIN=1)
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running")
    wait_until(lambda: fleet.executed("pay-1"))
    with away():
        first.terminate()
        first.terminate()
        first.end()
    fall_silent(row(run, "pay-1").worker)
    fleet.is_quiet("pay-1")
    worker()
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {"pay-1": "unknown"}
    assert len(fleet.executed("pay-1")) == 1


@pytest.mark.parametrize("limit", [PATIENCE, 0.5])
def test_away_while_a_command_waits(worker, release, fleet, away, publisher, limit):
    """It waits on to its limit, and tells of the run in either case."""
    first = worker()
    run = release(ENDS)
    is_so(run, pay_1="running", pay_2="running", pay_3="running")
    run.pause(publisher)
    resume = ("resume_run", "--as", "publisher", run.pk, "--wait", "--wait-limit", limit, "--json")
    with ThreadPoolExecutor(1) as pool:
        resumed = pool.submit(manage, *resume)
        wait_until(lambda: Run.objects.get(pk=run.pk).status == Run.Status.RUNNING)
        with away():
            let_pass(1)
            fleet.let_go()
            if limit < PATIENCE:
                wait_until(resumed.done)
    recorded(run, first)
    code, status = (FAILED, "failed") if limit == PATIENCE else (CONFLICT, "running")
    assert resumed.result().returncode == code, resumed.result().stderr
    assert json.loads(resumed.result().stdout) == {"runs": [{"id": run.pk, "action": "release", "status": status}]}


def test_away_when_a_worker_starts(worker, away):
    """It waits for the database, says that it works only then, and can be told not to wait."""

    def waits(one):  # with SQLite it does so without a word
        return one.catches_sigterm if connection.vendor == "sqlite" else "trying again" in one.output

    with away():
        first, second = both = worker(), worker()
        wait_until(lambda: all(map(waits, both)))
        second.terminate()
        assert second.end() == 0
        assert not any("Working." in one.output for one in both)
    assert first.row
    wait_until(lambda: "Working." in first.output)
    assert not Worker.objects.filter(name__endswith=f"-{second.process.pid}").exists()


def test_connections_dropped_again_and_again(worker, release, fleet, only):
    """At whatever moment a connection is lost, each machine is executed once and its end recorded."""
    only("postgresql")
    first = worker()
    run = release(TELL + "for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done", batch_size=1)
    dropped = 0
    while Run.objects.get(pk=run.pk).status == Run.Status.RUNNING:
        assert first.is_alive, first.output
        dropped += database.throw_out()
        let_pass(0.05 + dropped / 200)  # less and less often, so that a busy computer gets through
    assert set(statuses(run).values()) == {"succeeded"}
    assert all(text(run, name).endswith("1\n2\n3\n4\n5\n6\n") for name in fleet.hostnames)
    assert [len(fleet.executed(name)) for name in fleet.hostnames] == [1, 1, 1]
    assert dropped > 10
    assert first.is_alive
    assert not MachineRun.objects.exclude(note="").exists()


@pytest.fixture
def impatient():
    """SQLite waits for a lock for a moment only."""
    options = connection.settings_dict["OPTIONS"]
    patience = options.get("timeout")
    if patience:
        connection.close()
        options["timeout"] = 0.2
    yield
    if patience:
        connection.close()
        options["timeout"] = patience


@pytest.mark.fleet("pay-1")
def test_pages_say_that_the_database_is_away(
    make_job, machines, publisher, as_user, release_task, rollback_task, away, impatient
):
    """With words, never as an error of the portal; and nothing is started."""
    job = make_job()
    client = as_user(publisher)
    fields = stage_fields(job, publisher, machines)
    login = {"username": "publisher", "password": "wrong"}
    with away():
        answers = [client.post(page("stage", job), fields), Client().post(reverse("login"), login)]
        if connection.vendor == "postgresql":
            answers += [client.get(page("stage", job)), client.get(reverse("home"))]
    for answer in answers:
        assert answer.status_code == 503
        assert "The database is busy or being restarted." in words(answer)
    assert not Run.objects.exists()
    assert client.post(page("stage", job), fields).status_code == 302


@pytest.mark.fleet("pay-1")
def test_a_page_does_not_deny_what_was_committed(
    make_job, machines, publisher, as_user, release_task, rollback_task, monkeypatch
):
    """The network swallows the answer to a commit: the run is there, and goes on."""
    job = make_job()
    commit, asked = connection._commit, []

    def note(execute, sql, *rest):
        asked.append(sql)
        return execute(sql, *rest)

    def commit_unheard():
        commit()
        if any(sql.startswith('INSERT INTO "releases_run"') for sql in asked):
            raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch, connection.execute_wrapper(note):
        patch.setattr(connection, "_commit", commit_unheard)
        answer = as_user(publisher).post(page("stage", job), stage_fields(job, publisher, machines))
    assert (answer.status_code, Run.objects.count()) == (503, 1)
    assert "Nothing was changed." not in words(answer)
    assert "What you sent may have been done all the same" in words(answer)


@pytest.mark.fleet("pay-1")
def test_a_page_waits_for_a_lock_that_is_let_go(
    make_job, machines, publisher, as_user, release_task, rollback_task, only
):
    only("sqlite")
    job = make_job()
    fields = stage_fields(job, publisher, machines)
    client = as_user(publisher)
    with database.locked() as holder:
        letting_go = Timer(0.3, holder.stdin.close)
        letting_go.start()
        assert client.post(page("stage", job), fields).status_code == 302
        letting_go.join()
    assert Run.objects.count() == 1


def test_postgresql_waits_for_a_client_no_longer_than_that_for_it(only):
    """Else who is cut off in a transaction would hold its locks for hours, and stop who takes over from it."""
    only("postgresql")
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE 'tcp%'")
        names = {name for (name,) in cursor}
    assert names == {"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout"}

"""SIGTERM: a worker ends what runs and begins nothing new."""

import pytest

from jobs.models import Event
from releases.models import Worker
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import ended, events, is_so, row, statuses
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

# Nothing that ends sooner counts as "at once"; nothing that ends later does either.
AT_ONCE = 10


def draining(first):
    """Tells a worker to end, and returns once it has lived on by more heartbeats than it takes to be given up."""
    first.terminate()
    for _ in range(6):
        seen = Worker.objects.get(pk=first.row.pk).heartbeat_at
        wait_until(lambda seen=seen: Worker.objects.filter(pk=first.row.pk, heartbeat_at__gt=seen).exists())


@pytest.mark.usefixtures("dead_soon")
@pytest.mark.fleet("pay-1", "pay-2")
def test_what_runs_is_ended_and_nothing_else_begun(worker, release, fleet):
    first = worker("--at-once", 1)
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running", pay_2="queued")
    draining(first)
    Worker.objects.bury_dead()
    fleet.let_go()
    assert first.end() == 0
    assert statuses(run) == {"pay-1": "succeeded", "pay-2": "queued"}
    assert fleet.commands == 1
    assert not events(run, Event.Verb.LOST).exists()
    worker()
    assert ended(run).status == "succeeded"
    assert [len(fleet.executed(name)) for name in fleet.hostnames] == [1, 1]


@pytest.mark.fleet("pay-1")
def test_what_outlasts_the_grace_is_unknown(worker, release, fleet):
    first = worker("--grace", 1)
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running")
    wait_until(lambda: fleet.executed("pay-1"))
    first.terminate()
    assert first.end() == 0
    assert "Told to end. Still running: 1, which have 1 s." in first.output
    assert statuses(run) == {"pay-1": "unknown"}
    assert events(run, Event.Verb.LOST).count() == 1
    fleet.is_quiet("pay-1")
    assert "cancelled" in row(run, "pay-1").note
    assert len(fleet.executed("pay-1")) == 1


@pytest.mark.usefixtures("dead_soon")
@pytest.mark.fleet("pay-1")
def test_the_second_time_it_ends_at_once(worker, release, fleet):
    first = worker("--grace", 600)
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running")
    draining(first)
    first.terminate()
    assert first.end(AT_ONCE) == 0
    assert "Told to end at once. Still running: 1, which become unknown." in first.output
    assert statuses(run) == {"pay-1": "unknown"}
    fleet.is_quiet("pay-1")


def test_an_idle_worker_ends(worker):
    first = worker()
    assert first.row
    first.terminate()
    assert first.end(AT_ONCE) == 0
    assert Worker.objects.get(name__endswith=f"-{first.process.pid}").stopped_at

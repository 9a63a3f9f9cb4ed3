"""A run stops, by its failure budget or because a person paused or cancelled it, whatever becomes of its worker."""

import pytest

from jobs.models import Event
from releases.models import Run
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import ended, events, is_so, row, statuses
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.fleet(*(f"pay-{number}" for number in range(6)))
def test_the_failure_budget_is_spent(worker, release, fleet):
    """After the second failure nothing begins any more: neither in its batch nor in the next."""
    worker("--at-once", 1)
    fails = TELL + 'case $DEPLOY_MACHINE in pay-0|pay-2) echo "no space left" >&2; exit 7;; esac'
    run = release(fails, failure_budget=2, batch_size=3, canary=True)
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {
        "pay-0": "failed",
        "pay-1": "succeeded",
        "pay-2": "failed",
        "pay-3": "not_run",
        "pay-4": "not_run",
        "pay-5": "not_run",
    }
    assert [name for name in fleet.hostnames if fleet.executed(name)] == ["pay-0", "pay-1", "pay-2"]
    assert events(run, Event.Verb.ENDED).get().detail["counts"] == {"failed": 2, "succeeded": 1, "not_run": 3}


@pytest.mark.fleet("pay-1", "pay-2", "pay-3")
def test_its_worker_is_killed_meanwhile(worker, release, fleet, publisher):
    """A paused run stays paused with an unknown machine, then goes on; a cancelled one ends. Nothing runs twice."""
    first = worker()
    paused = release(TELL + UNTIL_GO, on=["pay-1", "pay-2"], batch_size=1)
    cancelled = release(TELL + UNTIL_GO, on=["pay-3"], version="3.0")
    wait_until(lambda: fleet.executed("pay-1") and fleet.executed("pay-3"))
    paused.pause(publisher, "a look at the first")
    first.freeze()
    cancelled.cancel(publisher, "wrong version")
    first.kill_long_ago()
    worker()
    is_so(paused, pay_1="unknown", pay_2="queued")
    is_so(cancelled, pay_3="unknown")
    assert ended(cancelled).status == Run.Status.FAILED
    assert events(cancelled, Event.Verb.CANCELLED).count() == 1
    fleet.is_quiet("pay-1"), fleet.is_quiet("pay-3")
    paused.refresh_from_db()
    assert paused.status == Run.Status.PAUSED
    assert not fleet.executed("pay-2")
    fleet.let_go("pay-2")
    paused.resume(publisher, "goes on")
    assert ended(paused).status == Run.Status.FAILED
    assert statuses(paused) == {"pay-1": "unknown", "pay-2": "succeeded"}
    executed = {name: fleet.executed(name) for name in fleet.hostnames}
    assert executed == {
        "pay-1": [row(paused, "pay-1").pk],
        "pay-2": [row(paused, "pay-2").pk],
        "pay-3": [row(cancelled, "pay-3").pk],
    }

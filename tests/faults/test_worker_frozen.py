"""A worker that stood still for longer than it may, was given up, and comes back."""

import pytest

from jobs.models import Event
from releases.models import MachineRun, Run, Worker
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import ended, events, is_so, row, statuses
from tests.fleet import Fault
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("dead_soon")]

GIVEN_UP = 3


@pytest.mark.fleet("pay-1", pay_2=Fault("slow"))
def test_it_changes_nothing_any_more_and_ends_itself(worker, release, fleet):
    """One machine's command ended meanwhile, the other's was not begun: that one is for another worker."""
    first = worker()
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running", pay_2="claimed")
    wait_until(lambda: fleet.executed("pay-1") and fleet.is_reached("pay-2"))
    first.freeze()
    fleet.strike("pay-2")
    second = worker()
    is_so(run, pay_1="unknown", pay_2="running")
    fleet.let_go()
    fleet.is_quiet("pay-1")
    assert ended(run).status == Run.Status.FAILED
    first.thaw()
    assert first.end() == GIVEN_UP
    assert "given up" in first.output
    assert statuses(run) == {"pay-1": "unknown", "pay-2": "succeeded"}
    late, other = row(run, "pay-1"), row(run, "pay-2")
    assert (late.worker_id, other.worker_id) != (second.row.pk, late.worker_id)
    assert "exit status 0" in late.note  # succeeded, or cancelled where it heard of its own end first
    assert (other.worker, other.note) == (second.row, "")
    assert [fleet.executed(name) for name in fleet.hostnames] == [[late.pk], [other.pk]]
    assert events(run, Event.Verb.LOST).count() == 1


@pytest.mark.fleet("pay-1")
def test_what_a_person_said_meanwhile_stands(worker, release, fleet, publisher):
    first = worker()
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running")
    wait_until(lambda: fleet.executed("pay-1"))
    first.freeze()
    second = worker()
    is_so(run, pay_1="unknown")
    row(run, "pay-1").resolve(publisher, MachineRun.Status.FAILED, "I have looked")
    fleet.let_go()
    fleet.is_quiet("pay-1")
    first.thaw()
    assert first.end() == GIVEN_UP
    resolved = row(run, "pay-1")
    assert (resolved.status, resolved.reason) == ("failed", "I have looked")
    assert "exit status 0" in resolved.note
    assert second.is_alive


@pytest.mark.fleet("pay-1", "pay-2")
def test_frozen_alone_it_goes_on(worker, release, fleet):
    """Nobody gave it up, so what it sees when it comes back is still its own to record."""
    first = worker()
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running", pay_2="running")
    wait_until(lambda: all(map(fleet.executed, fleet.hostnames)))
    first.freeze()
    wait_until(lambda: Worker.objects.silent().exists())
    fleet.let_go()
    first.thaw()
    assert ended(run).status == Run.Status.SUCCEEDED
    assert first.is_alive
    assert not events(run, Event.Verb.LOST).exists()


@pytest.mark.fleet(pay_1=Fault("hesitates"))
def test_what_a_machine_is_slow_to_open_a_session_for_is_sent_by_another(worker, release, fleet):
    """The session is opened after the next worker was done: by then the script is no longer the first one's to send."""
    first = worker()
    run = release(TELL)
    wait_until(lambda: fleet.hesitates("pay-1"))
    assert statuses(run) == {"pay-1": "claimed"}
    first.freeze()
    second = worker()
    assert ended(run).status == Run.Status.SUCCEEDED
    assert (row(run, "pay-1").worker, fleet.executed("pay-1")) == (second.row, [row(run, "pay-1").pk])
    fleet.strike("pay-1")
    first.thaw()
    assert first.end() == GIVEN_UP
    fleet.is_quiet("pay-1")
    assert fleet.executed("pay-1") == [row(run, "pay-1").pk]

"""A run is cancelled: what has not begun never will, what runs is ended, and only an end that was seen counts."""

import pytest

from jobs.models import Event
from releases.models import Run
from tests.commands import say
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import Watch, ended, events, is_so, row, statuses, text
from tests.fleet import Fault
from tests.pages import page
from tests.parallel import at_once
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

HANGS = (
    TELL + "trap 'exit 0' TERM; [ $DEPLOY_MACHINE != pay-stubborn ] || trap '' TERM; while :; do sleep 300 & wait; done"
)
RACERS = [f"pay-{number}" for number in range(8)]


@pytest.mark.fleet(
    *("pay-obeys", "pay-stubborn", "pay-waits-1", "pay-waits-2"),
    pay_frozen=Fault("freezes"),
    pay_slow=Fault("slow"),
)
def test_by_a_command(worker, release, fleet, publisher):
    """Those whose turn never came had no session; a frozen machine may still be at it."""
    first = worker("--at-once", 4, END_GRACE=20)
    run = release(HANGS)
    begun = {"pay-frozen", "pay-obeys", "pay-stubborn"}
    wait_until(lambda: all(f"on {name}" in text(run, name) for name in begun) and fleet.is_reached("pay-slow"))
    assert statuses(run) == dict.fromkeys(begun, "running") | {
        "pay-slow": "claimed",
        "pay-waits-1": "queued",
        "pay-waits-2": "queued",
    }
    fleet.strike("pay-frozen")
    words = say("cancel_run", run.pk, "--as", "publisher", "--reason", "wrong version", "--wait", "--json")
    assert '"status": "cancelled"' in words
    assert ended(run).status == Run.Status.CANCELLED
    cancelled = ["pay-obeys", "pay-slow", "pay-stubborn", "pay-waits-1", "pay-waits-2"]
    assert statuses(run) == dict.fromkeys(cancelled, "cancelled") | {"pay-frozen": "unknown"}
    assert "may still be running" in row(run, "pay-frozen").reason
    for hostname in ("pay-obeys", "pay-stubborn"):
        fleet.is_quiet(hostname)
    told = events(run, Event.Verb.CANCELLED).get()
    assert (told.actor, told.reason, told.detail["machines"]) == (publisher, "wrong version", 3)
    fleet.strike("pay-slow")
    wait_until(lambda: fleet.logins == 4)  # the slow one answers at last, and is sent nothing
    fleet.is_quiet("pay-slow")
    assert {name for name in fleet.hostnames if fleet.executed(name)} == begun
    assert first.is_alive


@pytest.mark.fleet(*RACERS)
def test_by_the_page_while_commands_end_by_themselves(worker, release, fleet, publisher, as_user):
    """Each machine takes one end, and keeps it; what is called a success ran to its end."""
    worker()
    run = release(TELL + UNTIL_GO + "echo the end")
    is_so(run, **{name.replace("-", "_"): "running" for name in RACERS})
    wait_until(lambda: all(map(fleet.executed, RACERS)))
    client = as_user(publisher)
    cancel = page("cancel_run", run.stage.job, run_id=run.pk)
    with Watch(run) as watch:
        responses = at_once(lambda: client.post(cancel), fleet.let_go, lambda: client.post(cancel))
        ended(run)
        wait_until(lambda: all(states[-1] in ("cancelled", "succeeded") for states in watch.seen.values()))
    # On a slow machine all may have ended before the first click arrived: it is told so, and cancels nothing.
    cancelled = events(run, Event.Verb.CANCELLED).count()
    assert cancelled == 1 or (cancelled == 0 and set(statuses(run).values()) == {"succeeded"})
    answer = 302 if cancelled else 409
    assert [response.status_code for response in responses if response] == [answer, answer]
    assert events(run, Event.Verb.ENDED).count() == 1
    for hostname, status in statuses(run).items():
        assert watch.seen[hostname] in (["running", status], [status])
        assert ("the end" in text(run, hostname)) or status == "cancelled"
        fleet.is_quiet(hostname)
    assert fleet.commands == len(RACERS)

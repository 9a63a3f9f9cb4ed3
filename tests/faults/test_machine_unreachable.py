"""Machines to which no command gets: each says why, and the rest of the run goes on."""

import pytest

from jobs.models import Machine
from releases.models import MachineRun, Run
from tests.faults.conftest import TELL
from tests.faults.seen import ended, row, statuses, text
from tests.fleet import Fault
from tests.pages import page, words

pytestmark = pytest.mark.django_db(transaction=True)

# A broadcast address: the kernel itself says that there is no route, and sends nothing.
NO_ROUTE = "255.255.255.255"
REASONS = {
    "refuses": "The machine refused the connection.",
    "silent": "The machine did not answer in time.",
    "banner": "The machine did not answer in time.",
    "stranger": "The machine's host key is not the known one",
    "unlisted": "The machine's host key is not known",
    "denies": "does not accept the portal's SSH key",
    "routeless": "There is no route to the machine.",
    "nameless": "The machine's address could not be found.",
}


@pytest.fixture
def misplaced(fleet, machines):
    """Two machines that the config service gives at addresses which lead nowhere, and one whose key nobody knows.

    Those that say nothing are a site of their own: their worker may be impatient.
    """
    Machine.objects.filter(hostname="a-routeless").update(address=NO_ROUTE)
    Machine.objects.filter(hostname="a-nameless").update(address="no-such-host.invalid")
    Machine.objects.update(site="quick")
    Machine.objects.filter(hostname__in=["a-silent", "a-banner"]).update(site="silent")
    for machine in machines:
        machine.refresh_from_db()
    port = f"]:{fleet.ports['a-unlisted']} "
    known = fleet.known_hosts.read_text().splitlines(keepends=True)
    fleet.known_hosts.write_text("".join(line for line in known if port not in line))


@pytest.mark.fleet(
    *("a-routeless", "a-nameless", "a-unlisted", "a-well", "b-well"),
    a_refuses=Fault("refuses"),
    a_silent=Fault("silent"),
    a_banner=Fault("banner"),
    a_stranger=Fault("stranger"),
    a_denies=Fault("denies"),
)
def test_each_says_why_and_the_others_go_on(worker, release, fleet, misplaced, publisher, as_user):
    """Only the connect timeout can end a silent one; then the next batch opens."""
    both = [worker("--site", "quick"), worker("--site", "silent", SSH_CONNECT_TIMEOUT=2)]
    run = release(TELL, batch_size=len(REASONS) + 1)
    assert ended(run).status == Run.Status.FAILED
    seen = statuses(run)
    assert (seen.pop("a-well"), seen.pop("b-well")) == ("succeeded", "succeeded")
    assert seen == {f"a-{name}": "unreachable" for name in REASONS}
    for name, reason in REASONS.items():
        machine_run = row(run, f"a-{name}")
        assert reason in machine_run.reason, name
        assert (machine_run.started_at, machine_run.exit_status, machine_run.version_now) == (None, None, "")
        assert text(run, f"a-{name}") == ""
    assert (fleet.commands, fleet.logins) == (2, 2)
    assert [name for name in fleet.hostnames if fleet.executed(name)] == ["a-well", "b-well"]
    assert not MachineRun.objects.holding().exists()
    shown = words(as_user(publisher).get(page("stage", run.stage.job)))
    assert all(reason in shown for reason in REASONS.values())
    assert all(one.is_alive for one in both)


@pytest.mark.fleet("pay-2", pay_1=Fault("hesitates"))
def test_one_that_opens_no_session_was_sent_nothing(worker, release, fleet):
    worker(SSH_CONNECT_TIMEOUT=2)
    run = release(TELL)
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {"pay-1": "unreachable", "pay-2": "succeeded"}
    lost = row(run, "pay-1")
    assert (lost.reason, lost.started_at) == ("The machine did not answer in time.", None)
    fleet.strike("pay-1")
    fleet.is_quiet("pay-1")
    assert not fleet.executed("pay-1")

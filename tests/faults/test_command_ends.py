"""How a command ended is what the channel says, whatever the output says; what nobody saw is unknown."""

import pytest

from releases.models import MachinesHeld, Run
from tests.faults.conftest import TELL
from tests.faults.seen import ended, row, statuses, text
from tests.fleet import Fault
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

# What the script does on each machine. The wrapper around it is the parent of the `timeout` that is its own parent.
SCRIPT = (
    TELL
    + r"""
hang() { sleep 3000 & sleep 3001; }
case $DEPLOY_MACHINE in
says-one) echo "exit 1"; echo "DEPLOY_EXIT=1"; exit 0;;
says-zero) echo "exit 0"; echo "succeeded"; exit 7;;
killed) kill -SEGV $$;;
unwrapped) read -r _ _ _ wrapper _ < /proc/$PPID/stat; kill -KILL $wrapper; hang;;
hangs) echo so far; hang;;
stubborn) trap "" TERM; echo so far; while :; do sleep 3000; done;;
reads) cat; echo "read nothing";;
cut) echo so far; hang;;
esac
"""
)
CHECK = r"""
echo checking
case $DEPLOY_MACHINE in
unhealthy) echo "not healthy" >&2; exit 3;;
cut-while-checked) sleep 3000;;
esac
"""
LOST = "The connection was lost; the command may still be running."
ENDS = {
    "says-one": ("succeeded", 0, ""),
    "says-zero": ("failed", 7, ""),
    "killed": ("failed", 139, "as after signal SEGV"),
    "unwrapped": ("failed", None, "Killed by signal KILL."),
    "hangs": ("timed_out", 124, "did not end in time and was killed"),
    "stubborn": ("timed_out", 137, "did not end in time and was killed"),
    "reads": ("succeeded", 0, ""),
    "unhealthy": ("failed", 3, "The task succeeded, but its check did not."),
    "cut": ("unknown", None, LOST),
    "cut-while-checked": ("unknown", None, LOST),
}
LATE, UNKNOWN = ([name for name, (status, *_) in ENDS.items() if status == what] for what in ("timed_out", "unknown"))


@pytest.mark.fleet(*(set(ENDS) - set(UNKNOWN)), **{name.replace("-", "_"): Fault("cuts") for name in UNKNOWN})
def test_the_end_is_what_was_seen(worker, release, fleet, make_job, start, machines):
    """Nothing is left running anywhere, and what is unknown stays held, with all that it said."""
    worker(KILL_AFTER=1, QUIET_SECONDS=2)
    late = release(SCRIPT, on=LATE, timeout=10, check=CHECK)
    run = release(SCRIPT, on=ENDS.keys() - LATE, check=CHECK)
    for hostname in UNKNOWN:
        last_words = "checking" if hostname == "cut-while-checked" else "so far"
        wait_until(lambda hostname=hostname, last_words=last_words: last_words in text(run, hostname))
        fleet.strike(hostname)
    assert (ended(late).status, ended(run).status) == (Run.Status.FAILED, Run.Status.FAILED)
    assert statuses(late) | statuses(run) == {hostname: status for hostname, (status, *_) in ENDS.items()}
    for hostname, (_, exit_status, reason) in ENDS.items():
        machine_run = row(late if hostname in LATE else run, hostname)
        assert machine_run.exit_status == exit_status, hostname
        assert machine_run.reason == reason or (reason and reason in machine_run.reason), hostname
        assert fleet.executed(hostname) == [machine_run.pk]
        fleet.is_quiet(hostname)
    for hostname in ("hangs", "stubborn", "cut"):
        assert text(late if hostname in LATE else run, hostname) == f"on {hostname}\nso far\n"
    assert text(run, "says-one") == "on says-one\nexit 1\nDEPLOY_EXIT=1\nchecking\n"
    assert text(run, "reads") == "on reads\nread nothing\nchecking\n"
    assert text(run, "unhealthy") == "on unhealthy\nchecking\nnot healthy\n"
    with pytest.raises(MachinesHeld) as held:
        start(make_job("3.0"), machines)
    assert {machine.hostname for machine in held.value.machines} == set(UNKNOWN)


@pytest.mark.fleet(frozen=Fault("freezes"))
def test_a_frozen_machine_is_found_out_by_its_silence(worker, release, fleet, make_job, start, machines):
    worker(KEEPALIVE_SECONDS=3)
    run = release(TELL + "echo so far; sleep 3000", timeout=30)
    wait_until(lambda: "so far" in text(run, "frozen"))
    fleet.strike("frozen")
    assert ended(run).status == Run.Status.FAILED
    machine_run = row(run, "frozen")
    assert (machine_run.status, machine_run.exit_status, machine_run.reason) == ("unknown", None, LOST)
    assert fleet.executed("frozen") == [machine_run.pk]
    assert text(run, "frozen") == "on frozen\nso far\n"
    fleet.is_quiet("frozen")
    with pytest.raises(MachinesHeld):
        start(make_job("3.0"), machines)

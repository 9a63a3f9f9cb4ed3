"""A worker that is killed, and whoever finds what it left."""

from threading import Barrier, Thread

import pytest
from django.db import connection, transaction

from jobs.models import Event
from releases.models import MachineRun, MachinesHeld, Run, Worker
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import counts, ended, events, is_so, row, statuses, text
from tests.fleet import Fault
from tests.pages import page, words
from tests.waiting import wait_until
from tests.workers import fall_silent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.fleet(pay_1=Fault("slow"))
def test_killed_before_the_command_could_start(worker, release, fleet):
    """Back in the queue, and run once by another."""
    first = worker()
    run = release()
    wait_until(lambda: fleet.is_reached("pay-1"))
    assert statuses(run) == {"pay-1": "claimed"}
    first.kill_long_ago()
    for _ in range(2):
        assert Worker.objects.bury_dead() == []
        back = row(run, "pay-1")
        assert (back.status, back.worker, back.claimed_at) == ("queued", None, None)
    fleet.strike("pay-1")
    second = worker()
    assert ended(run).status == Run.Status.SUCCEEDED
    machine_run = row(run, "pay-1")
    assert machine_run.worker == second.row
    assert fleet.executed("pay-1") == [machine_run.pk]
    assert (fleet.commands, fleet.logins) == (1, 1)
    assert not events(run, Event.Verb.LOST).exists()


@pytest.mark.fleet("pay-1", "pay-2")
def test_killed_in_the_middle_of_a_command(worker, release, fleet, make_job, start, machines, publisher, as_user):
    """Unknown and held; the next worker leaves it alone until a person has said how it ended."""
    first = worker()
    run = release(TELL + UNTIL_GO + "echo not reached >> executed")
    is_so(run, pay_1="running", pay_2="running")
    wait_until(lambda: "on pay-1" in text(run, "pay-1") and fleet.executed("pay-2"))
    first.kill_long_ago()
    for hostname in fleet.hostnames:
        fleet.is_quiet(hostname)
    second = worker()
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {"pay-1": "unknown", "pay-2": "unknown"}
    lost = events(run, Event.Verb.LOST).get()
    assert (lost.actor, lost.detail["run"], lost.detail["hostnames"]) == (None, run.pk, ["pay-1", "pay-2"])
    assert "on pay-1" in text(run, "pay-1")

    another = make_job("3.0")
    with pytest.raises(MachinesHeld) as refused:
        start(another, machines)
    assert {machine.hostname for machine in refused.value.machines} == {"pay-1", "pay-2"}
    shown = words(as_user(publisher).get(page("stage", another)))
    assert f"#{run.stage.job_id}" in shown and "held" in shown.lower()

    row(run, "pay-1").resolve(publisher, MachineRun.Status.FAILED, "looked at it")
    again = start(another, machines[:1])
    assert ended(again).status == Run.Status.SUCCEEDED
    assert row(again, "pay-1").worker == second.row
    assert [fleet.executed(name) for name in ("pay-1", "pay-2")] == [
        [row(run, "pay-1").pk],
        [row(run, "pay-2").pk],
    ]


@pytest.mark.fleet("pay-1")
def test_killed_between_the_end_of_the_command_and_its_record(worker, release, fleet):
    """What nobody recorded was not seen: never a success."""
    first = worker()
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running")
    wait_until(lambda: fleet.executed("pay-1"))
    with transaction.atomic():
        MachineRun.objects.select_for_update().get(run=run)
        fleet.let_go()
        fleet.is_quiet("pay-1")
        first.kill()
    fall_silent(row(run, "pay-1").worker)
    worker()
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {"pay-1": "unknown"}
    assert len(fleet.executed("pay-1")) == 1


@pytest.mark.usefixtures("dead_soon")
def test_two_who_find_the_same_dead_worker(worker, release, fleet):
    """One transition, one event."""
    first = worker()
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running", pay_2="running", pay_3="running")
    others = [worker(), worker()]
    assert [other.row for other in others]
    first.kill()
    assert ended(run).status == Run.Status.FAILED
    assert events(run, Event.Verb.LOST).get().detail["machines"] == 3
    assert events(run, Event.Verb.ENDED).count() == 1


def test_many_who_find_a_dead_worker_at_the_same_moment(worker, release, fleet):
    first = worker()
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running", pay_2="running", pay_3="running")
    gone = first.row
    first.kill()
    fall_silent(gone)
    found, together = [], Barrier(8)

    def find():
        together.wait()
        found.append(Worker.objects.bury_dead())
        connection.close()

    finders = [Thread(target=find) for _ in range(8)]
    for finder in finders:
        finder.start()
    for finder in finders:
        finder.join()
    assert sorted(map(len, found)) == [0] * 7 + [3]
    assert events(run, Event.Verb.LOST).count() == 1


@pytest.mark.fleet(*(f"pay-{number:02}" for number in range(12)))
def test_what_a_live_worker_just_began_is_left_to_it(worker, release, fleet):
    """Whoever looks for the dead, and however often, while it claims, begins and ends."""
    worker("--at-once", 5)
    run = release(TELL)
    found = []

    def look():
        found.extend(Worker.objects.bury_dead())
        return Run.objects.get(pk=run.pk).status != Run.Status.RUNNING

    wait_until(look, every=0.03)
    assert found == []
    assert set(statuses(run).values()) == {"succeeded"}
    assert all(len(fleet.executed(name)) == 1 for name in fleet.hostnames)


@pytest.mark.fleet(*(f"pay-{number:02}" for number in range(30)))
def test_two_workers_share_thirty_machines(worker, release, fleet):
    """Each is executed exactly once."""
    both = [worker("--at-once", 4), worker("--at-once", 4)]
    assert len({one.row.pk for one in both}) == 2
    run = release(TELL + UNTIL_GO)
    wait_until(lambda: counts(run).get("running") == 8)
    fleet.let_go()
    assert ended(run).status == Run.Status.SUCCEEDED
    executed = {name: fleet.executed(name) for name in fleet.hostnames}
    assert executed == {name: [pk] for name, pk in run.machine_runs.values_list("machine__hostname", "pk")}
    assert (fleet.commands, fleet.logins) == (30, 30)
    assert run.machine_runs.values("worker").distinct().count() == 2

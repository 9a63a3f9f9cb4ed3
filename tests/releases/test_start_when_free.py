"""A machine that another job holds may be waited for: its machine run is `held` until the machine is free."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from deploy_portal.clock import database_now
from jobs.models import Job, Listing, Machine, Membership
from jobs.rights import Role
from releases.candidates import candidates
from releases.models import MachineRun, MachinesHeld, ReleaseStage, Run, StageMoved
from releases.models.machine_run import versions_before
from releases.tidying import move_on
from tests.conftest import list_machines, make_member, rows, stage_of
from tests.parallel import at_once
from tests.waiting import PATIENCE
from tests.workers import begin, end, state


def states(run):
    """{host name: state} of a run."""
    return dict(run.machine_runs.order_by("pk").values_list("machine__hostname", "status"))


def versions(run):
    return list(run.machine_runs.order_by("pk").values_list("version_before", "version_after"))


def test_a_held_machine_is_waited_for_and_queued_once_it_is_free(make_job, machines, start, worker, start_when_free):
    start(make_job("2.0"), machines[:1])
    ids = begin(worker)
    run = start_when_free(make_job("3.0"), machines[:2])
    assert states(run) == {"pay-2": "queued", "pay-1": "held"}
    move_on()
    assert states(run)["pay-1"] == "held"
    MachineRun.objects.filter(run=run).update(queued_at=Now() - timedelta(hours=1))
    end(worker, ids)
    admitted = run.machine_runs.get(machine=machines[0])
    assert (admitted.status, admitted.version_before) == ("queued", "2.0")
    assert (database_now() - admitted.queued_at).total_seconds() < 60
    end(worker, begin(worker))
    assert state(run) == ("succeeded", 1, {"succeeded": 2})


def test_what_is_free_by_then_is_queued_at_once(make_job, machines, start_when_free):
    assert set(states(start_when_free(make_job(), machines)).values()) == {"queued"}


def test_what_comes_free_while_it_is_started_is_told_what_was_put_there(
    make_job, machines, start, finish, worker, start_when_free, monkeypatch
):
    """Else its rollback would put back what was there before the other job."""
    start(make_job("1.0"), machines[:1])
    finish()
    start(make_job("2.0"), machines[:1])
    running = begin(worker)

    def versions_before_that_end(*asked):
        found = versions_before(*asked)
        end(worker, running)
        return found

    job = make_job("3.0")
    monkeypatch.setattr("releases.models.stage.versions_before", versions_before_that_end)
    run = start_when_free(job, machines[:1])
    monkeypatch.undo()
    move_on()
    assert states(run) == {"pay-1": "queued"}
    assert versions(run) == [("2.0", "3.0")]


def test_machines_that_wait_come_last_so_that_the_others_need_not(make_job, machines, start, start_when_free):
    start(make_job("2.0"), machines[:2])
    run = start_when_free(make_job("3.0"), machines, batch_size="2", canary=True)
    order = run.machine_runs.order_by("batch", "pk").values_list("machine__hostname", "batch")
    assert list(order) == [("pay-3", 1), ("pay-4", 2), ("pay-5", 2), ("pay-6", 3), ("pay-1", 3), ("pay-2", 4)]


def test_nobody_waits_who_did_not_choose_to(make_job, machines, start, start_when_free):
    start(make_job("2.0"), machines[:2])
    with pytest.raises(MachinesHeld) as refused:
        start_when_free(make_job("3.0"), machines, waiting=machines[:1])
    assert refused.value.machines == [machines[1]]
    assert not MachineRun.objects.filter(status="held").exists()


@pytest.mark.parametrize("waiting", [False, True])
def test_nobody_waits_for_a_machine_that_was_taken_at_the_last_moment(
    make_job, machines, start, start_when_free, monkeypatch, waiting
):
    """It was free when it was looked at; whether anyone would wait for it was never asked."""
    start(make_job("2.0"), machines[:1])
    real, others = ReleaseStage._move, [make_job("4.0")]

    def move(self, *args, **fields):
        while others:
            start(others.pop(), machines[1:2])
        return real(self, *args, **fields)

    job = make_job("3.0")
    monkeypatch.setattr(ReleaseStage, "_move", move)
    with pytest.raises(MachinesHeld):
        start_when_free(job, machines[waiting ^ 1 : 3], waiting=machines[:1])
    assert not MachineRun.objects.in_job(job).exists()


def test_a_rollback_never_waits(make_job, machines, start, finish, publisher, monkeypatch):
    job = make_job("2.0")
    start(job, machines[:2])
    finish()
    real, others = ReleaseStage._move, [make_job("4.0")]

    def move(self, *args, **fields):
        while others:
            start(others.pop(), machines[:1])
        return real(self, *args, **fields)

    stage = stage_of(job)
    monkeypatch.setattr(ReleaseStage, "_move", move)
    with pytest.raises(MachinesHeld):
        stage.roll_back(publisher, machines[:2], "it hurts", "back")
    assert not MachineRun.objects.filter(status="held").exists()


@pytest.mark.parametrize("status", ["queued", "claimed", "running", "unknown", "held"])
def test_a_job_never_waits_for_itself(make_job, machines, start, start_when_free, status):
    job = make_job("2.0")
    run = start(job, machines[:1])
    run.machine_runs.update(status=status, started_at="2026-01-01T00:00:00Z")
    Run.objects.update(status="failed")
    ReleaseStage.objects.update(status="failed")
    assert not candidates(stage_of(job).job).not_free[machines[0].pk].can_wait
    with pytest.raises(MachinesHeld):
        start_when_free(job, machines[:2])
    assert Run.objects.count() == 1


def test_what_a_job_waits_for_is_in_no_other_run_of_it_also_once_it_is_free(
    job, make_job, machines, start, finish, publisher
):
    start(job, machines[:1])
    finish("failed")
    first, second = ReleaseStage.objects.of(job)[:2]
    first.skip(publisher, "it is old")
    holding = start(make_job("3.0"), machines[:1])
    second.release_task, second.rollback_task = first.release_task, first.rollback_task
    waits = second.start(publisher, machines[:1], "waits", when_free=machines[:1])
    holding.cancel(publisher)
    assert machines[0] not in first.offered_machines()
    with pytest.raises(MachinesHeld):
        start(job, machines[:1])
    move_on()
    assert state(waits)[0] == "running"


def test_what_this_job_has_released_or_excused_is_not_waited_for(
    make_job, machines, start, finish, publisher, start_when_free
):
    job = make_job("2.0")
    start(job, machines[:1])
    finish()
    ReleaseStage.objects.excuse(job, machines[1:2], publisher, "scrapped")
    start(make_job("3.0"), machines[:2])
    with pytest.raises(MachinesHeld) as refused:
        start_when_free(job, machines[:3])
    assert refused.value.machines == machines[:2]


def test_the_unknown_machine_of_another_job_is_waited_for_until_somebody_resolves_it(
    make_job, machines, start, finish, publisher, start_when_free
):
    first = start(make_job("2.0"), machines[:1])
    finish("unknown")
    run = start_when_free(make_job("3.0"), machines[:1])
    move_on()
    assert states(run) == {"pay-1": "held"}
    assert stage_of(first.stage.job).count_rollback_candidates() == 1  # whoever waits for it
    assert candidates(make_job("4.0")).not_free[machines[0].pk].by.run == first
    first.machine_runs.get().resolve(publisher, "failed", "looked")
    move_on()
    assert states(run) == {"pay-1": "queued"}


@pytest.mark.parametrize("how", ["cancelled", "not_run", "unreachable", "timed_out"])
def test_however_a_run_gives_its_machine_back_who_waits_gets_it(
    make_job, machines, start, worker, publisher, start_when_free, how
):
    first = start(make_job("2.0"), machines[:2])
    run = start_when_free(make_job("3.0"), machines[1:2])
    if how == "cancelled":
        first.cancel(publisher)
    elif how == "unreachable":
        MachineRun.objects.claim(worker, 2)
        ids = list(MachineRun.objects.claimed_by(worker).values_list("pk", flat=True))
        end(worker, ids, how)
    else:
        ids = begin(worker, 2 if how == "timed_out" else 1)
        end(worker, ids, "timed_out")
    move_on()
    assert first.machine_runs.get(machine=machines[1]).status == how
    assert states(run) == {"pay-2": "queued"}


def test_of_two_who_wait_the_older_is_first(make_job, machines, start, worker, start_when_free):
    start(make_job("2.0"), machines[:1])
    second, third = (start_when_free(make_job(version), machines[:1]) for version in ("3.0", "4.0"))
    end(worker, begin(worker))
    assert (states(second), states(third)) == ({"pay-1": "queued"}, {"pay-1": "held"})
    end(worker, begin(worker))
    assert (state(second)[0], states(third)) == ("succeeded", {"pay-1": "queued"})
    end(worker, begin(worker))
    assert (versions(second), versions(third)) == ([("2.0", "3.0")], [("3.0", "4.0")])


def test_the_version_before_is_the_one_that_is_there_when_the_wait_is_over(
    make_job, machines, start, finish, worker, start_when_free
):
    start(make_job("1.0"), machines[:2])
    finish()
    start(make_job("2.0"), machines[:2], failure_budget=None)
    run = start_when_free(make_job("3.0"), machines[:2])
    first, second = begin(worker)
    end(worker, [first])
    end(worker, [second], "failed")
    assert versions(run) == [("2.0", "3.0"), ("1.0", "3.0")]


def test_the_version_before_is_never_that_of_the_job_itself(
    make_job, machines, start, finish, worker, publisher, start_when_free
):
    """Released, not rolled back as it should: the job's own version is still the last that was seen to succeed."""
    start(make_job("1.0"), machines[:1])
    finish()
    job = make_job("2.0")
    start(job, machines[:1])
    finish()
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish("failed")
    start(make_job("3.0"), machines[:1])
    run = start_when_free(job, machines[:1], key="again")
    end(worker, begin(worker), "failed")
    assert (states(run), versions(run)) == ({"pay-1": "queued"}, [("1.0", "2.0")])


@pytest.mark.parametrize("waiting", [False, True])
def test_a_retry_knows_the_version_that_another_job_left_meanwhile(
    make_job, machines, start, finish, worker, start_when_free, waiting
):
    """Waited for or not: a rollback must not undo what the other job did."""
    start(make_job("1.0"), machines[:1])
    finish()
    job = make_job("2.0")
    start(job, machines[:1])
    finish("failed")
    start(make_job("3.0"), machines[:1])
    if waiting:
        run = start_when_free(job, machines[:1], key="again")
    end(worker, begin(worker))
    if not waiting:
        run = start(job, machines[:1], key="again")
    assert (states(run), versions(run)) == ({"pay-1": "queued"}, [("3.0", "2.0")])


def test_a_machine_that_leaves_the_business_while_it_is_waited_for_is_not_run(
    make_job, machines, start, worker, payment, start_when_free
):
    start(make_job("2.0"), machines[:1])
    run = start_when_free(make_job("3.0"), machines[:2])
    Listing.objects.take(payment, rows(*(machine.hostname for machine in machines[1:])))
    assert not candidates(make_job("4.0")).not_free[machines[0].pk].can_wait
    end(worker, begin(worker))
    left = run.machine_runs.get(machine=machines[0])
    assert (left.status, left.started_at, left.ended_at is None) == ("not_run", None, False)
    assert "left the business line" in left.reason
    move_on()
    assert state(run) == ("failed", 1, {"not_run": 1, "succeeded": 1})


def test_the_others_follow_the_one_that_goes_first_all_the_same(
    make_job, machines, start, worker, payment, start_when_free
):
    start(make_job("2.0"), machines[:1])
    run = start_when_free(make_job("3.0"), machines[:3], machines[:1], canary=True, failure_budget="")
    holder, first = begin(worker)
    Listing.objects.take(payment, rows(*(machine.hostname for machine in machines[1:])))
    end(worker, [holder])
    end(worker, [first])
    end(worker, begin(worker))
    assert state(run) == ("failed", 2, {"not_run": 1, "succeeded": 2})


def test_a_run_that_only_waits_goes_on_until_its_machines_come(make_job, machines, start, worker, start_when_free):
    start(make_job("2.0"), machines[:2])
    run = start_when_free(make_job("3.0"), machines[:2], batch_size="1")
    assert begin(worker) != []
    move_on()
    assert state(run) == ("running", 1, {"held": 2})
    assert stage_of(run.stage.job).is_running


@pytest.mark.parametrize("paused", [False, True])
def test_a_cancelled_run_waits_no_more(make_job, machines, start, worker, publisher, start_when_free, paused):
    start(make_job("2.0"), machines[:1])
    run = start_when_free(make_job("3.0"), machines[:1])
    if paused:
        run.pause(publisher)
    run.cancel(publisher)
    assert state(run) == ("cancelled", 1, {"cancelled": 1})
    end(worker, begin(worker))
    assert states(run) == {"pay-1": "cancelled"}


def test_a_paused_run_gets_its_machine_and_begins_nothing(
    make_job, machines, start, worker, publisher, start_when_free
):
    start(make_job("2.0"), machines[:1])
    run = start_when_free(make_job("3.0"), machines[:1])
    run.pause(publisher)
    end(worker, begin(worker))
    assert states(run) == {"pay-1": "queued"}
    assert begin(worker) == []


def test_a_spent_budget_ends_the_wait_too(make_job, machines, start, worker, start_when_free):
    start(make_job("2.0"), machines[:1])
    run = start_when_free(make_job("3.0"), machines[:2])
    _, mine = begin(worker)
    end(worker, [mine], "failed")
    assert state(run) == ("failed", 1, {"failed": 1, "not_run": 1})


def test_two_runs_that_wait_for_each_others_machines_both_end(make_job, machines, start, worker, start_when_free):
    a, b, c, d = machines[:4]
    start(make_job("1.0"), [c, d])
    first = start_when_free(make_job("2.0"), [c, a, d], batch_size="1")
    second = start_when_free(make_job("3.0"), [d, b, a, c], batch_size="1")
    assert (list(states(first)), list(states(second))) == (
        ["pay-1", "pay-3", "pay-4"],
        ["pay-2", "pay-1", "pay-3", "pay-4"],
    )
    while ids := begin(worker):
        end(worker, ids)
    assert (state(first)[2], state(second)[2]) == ({"succeeded": 3}, {"succeeded": 4})


@pytest.fixture
def crossed(make_job, machines, start, worker, start_when_free, payment):
    """Makes pay-1, which a run waits for, move to the host of `other`, which its or another run has by now."""

    def cross(*chosen, other):
        holders = [start(make_job(f"1.{number}"), [machine]) for number, machine in enumerate(machines[:3])]
        runs = [start_when_free(make_job("2.0"), some, batch_size="1") for some in chosen]
        begun = dict(MachineRun.objects.filter(pk__in=begin(worker)).values_list("run", "pk"))
        for holder in holders[1:]:
            end(worker, [begun.pop(holder.pk)])
        Machine.objects.filter(pk=other.pk).update(address="10.0.0.99")
        Machine.objects.filter(pk=machines[0].pk).update(address=f"10.0.0.{other.hostname[-1]}")
        end(worker, list(begun.values()))
        for _ in range(4):
            end(worker, begin(worker))
        return runs

    return cross


def test_who_waits_for_what_moved_does_not_wait_for_itself(machines, crossed):
    """It waits by where that was: where it is now is the next machine of the same run, whose turn comes after it."""
    [run] = crossed(machines[:4], other=machines[1])
    assert states(run) == {"pay-4": "succeeded", "pay-1": "not_run", "pay-2": "not_run", "pay-3": "succeeded"}
    assert state(run)[0] == "failed"


def test_nor_do_two_runs_wait_for_each_other_since(machines, crossed):
    runs = crossed(machines[:2], machines[1:3], other=machines[2])
    assert [states(run) for run in runs] == [
        {"pay-1": "not_run", "pay-2": "succeeded"},
        {"pay-2": "succeeded", "pay-3": "not_run"},
    ]
    assert [state(run)[0] for run in runs] == ["failed", "failed"]


def test_a_machine_that_two_businesses_share_is_waited_for_across_them(
    make_job, machines, start, worker, orders, publisher, start_when_free
):
    list_machines(orders, "pay-1", "pay-2")
    Membership.objects.create(user=publisher, business=orders, role=Role.PUBLISHER)
    other = Job(business=orders, title="Orders", version="9.0")
    other.ask(publisher, machines[:2])
    other.approve(make_member("their approver", orders, Role.APPROVER))
    start(make_job("2.0"), machines[:1])
    run = start_when_free(other, machines[:1])
    end(worker, begin(worker))
    assert versions(run) == [("", "9.0")]


def test_a_closed_stage_is_not_waited_in(make_job, machines, start, finish, start_when_free):
    start(make_job("2.0"), machines[:1])
    with pytest.raises(StageMoved):
        start_when_free(make_job("3.0", approved=False), machines[:1])


# At the same moment


def active(machine):
    return MachineRun.objects.holding().filter(machine=machine).count()


@pytest.mark.django_db(transaction=True)
def test_who_admits_at_once_admits_one(make_job, machines, start, worker, start_when_free):
    start(make_job("1.0"), machines[:3], failure_budget=None)
    waiting = [start_when_free(make_job(f"2.{number}"), machines[:3]) for number in range(3)]
    MachineRun.objects.end(worker, begin(worker), "succeeded", 0)
    assert not [found for found in at_once(*[move_on] * 4) if found is not None]
    assert [active(machine) for machine in machines[:3]] == [1, 1, 1]
    assert [set(states(run).values()) for run in waiting] == [{"queued"}, {"held"}, {"held"}]


@pytest.mark.django_db(transaction=True)
def test_of_who_waited_and_who_starts_one_gets_the_machine(make_job, machines, start, worker, start_when_free):
    for number in range(4):
        start(make_job(f"1.{number}"), machines[:1])
        waits, other = start_when_free(make_job(f"2.{number}"), machines[:1]), make_job(f"3.{number}")
        MachineRun.objects.end(worker, begin(worker), "succeeded", 0)
        found = at_once(move_on, lambda other=other: start(other, machines[:1]))
        assert [type(one) for one in found] in ([type(None), Run], [type(None), MachinesHeld]), found
        assert active(machines[0]) == 1
        while ids := begin(worker):
            end(worker, ids)
        move_on()
        while ids := begin(worker):
            end(worker, ids)
        assert state(waits)[0] == "succeeded"


@pytest.mark.django_db(transaction=True)
def test_what_is_cancelled_while_it_is_admitted_stays_cancelled(
    make_job, machines, start, worker, publisher, start_when_free
):
    for number in range(4):
        start(make_job(f"1.{number}"), machines[:2])
        run = start_when_free(make_job(f"2.{number}"), machines[:2])
        MachineRun.objects.end(worker, begin(worker), "succeeded", 0)
        found = at_once(lambda run=run: Run.objects.get(pk=run.pk).cancel(publisher), MachineRun.objects.admit)
        assert not [one for one in found if isinstance(one, Exception)], found
        assert state(run) == ("cancelled", 1, {"cancelled": 2})
        assert active(machines[0]) == 0


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_a_start_that_is_slow_to_commit_and_a_later_one_do_not_wait_for_each_other(
    make_job, machines, start, worker, start_when_free
):
    """The slow one has the older ids and is seen last: each is given the machine that the other asked for first."""
    one, two = machines[:2]
    holders = [start(make_job("1.0"), [one]), start(make_job("1.1"), [two])]
    slow, quick = make_job("2.0"), make_job("3.0")
    written, may_commit = threading.Event(), threading.Event()

    def start_slowly():
        with transaction.atomic():
            run = start_when_free(slow, [one, two], batch_size="1")
            written.set()
            may_commit.wait(PATIENCE)
        return run

    held = dict(MachineRun.objects.filter(pk__in=begin(worker)).values_list("run", "pk"))
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(at_once, start_slowly)
        assert written.wait(PATIENCE)
        later = start_when_free(quick, [two, one], batch_size="1")
        end(worker, [held[holders[0].pk]])
        may_commit.set()
        [earlier] = starting.result(PATIENCE)
    end(worker, [held[holders[1].pk]])
    while ids := begin(worker):
        end(worker, ids)
    assert [state(run)[2] for run in (earlier, later)] == [{"succeeded": 2}] * 2

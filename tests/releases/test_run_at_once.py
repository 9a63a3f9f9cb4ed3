"""What is done to a run at the same moment as its machines go on: each moment has one winner."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from jobs.models import Event, Job
from releases.ledger import Ledger
from releases.models import MachineRun, MachinesHeld, ReleaseStage, Run, RunMoved, Worker
from releases.tidying import move_on
from tests.parallel import at_once, waits_for_a_lock
from tests.waiting import PATIENCE, wait_until
from tests.workers import begin, claim, end, state

pytestmark = pytest.mark.django_db(transaction=True)


def step(name, run, by):
    """A person's step with a run, as a process of its own would take it."""
    return lambda: getattr(Run.objects.get(pk=run.pk), name)(by)


def test_between_a_cancel_and_a_natural_end_there_is_one_winner(start, make_job, machines, worker, publisher):
    for number in range(12):
        run = start(make_job(f"2.{number}"), machines[:2])
        ids = begin(worker)
        cancelled, ended = at_once(step("cancel", run, publisher), partial(end, worker, ids))
        assert ended is None
        assert isinstance(cancelled, RunMoved | None)
        assert state(run) == ("succeeded", 1, {"succeeded": 2})
        assert (run.cancelled_at is None) == (cancelled is not None)
        assert MachineRun.objects.end(worker, ids, "cancelled", 143) == 0
        assert state(run)[0] == "succeeded"
        assert Event.objects.filter(verb="ended", detail__run=run.pk).count() == 1
        assert Event.objects.filter(verb="cancelled", detail__run=run.pk).count() == (cancelled is None)


def test_between_a_cancel_and_a_begin_a_command_is_sent_or_called_off(start, make_job, machines, worker, publisher):
    for number in range(12):
        run = start(make_job(f"2.{number}"), machines)
        ids = claim(worker)
        cancelled, begun = at_once(step("cancel", run, publisher), partial(MachineRun.objects.begin, worker, ids))
        assert cancelled is None
        counts = state(run)[2]
        assert (counts.get("running", 0), counts.get("cancelled", 0)) == (len(begun), 6 - len(begun))
        assert set(MachineRun.objects.to_cancel(worker).values_list("pk", flat=True)) == begun
        end(worker, list(begun), "cancelled")
        assert state(run) == ("cancelled", 1, {"cancelled": 6})


def test_between_a_cancel_and_a_claim_nothing_is_left_behind(start, make_job, machines, publisher):
    for number in range(8):
        run = start(make_job(f"2.{number}"), machines)
        workers = [Worker.objects.enlist([]) for _ in range(2)]
        cancelled, *claimed = at_once(
            step("cancel", run, publisher),
            *[partial(MachineRun.objects.claim, worker, 3) for worker in workers],
        )
        assert cancelled is None
        assert not [error for error in claimed if isinstance(error, Exception)]
        assert state(run) == ("cancelled", 1, {"cancelled": 6})


def test_a_cancel_and_a_reaper_at_once_do_not_wait_for_each_other(start, make_job, machines, publisher):
    """Both change machine runs of one job and write an event of it."""
    for number in range(8):
        run = start(make_job(f"2.{number}"), machines, failure_budget=None)
        lost = Worker.objects.enlist([])
        begin(lost, 3)
        claim(lost)
        Worker.objects.filter(pk=lost.pk).update(stopped_at=Now())
        found = at_once(step("cancel", run, publisher), Worker.objects.bury_dead)
        assert not [error for error in found if isinstance(error, Exception)], found
        move_on()
        assert state(run) == ("cancelled", 1, {"unknown": 3, "cancelled": 3})
        run.machine_runs.filter(status="unknown").update(status="failed")


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock for all")
def test_the_last_end_while_a_cancel_is_not_yet_committed_leaves_no_run_behind(
    start, job, machines, worker, publisher, monkeypatch
):
    """Neither saw the other then: the stage ran on until somebody tidied up."""
    run = start(job, machines[:2])
    ids = begin(worker, 1)
    real, ended = Run.advance, []

    def advance(self):
        real(self)
        if not ended:
            ended.append(pool.submit(at_once, partial(end, worker, ids)))
            assert ended[0].result(PATIENCE) == [None]

    monkeypatch.setattr(Run, "advance", advance)
    with ThreadPoolExecutor(1) as pool:
        step("cancel", run, publisher)()
    assert state(run) == ("cancelled", 1, {"succeeded": 1, "cancelled": 1})


def test_a_pause_and_the_end_of_the_last_batch_at_once_leave_no_run_behind(
    start, make_job, machines, worker, publisher
):
    for number in range(8):
        run = start(make_job(f"2.{number}"), machines[:2])
        ids = begin(worker)
        paused, ended = at_once(step("pause", run, publisher), partial(end, worker, ids))
        assert (isinstance(paused, RunMoved | None), ended) == (True, None)
        assert state(run) == ("succeeded", 1, {"succeeded": 2})


def test_two_who_spend_the_budget_at_once_call_off_the_rest_once(start, job, machines, worker):
    run = start(job, machines, batch_size="2", failure_budget="2")
    first, second = begin(worker)
    at_once(*[partial(end, worker, [pk], "failed") for pk in (first, second)])
    assert state(run) == ("failed", 1, {"failed": 2, "not_run": 4})
    assert Event.objects.filter(verb="ended").count() == 1


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock for all")
def test_a_reaper_that_waits_for_a_job_holds_none_of_its_runs(start, job, machines, worker):
    """It writes an event of the job: to hold runs that the job's holder wants meanwhile would be a deadlock."""
    run = start(job, machines, failure_budget=None)
    begun = begin(worker, 2)
    claim(worker)
    Worker.objects.update(stopped_at=Now())
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            job.lock()
            reaping = pool.submit(at_once, Worker.objects.bury_dead)
            wait_until(waits_for_a_lock)
            assert run.machine_runs.call_off("cancelled") == 4
            run.machine_runs.filter(pk=begun[0]).update(status="failed")
        assert reaping.result(PATIENCE) == [begun[1:]]
    assert run.machine_runs.counts() == {"cancelled": 4, "failed": 1, "unknown": 1}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock for all")
def test_an_end_that_is_being_written_as_its_worker_is_given_up_stands(start, job, machines, worker):
    run = start(job, machines[:2], failure_budget=None)
    begun = begin(worker, 2)
    Worker.objects.update(stopped_at=Now())
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            run.machine_runs.filter(pk=begun[0]).update(status="succeeded")
            reaping = pool.submit(at_once, Worker.objects.bury_dead)
            wait_until(waits_for_a_lock)
        assert reaping.result(PATIENCE) == [begun[1:]]
    assert run.machine_runs.counts() == {"succeeded": 1, "unknown": 1}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock for all")
def test_a_rollback_of_two_stages_and_a_start_that_each_took_some_machines_have_one_winner(
    start, finish, make_job, machines, publisher, monkeypatch
):
    """The database ends one of the two, which wait for each other: that one is told, like who comes too late."""
    job, other = make_job("2.0"), make_job("3.0")
    for kind, chosen in (("pre-release", machines[1:2]), ("gray-release", machines[:1])):
        start(job, chosen, kind)
        finish()
    real, starting = Run.queue, []

    def queue(self, *args):
        real(self, *args)
        if not starting:
            starting.append(None)
            starting[0] = pool.submit(at_once, lambda: start(other, machines[:2]))
            wait_until(waits_for_a_lock)

    monkeypatch.setattr(Run, "queue", queue)
    stages, both = ReleaseStage.objects.of(Job.objects.get(pk=job.pk)), {one.pk for one in machines[:2]}
    with ThreadPoolExecutor(1) as pool:
        found = at_once(lambda: ReleaseStage.objects.roll_back(stages, both, publisher, "it hurts", "back"))
        found += starting[0].result(PATIENCE)
    assert [isinstance(one, MachinesHeld) for one in found].count(True) == 1, found
    assert MachineRun.objects.holding().count() == 2


def test_several_reapers_of_several_jobs_are_no_deadlock(start, make_job, machines):
    runs = [start(make_job(f"2.{number}"), machines[number : number + 1]) for number in range(6)]
    lost = Worker.objects.enlist([])
    begun = begin(lost)
    Worker.objects.update(stopped_at=Now())
    found = at_once(*[Worker.objects.bury_dead] * 4)
    assert sorted(pk for reaped in found for pk in reaped) == begun
    assert [run.machine_runs.get().status for run in runs] == ["unknown"] * 6
    assert Event.objects.filter(verb="lost").count() == 6


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock for all")
def test_a_worker_that_writes_several_ends_and_begins_is_no_deadlock_with_a_cancel(
    start, job, machines, worker, publisher, monkeypatch
):
    """Whoever changes several machine runs locks them in one order."""
    run = start(job, machines, failure_budget=None)
    first, second, third, *_ = claim(worker)
    queryset = type(MachineRun.objects.all())
    real, cancelling = queryset.begin, []

    def begin_while_somebody_cancels(self, *args):
        with transaction.atomic():
            begun = real(self, *args)
            cancelling.append(pool.submit(at_once, step("cancel", run, publisher)))
            wait_until(waits_for_a_lock)
        return begun

    monkeypatch.setattr(queryset, "begin", begin_while_somebody_cancels)
    unreachable = (MachineRun.objects.get(pk=first), None, ("unreachable", None, "refused"))
    ledger = Ledger(worker)
    with ThreadPoolExecutor(1) as pool:
        begun, _ = ledger._record([third, second], [unreachable], [], {run.pk})
        assert begun == {second, third}
        assert cancelling[0].result(PATIENCE) == [None]
    ledger.close()
    assert state(run) == ("running", 1, {"unreachable": 1, "running": 2, "cancelled": 3})

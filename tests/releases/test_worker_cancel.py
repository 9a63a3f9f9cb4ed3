"""A worker whose run is cancelled: it ends what it runs, begins nothing more, and tells how it was."""

import asyncio

import pytest

from releases.executors.base import Ending, ExecutorError, Outcome
from releases.models import LogBlock, MachineRun, Run
from tests.at_work import SUCCEEDED, Held, ScriptedExecutor
from tests.faults.seen import counts, ended, row
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Running:
    """A command that runs until it is cancelled, and then ends as `ending` says: an Outcome, or an error to raise."""

    def __init__(self, ending):
        self.ending, self.running = ending, False

    async def __call__(self, started, output):
        assert await started()
        self.running = True
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            await output(b"last words\n", "err")
        if isinstance(self.ending, Exception):
            raise self.ending
        return self.ending


class Connecting:
    """A machine that takes its time to be reached, until it is let go."""

    def __init__(self):
        self.connecting, self.go_on, self.answers = False, asyncio.Event(), []

    async def __call__(self, started, output):
        self.connecting = True
        await self.go_on.wait()
        self.answers.append(await started())
        return SUCCEEDED if self.answers[0] else Outcome(Ending.UNKNOWN)


def quiet(working):
    """Waits until the worker has nothing more to do."""
    wait_until(lambda: not working.worker.tasks)


@pytest.mark.parametrize(
    ("ending", "told", "run_status"),
    [
        (Outcome(Ending.CANCELLED, 143), ("cancelled", 143, ""), "cancelled"),
        (Outcome(Ending.UNKNOWN, None, "Its end was not seen."), ("unknown", None, "Its end was not seen."), "failed"),
        (Outcome(Ending.SUCCEEDED, 0), ("succeeded", 0, ""), "succeeded"),
        (Outcome(Ending.FAILED, 7, "Exit status 7"), ("failed", 7, "Exit status 7"), "failed"),
        (Outcome(Ending.TIMED_OUT, 137, "Too late"), ("timed_out", 137, "Too late"), "failed"),
        (ExecutorError("too late to say so"), ("unknown", None, "too late to say so"), "failed"),
        (ValueError("a bug"), ("unknown", None, "The portal itself failed here; its log has the details."), "failed"),
    ],
)
def test_what_ran_is_ended_and_told_as_it_was_seen(at_work, start, job, machines, publisher, ending, told, run_status):
    running = Running(ending)
    run = start(job, machines[:1])
    at_work(ScriptedExecutor(pay_1=running))
    wait_until(lambda: running.running)
    run.cancel(publisher)
    assert ended(run).status == run_status
    machine_run = run.machine_runs.get()
    assert (machine_run.status, machine_run.exit_status, machine_run.reason) == told
    assert (machine_run.note, machine_run.ended_at is None) == ("", False)
    assert LogBlock.objects.filter(machine_run=machine_run, text="last words\n").exists()


def test_what_has_not_begun_is_never_sent(at_work, start, job, machines, publisher):
    running = Running(Outcome(Ending.CANCELLED, 143))
    run = start(job, machines, batch_size="2")
    working = at_work(ScriptedExecutor(pay_1=running), at_once=1)
    wait_until(lambda: running.running)
    run.cancel(publisher)
    assert ended(run).status == Run.Status.CANCELLED
    quiet(working)
    assert counts(run) == {"cancelled": 6}
    assert working.executor.sent == ["pay-1"]
    assert run.machine_runs.filter(started_at=None).count() == 5


@pytest.mark.parametrize("reached", [True, False])
def test_a_machine_that_is_being_connected_to_is_called_off(at_work, start, job, machines, publisher, reached):
    slow = Connecting()

    async def refuse(started, output):
        slow.connecting = True
        await slow.go_on.wait()
        raise ExecutorError("The machine refused the connection.")

    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=slow if reached else refuse))
    wait_until(lambda: slow.connecting)
    run.cancel(publisher)
    assert ended(run).status == Run.Status.CANCELLED
    working.call(slow.go_on.set)
    quiet(working)
    called_off = run.machine_runs.get()
    assert (called_off.status, called_off.reason, called_off.note) == ("cancelled", "", "")
    assert (working.executor.sent, slow.answers) == ([], [False] if reached else [])


def test_a_cancel_between_the_begin_and_the_sending_sends_nothing(at_work, start, job, machines, publisher):
    """The ledger says that it runs, and nothing was sent yet: the executor lets the cancellation go on."""
    begun = asyncio.Event()

    async def dawdle(started, output):
        assert await started()
        begun.set()
        await asyncio.sleep(3600)

    run = start(job, machines[:1])
    at_work(ScriptedExecutor(pay_1=dawdle))
    wait_until(begun.is_set)
    run.cancel(publisher)
    assert ended(run).status == Run.Status.CANCELLED
    assert (row(run, "pay-1").status, row(run, "pay-1").exit_status) == ("cancelled", None)


def test_a_cancel_ends_a_command_once(at_work, start, job, machines, publisher):
    """A second cancellation would tear the executor away from the command whose end it waits for."""
    seen, looks = [], []

    async def take_a_while_to_die(started, output):
        await started()
        seen.append("running")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            seen.append("cancelled")
        looks.clear()
        while len(looks) < 3:
            await asyncio.sleep(0.01)
        return Outcome(Ending.CANCELLED, 143)

    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=take_a_while_to_die))
    real = working.worker._look
    working.worker._look = lambda *args: looks.append(args) or real(*args)
    wait_until(lambda: seen)
    run.cancel(publisher)
    ended(run)
    assert (seen, row(run, "pay-1").exit_status) == (["running", "cancelled"], 143)


def test_a_cancelled_run_leaves_the_others_alone(at_work, start, make_job, machines, publisher):
    cancelled, held = Running(Outcome(Ending.CANCELLED, 143)), Held()
    first, second = start(make_job("2.0"), machines[:1]), start(make_job("3.0"), machines[1:3])
    working = at_work(ScriptedExecutor(pay_1=cancelled, pay_2=held))
    wait_until(lambda: cancelled.running and held.running)
    first.cancel(publisher)
    assert ended(first).status == Run.Status.CANCELLED
    assert held.running
    working.call(held.let_go.set)
    assert ended(second).status == Run.Status.SUCCEEDED


def test_the_room_of_what_was_cancelled_is_used_again(at_work, start, make_job, machines, publisher):
    running = Running(Outcome(Ending.CANCELLED, 143))
    first = start(make_job("2.0"), machines[:1])
    at_work(ScriptedExecutor(pay_1=running), at_once=1)
    wait_until(lambda: running.running)
    second = start(make_job("3.0"), machines[1:2])
    assert counts(second) == {"queued": 1}
    first.cancel(publisher)
    assert ended(second).status == Run.Status.SUCCEEDED
    assert counts(first) == {"cancelled": 1}


def test_a_paused_run_is_cancelled_too(at_work, start, job, machines, publisher):
    running = Running(Outcome(Ending.CANCELLED, 143))
    run = start(job, machines, batch_size="1")
    at_work(ScriptedExecutor(pay_1=running))
    wait_until(lambda: running.running)
    run.pause(publisher)
    run.cancel(publisher)
    wait_until(lambda: Run.objects.get(pk=run.pk).status == Run.Status.CANCELLED)
    assert counts(run) == {"cancelled": 6}


def test_a_worker_that_drains_still_ends_what_is_cancelled(at_work, start, job, machines, publisher):
    running = Running(Outcome(Ending.CANCELLED, 143))
    run = start(job, machines, batch_size="1")
    working = at_work(ScriptedExecutor(pay_1=running), grace=3600)
    wait_until(lambda: running.running)
    working.drain()
    wait_until(working.worker.draining.is_set)
    run.cancel(publisher)
    working.end()
    assert working.ended_well
    assert (ended(run).status, counts(run)) == ("cancelled", {"cancelled": 6})


def test_what_is_still_dying_when_the_worker_is_told_to_end_at_once_is_unknown(
    at_work, start, job, machines, publisher
):
    held = Held(dies=False)
    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=held), grace=3600)
    wait_until(lambda: held.running)
    run.cancel(publisher)
    wait_until(lambda: working.worker.cancelled)
    working.drain()
    working.drain()
    working.end()
    assert counts(run) == {"unknown": 1}


def test_two_workers_each_end_their_own(at_work, start, job, machines, publisher):
    running = [Running(Outcome(Ending.CANCELLED, 143)) for _ in range(2)]
    scripts = dict(zip(("pay_1", "pay_2"), running, strict=True))
    run = start(job, machines[:2])
    for _ in range(2):
        at_work(ScriptedExecutor(**scripts), at_once=1)
    wait_until(lambda: all(one.running for one in running))
    workers = set(MachineRun.objects.values_list("worker", flat=True))
    run.cancel(publisher)
    assert ended(run).status == Run.Status.CANCELLED
    assert (len(workers), counts(run)) == (2, {"cancelled": 2})

"""A task's check: a machine counts as succeeded when task and check did."""

import asyncio

import pytest

from releases.executors.base import Ending, ExecutorError, Outcome
from releases.models import LogBlock, ReleaseStage, Run
from tests.at_work import SUCCEEDED, Held, ScriptedExecutor, ends, succeed
from tests.faults.seen import counts, ended, row
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

CHECK = "curl -fsS localhost/health"


@pytest.fixture
def checked(release_task):
    release_task.revise("echo done", None, CHECK)


class Both:
    """Does one thing as the task and another as its check; `checks` counts how often it was asked for the latter."""

    def __init__(self, task=succeed, check=succeed):
        self.task, self.check = task, check
        self.executor, self.checks = None, 0

    async def __call__(self, started, output):
        if self.executor.orders[-1].script != CHECK:
            return await self.task(started, output)
        self.checks += 1
        return await self.check(started, output)


@pytest.fixture
def released(at_work, checked, start, job, machines):
    """Starts a run on pay-1, whose task and check do what is given; returns the run, the worker, the script."""

    def released(task=succeed, check=succeed):
        both = Both(task, check)
        run = start(job, machines[:1])
        both.executor = ScriptedExecutor(pay_1=both)
        return run, at_work(both.executor), both

    return released


def told(run):
    machine_run = run.machine_runs.get()
    return machine_run.status, machine_run.exit_status, machine_run.reason


def test_a_check_is_run_after_the_task_on_the_same_machine_with_the_same_values(released):
    run, working, _ = released()
    assert ended(run).status == Run.Status.SUCCEEDED
    task, check = working.executor.orders
    assert (task.script, check.script) == ("echo done", CHECK)
    assert (task.hostname, task.address, task.timeout, task.env) == (
        check.hostname,
        check.address,
        check.timeout,
        check.env,
    )
    assert told(run) == ("succeeded", 0, "")


def test_a_task_without_a_check_is_one_order(at_work, start, job, machines):
    run = start(job, machines[:1])
    working = at_work()
    ended(run)
    assert len(working.executor.orders) == 1


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.TIMED_OUT, Ending.UNKNOWN])
def test_what_did_not_succeed_is_not_checked(released, ending):
    run, _, both = released(task=ends(Outcome(ending, 3, "as it was seen")))
    assert ended(run).status == Run.Status.FAILED
    assert (both.checks, told(run)) == (0, (str(ending), 3, "as it was seen"))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(Ending.FAILED, 22), ("failed", 22, "The task succeeded, but its check did not.")),
        (
            Outcome(Ending.FAILED, None, "Killed by a signal."),
            ("failed", None, "The task succeeded, but its check did not."),
        ),
        (
            Outcome(Ending.TIMED_OUT, 137, "Killed."),
            ("timed_out", 137, "The task succeeded, but its check did not end in time."),
        ),
        (Outcome(Ending.UNKNOWN, None, "The connection was lost."), ("unknown", None, "The connection was lost.")),
    ],
)
def test_a_machine_whose_check_does_not_succeed_has_not_succeeded(released, outcome, expected):
    run, _, _ = released(check=ends(outcome))
    assert ended(run).status == Run.Status.FAILED
    assert told(run) == expected


def log_of(run):
    blocks = LogBlock.objects.filter(machine_run__run=run).order_by("number")
    return "".join(block.text for block in blocks)


def test_a_check_that_cannot_be_run_is_a_failure_and_says_so(released):
    async def refuse(started, output):
        raise ExecutorError("The machine refused the connection.")

    run, _, _ = released(check=refuse)
    assert ended(run).status == Run.Status.FAILED
    assert told(run) == ("failed", None, "The task succeeded, but its check could not be run; the log says why.")
    assert "The machine refused the connection.\n" in log_of(run)


def test_why_a_check_failed_is_in_the_log(released):
    """As that its machine went down before it was sent."""
    run, _, _ = released(check=ends(Outcome(Ending.FAILED, reason="The machine refused the connection.")))
    ended(run)
    assert log_of(run) == "The machine refused the connection.\n"


def test_a_check_that_breaks_the_executor_leaves_an_unknown_machine(released):
    async def break_down(started, output):
        raise ValueError("a bug")

    run, _, _ = released(check=break_down)
    ended(run)
    assert told(run)[0] == "unknown"


def test_what_the_check_says_follows_in_the_same_log(released):
    def says(words):
        async def say(started, output):
            await started()
            await output(words, "out")
            return SUCCEEDED

        return say

    run, _, _ = released(says(b"deployed\n"), says(b"healthy\n"))
    ended(run)
    assert log_of(run) == "deployed\nhealthy\n"


def test_a_machine_is_running_until_its_check_has_ended(released):
    held = Held()
    run, working, _ = released(check=held)
    wait_until(lambda: held.running)
    assert counts(run) == {"running": 1}
    working.call(held.let_go.set)
    assert ended(run).status == Run.Status.SUCCEEDED


def test_a_failed_check_counts_against_the_budget(at_work, checked, start, job, machines):
    both = Both(check=ends(Outcome(Ending.FAILED, 1)))
    run = start(job, machines, batch_size="1")
    both.executor = ScriptedExecutor(pay_1=both)
    at_work(both.executor)
    ended(run)
    assert counts(run) == {"failed": 1, "not_run": 5}


def test_a_rollback_has_the_check_of_its_own_task(
    at_work, checked, start, finish, job, machines, rollback_task, publisher
):
    rollback_task.revise("echo back", None, "test -e old")
    start(job, machines[:1])
    finish()
    stage = ReleaseStage.objects.of_kind(job, "pre-release")
    rollback = stage.roll_back(publisher, machines[:1], "it hurts", "back")
    working = at_work()
    ended(rollback)
    assert [order.script for order in working.executor.orders] == ["echo back", "test -e old"]


# Cancelled at the check


CANCELLED = "The task succeeded; its check was cancelled."


def test_a_check_is_ended_when_its_run_is_cancelled(released, publisher):
    held = Held()
    run, _, _ = released(check=held)
    wait_until(lambda: held.running)
    run.cancel(publisher)
    assert ended(run).status == Run.Status.CANCELLED
    assert told(run) == ("cancelled", 143, CANCELLED)
    assert [one.machine.hostname for one in run.stage.rollback_candidates()] == ["pay-1"]


def test_a_check_whose_run_is_cancelled_while_it_connects_is_not_sent(released, publisher):
    connecting = asyncio.Event()

    async def connect_for_ever(started, output):
        connecting.set()
        await asyncio.sleep(3600)

    run, working, _ = released(check=connect_for_ever)
    wait_until(connecting.is_set)
    run.cancel(publisher)
    assert ended(run).status == Run.Status.CANCELLED
    assert told(run) == ("cancelled", None, CANCELLED)
    assert working.executor.sent == ["pay-1"]


def test_no_check_begins_after_a_cancel_that_found_the_task_just_ended(released, publisher):
    running = asyncio.Event()

    async def end_by_itself(started, output):
        await started()
        running.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        return SUCCEEDED

    run, _, both = released(task=end_by_itself)
    wait_until(running.is_set)
    run.cancel(publisher)
    assert ended(run).status == Run.Status.CANCELLED
    assert (both.checks, told(run)) == (0, ("cancelled", None, CANCELLED))


def test_a_worker_told_to_end_leaves_a_check_that_goes_on_unknown(released):
    held = Held()
    run, working, _ = released(check=held)
    wait_until(lambda: held.running)
    working.drain()
    working.drain()
    working.end()
    assert row(run, "pay-1").status == "unknown"

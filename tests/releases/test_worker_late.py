"""A worker that stood still for so long that it was given up: what it comes back to is no longer its own."""

import asyncio
import threading
import time

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from releases.models import MachineRun, Run, Worker
from tests.at_work import SUCCEEDED, Held, ScriptedExecutor, succeed
from tests.faults.seen import ended, row
from tests.waiting import PATIENCE, wait_until
from tests.workers import fall_silent

pytestmark = pytest.mark.django_db(transaction=True)


def given_up(worker):
    """What others do when they have not heard of it for long enough."""
    with transaction.atomic():  # no heartbeat comes between
        fall_silent(worker)
        Worker.objects.bury_dead()
    connection.close()


class StandsStill:
    """Stops a worker's database thread after the commit in which something began, until it is let go."""

    def __init__(self, ledger, monkeypatch):
        self.record, self.reached, self.let_go = ledger._record, threading.Event(), threading.Event()
        monkeypatch.setattr(ledger, "_record", self)

    def __call__(self, begins, *others):
        recorded = self.record(begins, *others)
        if begins:
            self.reached.set()
            self.let_go.wait()
        return recorded


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_command_is_not_sent_when_its_beginning_is_long_ago(
    at_work, start, job, machines, settings, monkeypatch, seconds
):
    """It was `running` in the ledger, then `unknown`: by now a person may have looked, and found nothing."""
    settings.WORKER_DEAD_AFTER = 1 if seconds else 60
    working = at_work()
    still = StandsStill(working.worker.ledger, monkeypatch)
    run = start(job, machines[:1])
    assert still.reached.wait(PATIENCE)
    began = time.monotonic()
    if seconds:
        given_up(working.worker.worker)
        wait_until(lambda: time.monotonic() > began + settings.WORKER_DEAD_AFTER)
    still.let_go.set()
    if seconds:
        wait_until(lambda: working.has_ended)
        assert not working.ended_well
    assert ended(run).status == (Run.Status.FAILED if seconds else Run.Status.SUCCEEDED)
    assert row(run, "pay-1").status == ("unknown" if seconds else "succeeded")
    assert working.executor.sent == ([] if seconds else ["pay-1"])


def test_a_command_is_not_sent_when_the_answer_to_its_beginning_was_long_in_coming(
    at_work, start, job, machines, settings, monkeypatch
):
    """The commit was quick; the network was not, or the process stood still while it listened."""
    settings.WORKER_DEAD_AFTER = 1
    manager = type(MachineRun.objects.all())
    begin, reached, let_go = manager.begin, threading.Event(), threading.Event()

    def begin_and_hear_of_it_late(self, *args):
        begun = begin(self, *args)
        reached.set()
        let_go.wait(PATIENCE)
        return begun

    monkeypatch.setattr(manager, "begin", begin_and_hear_of_it_late)
    working = at_work()
    run = start(job, machines[:1])
    assert reached.wait(PATIENCE)
    committed = time.monotonic()
    given_up(working.worker.worker)
    wait_until(lambda: time.monotonic() > committed + settings.WORKER_DEAD_AFTER)
    let_go.set()
    wait_until(lambda: working.has_ended)
    assert working.executor.sent == []
    assert row(run, "pay-1").status == "unknown"


def test_what_begins_is_its_own_for_as_long_as_it_may_be_sent_however_old_the_last_heartbeat_was(
    at_work, start, job, machines, monkeypatch
):
    """Its database thread was held up, by a lock or a network, and comes to the beginning before the next heartbeat."""
    working = at_work()
    record = working.worker.ledger._record

    def record_late(begins, *others):
        if begins:
            fall_silent(working.worker.worker)
        recorded = record(begins, *others)
        Worker.objects.bury_dead()
        return recorded

    monkeypatch.setattr(working.worker.ledger, "_record", record_late)
    run = start(job, machines[:1])
    assert ended(run).status == Run.Status.SUCCEEDED
    assert working.executor.sent == ["pay-1"]


def test_no_check_begins_on_a_machine_that_is_no_longer_its_own(
    at_work, release_task, start, job, machines, publisher, settings
):
    settings.WORKER_DEAD_AFTER = 15  # a fifth of it until it hears of it
    release_task.revise("echo done", None, "check")
    sent = []

    async def execute(started, output):
        may = await started()
        sent.append((executor.orders[-1].script, may))
        if executor.orders[-1].script != "check":
            await sync_to_async(given_up)(working.worker.worker)
        return SUCCEEDED

    executor = ScriptedExecutor(pay_1=execute)
    working = at_work(executor)
    run = start(job, machines[:1])
    wait_until(lambda: working.has_ended)
    assert sent == [("echo done", True), ("check", False)]
    assert row(run, "pay-1").status == "unknown"
    row(run, "pay-1").resolve(publisher, MachineRun.Status.FAILED, "looked")
    assert row(run, "pay-1").status == "failed"


def test_no_check_begins_when_the_answer_that_it_may_was_long_in_coming(
    at_work, release_task, start, job, machines, settings, monkeypatch
):
    settings.WORKER_DEAD_AFTER = 15  # a fifth of it until it hears of it
    release_task.revise("echo done", None, "check")
    may_end = asyncio.Event()

    async def execute(started, output):
        await started()
        if executor.orders[-1].script != "check":
            await may_end.wait()
        return SUCCEEDED

    executor = ScriptedExecutor(pay_1=execute)
    working = at_work(executor)
    run = start(job, machines[:1])
    wait_until(lambda: executor.sent)
    settings.WORKER_DEAD_AFTER = 1
    still = StandsStill(working.worker.ledger, monkeypatch)
    working.call(may_end.set)
    assert still.reached.wait(PATIENCE)
    began = time.monotonic()
    given_up(working.worker.worker)
    wait_until(lambda: time.monotonic() > began + settings.WORKER_DEAD_AFTER)
    still.let_go.set()
    wait_until(lambda: working.has_ended)
    assert executor.sent == ["pay-1"]
    assert row(run, "pay-1").status == "unknown"


def test_a_check_begins_on_a_machine_that_is_still_its_own(at_work, release_task, start, job, machines):
    release_task.revise("echo done", None, "check")
    working = at_work(ScriptedExecutor(pay_1=succeed))
    run = start(job, machines[:1])
    assert ended(run).status == Run.Status.SUCCEEDED
    assert working.executor.sent == ["pay-1", "pay-1"]


def test_what_was_about_to_be_recorded_when_the_worker_ended_is_noted(at_work, start, job, machines, monkeypatch):
    """The command on pay-1 ended while the database thread was busy with pay-2, and the worker was told to end."""
    first, may_begin = Held(), asyncio.Event()

    async def later(started, output):
        await may_begin.wait()
        return await succeed(started, output)

    working = at_work(ScriptedExecutor(pay_1=first, pay_2=later), grace=0)
    run = start(job, machines[:2], failure_budget="")
    wait_until(lambda: first.running)
    still = StandsStill(working.worker.ledger, monkeypatch)
    working.call(may_begin.set)
    assert still.reached.wait(PATIENCE)
    working.call(first.let_go.set)
    wait_until(lambda: working.worker.ledger.ends)
    working.drain()
    wait_until(lambda: working.worker.stopping)
    still.let_go.set()
    working.end()
    assert row(run, "pay-1").status == "unknown"
    assert "succeeded, exit status 0" in row(run, "pay-1").note

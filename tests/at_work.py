"""Workers driven for real: their own threads and event loops, with an executor that does what a test says."""

import asyncio
from threading import Thread

from django.db import connection

from releases.executors.base import Ending, Executor, Outcome
from releases.worker import ReleaseWorker
from tests.waiting import PATIENCE

SUCCEEDED = Outcome(Ending.SUCCEEDED, 0)


class ScriptedExecutor(Executor):
    """Does on each machine what `on` says for its host name: a coroutine of (started, output), or nothing special."""

    def __init__(self, **on):
        self.on = {name.replace("_", "-"): what for name, what in on.items()}
        self.now = self.most = 0
        self.orders, self.sent, self.closed = [], [], False

    async def execute(self, order, started, output):
        self.orders.append(order)
        self.now += 1
        self.most = max(self.most, self.now)

        async def told():
            may = await started()
            if may:
                self.sent.append(order.hostname)
            return may

        try:
            return await self.on.get(order.hostname, succeed)(told, output)
        finally:
            self.now -= 1

    async def close(self):
        self.closed = True


async def succeed(started, output):
    await started()
    return SUCCEEDED


def ends(outcome):
    async def end(started, output):
        await started()
        return outcome

    return end


class Held:
    """A command that runs until it is let go, or is cancelled."""

    def __init__(self, dies=True):
        self.running = False
        self.let_go = asyncio.Event()
        self.dies = dies

    async def __call__(self, started, output):
        if not await started():
            return Outcome(Ending.UNKNOWN)
        self.running = True
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            if not self.dies:
                await asyncio.sleep(3600)
            return Outcome(Ending.CANCELLED, 143)
        finally:
            self.running = False
        return SUCCEEDED


class Working:
    """A worker at work on an event loop of its own, in a thread."""

    def __init__(self, executor, **options):
        self.executor = executor
        self.worker = ReleaseWorker(executor, **options)
        self.ended_well = None
        self.thread = Thread(target=self._run)

    def _run(self):
        self.loop = asyncio.new_event_loop()
        self.ended_well = self.loop.run_until_complete(self.worker.work())
        self.loop.close()
        connection.close()

    def call(self, function):
        self.loop.call_soon_threadsafe(function)

    def drain(self):
        self.call(self.worker.drain)

    def end(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "the worker did not end"

    @property
    def has_ended(self):
        return not self.thread.is_alive()

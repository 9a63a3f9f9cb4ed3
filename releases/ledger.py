"""The worker's hand on the ledger: what happened to many machines at once, written in one transaction at a time."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import defaultdict

from django.conf import settings
from django.db import Error, close_old_connections, connection, connections, transaction

from deploy_portal import origin
from deploy_portal.database import is_away
from releases.log import BLOCKS_AT_ONCE
from releases.models import LogBlock, MachineRun, Run

log = logging.getLogger(__name__)

TICK = 0.02
LOG_TICK = 0.2
RETRY_AFTER = 0.5
TELL_AFTER = 60
CLOSE_WITHIN = 2
LOG_BYTES_AHEAD = 4_000_000


class Ledger:
    """Collects begins, log blocks and ends, and writes them from one thread, the only one with a connection."""

    def __init__(self, worker):
        self.worker = worker
        self.calls = queue.SimpleQueue()
        # A daemon: whoever is told to end does not wait for a database that may never come back.
        self.thread = threading.Thread(target=_serve, args=(self.calls,), name="ledger", daemon=True)
        self.thread.start()
        self.in_hand = {}  # the run of each machine run that was claimed and has not ended
        self.begins, self.ends, self.keepers = {}, {}, set()
        self.unwritten = 0
        self.is_given_up = False
        self.due = asyncio.Event()
        self.written = asyncio.Event()

    async def ask(self, function, *args):
        """Calls `function` in the database thread, again and again while the database is away."""
        promise = asyncio.get_running_loop().create_future()
        self.calls.put((promise, function, args))
        return await promise

    async def begin(self, machine_run_id):
        """Whether the machine run is now `running`, and still this worker's: only then may its command be sent.

        It may no longer be when its worker stood still since: the others have given that up. May be asked again, of
        what has begun: before a check, or where the command could not be sent yet.
        """
        begun_at = await self._promise(self.begins, machine_run_id, ())
        return begun_at is not None and time.monotonic() < begun_at + settings.WORKER_DEAD_AFTER

    async def end(self, machine_run, keeper, ending):
        """Records `ending` (status, exit status, reason) together with the last of the log."""
        if not self.is_given_up:
            await self._promise(self.ends, machine_run.pk, (machine_run, keeper, ending))

    async def keep(self, keeper, data, stream):
        """Adds output to a log; waits while too much of it is not yet written."""
        keeper.feed(data, stream)
        self.keepers.add(keeper)
        self.unwritten += len(data)
        while self.unwritten > LOG_BYTES_AHEAD:
            self.due.set()
            self.written.clear()
            await self.written.wait()

    async def write_for_ever(self):
        while True:
            await pause(self.due, LOG_TICK)
            await asyncio.sleep(TICK)  # so that machines which begin or end together are written together
            self.due.clear()
            if self.begins or self.ends or self.keepers:
                await self._write()

    async def _promise(self, pending, machine_run_id, what):
        promise = asyncio.get_running_loop().create_future()
        pending[machine_run_id] = (promise, what)
        self.due.set()
        return await promise

    async def _write(self):
        begins, self.begins = self.begins, {}
        ends, self.ends = self.ends, {}
        keepers, self.keepers, self.unwritten = self.keepers, set(), 0
        ending = {what[1] for _, what in ends.values()}
        share = BLOCKS_AT_ONCE // max(1, len(keepers | ending))
        blocks = [block for keeper in keepers - ending for block in keeper.take(share)]
        blocks += [block for keeper in ending for block in keeper.finish(share)]
        ended = [what for _, what in ends.values()]
        begun, at = await self.ask(self._record, list(begins), ended, blocks, self._moved_by(ended))
        for machine_run_id, (promise, _) in begins.items():
            _answer(promise, at if machine_run_id in begun else None)
        for promise, _ in ends.values():
            _answer(promise, True)
        self.written.set()

    def _moved_by(self, ends):
        """The runs that these ends may move on: where one is no success, or the last that this worker holds."""
        runs = {self.in_hand.pop(machine_run.pk, None) for machine_run, *_ in ends}
        bad = {machine_run.run_id for machine_run, _, (status, *_) in ends if status != MachineRun.Status.SUCCEEDED}
        return bad | (runs - set(self.in_hand.values()))

    # Ends first, and what they mean for their runs: nothing begins that a failure before it would have called off.
    def _record(self, begins, ends, blocks, moved):
        if ends or blocks:
            self._record_ends(ends, blocks)
        # After the commit: two workers that end a batch together must see each other.
        if ends:
            MachineRun.objects.admit()
        if moved:
            Run.objects.due().filter(pk__in=moved).advance()
        if not begins:
            return set(), None
        # The clock before the question: how long its answer takes to come is time in which this worker was silent. It
        # beats right after: the others count from its last heartbeat, which may be old where this thread was held up.
        asked_at = time.monotonic()
        if not self.worker.beat():
            return set(), None
        return MachineRun.objects.begin(self.worker, begins), asked_at

    @transaction.atomic
    def _record_ends(self, ends, blocks):
        by_ending = defaultdict(list)
        for machine_run, _, ending in ends:
            by_ending[ending].append(machine_run.pk)
        MachineRun.objects.filter(pk__in=[machine_run.pk for machine_run, *_ in ends]).lock()
        LogBlock.objects.bulk_create(blocks, batch_size=500, ignore_conflicts=True)
        for (status, exit_status, reason), ids in by_ending.items():
            MachineRun.objects.end(self.worker, ids, status, exit_status, reason)

    def close(self):
        self.calls.put(None)
        self.thread.join(CLOSE_WITHIN)


async def pause(event, seconds):
    """Waits for `event`, but no longer than that. Python 3.11's asyncio.wait_for may swallow a cancellation."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _serve(calls):
    """The life of the database thread: answers one call after the other."""
    with origin.process("worker"):
        while call := calls.get():
            promise, function, args = call
            try:
                tell, value = _answer, _persistently(function, *args)
            except Exception as error:
                tell, value = _fail, error
            with contextlib.suppress(RuntimeError):  # its loop has ended
                promise.get_loop().call_soon_threadsafe(tell, promise, value)
    connections.close_all()


def _persistently(function, *args):
    tell_at = 0
    while True:
        try:
            if connection.vendor != "sqlite":  # which has nothing that could have gone, and would be opened each time
                close_old_connections()
            return function(*args)
        except Error as error:
            if not is_away(error):
                raise
            if time.monotonic() >= tell_at:  # a night of it is not to fill the log
                log.warning("The database is away or busy; trying again: %s", error)
                tell_at = time.monotonic() + TELL_AFTER
            connection.close()
            time.sleep(RETRY_AFTER)


def _answer(promise, value):
    if not promise.done():
        promise.set_result(value)


def _fail(promise, error):
    if not promise.done():
        promise.set_exception(error)

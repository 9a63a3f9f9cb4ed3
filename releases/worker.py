"""The worker: claims machine runs from the ledger, executes them, records what happened, recovers what others lost."""

import asyncio
import logging

from django.conf import settings
from django.utils.translation import gettext_noop

from releases.executors.base import ExecutorError, Order
from releases.ledger import Ledger, pause
from releases.log import LogKeeper, inert
from releases.models import MachineRun, Run, Worker

log = logging.getLogger(__name__)

POLL = 0.2
CANCEL_GRACE = 15
TIDY = 3
BROKEN = gettext_noop("The portal itself failed here; its log has the details.")


class ReleaseWorker:
    """Runs until `drain` and the end of what it runs, or until it is given up. `grace` is in seconds."""

    def __init__(self, executor, sites=(), at_once=None, grace=60):
        self.executor = executor
        self.sites = list(sites)
        self.at_once = at_once or settings.WORKER_MACHINES_AT_ONCE
        self.grace = grace
        self.tasks = {}
        self.room_made = asyncio.Event()
        self.draining = asyncio.Event()
        self.given_up = self.hurried = False

    async def work(self):
        """Claims and executes; returns False when it was given up and what it held is no longer its own."""
        self.ledger = Ledger(worker=None)
        self.worker = self.ledger.worker = await self.ledger.ask(Worker.objects.enlist, self.sites)
        parts = (self.ledger.write_for_ever, self._claim_for_ever, self._tidy_for_ever, self._beat, self._drained)
        parts = [asyncio.create_task(part()) for part in parts]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop(parts)
        for part in done:
            part.result()
        return not self.given_up

    def drain(self):
        """Claims nothing more and ends once what runs has ended; called again, ends at once."""
        if self.draining.is_set():
            self.grace, self.hurried = 0, True
            self.room_made.set()
        self.draining.set()

    async def claim(self):
        """Claims what there is room for and starts on it; whether there was any."""
        room = self.at_once - len(self.tasks)
        claimed = await self.ledger.ask(self._claim, room, list(self.tasks)) if room > 0 else []
        for machine_run in claimed:
            task = asyncio.create_task(self._execute(machine_run))
            self.tasks[machine_run.pk] = task
            task.add_done_callback(lambda _, pk=machine_run.pk: self._done(pk))
        return bool(claimed)

    def _claim(self, room, known):
        if not MachineRun.objects.claimable(self.sites).exists():
            return []
        MachineRun.objects.claim(self.worker, room)
        mine = MachineRun.objects.claimed_by(self.worker).exclude(pk__in=known)
        return list(mine.select_related("machine", "run__task_version", "run__stage__job__business"))

    def _done(self, pk):
        del self.tasks[pk]
        self.room_made.set()

    async def _execute(self, machine_run):
        keeper = LogKeeper(machine_run.pk)
        begun = False

        async def started():
            nonlocal begun
            begun = await self.ledger.begin(machine_run.pk)
            return begun

        try:
            outcome = await self.executor.execute(
                _order(machine_run), started, lambda data, stream: self.ledger.keep(keeper, data, stream)
            )
            ending = (str(outcome.ending), _storable(outcome.exit_status), inert(outcome.reason))
        except ExecutorError as error:
            ending = (_unseen(begun), None, inert(str(error)))
        except Exception:
            log.exception("Machine run %s failed in the portal itself", machine_run.pk)
            ending = (_unseen(begun), None, BROKEN)
        await self.ledger.end(machine_run, keeper, ending)

    async def _claim_for_ever(self):
        while True:
            if not self.draining.is_set():
                await self.claim()
            await pause(self.room_made, POLL)
            self.room_made.clear()

    async def _tidy_for_ever(self):
        while True:
            await self.ledger.ask(tidy)
            await asyncio.sleep(TIDY)

    async def _beat(self):
        """Ends only when this worker was given up."""
        while await self.ledger.ask(self.worker.beat):
            await asyncio.sleep(settings.WORKER_DEAD_AFTER / 5)
        log.error("Worker %s was given up; it ends itself", self.worker)
        self.given_up = True

    async def _drained(self):
        """Ends when draining was asked for and nothing runs any more, or the grace is over."""
        await self.draining.wait()
        clock = asyncio.get_running_loop().time
        began = clock()
        while self.tasks and clock() < began + self.grace:
            self.room_made.clear()
            await pause(self.room_made, POLL)

    async def _stop(self, parts):
        """What still runs by now becomes unknown, is then cancelled, and leaves a note of how that ended."""
        await self.ledger.ask(self.worker.leave)
        executions = list(self.tasks.values())
        for task in executions:
            task.cancel()
        await self._see_out(executions)
        # An executor ends a first cancellation itself; a second one goes on.
        for task in [*parts, *executions]:
            task.cancel()
        await asyncio.gather(*parts, *executions, return_exceptions=True)
        await self.executor.close()
        self.ledger.close()

    async def _see_out(self, executions):
        """Gives cancelled executions time to say how they ended, unless ending at once was asked for."""
        clock = asyncio.get_running_loop().time
        patience = clock() + CANCEL_GRACE
        while executions and clock() < patience:
            _, executions = await asyncio.wait(executions, timeout=POLL)
            if self.hurried:
                return


def _unseen(begun):
    """The state of a machine whose end was not seen: without a command sent, nothing can have ended."""
    return MachineRun.Status.UNKNOWN if begun else MachineRun.Status.UNREACHABLE


def _storable(exit_status):
    """An exit status comes from the machine as any 32 bits; the ledger's column is signed."""
    return exit_status if exit_status is None else min(exit_status, 2**31 - 1)


def tidy():
    """Recovers what dead workers held, and moves on the runs whose last recorder died before it could."""
    Worker.objects.bury_dead()
    for run in Run.objects.stuck():
        run.advance()


def _order(machine_run):
    machine, run = machine_run.machine, machine_run.run
    return Order(
        hostname=machine.hostname,
        address=machine.address,
        port=machine.port,
        user=machine.user,
        script=run.task_version.script,
        timeout=run.timeout,
        env=machine_run.environment,
    )

"""The worker: claims machine runs from the ledger, executes them, records what happened, recovers what others lost."""

import asyncio
import logging
from dataclasses import replace

from django.conf import settings
from django.db import ProgrammingError
from django.db.models import Prefetch
from django.utils.translation import gettext_noop

from deploy_portal.database import other_version, require_own_version
from releases.executors.base import Ending, ExecutorError, Order, Outcome
from releases.ledger import TICK, Ledger, pause
from releases.log import LogKeeper, storable
from releases.masking import Masker
from releases.models import MachineRun, Run, Worker
from releases.tidying import tidy

log = logging.getLogger(__name__)

POLL = 0.05
CANCEL_GRACE = 15
LEAVE_WITHIN = 5
BROKEN = gettext_noop("The portal itself failed here; its log has the details.")
NOT_CHECKED = gettext_noop("The task succeeded, but its check could not be run; the log says why.")
CHECK_ENDED = {
    Ending.FAILED: gettext_noop("The task succeeded, but its check did not."),
    Ending.TIMED_OUT: gettext_noop("The task succeeded, but its check did not end in time."),
    Ending.CANCELLED: gettext_noop("The task succeeded; its check was cancelled."),
}


class ReleaseWorker:
    """Runs until `drain` and the end of what it runs, or until it is given up. `grace` is in seconds."""

    def __init__(self, executor, sites=(), at_once=None, grace=60):
        self.executor = executor
        self.sites = list(sites)
        self.at_once = at_once or settings.WORKER_MACHINES_AT_ONCE
        self.grace = grace
        self.tasks = {}
        self.cancelled = set()
        self.recording = set()
        self.room_made = asyncio.Event()
        self.draining = asyncio.Event()
        self.given_up = self.hurried = self.stopping = False
        self.misfit = ""  # what the database has become, when it was migrated while this worker ran

    async def work(self, tell=lambda: None):
        """Claims and executes; returns False when it was given up and what it held is no longer its own.

        `tell` is called once it is in the ledger: until then it may find that it may not begin.
        """
        self.ledger = Ledger(worker=None)
        if not await self._enlisted():
            self.ledger.close()
            return True
        tell()
        parts = (self.ledger.write_for_ever, self._look_for_ever, self._live, self._drained)
        parts = [asyncio.create_task(part()) for part in parts]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop(parts)
        for part in done:
            part.result()
        return not self.given_up

    async def _enlisted(self):
        """Whether it is in the ledger; False when it was told to end before the database could be reached."""
        enlisting = asyncio.ensure_future(self.ledger.ask(self._enlist))
        told_to_end = asyncio.ensure_future(self.draining.wait())
        await asyncio.wait([enlisting, told_to_end], return_when=asyncio.FIRST_COMPLETED)
        told_to_end.cancel()
        await asyncio.gather(told_to_end, return_exceptions=True)
        if not enlisting.done():
            enlisting.cancel()
            return False
        self.worker = self.ledger.worker = enlisting.result()
        return True

    def _enlist(self):
        require_own_version()
        # Of none: its role may lack a right, and what began without it would be unknown, one after the other.
        MachineRun.objects.end(None, [0], MachineRun.Status.SUCCEEDED)
        return Worker.objects.enlist(self.sites)

    def drain(self):
        """Claims nothing more and ends once what runs has ended; called again, ends at once."""
        if self.draining.is_set():
            self.grace, self.hurried = 0, True
            self.room_made.set()
            log.info("Told to end at once. Still running: %d, which become unknown.", len(self.tasks))
        else:
            log.info("Told to end. Still running: %d, which have %g s.", len(self.tasks), self.grace)
        self.draining.set()

    async def claim(self):
        """Claims what there is room for and starts on it; whether there was any. Ends what somebody cancelled."""
        # What has ended and is only being recorded takes no room.
        is_ending = self.misfit or self.draining.is_set()
        room = 0 if is_ending else self.at_once - len(self.tasks.keys() - self.recording)
        claimed, unwanted = await self.ledger.ask(self._look, room, list(self.tasks))
        # Secrets may be in files, which are read once for all that begin together.
        masker = Masker() if claimed else None
        for machine_run in claimed:
            self.ledger.in_hand[machine_run.pk] = machine_run.run_id
            task = asyncio.create_task(self._execute(machine_run, masker))
            self.tasks[machine_run.pk] = task
            task.add_done_callback(lambda _, pk=machine_run.pk: self._done(pk))
        for pk in (unwanted & self.tasks.keys()) - self.cancelled - self.recording:
            self.cancelled.add(pk)
            self.tasks[pk].cancel()
        return bool(claimed)

    def _look(self, room, known):
        """What was claimed now, and the ids of what is to be cancelled."""
        unwanted = set(MachineRun.objects.to_cancel(self.worker).values_list("pk", flat=True)) if known else set()
        return self._claim(room, known), unwanted

    def _claim(self, room, known):
        if room < 1 or not Run.objects.running().exists():
            return []
        mine = MachineRun.objects.claimed_by(self.worker).exclude(pk__in=known)
        # Its connection may have gone after it had claimed and before it heard so: that comes first.
        # What a pause or a freeze has put back into the queue may still be known here for a moment.
        if not mine.exists() and not MachineRun.objects.claim(self.worker, room, but=known):
            return []
        runs = Run.objects.select_related("task_version", "stage__job__business")
        return list(mine.select_related("machine").prefetch_related(Prefetch("run", runs)))

    def _done(self, pk):
        del self.tasks[pk]
        self.cancelled.discard(pk)
        self.recording.discard(pk)
        self.room_made.set()

    async def _execute(self, machine_run, masker):
        keeper = LogKeeper(machine_run.pk, masker=masker)
        begun = False

        async def started():
            nonlocal begun
            begun = await self.ledger.begin(machine_run.pk)
            return begun

        try:
            outcome = await self._released_and_checked(machine_run, keeper, started)
            ending = (str(outcome.ending), _signed(outcome.exit_status), storable(outcome.reason))
        except ExecutorError as error:
            ending = (_unseen(begun), None, storable(str(error)))
        except asyncio.CancelledError:
            if not self._took_back(machine_run):
                raise
            ending = (MachineRun.Status.CANCELLED, None, "")
        except Exception:
            log.exception("Machine run %s failed in the portal itself", machine_run.pk)
            ending = (_unseen(begun), None, BROKEN)
        self.recording.add(machine_run.pk)
        self.room_made.set()
        await self.ledger.end(machine_run, keeper, ending)

    async def _released_and_checked(self, machine_run, keeper, started):
        """How the task ended or, when it succeeded and has a check, how that did."""

        async def output(data, stream):
            await self.ledger.keep(keeper, data, stream)

        version = machine_run.run.task_version
        outcome = await self.executor.execute(_order(machine_run, version.script), started, output)
        if outcome.ending != Ending.SUCCEEDED or not version.check_script:
            return outcome
        try:
            check = await self._check(machine_run, started, output)
        except ExecutorError as error:
            await output(f"{error}\n".encode(), "err")
            return Outcome(Ending.FAILED, reason=NOT_CHECKED)
        if check.ending == Ending.FAILED and check.reason:
            await output(f"{check.reason}\n".encode(), "err")
        return replace(check, reason=CHECK_ENDED.get(check.ending, check.reason))

    async def _check(self, machine_run, started, output):
        """How the check ended. None begins once its run was cancelled, not even when the task had just ended then."""
        if machine_run.pk in self.cancelled:
            return Outcome(Ending.CANCELLED)
        try:
            order = _order(machine_run, machine_run.run.task_version.check_script)
            return await self.executor.execute(order, started, output)
        except asyncio.CancelledError:
            if not self._took_back(machine_run):
                raise
            return Outcome(Ending.CANCELLED)

    def _took_back(self, machine_run):
        """Whether a person cancelled it, before its script was sent; then the cancellation ends here."""
        if self.stopping or machine_run.pk not in self.cancelled:
            return False
        asyncio.current_task().uncancel()
        return True

    async def _look_for_ever(self):
        while True:
            await self.claim()
            await pause(self.room_made, POLL)
            await asyncio.sleep(TICK)  # so that machines which end together make room for one claim
            self.room_made.clear()

    async def _live(self):
        """Ends only when this worker was given up, or has nothing left to do on a database of another version."""
        while await self.ledger.ask(self._beat_and_tidy):
            if self.misfit and not self.tasks:
                raise ProgrammingError(f"it is {self.misfit}")
            await asyncio.sleep(settings.WORKER_DEAD_AFTER / 5)
        log.error("Worker %s was given up; it ends itself", self.worker)
        self.given_up = True

    def _beat_and_tidy(self):
        """Whether it was not given up. It beats first: called again, for its connection went, it would bury itself."""
        is_alive = self.worker.beat()
        self.misfit = other_version()
        if is_alive and not self.misfit:
            tidy()
        return is_alive

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
        self.stopping = True
        ledger_writer, *others = parts
        for part in others:
            part.cancel()
        await self._leave()
        executions = list(self.tasks.values())
        for pk in self.tasks.keys() - self.recording:
            self.tasks[pk].cancel()
        await self._see_out(executions)
        # An executor ends a first cancellation itself; a second one goes on.
        for task in [ledger_writer, *executions]:
            task.cancel()
        await asyncio.gather(*parts, *executions, return_exceptions=True)
        await self.executor.close()
        self.ledger.close()

    async def _leave(self):
        """Hands back what it holds; while the database is away, others will find that it is gone."""
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                await self.ledger.ask(self.worker.leave)
        except TimeoutError:
            self.ledger.is_given_up = True
            log.warning("The database is away; other workers recover what this one held")

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


def _signed(exit_status):
    """An exit status comes from the machine as any 32 bits; the ledger's column is signed."""
    return exit_status if exit_status is None else min(exit_status, 2**31 - 1)


def _order(machine_run, script):
    return Order(
        hostname=machine_run.machine.hostname,
        address=machine_run.address,
        port=machine_run.port,
        user=machine_run.user,
        script=script,
        timeout=machine_run.run.timeout,
        env=machine_run.environment,
        key=machine_run.run.stage.job.business.ssh_key,
    )

"""Reaches machines by SSH, with asyncssh."""

import asyncio
import collections
import contextlib
import functools
import logging
import signal

import asyncssh
from django.conf import settings
from django.utils.translation import gettext_noop as _

from releases.executors import remote_shell
from releases.executors.base import Ending, Executor, ExecutorError, Outcome
from releases.executors.connections import BROKE_OFF, SILENT, Connections

log = logging.getLogger(__name__)

WARM_SECONDS = 3  # how long a kept connection may take to open a session before a fresh one is made
END_GRACE = 10  # how long the end of a command is waited for, once its lifeline is cut
TIMEOUT_GRACE = 2 * remote_shell.KILL_AFTER + 5  # how much later than its timeout a remote command may end by itself
QUIET_SECONDS = 2  # output of a command that has ended is waited for as long as it keeps coming this often,
LATE_SECONDS = 30  # and no longer than this: a daemon that it left behind may write for ever
BUFFERED_BYTES = 262_144  # received and not yet taken by the caller; beyond, the machine has to wait
PACKET_BYTES = 64  # what keeping one costs besides, so that tiny ones do not fill the memory
PACKETS_AT_ONCE = 200  # handed on before others have their turn: a flood of tiny ones has no end

_NOT_WANTED = _("The command was not sent.")
_NOT_TAKEN = _("The machine let the portal in, but took no script in time; a profile there may wait for input.")
_NO_COMMANDS = _("The machine does not let the portal run commands; nothing was run.")
_CUT = _("The connection was lost; the command may still be running.")
_NO_STATUS = _("The machine closed the session without an exit status.")
_NOT_ENDED = _("The command did not end in time and its end was not seen; it may still be running.")
_TIMED_OUT = _("The command did not end in time and was killed.")
_KILLED = _("Killed by a signal.")
_NOT_CANCELLED = _("The command was cancelled and its end was not seen; it may still be running.")


class SshExecutor(Executor):
    """Sends each order to a shell on its machine. The keys and the known hosts come from the settings."""

    def __init__(self):
        self._connections = Connections()

    async def execute(self, order, started, output):
        script = remote_shell.prepare(order.script, order.env, order.timeout)
        new_command = functools.partial(_Command, *script, order.timeout, output)
        where = order, self._connections.peer(order)
        command = await self._wait_warm(where, new_command) or await self._wait_fresh(where, new_command, output)
        try:
            if not await started():
                return Outcome(Ending.UNKNOWN, reason=_NOT_WANTED)
            if not command.has_gone():
                return await command.run()
        finally:
            self._let_go(command)
        return await self._run_anew(where, new_command, started, output)

    async def close(self):
        await self._connections.pool.close()

    async def _wait_warm(self, where, new_command):
        """A command that waits for its script on a kept connection, or None: there is none that answers.

        Its session is opened before `started` is asked, so that a dead connection is found out while nothing was sent.
        """
        connection = self._connections.warm(*where)
        if connection is None:
            return None
        with contextlib.suppress(ExecutorError):
            return await _opened(new_command(connection), WARM_SECONDS)
        return None

    async def _wait_fresh(self, where, new_command, output):
        """A command that waits on a fresh connection; ExecutorError says why there is none.

        What a machine takes to open a session is over, too, before `started` is asked: its answer is soon out of date.
        """
        command = new_command(await self._connections.fresh(*where, output))
        return await _opened(command, settings.SSH_CONNECT_TIMEOUT, says_why=True)

    async def _run_anew(self, where, new_command, started, output):
        """For a command whose connection went while it waited for its script: nothing was sent yet."""
        try:
            command = await self._wait_fresh(where, new_command, output)
        except ExecutorError as error:
            return Outcome(Ending.FAILED, reason=str(error))
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return Outcome(Ending.CANCELLED)
        try:
            if not await started():
                return Outcome(Ending.UNKNOWN, reason=_NOT_WANTED)
            return await command.run()
        finally:
            self._let_go(command)

    def _let_go(self, command):
        if command.ended_well:
            self._connections.pool.give_back(command.connection)
        else:
            command.connection.close()


async def _opened(command, seconds, says_why=False):
    """The command once its session is open, or else closes its connection and raises.

    With `says_why` what the machine said instead is output: it may tell as whom to log in.
    """
    try:
        try:
            await command.open(seconds)
        except ExecutorError:
            if says_why:
                await command.say_why()
            raise
    except BaseException:
        command.connection.close()
        raise
    return command


class _Command(asyncssh.SSHClientSession):
    """One command on one connection: takes what arrives, hands it on, and says how the command ended."""

    def __init__(self, command, payload, timeout, output, connection):
        self.connection = connection
        self.ended_well = False  # then nothing is left on the connection
        self._command = command
        self._payload = payload
        self._timeout = timeout
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._began_at = self._heard_at = self._loop.time()
        self._channel = None
        self._ended_at = None
        self._exit_status = None
        self._signal = ""
        self._ready = False
        self._held_back = b""  # what may be the beginning of READY
        self._sent = False
        self._closed = False
        self._lost = False
        self._blocks = collections.deque()
        self._size = 0
        self._handed_on = 0
        self._news = asyncio.Event()

    async def open(self, seconds):
        """Asks for a session with the command, until that waits for its script; ExecutorError says why it does not."""
        try:
            async with asyncio.timeout(seconds):
                await self.connection.create_session(lambda: self, self._command, encoding=None, window=BUFFERED_BYTES)
                while not self._ready:
                    if self.has_gone():
                        raise ExecutorError(self._why_not())
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise ExecutorError(_NOT_TAKEN if self._channel else SILENT) from error
        except (asyncssh.Error, OSError) as error:
            log.info("No session: %r", error)
            raise ExecutorError(self._why_not()) from error

    async def say_why(self):
        """Hands on what came until now or, where its session has ended, until that is closed."""
        self._closed |= self._ended_at is None
        await self._pump_for(QUIET_SECONDS)
        if self._held_back:
            await self._output(self._held_back, "out")

    def has_gone(self):
        """Whether its session was opened and has ended without a script."""
        return self._channel.is_closing() or self._ended_at is not None

    async def run(self):
        """Sends the script and follows it to its end. Cancelled once, it ends the script and says whether it did."""
        try:
            self._send()
            outcome = await self._follow()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return await self._cancel()
        self.ended_well = self._is_clean(outcome)
        return outcome

    def _send(self):
        self._began_at = self._heard_at = self._loop.time()
        if not self.has_gone():
            self._channel.write(self._payload)
            self._sent = True

    def _is_clean(self, outcome):
        """Whether the machine said how the script ended and then closed the session."""
        told = outcome.ending in (Ending.SUCCEEDED, Ending.FAILED) and self._exit_status is not None
        return told and self._sent and self._channel.is_closing()

    async def _follow(self):
        if await self._pump(self._began_at + self._timeout + TIMEOUT_GRACE):
            return self._outcome()
        if await self._end():
            return Outcome(Ending.TIMED_OUT, self._exit_status, _TIMED_OUT)
        return Outcome(Ending.UNKNOWN, reason=_NOT_ENDED)

    async def _cancel(self):
        if self._ended_at is not None:
            await self._pump_for(QUIET_SECONDS)
            return self._outcome()
        if not self._sent or await self._end():
            return Outcome(Ending.CANCELLED, self._exit_status)
        return Outcome(Ending.UNKNOWN, reason=_NOT_CANCELLED)

    async def _end(self):
        """Cuts the lifeline; answers whether the command's end was seen after that."""
        self._channel.write_eof()  # which one that is closing leaves alone
        await self._pump_for(END_GRACE)
        return self._ended_at is not None

    async def _pump_for(self, seconds):
        """Hands output on for no longer than that, even when the caller is stuck in taking it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pump(self._loop.time() + seconds)

    async def _pump(self, until):
        """Hands output on until all of it came, and answers True, or until that time of the loop: False."""
        while self._blocks or not self._closed:
            limit = self._limit(until)
            if not self._closed and self._loop.time() >= limit:
                if self._ended_at is None:
                    return False
                self._closed = True  # what came until now is handed on, and nothing after it
            elif self._blocks:
                await self._hand_on()
            else:
                await self._listen(limit)
        return True

    def _limit(self, until):
        if self._ended_at is None:
            return until
        return min(self._heard_at + QUIET_SECONDS, self._ended_at + LATE_SECONDS)

    async def _hand_on(self):
        data, stream = self._blocks.popleft()
        await self._output(data, stream)
        self._heard_at = self._loop.time()
        self._size -= len(data) + PACKET_BYTES
        if self._size < BUFFERED_BYTES // 2:
            self._channel.resume_reading()
        self._handed_on += 1
        if self._handed_on % PACKETS_AT_ONCE == 0:
            await asyncio.sleep(0)

    async def _listen(self, limit):
        self._news.clear()
        alarm = self._loop.call_at(limit, self._news.set)
        try:
            await self._news.wait()
        finally:
            alarm.cancel()

    def _outcome(self):
        if not self._sent:
            return Outcome(Ending.FAILED, self._exit_status, self._why_not())
        if self._ended_at is None:
            return Outcome(Ending.UNKNOWN, reason=_CUT if self._lost else _NO_STATUS)
        if self._exit_status == 0:
            return Outcome(Ending.SUCCEEDED, 0)
        # The machine's clock began later than ours, and may go a little faster
        late = self._ended_at - self._began_at >= 0.99 * self._timeout
        if late and remote_shell.may_be_a_kill(self._exit_status):
            return Outcome(Ending.TIMED_OUT, self._exit_status, _TIMED_OUT)
        return Outcome(Ending.FAILED, self._exit_status, _reason(self._exit_status, self._signal))

    def _why_not(self):
        """Why nothing was sent: the machine ended or refused the session, or only its connection was lost."""
        return BROKE_OFF if self._ended_at is None and self.connection.is_closed() else _NO_COMMANDS

    # What asyncssh calls

    def connection_made(self, chan):
        self._channel = chan

    def data_received(self, data, datatype):
        if self._closed:
            return
        stream = "err" if datatype == asyncssh.EXTENDED_DATA_STDERR else "out"
        if stream == "out" and not self._ready:
            data = self._look_for_ready(data)
        # Of what comes before the script, which nobody takes yet, the rest is left out: READY may come after it.
        if data and (self._ready or self._size < BUFFERED_BYTES):
            self._blocks.append((data, stream))
            self._size += len(data) + PACKET_BYTES
        if self._size > BUFFERED_BYTES and self._ready and not self._lost:
            self._channel.pause_reading()
        self._tell()

    def _look_for_ready(self, data):
        """Takes READY out of the output, which may come in pieces, and after what a profile says."""
        before, mark, after = (self._held_back + data).partition(remote_shell.READY)
        self._ready = bool(mark)
        if not mark:
            at = max(0, len(before) - len(remote_shell.READY))
            before, self._held_back = before[:at], before[at:]
        return before + after

    def eof_received(self):
        return True  # keeps our side open, which is the lifeline

    def exit_status_received(self, status):
        self._exit_status = status
        self._tell_end()

    def exit_signal_received(self, signal, core_dumped, msg, lang):
        self._signal = signal
        self._tell_end()

    def connection_lost(self, exc):
        self._lost = exc is not None
        self._channel.resume_reading()  # hands over what it still holds
        self._closed = True
        self._news.set()

    def _tell_end(self):
        self._ended_at = self._loop.time()
        self._tell()

    def _tell(self):
        self._heard_at = self._loop.time()
        self._news.set()


def _reason(exit_status, name):
    """Says which signal killed a command, or a shell's way of telling that one did. `name` is the machine's word."""
    if name:
        return f"Killed by signal {name}." if f"SIG{name}" in signal.Signals.__members__ else _KILLED
    with contextlib.suppress(ValueError):
        return f"Exit status {exit_status}, as after signal {signal.Signals(exit_status - 128).name[3:]}."
    return ""

"""Reaches machines by SSH, with asyncssh."""

import asyncio
import collections
import contextlib
import errno
import logging
import os
import signal
import socket

import asyncssh
from django.conf import settings
from django.utils.translation import gettext_noop as _

from releases.executors import remote_shell
from releases.executors.base import Ending, Executor, ExecutorError, Outcome

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 10  # a peer that stays silent for four of these is given up
END_GRACE = 10  # how long the end of a command is waited for, once its lifeline is cut
TIMEOUT_GRACE = 2 * remote_shell.KILL_AFTER + 5  # how much later than its timeout a remote command may end by itself
QUIET_SECONDS = 2  # output of a command that has ended is waited for as long as it keeps coming this often,
LATE_SECONDS = 30  # and no longer than this: a daemon that it left behind may write for ever
BUFFERED_BYTES = 262_144  # received and not yet taken by the caller; beyond, the machine has to wait

_NO_KEY = _("The portal has no SSH key: set SSH_KEY_FILES.")
_BAD_KEY = _("An SSH key of the portal could not be read: look at SSH_KEY_FILES.")
_NO_KNOWN_HOSTS = _("No machine's host key is known: set SSH_KNOWN_HOSTS.")
_BAD_KNOWN_HOSTS = _("The file of known host keys could not be read: look at SSH_KNOWN_HOSTS.")
_KEY_NOT_KNOWN = _("The machine's host key is not known: add it to the file that SSH_KNOWN_HOSTS names.")
_KEY_CHANGED = _("The machine's host key is not the known one: find out why before you trust it.")
_DENIED = _("The machine does not accept the portal's SSH key for this user.")
_NO_ALGORITHM = _("The machine and the portal have no SSH algorithm in common.")
_SILENT = _("The machine did not answer in time.")
_BROKE_OFF = _("The machine broke the connection off before a command could be sent.")
_REFUSED = _("The machine refused the connection.")
_NO_ROUTE = _("There is no route to the machine.")
_NO_ADDRESS = _("The machine's address could not be found.")
_NOT_REACHED = _("The machine could not be reached.")
_NOT_WANTED = _("The command was not sent.")
_NO_COMMANDS = _("The machine does not let the portal run commands; nothing was run.")
_CUT = _("The connection was lost; the command may still be running.")
_NO_STATUS = _("The machine closed the session without an exit status.")
_NOT_ENDED = _("The command did not end in time and its end was not seen; it may still be running.")
_TIMED_OUT = _("The command did not end in time and was killed.")
_KILLED = _("Killed by a signal.")
_NOT_CANCELLED = _("The command was cancelled and its end was not seen; it may still be running.")

_CONNECT_ERRORS = [
    (asyncssh.PermissionDenied, _DENIED),
    (asyncssh.KeyExchangeFailed, _NO_ALGORITHM),
    (asyncssh.Error, _BROKE_OFF),
    (socket.gaierror, _NO_ADDRESS),
    (UnicodeError, _NO_ADDRESS),
    (TimeoutError, _SILENT),
    (ConnectionRefusedError, _REFUSED),
]

# The fastest first; what asyncssh has by default comes after, for older hosts
_ALGORITHMS = {
    "kex_algs": "^curve25519-sha256",
    "encryption_algs": "^aes128-gcm@openssh.com",
    "signature_algs": "^ssh-ed25519",
    "compression_algs": ["none"],
}


class SshExecutor(Executor):
    """Sends each order to a shell on its machine. The portal's keys and the known hosts come from the settings."""

    def __init__(self):
        self._options = None
        self._known_hosts = None
        self._known_hosts_read = None

    async def execute(self, order, started, output):
        command, payload = remote_shell.prepare(order.script, order.env, order.timeout)
        connection = await self._connect(order)
        try:
            if not await started():
                return Outcome(Ending.UNKNOWN, reason=_NOT_WANTED)
            return await _Command(order.timeout, output).run(connection, command, payload)
        finally:
            connection.close()

    async def _connect(self, order):
        """A connection to the order's machine, whose host key was verified; ExecutorError says why there is none."""
        known_hosts = self._read_known_hosts()
        try:
            async with asyncio.timeout(settings.SSH_CONNECT_TIMEOUT):
                return await asyncssh.connect(
                    order.address,
                    order.port,
                    username=order.user or settings.SSH_USER,
                    options=self._read_options(),
                    known_hosts=lambda host, ip, port: _keys_of(known_hosts, order.hostname, host, ip, port),
                    config=[],
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise _host_key_error(known_hosts, order) from error
        except (asyncssh.Error, OSError, ValueError) as error:
            logger.info("No connection to %r at %r: %r", order.hostname, order.address, error)
            raise _connect_error(error) from error

    def _read_options(self):
        """What all connections have in common, read once."""
        if not settings.SSH_KEY_FILES:
            raise ExecutorError(_NO_KEY, permanent=True)
        if self._options is None:
            try:
                keys = [asyncssh.read_private_key(path) for path in settings.SSH_KEY_FILES]
            except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
                logger.warning("SSH_KEY_FILES: %s", error)
                raise ExecutorError(_BAD_KEY, permanent=True) from error
            self._options = _options(keys)
        return self._options

    def _read_known_hosts(self):
        """The known host keys, read again when their file has changed. Never None: for asyncssh that is "trust all"."""
        if not settings.SSH_KNOWN_HOSTS:
            raise ExecutorError(_NO_KNOWN_HOSTS, permanent=True)
        try:
            found = os.stat(settings.SSH_KNOWN_HOSTS)
            version = (found.st_mtime_ns, found.st_ino, found.st_size)
            if version != self._known_hosts_read:
                self._known_hosts = asyncssh.read_known_hosts(settings.SSH_KNOWN_HOSTS)
                self._known_hosts_read = version
        except (OSError, ValueError) as error:
            logger.warning("SSH_KNOWN_HOSTS: %s", error)
            raise ExecutorError(_BAD_KNOWN_HOSTS, permanent=True) from error
        return self._known_hosts


class _Command(asyncssh.SSHClientSession):
    """One command on one connection: takes what arrives, hands it on, and says how the command ended."""

    def __init__(self, timeout, output):
        self._timeout = timeout
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._began_at = self._heard_at = self._loop.time()
        self._ended_at = None
        self._exit_status = None
        self._signal = ""
        self._sent = False
        self._closed = False
        self._lost = False
        self._blocks = collections.deque()
        self._size = 0
        self._news = asyncio.Event()

    async def run(self, connection, command, payload):
        """Sends the command and follows it to its end. Cancelled once, it ends the command and says whether it did."""
        try:
            if not await self._begin(connection, command):
                return Outcome(Ending.FAILED, reason=_NO_COMMANDS)
            if not self._channel.is_closing():
                self._channel.write(payload)
                self._sent = True
            return await self._follow()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return await self._cancel()

    async def _begin(self, connection, command):
        """Asks for a session with the command in it, which waits for its script; answers whether there is one."""
        try:
            async with asyncio.timeout(settings.SSH_CONNECT_TIMEOUT):
                await connection.create_session(lambda: self, command, encoding=None)
        except (asyncssh.Error, TimeoutError) as error:
            logger.info("No session: %r", error)
            return False
        return True

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
        if not self._channel.is_closing():
            self._channel.write_eof()
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
            if self._loop.time() >= limit:
                if self._ended_at is None:
                    return False
                self._closed = True
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
        self._size -= len(data)
        if self._size < BUFFERED_BYTES // 2:
            self._channel.resume_reading()

    async def _listen(self, limit):
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(limit):
                await self._news.wait()

    def _outcome(self):
        if not self._sent:
            return Outcome(Ending.FAILED, self._exit_status, _NO_COMMANDS)
        if self._ended_at is None:
            return Outcome(Ending.UNKNOWN, reason=_CUT if self._lost else _NO_STATUS)
        if self._exit_status == 0:
            return Outcome(Ending.SUCCEEDED, 0)
        # The machine's clock began later than ours, and may go a little faster
        late = self._ended_at - self._began_at >= 0.99 * self._timeout
        if late and remote_shell.may_be_a_kill(self._exit_status):
            return Outcome(Ending.TIMED_OUT, self._exit_status, _TIMED_OUT)
        return Outcome(Ending.FAILED, self._exit_status, _reason(self._exit_status, self._signal))

    # What asyncssh calls

    def connection_made(self, chan):
        self._channel = chan

    def data_received(self, data, datatype):
        if self._closed:
            return
        self._blocks.append((data, "err" if datatype == asyncssh.EXTENDED_DATA_STDERR else "out"))
        self._size += len(data)
        if self._size > BUFFERED_BYTES and not self._lost:
            self._channel.pause_reading()
        self._tell()

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


def _options(keys):
    return asyncssh.SSHClientConnectionOptions(
        client_keys=keys,
        preferred_auth="publickey",
        agent_path=None,
        pkcs11_provider=None,
        gss_kex=False,
        gss_auth=False,
        x509_trusted_certs=None,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=3,
        config=[],
        **_ALGORITHMS,
    )


def _keys_of(known_hosts, hostname, address, ip, port):
    """The keys known for a machine by its hostname or else, when there are none, by its address."""
    by_name = known_hosts.match(hostname, "", port)
    return by_name if any(by_name) else known_hosts.match(address, ip, port)


def _host_key_error(known_hosts, order):
    known = any(_keys_of(known_hosts, order.hostname, order.address, "", order.port))
    return ExecutorError(_KEY_CHANGED if known else _KEY_NOT_KNOWN, permanent=True)


def _connect_error(error):
    """What a publisher is told about an error of asyncssh or of the operating system."""
    if getattr(error, "errno", None) in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return ExecutorError(_NO_ROUTE)
    reason = next((reason for kind, reason in _CONNECT_ERRORS if isinstance(error, kind)), _NOT_REACHED)
    return ExecutorError(reason, permanent=reason in (_DENIED, _NO_ALGORITHM))


def _reason(exit_status, name):
    """Says which signal killed a command, or a shell's way of telling that one did. `name` is the machine's word."""
    if name:
        return f"Killed by signal {name}." if f"SIG{name}" in signal.Signals.__members__ else _KILLED
    with contextlib.suppress(ValueError):
        return f"Exit status {exit_status}, as after signal {signal.Signals(exit_status - 128).name[3:]}."
    return ""

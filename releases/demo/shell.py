"""What a machine of the fleet does with a command: a shell in the machine's home, joined to its SSH channel."""

import asyncio
import contextlib
import os
import signal

import asyncssh
from asyncssh.packet import Boolean, String, UInt32

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STDIN, STDOUT, STDERR = range(3)


class Session(asyncssh.SSHServerSession):
    """One command on one channel, run in the folder `home`. As with sshd, the end of the channel ends its input only.

    `began(session)` is called once the command runs, `gone(session)` once both command and channel have ended.
    """

    def __init__(self, home, began, gone):
        self._home = home
        self._began = began
        self._gone = gone
        self._early = []
        self._process = None
        self.ended = asyncio.Event()

    def connection_made(self, chan):
        self._chan = chan

    def exec_requested(self, command):
        self._command = command
        return True

    def session_started(self):
        self._starting = asyncio.ensure_future(self._start())

    async def _start(self):
        environment = {"PATH": PATH, "HOME": str(self._home), "LANG": "C.UTF-8"}
        try:
            self._process, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Process(self._chan, self._finished),
                *("/bin/sh", "-c", self._command),
                cwd=self._home,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            self._chan.exit(255)
            self._finished()
            return
        for step in self._early:
            step()
        self._began(self)

    def _when_running(self, step):
        """Takes a step of the channel now, or once there is a process to take it with."""
        if self._process:
            step()
        else:
            self._early.append(step)

    def data_received(self, data, datatype):
        self._when_running(lambda: self._pipe(STDIN).write(data))

    def eof_received(self):
        self._when_running(lambda: self._pipe(STDIN).close())
        return True

    def connection_lost(self, exc):
        self._when_running(self._let_go)

    def signal_received(self, signal):
        self._when_running(lambda: self.kill(f"SIG{signal}"))

    def pause_writing(self):
        for fd in (STDOUT, STDERR):
            self._pipe(fd).pause_reading()

    def resume_writing(self):
        for fd in (STDOUT, STDERR):
            self._pipe(fd).resume_reading()

    def kill(self, name="SIGKILL"):
        """Sends a signal, by its name, to the command's process group."""
        with contextlib.suppress(ProcessLookupError, AttributeError):
            os.killpg(self._process.get_pid(), getattr(signal, name))

    def _pipe(self, fd):
        return self._process.get_pipe_transport(fd)

    def _let_go(self):
        if not self._pipe(STDIN).is_closing():
            self._pipe(STDIN).abort()
        self._pipe(STDOUT).close()
        self._pipe(STDERR).close()

    def _finished(self):
        self.ended.set()
        self._gone(self)


class _Process(asyncio.SubprocessProtocol):
    """Hands what the command writes, and its end, to the channel."""

    def __init__(self, chan, finished):
        self._chan = chan
        self._finished = finished

    def connection_made(self, transport):
        self._transport = transport

    def pause_writing(self):
        self._chan.pause_reading()

    def resume_writing(self):
        # Not from within the step of the pipe: what is written there just before its end is dropped by asyncio
        asyncio.get_running_loop().call_soon(self._chan.resume_reading)

    def pipe_data_received(self, fd, data):
        if not self._chan.is_closing():
            self._chan.write(data, asyncssh.EXTENDED_DATA_STDERR if fd == STDERR else None)

    def process_exited(self):
        if not self._chan.is_closing():
            _tell_end(self._chan, self._transport.get_returncode())

    def connection_lost(self, exc):
        self._chan.close()
        self._finished()


def _tell_end(chan, returncode):
    """Sends the exit status or signal, also while a daemon still holds the output open: asyncssh has no public way."""
    if returncode >= 0:
        chan._send_request(b"exit-status", UInt32(returncode))
    else:
        name = signal.Signals(-returncode).name.removeprefix("SIG")
        chan._send_request(b"exit-signal", String(name), Boolean(False), String(""), String(""))

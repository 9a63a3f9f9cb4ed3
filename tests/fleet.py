"""A fleet for the tests, served by a thread of theirs, and one with faulty machines in it."""

import asyncio
import contextlib
import os
import socket
import threading
from dataclasses import dataclass

import asyncssh

from releases.demo.fleet import ADDRESS, Fleet, listening_socket
from releases.demo.relay import Relay, set_event
from releases.executors.remote_shell import READY


@contextlib.contextmanager
def running_fleet(folder, hostnames, fleet_class=Fleet, **options):
    """A started fleet, served by a thread of its own until the block ends."""
    fleet = fleet_class(folder, hostnames, **options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fleet", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(fleet.start(), loop).result()
        yield fleet
    finally:
        asyncio.run_coroutine_threadsafe(fleet.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def processes_in(home):
    """The pids of what runs on the machine with that home: whose working directory it is."""
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _cwd(pid) == str(home)]


def _cwd(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:  # it is gone, or a zombie
        return None


@dataclass(frozen=True)
class Fault:
    """What is wrong with a machine.

    refuses    its port is closed                      silent     it accepts, and says nothing
    banner     it says who it is, then nothing more    stranger   its host key is not the one in known_hosts
    denies     it does not accept the portal's key     alternates it runs nothing, and says so much in tiny packets,
                                                                  in turn as output and as error output
    slow       it begins to answer late                cuts       it drops its connections
    freezes    it keeps them open, and moves no byte any more
    hesitates  the first session that it is asked for it opens when the test says so

    What slow, cuts and freezes say happens `seconds` after a connection was made or a command began or, when that is
    None, when the test says so.
    """

    kind: str
    seconds: float | None = None


class FaultyFleet(Fleet):
    """Some of whose machines have a fault: `faults` maps their hostnames to a Fault."""

    def __init__(self, folder, hostnames, faults=None):
        super().__init__(folder, hostnames)
        self.faults = faults or {}
        self._relays = {}
        self._hesitations = {}
        self._closed_doors = []

    def fault(self, hostname):
        return self.faults.get(hostname, Fault(""))

    async def start(self):
        self.loop = asyncio.get_running_loop()
        await super().start()

    async def open(self, hostname, sock):
        fault = self.fault(hostname)
        port = sock.getsockname()[1]
        if fault.kind == "refuses":
            sock.close()
            port = self._closed_door()
        elif fault.kind in ("silent", "banner", "slow", "cuts", "freezes"):
            inner = await super().open(hostname, listening_socket())
            self._relays[hostname] = relay = _Faulty(fault, inner)
            self._listeners.append(await asyncio.start_server(relay.serve, sock=sock))
        else:
            await super().open(hostname, sock)
        return port

    def _closed_door(self):
        """A port on which nobody listens, and which nobody else can take meanwhile."""
        sock = socket.socket()
        sock.bind((ADDRESS, 0))
        self._closed_doors.append(sock)
        return sock.getsockname()[1]

    async def stop(self):
        for sock in self._closed_doors:
            sock.close()
        for relay in self._relays.values():
            relay.cut()
        for hesitation in self._hesitations.values():
            hesitation.set()
        await super().stop()
        serving = [task for relay in self._relays.values() for task in relay.serving]
        if serving:
            await asyncio.wait(serving, timeout=1)

    def known_key(self, hostname):
        if self.fault(hostname).kind == "stranger":
            return asyncssh.generate_private_key("ssh-ed25519")
        return super().known_key(hostname)

    def admits(self, hostname, username, key):
        return self.fault(hostname).kind != "denies" and super().admits(hostname, username, key)

    def command_began(self, hostname):
        super().command_began(hostname)
        fault = self.fault(hostname)
        if fault.kind in ("cuts", "freezes") and fault.seconds is not None:
            self.loop.call_later(fault.seconds, self._relays[hostname].strike)

    def session(self, hostname):
        kind = self.fault(hostname).kind
        if kind == "hesitates" and not self.hesitates(hostname):
            return self._hesitate(hostname, super().session)
        return _Alternates() if kind == "alternates" else super().session(hostname)

    def hesitates(self, hostname):
        """Whether a machine was asked for the session that it opens late."""
        return hostname in self._hesitations

    def is_reached(self, hostname):
        """Whether somebody is connected to a machine whose fault is on its line."""
        return bool(self._relays[hostname].serving)

    async def _hesitate(self, hostname, session):
        self._hesitations[hostname] = asyncio.Event()
        await self._hesitations[hostname].wait()
        return session(hostname)

    def strike(self, hostname):
        """Cuts or freezes a machine, or lets a slow or hesitant one answer, now, from any thread."""
        hesitation = self._hesitations.get(hostname)
        self.loop.call_soon_threadsafe(hesitation.set if hesitation else self._relays[hostname].strike)


class _Alternates(asyncssh.SSHServerSession):
    """A command that says "a" and "b" in turn, on a line each, `LINES` times, and ends well."""

    LINES = 10_000

    def connection_made(self, chan):
        self._chan = chan

    def exec_requested(self, command):
        return True

    def session_started(self):
        self._chan.write(READY)

    def data_received(self, data, datatype):
        self._talking = asyncio.ensure_future(self._talk())

    def eof_received(self):
        return True

    async def _talk(self):
        for number in range(self.LINES):
            self._chan.write(b"a\n")
            self._chan.write_stderr(b"b\n")
            if number % 50 == 0:
                await asyncio.sleep(0)
        self._chan.exit(0)


class _Faulty(Relay):
    """What is wrong with a machine, before one that is in order."""

    def __init__(self, fault, port):
        super().__init__(port)
        self._fault = fault
        self._frozen = []
        self._answers = asyncio.Event()

    async def join(self, reader, writer):
        if self._fault.kind == "banner":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        if self._fault.kind in ("silent", "banner"):
            await reader.read()
            return
        if self._fault.kind == "slow":
            await (self._answers.wait() if self._fault.seconds is None else asyncio.sleep(self._fault.seconds))
        await super().join(reader, writer)

    def strike(self):
        """Does to the connections that are open now what the fault says; later ones are in order."""
        if self._fault.kind == "slow":
            self._answers.set()
        elif self._fault.kind == "cuts":
            self.cut()
        else:
            self.freeze()
            self._frozen.append(self.flows)
            self.flows = set_event()

    def cut(self):
        super().cut()
        self._answers.set()
        for flows in self._frozen:
            flows.set()

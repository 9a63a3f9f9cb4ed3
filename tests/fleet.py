"""A fleet with faulty machines in it, for the tests."""

import asyncio
import contextlib
from dataclasses import dataclass

import asyncssh

from releases.demo.fleet import ADDRESS, Fleet, listening_socket


@dataclass(frozen=True)
class Fault:
    """What is wrong with a machine.

    refuses    its port is closed                      silent     it accepts, and says nothing
    banner     it says who it is, then nothing more    stranger   its host key is not the one in known_hosts
    denies     it does not accept the portal's key     slow       it begins to answer after `seconds`
    cuts       it drops its connections                freezes    it keeps them open, and moves no byte any more

    The last two happen `seconds` after a command began or, when that is None, when the test says so.
    """

    kind: str
    seconds: float | None = None


class FaultyFleet(Fleet):
    """Some of whose machines have a fault: `faults` maps their hostnames to a Fault."""

    def __init__(self, folder, hostnames, faults=None):
        super().__init__(folder, hostnames)
        self.faults = faults or {}
        self._relays = {}

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
        elif fault.kind in ("silent", "banner", "slow", "cuts", "freezes"):
            inner = await super().open(hostname, listening_socket())
            self._relays[hostname] = relay = _Relay(fault, inner)
            self._listeners.append(await asyncio.start_server(relay.serve, sock=sock))
        else:
            await super().open(hostname, sock)
        return port

    async def stop(self):
        for relay in self._relays.values():
            relay.cut()
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

    def strike(self, hostname):
        """Cuts or freezes a machine now, from any thread."""
        self.loop.call_soon_threadsafe(self._relays[hostname].strike)


class _Relay:
    """Stands between the portal and a machine that is in order, and is what is wrong with it."""

    def __init__(self, fault, port):
        self._fault = fault
        self._port = port
        self.serving = set()
        self._writers = set()
        self._frozen = []
        self._flows = _set_event()

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        self._writers.add(writer)
        if self._fault.kind == "banner":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        if self._fault.kind in ("silent", "banner"):
            await reader.read()
            return
        if self._fault.kind == "slow":
            await asyncio.sleep(self._fault.seconds)
        inner_reader, inner_writer = await asyncio.open_connection(ADDRESS, self._port)
        self._writers.add(inner_writer)
        flows = self._flows
        await asyncio.gather(_pass_on(reader, inner_writer, flows), _pass_on(inner_reader, writer, flows))

    def strike(self):
        """Does to the connections that are open now what the fault says; later ones are in order."""
        if self._fault.kind == "cuts":
            self.cut()
        else:
            self._flows.clear()
            self._frozen.append(self._flows)
            self._flows = _set_event()

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()
        for flows in self._frozen:
            flows.set()


def _set_event():
    event = asyncio.Event()
    event.set()
    return event


async def _pass_on(reader, writer, flows):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await flows.wait()
            writer.write(data)
            await writer.drain()
    writer.close()

"""A fleet whose connections can be cut and frozen: called as releases.demo.fleet, it also reads lines on its stdin.

Each is a JSON object with what is to be done to which machines: {"cut": [hostnames]}, `freeze` or `thaw`.
"""

import asyncio
import contextlib
import json

from releases.demo import fleet


class Relay:
    """Stands between the portal and a machine that listens on `port`, and hands on every byte while `flows` is set."""

    def __init__(self, port):
        self.port = port
        self.serving = set()
        self.flows = set_event()
        self._writers = set()

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)
        with contextlib.suppress(OSError), self._cut_off(writer):
            await self.join(reader, writer)

    async def join(self, reader, writer):
        """Moves bytes between that connection and one to the machine until one of them ends."""
        inner_reader, inner_writer = await asyncio.open_connection(fleet.ADDRESS, self.port)
        with self._cut_off(inner_writer):
            flows = self.flows
            await asyncio.gather(_pass_on(reader, inner_writer, flows), _pass_on(inner_reader, writer, flows))

    def cut(self):
        """Drops what is connected now."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self):
        """Moves no byte any more, on the connections that are open now and on those that come."""
        self.flows.clear()

    def thaw(self):
        self.flows.set()

    @contextlib.contextmanager
    def _cut_off(self, writer):
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()


class RelayedFleet(fleet.Fleet):
    """All of whose machines stand behind a relay."""

    def __init__(self, folder, hostnames):
        super().__init__(folder, hostnames)
        self._relays = {}

    async def open(self, hostname, sock):
        self._relays[hostname] = relay = Relay(await super().open(hostname, fleet.listening_socket()))
        self._listeners.append(await asyncio.start_server(relay.serve, sock=sock))
        return sock.getsockname()[1]

    async def stop(self):
        for relay in self._relays.values():
            relay.cut()
            relay.thaw()
        await super().stop()

    def told(self, line):
        for what, hostnames in json.loads(line).items():
            for hostname in hostnames:
                getattr(self._relays[hostname], what)()


def set_event():
    event = asyncio.Event()
    event.set()
    return event


async def _pass_on(reader, writer, flows):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await flows.wait()
            writer.write(data)
            await writer.drain()
    # The end of a frozen connection is not seen either
    await flows.wait()
    writer.close()


if __name__ == "__main__":
    fleet.main(RelayedFleet)

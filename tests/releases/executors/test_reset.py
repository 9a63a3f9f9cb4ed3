"""A machine that opens no session: its connection is lost, in one way or another, or it refuses only the session."""

import asyncio
import socket
import struct

import pytest

from releases.demo.fleet import ADDRESS, Fleet, listening_socket
from releases.demo.shell import Session
from releases.executors.base import ExecutorError, Order
from tests.fleet import running_fleet
from tests.releases.executors.conftest import Execution

AT_ONCE = struct.pack("ii", 1, 0)  # what is closed is reset


def reset(connection):
    """For this asyncssh passes on what the operating system said."""
    connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    connection.abort()


def cut(connection):
    connection.abort()


def refuse(connection):
    """The session is, and nothing happens to the connection."""


class Refusing(Session):
    def exec_requested(self, command):
        self.end(self._chan.get_connection())
        return False

    def connection_lost(self, exc):
        """There is nothing to end."""


class RefusingFleet(Fleet):
    def session(self, hostname):
        session = Refusing(self.home(hostname), None, None)
        session.end = self.end
        return session


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with running_fleet(tmp_path_factory.mktemp("fleet"), ["web-01"], RefusingFleet) as fleet:
        yield fleet


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (reset, "broke the connection off"),
        (cut, "broke the connection off"),
        (refuse, "does not let the portal run commands"),
    ],
)
def test_nothing_was_run_there(machine, ssh, settings, end, reason):
    machine.end = end
    settings.SSH_KEY_FILES, settings.SSH_KNOWN_HOSTS = [str(machine.client_key)], str(machine.known_hosts)
    order = Order("web-01", ADDRESS, machine.ports["web-01"], "deploy", "touch here", 10)
    execution = Execution(order)
    with pytest.raises(ExecutorError, match=reason):
        asyncio.run(execution.by(ssh))
    assert not execution.started
    assert not (machine.home("web-01") / "here").exists()


def test_reset_before_it_was_logged_in(machine, ssh, settings):
    """As by a machine that goes down, or whose sshd has too many guests."""
    settings.SSH_KEY_FILES, settings.SSH_KNOWN_HOSTS = [str(machine.client_key)], str(machine.known_hosts)

    async def reset_by(reader, writer):
        await reader.read(1)
        reset(writer.transport)

    async def executed():
        async with await asyncio.start_server(reset_by, sock=listening_socket()) as server:
            port = server.sockets[0].getsockname()[1]
            await Execution(Order("web-01", ADDRESS, port, "deploy", "touch here", 10)).by(ssh)

    with pytest.raises(ExecutorError, match="broke the connection off"):
        asyncio.run(executed())

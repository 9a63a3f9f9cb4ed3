"""A connection that is reset while its session is opened: asyncssh passes on what the operating system said."""

import asyncio
import socket
import struct

import pytest

from releases.demo.fleet import ADDRESS, Fleet, running_fleet
from releases.demo.shell import Session
from releases.executors.base import ExecutorError, Order
from tests.releases.executors.conftest import Execution

AT_ONCE = struct.pack("ii", 1, 0)  # what is closed is reset


class Resetting(Session):
    """Resets its connection instead of running a command."""

    def exec_requested(self, command):
        connection = self._chan.get_connection()
        connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        connection.abort()
        return False

    def connection_lost(self, exc):
        """There is nothing to end."""


class ResettingFleet(Fleet):
    def session(self, hostname):
        return Resetting(self.home(hostname), None, None)


@pytest.fixture
def machine(tmp_path):
    with running_fleet(tmp_path, ["web-01"], ResettingFleet) as fleet:
        yield fleet


def test_nothing_was_run_there(machine, ssh, settings):
    settings.SSH_KEY_FILES, settings.SSH_KNOWN_HOSTS = [str(machine.client_key)], str(machine.known_hosts)
    order = Order("web-01", ADDRESS, machine.ports["web-01"], "deploy", "touch here", 10)
    execution = Execution(order)
    with pytest.raises(ExecutorError, match="nothing was run"):
        asyncio.run(execution.by(ssh))
    assert not execution.started
    assert not (machine.home("web-01") / "here").exists()

"""Machines to reach, and a way to follow one execution."""

import asyncio
from dataclasses import dataclass, field

import asyncssh
import pytest

from releases.demo.fleet import ADDRESS
from releases.executors import remote_shell
from releases.executors import ssh as ssh_module
from releases.executors.base import Order, Outcome
from releases.executors.ssh import SshExecutor
from tests.fleet import Fault, FaultyFleet, processes_in, running_fleet
from tests.waiting import PATIENCE, wait_until

FAULTS = {
    "refusing-01": Fault("refuses"),
    "silent-01": Fault("silent"),
    "banner-01": Fault("banner"),
    "stranger-01": Fault("stranger"),
    "denying-01": Fault("denies"),
    "slow-01": Fault("slow", 0.5),
    "cutting-01": Fault("cuts"),
    "freezing-01": Fault("freezes"),
    "alternating-01": Fault("alternates"),
    "hesitant-01": Fault("hesitates"),
    "hesitant-02": Fault("hesitates"),
}


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    hostnames = ["web-01", "web-02", "homeless-01", *FAULTS]
    with running_fleet(tmp_path_factory.mktemp("fleet"), hostnames, FaultyFleet, faults=FAULTS) as fleet:
        yield fleet


@pytest.fixture
def ssh(fleet, settings, monkeypatch):
    """An executor whose settings are those of the fleet, and which no slow host makes impatient."""
    for limit in ("WARM_SECONDS", "END_GRACE", "TIMEOUT_GRACE"):
        monkeypatch.setattr(ssh_module, limit, PATIENCE)
    settings.SSH_USER = "deploy"
    settings.SSH_KEY_FILES = [str(fleet.client_key)]
    settings.SSH_KNOWN_HOSTS = str(fleet.known_hosts)
    settings.SSH_CONNECT_TIMEOUT = PATIENCE / 2
    settings.SSH_KEEP_CONNECTIONS = 0  # no connection outlives the event loop that it was made in
    return SshExecutor()


class SaysReady(asyncssh.SSHServerSession):
    """Waits for a script as the wrapper does; what it makes of one is left to others."""

    def connection_made(self, chan):
        self._chan = chan

    def exec_requested(self, command):
        return True

    def session_started(self):
        self._chan.write(remote_shell.READY)


async def becomes(condition):
    """As `wait_until`, while the event loop goes on."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def let_pass(seconds):
    """Sets the clock of the running event loop forward, instead of waiting."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds


@dataclass
class Execution:
    """One call of an executor: what it told its caller so far, and the outcome once there is one."""

    order: Order
    go: bool = True
    started: bool = False
    blocks: list = field(default_factory=list)
    outcome: Outcome | None = None

    @property
    def out(self):
        return b"".join(data for data, stream in self.blocks if stream == "out")

    @property
    def err(self):
        return b"".join(data for data, stream in self.blocks if stream == "err")

    async def by(self, executor):
        self.outcome = await asyncio.wait_for(executor.execute(self.order, self._start, self._take), PATIENCE)
        return self

    async def says(self, text):
        """Waits until that text was in the output."""
        await becomes(lambda: text in self.out)

    async def _start(self):
        self.started = True
        return self.go

    async def _take(self, data, stream):
        self.blocks.append((data, stream))


@pytest.fixture
def ordered(fleet):
    """Makes an execution of a script on a machine of the fleet."""

    def ordered(script, hostname="web-01", timeout=30, env=None, user="", go=True):
        order = Order(hostname, ADDRESS, fleet.ports[hostname], user, script, timeout, env or {})
        return Execution(order, go)

    return ordered


@pytest.fixture
def run(ssh, ordered):
    """Executes a script on a machine of the fleet, to its end."""
    return lambda *args, **options: asyncio.run(ordered(*args, **options).by(ssh))


@pytest.fixture
def running(fleet):
    """The living processes of a machine, as pids."""
    return lambda hostname="web-01": processes_in(fleet.home(hostname))


@pytest.fixture
def gone(running):
    """Waits until nothing runs on a machine any more."""

    return lambda hostname="web-01": wait_until(lambda: not running(hostname))

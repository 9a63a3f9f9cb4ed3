"""A business logs in to machines with its own key: out of a file or from the agent, and never with another's."""

import asyncio
import os
import shutil
import socket
import subprocess

import asyncssh
import pytest

from releases.demo.fleet import ADDRESS, USER, Fleet
from releases.executors.base import Order
from releases.executors.ssh import SshExecutor
from tests.fleet import running_fleet
from tests.releases.executors.conftest import Execution
from tests.waiting import wait_until

MACHINES = {"pay-1": "payment", "ord-1": "orders", "any-1": None}


class KeyedFleet(Fleet):
    """Each machine accepts the key of one business, and `any-1` all of them."""

    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("payment", "orders")}

    def admits(self, hostname, username, key):
        accepted = [each for name, each in self.keys.items() if MACHINES[hostname] in (None, name)]
        return username == USER and key in [each.convert_to_public() for each in accepted]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with running_fleet(tmp_path_factory.mktemp("fleet"), MACHINES, KeyedFleet) as fleet:
        yield fleet


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    for name, key in KeyedFleet.keys.items():
        put(folder / name, key.export_private_key())
    return folder


@pytest.fixture(autouse=True)
def at_home(settings, fleet, folder):
    settings.SSH_KEY_FILES = [str(folder / "orders")]
    settings.SSH_KEYS_DIR = str(folder)
    settings.SSH_KNOWN_HOSTS = str(fleet.known_hosts)
    settings.SSH_KEEP_CONNECTIONS = 10


@pytest.fixture
def agent(settings, tmp_path):
    """A real agent that holds the keys of both businesses; its socket is known, and used when SSH_AGENT says so."""
    if not shutil.which("ssh-agent"):
        reason = "There is no ssh-agent: apt-get install openssh-client"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    path = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(path))
            asyncio.run(_fill(path, *KeyedFleet.keys.values()))
            settings.SSH_AGENT, settings.SSH_AUTH_SOCK = True, path
            yield path
        finally:
            process.terminate()


def _listens(path):
    """Whether somebody takes calls at that socket, whose file is there before."""
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(path) == 0


async def _fill(path, *keys):
    async with asyncssh.SSHAgentClient(path) as agent:
        await agent.remove_all()
        if keys:
            await agent.add_keys(list(keys))


def put(path, content, mode=0o600):
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def release(fleet, *orders):
    """What one worker gets for each (hostname, key name), one after the other: the output, or why nothing was sent."""

    async def all_of_them():
        executor = SshExecutor()
        told = [await one(executor, *order) for order in orders]
        await executor.close()
        return told

    async def one(executor, hostname, key):
        if callable(hostname):
            return hostname()
        order = Order(hostname, ADDRESS, fleet.ports[hostname], USER, "echo released", 10, key=key)
        execution = Execution(order)
        try:
            return (await execution.by(executor)).out.decode().strip()
        except asyncssh.Error:
            raise
        except Exception as error:
            assert not execution.started
            return str(error)

    return asyncio.run(all_of_them())


def why(fleet, key, hostname="any-1"):
    """Why nothing was sent with that key; no machine was even logged in to."""
    before, [reason] = fleet.logins, release(fleet, (hostname, key))
    assert fleet.logins == before
    return reason


def test_each_business_opens_its_own_machines_only(fleet):
    own = release(fleet, ("pay-1", "payment"), ("ord-1", "orders"))
    assert own == ["released", "released"]
    for hostname, key in [("pay-1", "orders"), ("ord-1", "payment"), ("pay-1", "")]:
        assert "does not accept the portal's SSH key" in why(fleet, key, hostname)


def test_a_connection_is_kept_for_its_own_key_only(fleet):
    before = fleet.logins
    release(fleet, ("any-1", "payment"), ("any-1", "orders"), ("any-1", ""), ("any-1", "payment"), ("any-1", "orders"))
    assert fleet.logins - before == 3


def test_a_new_key_in_its_file_is_used_at_once_and_the_old_connection_no_more(fleet, folder):
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
    first, _, then = release(
        fleet, ("pay-1", "payment"), (lambda: put(folder / "payment", stranger), ""), ("pay-1", "payment")
    )
    assert first == "released"
    assert "does not accept" in then


def test_without_a_folder_a_named_key_is_missed(fleet, settings):
    settings.SSH_KEYS_DIR = ""
    assert "set SSH_KEYS_DIR" in why(fleet, "payment")


@pytest.mark.parametrize(
    "name", ["search", "../keys/payment", "/etc/passwd", "payment/", ".", "..", "pay\0ment", "a" * 300]
)
def test_no_file_of_that_name(fleet, name):
    assert "missing in SSH_KEYS_DIR" in why(fleet, name) or "could not be read" in why(fleet, name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_not_used(fleet, folder, mode):
    (folder / "payment").chmod(mode)
    assert "only the worker's user can read" in why(fleet, "payment")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_that_another_user_may_change_is_not_used(fleet, folder):
    os.chown(folder / "payment", 65534, -1)
    assert "only the worker's user can read" in why(fleet, "payment")


def test_a_link_out_of_the_folder_is_not_followed(fleet, folder, tmp_path):
    put(tmp_path / "elsewhere", (folder / "payment").read_bytes())
    (folder / "sly").symlink_to(tmp_path / "elsewhere")
    assert "inside SSH_KEYS_DIR" in why(fleet, "sly")


def test_a_link_within_the_folder_is(fleet, folder):
    (folder / "linked").symlink_to("payment")
    assert release(fleet, ("pay-1", "linked")) == ["released"]


def test_the_folder_may_be_a_link_itself(fleet, folder, settings, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    settings.SSH_KEYS_DIR = str(tmp_path / "link")
    assert release(fleet, ("pay-1", "payment")) == ["released"]


def test_neither_a_folder_nor_a_pipe_nor_a_circle_is_a_key(fleet, folder):
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe", 0o600)
    (folder / "circle").symlink_to("circle")
    assert "inside SSH_KEYS_DIR" in why(fleet, "folder")
    assert "inside SSH_KEYS_DIR" in why(fleet, "pipe")
    assert "could not be read" in why(fleet, "circle")


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_what_is_no_key(fleet, folder, content):
    put(folder / "payment", content)
    assert "look at its file" in why(fleet, "payment")


def test_a_key_with_a_slip_in_it_cannot_be_read(fleet, folder):
    content = bytearray(asyncssh.generate_private_key("ssh-rsa").export_private_key("pkcs1-der"))
    content[100] ^= 1
    put(folder / "payment", bytes(content))
    assert "look at its file" in why(fleet, "payment")


def test_a_key_with_a_passphrase_cannot_be_read(fleet, folder):
    put(folder / "payment", KeyedFleet.keys["payment"].export_private_key("pkcs8-pem", passphrase="secret"))
    assert "look at its file" in why(fleet, "payment")


def test_the_agent_gives_the_key_whose_public_half_is_in_the_folder(fleet, folder, agent):
    for name, key in KeyedFleet.keys.items():
        (folder / name).unlink()
        put(folder / f"{name}.pub", key.export_public_key(), 0o644)
    assert release(fleet, ("pay-1", "payment"), ("ord-1", "orders")) == ["released", "released"]
    assert "does not accept" in why(fleet, "payment", "ord-1")


def test_a_business_never_gets_what_else_the_agent_holds(fleet, folder, agent):
    (folder / "payment").unlink()
    assert "missing in SSH_KEYS_DIR" in why(fleet, "payment", "pay-1")


def test_without_key_files_the_portal_uses_all_that_the_agent_holds(fleet, settings, agent):
    settings.SSH_KEY_FILES = []
    assert release(fleet, ("pay-1", ""), ("ord-1", "")) == ["released", "released"]


def test_the_agent_is_left_alone_unless_it_is_asked_for(fleet, folder, settings, agent, monkeypatch):
    settings.SSH_AGENT = False
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    (folder / "payment").unlink()
    put(folder / "payment.pub", KeyedFleet.keys["payment"].export_public_key())
    assert "missing in SSH_KEYS_DIR" in why(fleet, "payment", "pay-1")
    assert "does not accept" in why(fleet, "", "pay-1")
    settings.SSH_KEY_FILES = []
    assert "set SSH_KEY_FILES" in why(fleet, "", "pay-1")


def test_an_agent_without_the_key_or_that_is_not_there(fleet, folder, settings, agent):
    (folder / "payment").rename(folder / "gone")
    put(folder / "payment.pub", KeyedFleet.keys["payment"].export_public_key())
    asyncio.run(_fill(agent))
    assert "does not hold the key" in why(fleet, "payment", "pay-1")
    settings.SSH_AUTH_SOCK = agent + "-gone"
    assert "does not answer" in why(fleet, "payment", "pay-1")

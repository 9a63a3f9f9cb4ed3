import asyncio
import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from releases.demo.fleet import ADDRESS, USER, Fleet
from tests.fleet import running_fleet
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with running_fleet(tmp_path_factory.mktemp("fleet"), ["web-01", "web-02"]) as fleet:
        yield fleet


def connect(fleet, hostname="web-01", **options):
    known = {"known_hosts": str(fleet.known_hosts), "client_keys": [str(fleet.client_key)], "username": USER}
    return asyncssh.connect(ADDRESS, fleet.ports[hostname], config=[], **{**known, **options})


def run(fleet, command, hostname="web-01", **options):
    async def run():
        async with connect(fleet, hostname) as connection:
            return await asyncio.wait_for(connection.run(command, **options), PATIENCE)

    return asyncio.run(run())


def test_each_machine_runs_commands_in_a_home_of_its_own(fleet):
    for hostname in ("web-01", "web-02"):
        assert run(fleet, "pwd; echo $HOME", hostname).stdout == f"{fleet.home(hostname)}\n" * 2


def test_a_command_sees_nothing_of_our_environment(fleet, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "secret")
    names = {line.split("=")[0] for line in run(fleet, "env").stdout.splitlines()}
    assert names - {"PWD", "SHLVL", "_"} == {"PATH", "HOME", "LANG"}


def test_input_output_and_errors_are_joined_up(fleet):
    result = run(fleet, "cat; echo oh >&2; exit 7", input="中文\n")
    assert (result.stdout, result.stderr, result.exit_status) == ("中文\n", "oh\n", 7)


def test_a_signal_is_told(fleet):
    assert run(fleet, "kill -TERM $$").exit_signal[0] == "TERM"


def test_a_signal_is_passed_on(fleet):
    async def interrupted():
        async with connect(fleet) as connection:
            process = await connection.create_process(
                "trap 'echo got it; exit 3' TERM; echo ready; while :; do :; done"
            )
            await process.stdout.readline()
            process.send_signal("TERM")
            return await asyncio.wait_for(process.wait(), PATIENCE)

    result = asyncio.run(interrupted())
    assert (result.stdout, result.exit_status) == ("got it\n", 3)


def test_a_large_output_arrives_whole(fleet):
    assert len(run(fleet, "head -c 30000000 /dev/zero", encoding=None).stdout) == 30_000_000


def test_a_large_input_arrives_whole(fleet):
    assert run(fleet, "wc -c", input="x" * 10_000_000).stdout.strip() == "10000000"


def test_an_input_arrives_whole_whatever_is_left_of_it_when_a_slow_reader_goes_on(fleet):
    async def counted(connection, size):
        result = await connection.run("sleep 0.2; head -c 1000 > /dev/null; sleep 0.1; wc -c", input="x" * size)
        return int(result.stdout) + 1000

    async def all_counted(sizes):
        async with connect(fleet) as connection:
            return await asyncio.wait_for(asyncio.gather(*(counted(connection, size) for size in sizes)), PATIENCE)

    sizes = list(range(250_000, 1_000_000, 15_000))
    assert asyncio.run(all_counted(sizes)) == sizes


def test_the_end_of_a_connection_ends_the_input_of_its_command(fleet, tmp_path):
    async def left():
        async with connect(fleet) as connection:
            process = await connection.create_process(f"echo ready; cat; echo over > {tmp_path}/over")
            await process.stdout.readline()
            connection.abort()
        while not (tmp_path / "over").exists() or not (tmp_path / "over").read_text():
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(left(), PATIENCE))
    assert (tmp_path / "over").read_text() == "over\n"


@pytest.mark.parametrize(
    "options", [{"username": "root"}, {"client_keys": None, "password": "secret"}, {"client_keys": []}]
)
def test_only_the_key_of_the_portal_opens_a_machine(fleet, options):
    async def tried():
        async with connect(fleet, **options):
            pass

    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(tried())


def test_machines_have_keys_of_their_own_which_only_we_can_read(fleet):
    assert fleet.host_key("web-01") != fleet.host_key("web-02")
    for path in (fleet.client_key, fleet.folder / "host_keys" / "web-01"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("hostname", ["../up", "a/b", "", ".", "-rf"])
def test_a_hostname_that_is_no_folder_name_is_refused(tmp_path, hostname):
    with pytest.raises(ValueError, match="Not a hostname"):
        Fleet(tmp_path, [hostname])


def test_a_fleet_comes_back_as_it_was(tmp_path):
    with running_fleet(tmp_path, ["web-01", "web-02"]) as fleet:
        known_hosts = fleet.known_hosts.read_text()
    with running_fleet(tmp_path, ["web-02", "web-01", "web-03"]) as fleet:
        again = fleet.known_hosts.read_text().splitlines()
        assert run(fleet, "echo here", "web-03").stdout == "here\n"
    assert set(known_hosts.splitlines()) == set(again[:2])


def test_no_connection_of_others_takes_the_port_of_a_machine_while_its_fleet_is_down(tmp_path):
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with running_fleet(tmp_path, [f"web-{number}" for number in range(20)]) as fleet:
        assert max(fleet.ports.values()) < lowest
        assert len(set(fleet.ports.values())) == 20


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path):
    with running_fleet(tmp_path, ["web-01"]) as fleet:
        port = fleet.ports["web-01"]
    with socket.create_server((ADDRESS, port)), running_fleet(tmp_path, ["web-01"]) as fleet:
        assert fleet.ports["web-01"] != port
        assert run(fleet, "echo here").stdout == "here\n"


def test_what_ran_when_the_fleet_stops_is_ended(tmp_path):
    async def begin(fleet):
        async with connect(fleet) as connection:
            await connection.create_process("cat; echo over > over")
            while not fleet.commands:
                await asyncio.sleep(0.01)

    with running_fleet(tmp_path, ["web-01"]) as fleet:
        asyncio.run(begin(fleet))
    assert (fleet.home("web-01") / "over").read_text() == "over\n"


def test_two_hundred_machines_fifty_at_a_time(tmp_path):
    hostnames = [f"web-{number:03}" for number in range(200)]

    async def everywhere(fleet):
        turns = asyncio.Semaphore(50)

        async def one(hostname):
            async with turns, connect(fleet, hostname) as connection:
                return (await connection.run("basename $HOME")).stdout.strip()

        return await asyncio.gather(*map(one, hostnames))

    with running_fleet(tmp_path, hostnames) as fleet:
        assert asyncio.run(everywhere(fleet)) == hostnames


@pytest.fixture
def process(tmp_path):
    """The fleet's command line, and what it said when it was ready."""
    (tmp_path / "machines").write_text("web-01\nweb-02\n")
    command = [
        sys.executable,
        "-m",
        "releases.demo.fleet",
        tmp_path / "fleet",
        "--machines-file",
        tmp_path / "machines",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process, json.loads(process.stdout.readline())
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_as_a_process_it_says_when_it_is_ready_and_ends_with_its_parent(process, number):
    process, ready = process
    assert set(ready["ports"]) == {"web-01", "web-02"}
    socket.create_connection((ADDRESS, ready["ports"]["web-02"]), timeout=PATIENCE).close()
    if number:
        process.send_signal(number)
    else:
        process.stdin.close()
    assert process.wait(timeout=PATIENCE) == 0

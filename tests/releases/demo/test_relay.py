"""A fleet whose connections are cut and frozen by what its process reads on stdin."""

import asyncio
import contextlib
import json
import subprocess
import sys

import asyncssh
import pytest

from releases.demo.fleet import ADDRESS, USER
from tests.waiting import PATIENCE

MOMENT = 0.3  # long enough for an answer that comes


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """The process, and what it said when it was ready."""
    folder = tmp_path_factory.mktemp("relayed")
    (folder / "machines").write_text("web-01\nweb-02\nweb-03\n")
    command = ["releases.demo.relay", folder / "fleet", "--machines-file", folder / "machines"]
    with subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process, json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def tell(fleet, **words):
    fleet[0].stdin.write(json.dumps(words).encode() + b"\n")
    fleet[0].stdin.flush()


async def done(fleet, **words):
    """Tells it, and waits until that was done: what is told is done in turn, and the end of a connection is seen."""
    async with connected(fleet, "web-03") as seen:
        tell(fleet, **words)
        tell(fleet, cut=["web-03"])
        await asyncio.wait_for(seen.wait_closed(), PATIENCE)


@contextlib.asynccontextmanager
async def connected(fleet, hostname="web-01"):
    ready = fleet[1]
    keys = {"known_hosts": ready["known_hosts"], "client_keys": [ready["client_key"]], "username": USER}
    async with asyncssh.connect(ADDRESS, ready["ports"][hostname], config=[], **keys) as connection:
        yield connection


async def says(connection):
    return (await asyncio.wait_for(connection.run("echo here"), PATIENCE)).stdout == "here\n"


async def comes_and_says(fleet):
    async with connected(fleet) as connection:
        return await says(connection)


async def is_silent(awaitable):
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(awaitable), MOMENT)
        return False
    return True


def test_what_is_cut_is_gone_and_can_be_had_again(fleet):
    async def cut():
        async with connected(fleet) as struck, connected(fleet, "web-02") as other:
            assert await says(struck)
            tell(fleet, cut=["web-01"])
            await asyncio.wait_for(struck.wait_closed(), PATIENCE)
            assert await says(other)
            assert await comes_and_says(fleet)

    asyncio.run(cut())


def test_what_is_frozen_goes_on_where_it_stood(fleet):
    """New connections wait as well; a machine that is not named goes on."""

    async def freeze():
        async with connected(fleet) as struck, connected(fleet, "web-02") as other:
            assert await says(struck)
            await done(fleet, freeze=["web-01"])
            answer = asyncio.ensure_future(says(struck))
            assert await is_silent(answer)
            newcomer = asyncio.ensure_future(comes_and_says(fleet))
            assert await is_silent(newcomer)
            assert await says(other)
            tell(fleet, thaw=["web-01"])
            assert await answer
            assert await newcomer

    asyncio.run(freeze())


def test_what_is_cut_while_it_is_frozen(fleet):
    async def both():
        async with connected(fleet) as struck:
            tell(fleet, freeze=["web-01"], cut=["web-01"])
            await asyncio.wait_for(struck.wait_closed(), PATIENCE)
            tell(fleet, thaw=["web-01"])
            assert await comes_and_says(fleet)

    asyncio.run(both())


def test_the_end_of_a_frozen_connection_is_not_seen_by_the_machine(fleet, tmp_path):
    async def leave():
        gone = tmp_path / "gone"
        async with connected(fleet) as struck:
            await struck.create_process(f"cat; touch {gone}")
            assert await says(struck)
            await done(fleet, freeze=["web-01"])
        await asyncio.sleep(MOMENT)
        assert not gone.exists()
        tell(fleet, thaw=["web-01"])
        async with connected(fleet) as another:
            assert (await another.run(f"until [ -e {gone} ]; do sleep 0.05; done; echo so")).stdout == "so\n"

    asyncio.run(asyncio.wait_for(leave(), PATIENCE))

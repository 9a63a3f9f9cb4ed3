"""A short chaos as a person runs it, and one whose machines' logs were doctored afterwards."""

import contextlib
import json
import os
import re
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings

from releases.demo.comparison import Kind
from tests.demo import processes_of, run_demo

pytestmark = pytest.mark.any_database

SECONDS = 15  # of which a busy host may take some
SEED = 5
OF_THE_FIRST_JOB = re.compile(r" 1 [\w-]+$", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, with_tables):
    return with_tables(tmp_path_factory.mktemp("chaos") / "demo")


@pytest.fixture(scope="module")
def environment():
    """On PostgreSQL a database of its own, for as long as the tests of this file take."""
    if "postgresql" not in settings.DATABASES["default"]["ENGINE"]:
        yield {}
        return
    server, name = os.environ["DATABASE_URL"], f"chaos_{os.getpid()}"
    with contextlib.closing(psycopg.connect(server, autocommit=True)) as maintenance:
        maintenance.execute(f"CREATE DATABASE {name}")
        yield {"DATABASE_URL": urlunsplit(urlsplit(server)._replace(path=f"/{name}"))}
        maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def chaos(folder, environment):
    """Runs chaos for so long."""

    def chaos(seconds, *options):
        arguments = ["--chaos", seconds, "--seed", SEED, "--spare-server", *options]
        return run_demo(folder, *arguments, **environment)

    return chaos


@pytest.fixture(scope="module")
def first(chaos, folder, environment):
    """After one job that nothing struck, so that there are successes however slow the host is."""
    quiet = run_demo(folder, "--once", **environment)
    assert quiet.returncode == 0, quiet.stderr
    ended = chaos(SECONDS, "--json")
    assert ended.stdout, ended.stderr
    assert "Not rolled back" not in ended.stderr  # which is for people, who see what they left out
    return ended.returncode, json.loads(ended.stdout)


def test_machines_and_ledger_agree_whatever_is_struck(first, folder):
    status, facts = first
    assert (status, facts["sentences"], facts["stuck"], facts["errors"]) == (0, [], [], [])
    assert facts["differences"] == dict.fromkeys(map(str, Kind), 0)
    assert (facts["seed"], facts["seconds"]) == (SEED, SECONDS)
    assert facts["database"] == settings.DATABASES["default"]["ENGINE"].rpartition(".")[2].removesuffix("3")
    assert sum(facts["strikes"].values()) > 0
    assert "database restarted" not in facts["strikes"]
    assert facts["steps"]["release"] > 0
    assert facts["executions"] >= facts["machine_runs"]["succeeded"] > 0
    assert facts["workers"] >= 3
    assert not facts["machine_runs"].keys() & {"held", "queued", "claimed", "running", "unknown"}
    assert (folder / "logs/chaos.log").read_text()
    assert not processes_of(folder)


def test_forged_logs_are_told(first, chaos, folder):
    """A line by hand, one that is there twice, and successes that the machine forgot."""
    logs = sorted(folder.glob("fleet/machines/*/releases.log"))
    doctored, emptied, *_ = [log for log in logs if OF_THE_FIRST_JOB.search(log.read_text())]
    lines = doctored.read_text().splitlines(keepends=True)
    doctored.write_text("".join([*lines, lines[-1], "1000000 release 6.6.6 1 release\n"]))
    forgotten = len(emptied.read_text().splitlines())
    emptied.write_text("")
    ended = chaos(0)
    assert ended.returncode == 1
    assert "The machines and the ledger differ" in ended.stderr
    told = ended.stdout.splitlines()
    assert f"0 s of chaos with seed {SEED}, on {first[1]['database']}" in told
    assert f"1 {Kind.NOT_IN_LEDGER}" in told
    assert f"1 {Kind.TWICE}" in told
    name = doctored.parent.name
    assert f"{name}: Executed, but not in the ledger: '1000000 release 6.6.6 1 release'." in told
    assert f"{name}: Machine run {lines[-1].split()[0]} was executed 2 times." in told
    unknown = [line for line in told if line.endswith("succeeded by the ledger, but was not executed here.")]
    assert 0 < len(unknown) <= forgotten
    assert f"{len(unknown)} {Kind.NOT_EXECUTED}" in told
    assert all(line.startswith(f"{emptied.parent.name}: ") for line in unknown)


@pytest.mark.one_database
@pytest.mark.parametrize("arguments", [("--chaos", -1), ("--chaos", "soon"), ("--chaos", 1, "--once")])
def test_mistakes(tmp_path, arguments):
    ended = run_demo(tmp_path / "demo", *arguments)
    assert ended.returncode in (1, 2)
    assert "--chaos" in ended.stderr
    assert not (tmp_path / "demo").exists()

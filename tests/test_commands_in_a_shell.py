"""Commands as a shell runs them: what became of their reader, the database and the bytes of their arguments."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing

import pytest

from releases.demo.fleet import listening_socket
from tests.commands import FAILED, MISTAKE
from tests.demo import ROOT
from tests.waiting import PATIENCE, wait_until

PSYCOPGS_OWN_PATIENCE = 130
SETTINGS = {"PATH": os.environ["PATH"], "DEBUG": "1"}


def shell(line, **environment):
    """Runs a line of shell, in which $PORTAL is `manage.py`."""
    portal = f"{sys.executable} manage.py"
    return subprocess.run(
        ["bash", "-c", line.replace("$PORTAL", portal)],
        cwd=ROOT,
        env=SETTINGS | environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory, with_tables):
    """A database with our tables and nothing in them."""
    return f"sqlite:///{with_tables(tmp_path_factory.mktemp('shell') / 'portal')}/db.sqlite3"


@pytest.mark.parametrize("command", ["verify_events --json", "prune_logs --older-than 3"])
def test_a_reader_that_has_gone_is_no_error(database, command):
    ended = shell(f"$PORTAL {command} | true; exit ${{PIPESTATUS[0]}}", DATABASE_URL=database)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["verify_events --json", "prune_logs --older-than 3"])
def test_without_an_output_the_exit_code_says_it_all(database, command):
    ended = shell(f"$PORTAL {command} >&-", DATABASE_URL=database)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.fixture
def heads(tmp_path):
    """A file with the head of a job whose events are missing."""
    path = tmp_path / "heads.json"
    path.write_text('{"heads": [{"job": 7, "number": 1, "hash": ""}]}')
    return path


@pytest.mark.parametrize("redirection", ["", "2>&-", "2>/dev/full", "2> >(true)", "&>/dev/full"])
def test_without_an_error_output_too(database, heads, redirection):
    command = f"$PORTAL verify_events --json --heads {heads} {redirection}"
    assert shell(command, DATABASE_URL=database).returncode == FAILED


def test_nor_where_its_reader_is_slow_and_it_may_not_wait(database, heads):
    """As a terminal is that another process, such as Node, has made so."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader, "rb"), open(writer, "wb", buffering=0) as full:
        while full.write(b"x" * 4096):
            pass
        command = [sys.executable, "manage.py", "verify_events", "--heads", heads]
        ended = subprocess.run(
            command, cwd=ROOT, env=SETTINGS | {"DATABASE_URL": database}, stderr=full, timeout=PATIENCE, check=False
        )
    assert ended.returncode == FAILED


def test_without_an_error_output_a_call_that_cannot_be_read_is_told_from_a_mistake(database):
    assert shell("$PORTAL verify_events --nonsense 2>/dev/full", DATABASE_URL=database).returncode == 2
    assert shell("$PORTAL verify_events 7 2>/dev/full", DATABASE_URL=database).returncode == MISTAKE


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("run_stage --as li.wei 1 release --al", "--al"),
        ("run_stage --as li.wei 1 release --all --batch-s=10%", "--batch-s=10%"),
        ("verify_events --head=x", "--head=x"),
        ("prune_logs --older-than 3 --keep", "--keep"),
        ("demo --onc", "--onc"),
    ],
)
def test_a_short_name_of_an_option_is_none(database, line, told):
    ended = shell(f"$PORTAL {line}", DATABASE_URL=database)
    assert ended.returncode == 2
    assert ended.stderr.decode().endswith(f"error: unrecognized arguments: {told}\n")


def test_on_a_full_disk_what_was_done_is_done(database):
    ended = shell("$PORTAL prune_logs --older-than 3 >/dev/full", DATABASE_URL=database)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_on_a_full_disk_what_only_tells_has_failed(database):
    ended = shell("$PORTAL verify_events --json >/dev/full", DATABASE_URL=database)
    assert ended.returncode == MISTAKE
    assert ended.stderr == b"CommandError: This could not be printed: No space left on device.\n"


def test_on_a_full_disk_what_is_wrong_is_told_first(database, heads):
    ended = shell(f"$PORTAL verify_events --json --heads {heads} >/dev/full", DATABASE_URL=database)
    assert ended.returncode == FAILED
    assert ended.stderr == (
        b"CommandError: job 7: all events are missing\nThis could not be printed: No space left on device.\n"
    )


def test_help_is_there_where_nothing_is_configured_yet():
    for name, line in (("run_stage", "run_stage --help"), ("job_status", "help job_status")):
        asked = shell(f"$PORTAL {line}", DEBUG="0")
        assert (asked.returncode, asked.stderr) == (0, b"")
        assert asked.stdout.startswith(f"usage: manage.py {name}".encode())


@pytest.mark.parametrize(
    "command", ["job_status --as li.wei 1", "release_worker", "migrate", "check", "demo", "no-such"]
)
def test_a_setting_that_is_wrong_is_one_line(tmp_path, command):
    data = f"--data {tmp_path}" if command == "demo" else ""
    ended = shell(f"$PORTAL {command} {data}", DATABASE_URL="nonsense")
    assert ended.returncode == 1
    assert ended.stderr == b"DATABASE_URL must be a sqlite:// or postgres:// address.\n"


def test_a_setting_that_is_missing_is_one_line_unless_more_is_asked_for():
    words = b"Set SECRET_KEY or SECRET_KEY_FILE"
    assert shell("$PORTAL migrate", DEBUG="0").stderr.startswith(words)
    more = shell("$PORTAL migrate --traceback", DEBUG="0").stderr
    assert more.startswith(b"Traceback")
    assert words in more


@pytest.mark.parametrize("module", ["nonsense", "deploy_portal.nonsense"])
def test_settings_that_are_not_there_are_one_line(module):
    ended = shell("$PORTAL migrate", DJANGO_SETTINGS_MODULE=module)
    assert ended.returncode == 1
    assert ended.stderr.decode() == f"DJANGO_SETTINGS_MODULE names no module: {module}\n"


def test_a_module_that_the_settings_lack_is_a_fault(tmp_path):
    (tmp_path / "broken.py").write_text("import nonsense")
    ended = shell("$PORTAL migrate", DJANGO_SETTINGS_MODULE="broken", PYTHONPATH=str(tmp_path))
    assert ended.stderr.startswith(b"Traceback")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["verify_events --help", "migrate -h", "--help", "help verify_events", ""])
def test_help_that_nobody_can_read_is_no_error(command, unbuffered):
    for redirection in (">/dev/full", "| true; exit ${PIPESTATUS[0]}"):
        ended = shell(f"$PORTAL {command} {redirection}", PYTHONUNBUFFERED=unbuffered)
        assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.fixture
def worker(database):
    """Starts a worker with this redirection; returns its process once it is in the ledger."""
    with ExitStack() as stack:

        def worker(redirection, **environment):
            line = f"exec {sys.executable} manage.py release_worker {redirection}"
            process = subprocess.Popen(
                ["bash", "-c", line],
                cwd=ROOT,
                env=SETTINGS | {"DATABASE_URL": database, "EXECUTOR": "dummy"} | environment,
                stderr=subprocess.PIPE,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            wait_until(lambda: process.poll() is not None or is_enlisted(database, process.pid))
            return process

        yield worker


def is_enlisted(database, pid):
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
        return connection.execute("SELECT 1 FROM releases_worker WHERE name LIKE ?", [f"%-{pid}"]).fetchone()


@pytest.mark.parametrize("redirection", ["> >(true)", ">/dev/full", ">&-", "> >(true) 2>&1", "&>/dev/full"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_worker_works_though_nobody_reads_what_it_says(worker, redirection, unbuffered):
    process = worker(redirection, PYTHONUNBUFFERED=unbuffered)
    assert process.poll() is None, process.stderr.read()
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert not re.sub(rb".* INFO releases.worker: Told to end\..*\n", b"", process.stderr.read())


@pytest.mark.parametrize(
    ("command", "where"), [("job_status --as li.wei 1", "nonexistent/db.sqlite3"), ("verify_events", "empty.sqlite3")]
)
def test_a_database_that_cannot_be_used_is_one_line(tmp_path, command, where):
    ended = shell(f"$PORTAL {command}", DATABASE_URL=f"sqlite:///{tmp_path / where}")
    assert ended.returncode == 1
    [line] = ended.stderr.decode().splitlines()
    assert line.startswith("CommandError: The database cannot be used: ")
    assert ("manage.py migrate" in line) == (where == "empty.sqlite3")


@pytest.mark.parametrize(
    ("command", "where"), [("migrate", "nonexistent/db.sqlite3"), ("createsuperuser --noinput", "empty.sqlite3")]
)
def test_so_it_is_of_djangos_commands_unless_more_is_asked_for(tmp_path, command, where):
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path / where}", "DJANGO_SUPERUSER_USERNAME": "ops"}
    settings |= {"DJANGO_SUPERUSER_EMAIL": "", "DJANGO_SUPERUSER_PASSWORD": "-"}
    ended = shell(f"$PORTAL {command}", **settings)
    assert ended.returncode == 1
    [line] = ended.stderr.decode().splitlines()
    assert line.startswith("The database cannot be used: ")
    assert ("manage.py migrate" in line) == (where == "empty.sqlite3")
    assert shell(f"$PORTAL {command} --traceback", **settings).stderr.startswith(b"Traceback")


@pytest.mark.parametrize(("patience", "seconds"), [("", 5), ("?connect_timeout=2", 2)])
def test_a_database_that_does_not_answer_is_one_line_soon(patience, seconds):
    with listening_socket() as silent:  # whose connections nobody accepts
        asked_at = time.monotonic()
        url = f"postgres://portal@127.0.0.1:{silent.getsockname()[1]}/portal{patience}"
        ended = shell("$PORTAL verify_events", DATABASE_URL=url)
    assert seconds <= time.monotonic() - asked_at < PSYCOPGS_OWN_PATIENCE
    assert ended.returncode == MISTAKE
    [line] = ended.stderr.decode().splitlines()
    assert line.startswith("CommandError: The database cannot be used: connection timeout expired")


@pytest.mark.parametrize(
    "call", [r"job_status --as li.wei 1 $'\e[2J'", r"verify_events --heads $'\e[2J'", r"release_worker $'\e[2J'"]
)
def test_what_cannot_be_read_is_told_without_being_obeyed(call):
    ended = shell(f"$PORTAL {call}")
    assert ended.returncode == 2
    assert "␛[2J" in ended.stderr.decode()
    assert b"\x1b" not in ended.stderr


@pytest.mark.parametrize("arguments", [r"--as $'\xff' 1", r"--as li.wei payment 2.0.1 $'\xff'"])
def test_bytes_that_are_no_text_are_one_line(database, arguments):
    command = "create_job" if "payment" in arguments else "job_status"
    ended = shell(f"$PORTAL {command} {arguments}", DATABASE_URL=database)
    assert ended.returncode == 1
    [line] = ended.stderr.decode().splitlines()
    assert line.startswith("CommandError: ")

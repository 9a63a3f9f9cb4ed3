import re

import pytest

from tests.demo import processes_of, run_demo

# Read by each Python that starts: its user is only a number, as in a container. Nor does ENVIRONMENT give it a home.
NAMELESS = """
import pwd

def look_up(uid):
    raise KeyError(uid)

pwd.getpwuid = look_up
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("once") / "demo"


@pytest.fixture(scope="module")
def first(folder):
    """The first time in that folder."""
    return run_demo(folder, "--once")


def test_main_job_is_done_and_the_machines_say_the_same(first, folder):
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[0] == "asked for     job #1: payment 2.14.0 on 5 machines"
    ends = [line for line in lines if re.search(r"in [\d.]+ s$", line)]
    assert [line.split()[0] for line in ends] == ["pre-release", "gray-release", "release", "rollback"]
    assert "6 lines" in lines[-1]
    logs = [log.read_text() for log in folder.glob("fleet/machines/*/releases.log")]
    assert sum(log.count("release 2.14.0") for log in logs) == 5
    assert sum(log.count("rollback -") for log in logs) == 1
    assert len(list(folder.glob("fleet/machines/*/current"))) == 4
    assert not processes_of(folder)


def test_again_with_what_is_there(first, folder):
    """Another version, on more machines; then a machine that lies, and one that is broken."""
    again = run_demo(folder, "--once", "--machines", 9)
    assert (again.returncode, again.stderr) == (0, "")
    assert "payment 2.14.1 on 7 machines" in again.stdout

    with (folder / "fleet/machines/pay-web-002/releases.log").open("a") as log:
        log.write("1000000 release 6.6.6 1 release\n")
    lies = run_demo(folder, "--once")
    assert (lies.returncode, lies.stderr) == (1, "CommandError: The machines and the ledger differ.\n")
    difference = "pay-web-002: Executed, but not in the ledger: '1000000 release 6.6.6 1 release'."
    assert lies.stdout.splitlines()[-1] == difference

    (folder / "fleet/machines/pay-web-003/broken").touch()
    broken = run_demo(folder, "--once")
    assert broken.returncode == 1
    assert "pay-web-003: failed, exit 1." in broken.stderr


def test_a_user_without_name_and_home_has_a_demo(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NAMELESS)
    told = run_demo(tmp_path / "demo", "--once", PYTHONPATH=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert "6 lines" in told.stdout.splitlines()[-1]

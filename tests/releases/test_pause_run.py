import pytest

from releases.models import MachineRun, Run, Worker
from tests.commands import CONFLICT, FAILED, MISTAKE, fail, help_of, say, say_json
from tests.workers import begin, end

PAUSE = ("pause_run", "--as", "publisher")


@pytest.fixture
def run(start, job, machines):
    return start(job, machines[:4], batch_size="2")


@pytest.fixture
def worker(db):
    return Worker.objects.enlist([])


def counts():
    return MachineRun.objects.counts()


def test_a_run_is_paused(run, worker, job, publisher):
    begin(worker)
    assert say(*PAUSE, run.pk, "--reason", "the graphs look odd").strip().endswith(": paused")
    event = job.events.get(verb="paused")
    assert (event.actor, event.reason) == (publisher, "the graphs look odd")
    assert event.origin.startswith("command on ")
    assert counts() == {"running": 2, "queued": 2}


def test_json_tells_the_run(run):
    assert say_json(*PAUSE, run.pk) == {"runs": [{"id": run.pk, "action": "release", "status": "paused"}]}


def test_waiting_is_for_the_end_of_what_runs(run, worker, monkeypatch):
    """Not for that of the run, which will not end while it is paused."""
    running = begin(worker)
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: end(worker, [running.pop()]))
    assert say_json(*PAUSE, run.pk, "--wait")["runs"][0]["status"] == "paused"
    assert (running, counts()) == ([], {"succeeded": 2, "queued": 2})


def test_waiting_where_nothing_runs_is_over_at_once(run):
    assert "paused" in say(*PAUSE, run.pk, "--wait")


def test_waiting_has_a_limit(run, worker):
    begin(worker)
    assert "Still running" in fail(*PAUSE, run.pk, "--wait", "--wait-limit", 0, code=CONFLICT)
    assert Run.objects.get().status == "paused"


def test_a_run_that_ends_while_its_pause_is_waited_for_is_told(start, job, machines, worker, monkeypatch):
    run = start(job, machines[:1])
    running = begin(worker)
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: end(worker, running, "failed"))
    assert fail(*PAUSE, run.pk, "--wait", code=FAILED) == "Not every machine succeeded."


def test_what_does_not_run_is_a_conflict(run, finish):
    say(*PAUSE, run.pk)
    assert "no longer in the state" in fail(*PAUSE, run.pk, code=CONFLICT)
    run.resume(run.started_by)
    finish()
    assert "no longer in the state" in fail(*PAUSE, run.pk, code=CONFLICT)
    assert Run.objects.get().status == "succeeded"


@pytest.mark.parametrize("number", [0, -1, 10**30])
def test_a_run_that_is_not_there_is_a_mistake(run, publisher, number):
    assert "sees no such" in fail(*PAUSE, "--", number, code=MISTAKE)


@pytest.mark.parametrize("reason", ["\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(run, reason):
    before = Run.objects.get().status
    assert "reason:" in fail(*PAUSE, run.pk, f"--reason={reason}", code=MISTAKE)
    assert Run.objects.get().status == before


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("requester", "lack the right to run or roll back"),
        ("approver", "lack the right to run or roll back"),
        ("outsider", "sees no such"),
        ("nobody", "no active user"),
    ],
)
def test_who_may_not_publish_is_told_so(run, outsider, user, said):
    before = Run.objects.values_list("status", "cancelled_at").get()
    assert said in fail("pause_run", "--as", user, run.pk, code=MISTAKE)
    assert Run.objects.values_list("status", "cancelled_at").get() == before


def test_ops_may_too(run, ops, job):
    say("pause_run", "--as", "ops", run.pk, "--reason", "nobody else is awake")
    event = job.events.get(verb="paused")
    assert (event.actor, event.reason) == (ops, "nobody else is awake")


def test_help_says_what_it_does(capsys):
    said = help_of("pause_run", capsys)
    assert "Pauses a run: nothing more of it begins" in said
    assert "--reason" in said

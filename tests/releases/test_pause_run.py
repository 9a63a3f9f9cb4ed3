import pytest

from releases.models import MachineRun, Run
from tests.commands import CONFLICT, FAILED, fail, help_of, say, say_json
from tests.workers import begin, end

PAUSE = ("pause_run", "--as", "publisher")


@pytest.fixture
def run(start, job, machines):
    return start(job, machines[:4], batch_size="2")


def test_a_run_is_paused(run, worker, job, publisher):
    begin(worker)
    assert say(*PAUSE, run.pk, "--reason", "the graphs look odd").strip().endswith(": paused")
    event = job.events.get(verb="paused")
    assert (event.actor, event.reason) == (publisher, "the graphs look odd")
    assert event.origin.startswith("command on ")
    assert MachineRun.objects.counts() == {"running": 2, "queued": 2}


def test_json_tells_the_run(run):
    assert say_json(*PAUSE, run.pk) == {"runs": [{"id": run.pk, "action": "release", "status": "paused"}]}


def test_waiting_is_for_the_end_of_what_runs(run, worker, monkeypatch):
    """Not for that of the run, which will not end while it is paused."""
    running = begin(worker)
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: end(worker, [running.pop()]))
    assert say_json(*PAUSE, run.pk, "--wait")["runs"][0]["status"] == "paused"
    assert (running, MachineRun.objects.counts()) == ([], {"succeeded": 2, "queued": 2})


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
    assert fail(*PAUSE, run.pk, "--wait", code=FAILED) == "Not every machine succeeded.\nfailed: pay-1"


def test_what_does_not_run_is_a_conflict(run, finish):
    say(*PAUSE, run.pk)
    assert "no longer in the state" in fail(*PAUSE, run.pk, code=CONFLICT)
    run.resume(run.started_by)
    finish()
    assert "no longer in the state" in fail(*PAUSE, run.pk, code=CONFLICT)
    assert Run.objects.get().status == "succeeded"


def test_help_says_what_it_does(capsys):
    said = help_of("pause_run", capsys)
    assert "Pauses a run: nothing more of it begins" in said
    assert "--reason" in said

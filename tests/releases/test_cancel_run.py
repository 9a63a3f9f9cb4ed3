import pytest

from releases.models import MachineRun, Run
from tests.commands import CONFLICT, FAILED, fail, help_of, say, say_json
from tests.workers import begin, end

CANCEL = ("cancel_run", "--as", "publisher")


@pytest.fixture
def run(start, job, machines):
    return start(job, machines[:4], batch_size="2")


def test_a_run_is_cancelled_and_what_runs_is_asked_to_end(run, worker, job, publisher):
    running = begin(worker, 1)
    assert say(*CANCEL, run.pk, "--reason", "wrong version").strip().endswith(": running")
    event = job.events.get(verb="cancelled")
    assert (event.actor, event.reason, event.detail["machines"]) == (publisher, "wrong version", 3)
    assert MachineRun.objects.counts() == {"running": 1, "cancelled": 3}
    assert list(MachineRun.objects.to_cancel(worker).values_list("pk", flat=True)) == running


def test_where_nothing_runs_the_run_has_ended(run):
    assert say_json(*CANCEL, run.pk) == {"runs": [{"id": run.pk, "action": "release", "status": "cancelled"}]}
    assert MachineRun.objects.counts() == {"cancelled": 4}


def test_one_that_has_ended_is_not_waited_for(run, away_when_waited_for):
    """Not even by a look at the database, which may be away."""
    assert away_when_waited_for(say_json, *CANCEL, run.pk, "--wait")["runs"][0]["status"] == "cancelled"


def test_that_a_run_ended_as_it_was_told_to_is_no_failure(run, worker, monkeypatch):
    running = begin(worker)
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: end(worker, running, "cancelled"))
    assert say_json(*CANCEL, run.pk, "--wait")["runs"][0]["status"] == "cancelled"


@pytest.mark.parametrize("seen", ["failed", "unknown"])
def test_waiting_tells_of_a_run_that_failed_in_spite_of_it(start, job, machines, worker, monkeypatch, seen):
    run = start(job, machines[:1])
    running = begin(worker)
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: end(worker, running, seen))
    assert fail(*CANCEL, run.pk, "--wait", code=FAILED) == f"Not every machine succeeded.\n{seen}: pay-1"


def test_waiting_has_a_limit(run, worker):
    begin(worker)
    assert "Still running" in fail(*CANCEL, run.pk, "--wait", "--wait-limit", 0, code=CONFLICT)


def test_a_paused_run_is_cancelled(run, publisher):
    run.pause(publisher)
    assert "cancelled" in say(*CANCEL, run.pk)


def test_what_was_cancelled_or_has_ended_is_a_conflict(run, worker):
    running = begin(worker)
    say(*CANCEL, run.pk)
    assert "no longer in the state" in fail(*CANCEL, run.pk, code=CONFLICT)
    end(worker, running)
    assert "no longer in the state" in fail(*CANCEL, run.pk, code=CONFLICT)
    assert Run.objects.get().status == "cancelled"


def test_help_says_what_it_does(capsys):
    said = help_of("cancel_run", capsys)
    assert "Cancels a run: what has not begun never will" in said
    assert "--reason" in said

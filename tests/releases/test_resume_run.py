import pytest

from releases.models import MachineRun, Run
from tests.commands import CONFLICT, FAILED, fail, help_of, say, say_json
from tests.workers import begin

RESUME = ("resume_run", "--as", "publisher")


@pytest.fixture
def run(start, job, machines):
    return start(job, machines[:4], batch_size="2")


@pytest.fixture(autouse=True)
def paused(run, publisher):
    run.pause(publisher)


def test_a_run_goes_on(run, worker, job, publisher):
    assert begin(worker) == []
    assert say(*RESUME, run.pk, "--reason", "it was the graphs").strip().endswith(": running")
    event = job.events.get(verb="resumed")
    assert (event.actor, event.reason) == (publisher, "it was the graphs")
    assert len(begin(worker)) == 2


def test_json_tells_the_run(run):
    assert say_json(*RESUME, run.pk) == {"runs": [{"id": run.pk, "action": "release", "status": "running"}]}


def test_waiting_tells_how_the_run_ended(run, finish, monkeypatch):
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: finish())
    assert say_json(*RESUME, run.pk, "--wait")["runs"][0]["status"] == "succeeded"


def test_waiting_tells_of_a_run_that_fails(run, finish, monkeypatch):
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: finish("failed", on=["pay-1"]))
    said = fail(*RESUME, run.pk, "--wait", code=FAILED)
    assert said.splitlines() == ["Not every machine succeeded.", "failed: pay-1", "not_run: pay-3, pay-4"]
    assert MachineRun.objects.counts() == {"failed": 1, "succeeded": 1, "not_run": 2}


def test_waiting_tells_of_a_run_that_somebody_cancels(run, publisher, monkeypatch):
    cancel = lambda seconds: Run.objects.get().cancel(publisher)  # noqa: E731
    monkeypatch.setattr("releases.commands.time.sleep", cancel)
    said = fail(*RESUME, run.pk, "--wait", code=FAILED)
    assert said.splitlines() == ["Not every machine succeeded.", "cancelled: pay-1, pay-2, pay-3, pay-4"]


def test_what_is_not_paused_is_a_conflict(run, publisher):
    say(*RESUME, run.pk)
    said = fail(*RESUME, run.pk, code=CONFLICT)
    assert said == "This run is no longer in the state this step begins from. Look at how it stands now."
    assert Run.objects.get().status == "running"


def test_a_cancelled_run_is_not_resumed(run, publisher):
    run.cancel(publisher)
    assert "no longer in the state" in fail(*RESUME, run.pk, code=CONFLICT)
    assert Run.objects.get().status == "cancelled"


def test_help_says_what_it_does(capsys):
    said = help_of("resume_run", capsys)
    assert "Resumes a run: it goes on" in said
    assert "--reason" in said

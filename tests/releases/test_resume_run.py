import pytest

from releases.models import MachineRun, Run, Worker
from tests.commands import CONFLICT, FAILED, MISTAKE, fail, help_of, say, say_json
from tests.workers import begin

RESUME = ("resume_run", "--as", "publisher")


@pytest.fixture
def run(start, job, machines):
    return start(job, machines[:4], batch_size="2")


@pytest.fixture
def worker(db):
    return Worker.objects.enlist([])


def counts():
    return MachineRun.objects.counts()


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
    assert fail(*RESUME, run.pk, "--wait", code=FAILED) == "Not every machine succeeded."
    assert counts() == {"failed": 1, "succeeded": 1, "not_run": 2}


def test_waiting_tells_of_a_run_that_somebody_cancels(run, publisher, monkeypatch):
    cancel = lambda seconds: Run.objects.get().cancel(publisher)  # noqa: E731
    monkeypatch.setattr("releases.commands.time.sleep", cancel)
    assert fail(*RESUME, run.pk, "--wait", code=FAILED) == "Not every machine succeeded."


def test_what_is_not_paused_is_a_conflict(run, publisher):
    say(*RESUME, run.pk)
    assert "no longer in the state" in fail(*RESUME, run.pk, code=CONFLICT)
    assert Run.objects.get().status == "running"


def test_a_cancelled_run_is_not_resumed(run, publisher):
    run.cancel(publisher)
    assert "no longer in the state" in fail(*RESUME, run.pk, code=CONFLICT)
    assert Run.objects.get().status == "cancelled"


@pytest.mark.parametrize("number", [0, -1, 10**30])
def test_a_run_that_is_not_there_is_a_mistake(run, publisher, number):
    assert "sees no such" in fail(*RESUME, "--", number, code=MISTAKE)


@pytest.mark.parametrize("reason", ["\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(run, reason):
    before = Run.objects.get().status
    assert "reason:" in fail(*RESUME, run.pk, f"--reason={reason}", code=MISTAKE)
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
    assert said in fail("resume_run", "--as", user, run.pk, code=MISTAKE)
    assert Run.objects.values_list("status", "cancelled_at").get() == before


def test_ops_may_too(run, ops, job):
    say("resume_run", "--as", "ops", run.pk, "--reason", "nobody else is awake")
    event = job.events.get(verb="resumed")
    assert (event.actor, event.reason) == (ops, "nobody else is awake")


def test_help_says_what_it_does(capsys):
    said = help_of("resume_run", capsys)
    assert "Resumes a run: it goes on" in said
    assert "--reason" in said

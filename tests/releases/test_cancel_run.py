import pytest

from releases.models import MachineRun, Run, Worker
from tests.commands import CONFLICT, FAILED, MISTAKE, fail, help_of, say, say_json
from tests.workers import begin, end

CANCEL = ("cancel_run", "--as", "publisher")


@pytest.fixture
def run(start, job, machines):
    return start(job, machines[:4], batch_size="2")


@pytest.fixture
def worker(db):
    return Worker.objects.enlist([])


def counts():
    return MachineRun.objects.counts()


def test_a_run_is_cancelled_and_what_runs_is_asked_to_end(run, worker, job, publisher):
    running = begin(worker, 1)
    assert say(*CANCEL, run.pk, "--reason", "wrong version").strip().endswith(": running")
    event = job.events.get(verb="cancelled")
    assert (event.actor, event.reason, event.detail["machines"]) == (publisher, "wrong version", 3)
    assert counts() == {"running": 1, "cancelled": 3}
    assert list(MachineRun.objects.to_cancel(worker).values_list("pk", flat=True)) == running


def test_where_nothing_runs_the_run_has_ended(run):
    assert say_json(*CANCEL, run.pk) == {"runs": [{"id": run.pk, "action": "release", "status": "cancelled"}]}
    assert counts() == {"cancelled": 4}


def test_that_a_run_ended_as_it_was_told_to_is_no_failure(run, worker, monkeypatch):
    running = begin(worker)
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: end(worker, running, "cancelled"))
    assert say_json(*CANCEL, run.pk, "--wait")["runs"][0]["status"] == "cancelled"


@pytest.mark.parametrize("seen", ["failed", "unknown"])
def test_waiting_tells_of_a_run_that_failed_in_spite_of_it(start, job, machines, worker, monkeypatch, seen):
    run = start(job, machines[:1])
    running = begin(worker)
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: end(worker, running, seen))
    assert fail(*CANCEL, run.pk, "--wait", code=FAILED) == "Not every machine succeeded."


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


@pytest.mark.parametrize("number", [0, -1, 10**30])
def test_a_run_that_is_not_there_is_a_mistake(run, publisher, number):
    assert "sees no such" in fail(*CANCEL, "--", number, code=MISTAKE)


@pytest.mark.parametrize("reason", ["\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(run, reason):
    before = Run.objects.get().status
    assert "reason:" in fail(*CANCEL, run.pk, f"--reason={reason}", code=MISTAKE)
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
    assert said in fail("cancel_run", "--as", user, run.pk, code=MISTAKE)
    assert Run.objects.values_list("status", "cancelled_at").get() == before


def test_ops_may_too(run, ops, job):
    say("cancel_run", "--as", "ops", run.pk, "--reason", "nobody else is awake")
    event = job.events.get(verb="cancelled")
    assert (event.actor, event.reason) == (ops, "nobody else is awake")


def test_help_says_what_it_does(capsys):
    said = help_of("cancel_run", capsys)
    assert "Cancels a run: what has not begun never will" in said
    assert "--reason" in said

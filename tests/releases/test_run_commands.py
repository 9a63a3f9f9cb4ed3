"""What pause_run, resume_run and cancel_run refuse and record alike; what each does is in a file of its own."""

import pytest

from releases.models import Run
from tests.commands import MISTAKE, fail, say

VERBS = {"pause_run": "paused", "resume_run": "resumed", "cancel_run": "cancelled"}


@pytest.fixture(params=VERBS)
def command(request):
    return request.param


@pytest.fixture
def run(start, job, machines, publisher, command):
    run = start(job, machines[:2])
    if command == "resume_run":
        run.pause(publisher)
    return run


def state():
    return Run.objects.values_list("status", "cancelled_at").get()


@pytest.mark.parametrize("number", [0, -1, 10**30])
def test_a_run_that_is_not_there_is_a_mistake(command, publisher, number):
    assert "sees no such" in fail(command, "--as", "publisher", "--", number, code=MISTAKE)


@pytest.mark.parametrize("reason", ["\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(run, command, reason):
    before = state()
    assert "reason:" in fail(command, "--as", "publisher", run.pk, f"--reason={reason}", code=MISTAKE)
    assert state() == before


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("requester", "lack the right to run or roll back"),
        ("approver", "lack the right to run or roll back"),
        ("outsider", "sees no such"),
        ("nobody", "no active user"),
    ],
)
def test_who_may_not_publish_is_told_so(run, outsider, command, user, said):
    before = state()
    assert said in fail(command, "--as", user, run.pk, code=MISTAKE)
    assert state() == before


def test_ops_may_too(run, ops, job, command):
    say(command, "--as", "ops", run.pk, "--reason", "nobody else is awake")
    event = job.events.get(verb=VERBS[command])
    assert (event.actor, event.reason) == (ops, "nobody else is awake")

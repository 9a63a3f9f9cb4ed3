"""What pause_run, resume_run and cancel_run refuse and record alike; what each does is in a file of its own."""

import json

import pytest
from django.core.management import CommandError, call_command

from releases.models import Run
from tests.cases import each
from tests.commands import CONFLICT, MISTAKE, fail, say
from tests.workers import begin

VERBS = {"pause_run": "paused", "resume_run": "resumed", "cancel_run": "cancelled"}
AFTER = {"pause_run": "paused", "resume_run": "running", "cancel_run": "running"}


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


def test_a_run_is_told_though_the_database_goes_away_once_the_step_is_done(
    run, command, worker, away_when_waited_for, capsys
):
    begin(worker, 1)
    with pytest.raises(CommandError) as caught:
        away_when_waited_for(
            call_command, command, "--as", "publisher", str(run.pk), "--wait", "--wait-limit=0.3", "--json"
        )
    assert caught.value.returncode == CONFLICT
    [told] = json.loads(capsys.readouterr().out)["runs"]
    assert (told["id"], told["status"]) == (run.pk, AFTER[command])
    assert state()[0] == AFTER[command]


@each("number", [0, -1, 10**30])
def test_a_run_that_is_not_there_is_a_mistake(command, publisher, number):
    said = fail(command, "--as", "publisher", "--", number, code=MISTAKE)
    assert said == f"publisher sees no such run: {number}"


@each("reason", ["\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(run, command, reason):
    before = state()
    assert "reason:" in fail(command, "--as", "publisher", run.pk, f"--reason={reason}", code=MISTAKE)
    assert state() == before


@pytest.mark.one_database
@each(
    "user, said",
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

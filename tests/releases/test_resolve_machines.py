import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json
from tests.parallel import at_once

RESOLVE = ("resolve_machines", "--as", "publisher", "--reason", "looked at each")


@pytest.fixture
def run(job, machines, start, finish):
    """A run of which pay-1 succeeded, and pay-2 to pay-4 are unknown."""
    run = start(job, machines[:4])
    finish("unknown", on=["pay-2", "pay-3", "pay-4"])
    return run


def counts(run):
    return run.machine_runs.counts()


def test_several_are_resolved_at_once_each_with_an_event_of_its_own(run, job, publisher):
    said = say(*RESOLVE, run.pk, "failed", "PAY-[2-3]")
    assert said == f"Run {run.pk}: pay-[2-3] resolved as failed; 1 more unknown.\n"
    assert counts(run) == {"succeeded": 1, "failed": 2, "unknown": 1}
    events = job.events.filter(verb="resolved").order_by("pk")
    assert [event.detail["hostnames"] for event in events] == [["pay-2"], ["pay-3"]]
    assert {(event.actor, event.reason) for event in events} == {(publisher, "looked at each")}


def test_json_tells_how_many_are_left(run):
    said = say_json(*RESOLVE, run.pk, "succeeded", "pay-2", "pay-3", "pay-4")
    hostnames = ["pay-2", "pay-3", "pay-4"]
    assert said == {"run": run.pk, "status": "succeeded", "machines": hostnames, "unknown_left": 0}
    run.stage.refresh_from_db()
    assert run.stage.status == "succeeded"


def test_how_the_stage_stands_is_worked_out_once_however_many(run, django_assert_max_num_queries):
    """In one transaction, for which a worker on SQLite waits with its heartbeat."""
    with CaptureQueriesContext(connection) as of_one:
        say(*RESOLVE, run.pk, "failed", "pay-2")
    with django_assert_max_num_queries(len(of_one) + 5):
        say(*RESOLVE, run.pk, "failed", "pay-3", "pay-4")


@pytest.mark.django_db(transaction=True)
def test_of_two_who_resolve_them_at_once_one_does(run, job, publisher):
    command = (*RESOLVE, run.pk, "failed", "pay-[2-4]")
    found = at_once(lambda: call_command(*map(str, command)), lambda: call_command(*map(str, command)))
    assert [error.returncode for error in found if error] == [CONFLICT]
    assert job.events.filter(verb="resolved").count() == 3


def test_what_is_not_unknown_is_a_conflict_and_none_is_resolved(run, job):
    assert fail(*RESOLVE, run.pk, "failed", "pay-2", "pay-1", code=CONFLICT) == "pay-1 is no longer unknown."
    assert counts(run) == {"succeeded": 1, "unknown": 3}
    assert not job.events.filter(verb="resolved").exists()


def test_a_machine_that_the_run_has_not_is_a_mistake(run):
    said = fail(*RESOLVE, run.pk, "failed", "pay-2", "pay-6", code=MISTAKE)
    assert said == "Not among the machines to choose from: pay-6"
    assert counts(run)["unknown"] == 3


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "   ", "\x1b[2J"])
def test_a_reason_that_no_page_takes_is_refused(run, reason):
    command = ("resolve_machines", "--as", "publisher", run.pk, "failed", "pay-2", f"--reason={reason}")
    assert "reason:" in fail(*command, code=MISTAKE)
    assert counts(run)["unknown"] == 3


def test_help_says_what_it_does(capsys):
    assert "how unknown machines of a run really ended" in help_of("resolve_machines", capsys)

import pytest

from jobs.models import Job
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json

WITHDRAW = ("withdraw_job", "--as", "requester", "--reason", "the pipeline was called off")


def stored(job):
    return Job.objects.get(pk=job.pk)


@pytest.mark.parametrize("approved", [False, True])
def test_a_job_of_which_nothing_has_begun_is_withdrawn(make_job, requester, approved):
    job = make_job(approved=approved)
    assert say(*WITHDRAW, job.pk) == f"{job} is withdrawn.\n"
    assert (stored(job).status, stored(job).approved_at) == ("withdrawn", None)
    event = job.events.get(verb="withdrawn")
    assert (event.actor, event.reason) == (requester, "the pipeline was called off")
    assert event.origin.startswith("command on ")


def test_json_tells_the_new_state(job):
    assert say_json(*WITHDRAW, job.pk) == {"job": job.pk, "status": "withdrawn"}


def test_twice_is_a_conflict_and_is_told_once(job):
    say(*WITHDRAW, job.pk)
    assert "changed meanwhile" in fail(*WITHDRAW, job.pk, code=CONFLICT)
    assert job.events.filter(verb="withdrawn").count() == 1


def test_a_job_that_has_begun_is_not_withdrawn(job, start, machines):
    start(job, machines[:1])
    assert "changed meanwhile" in fail(*WITHDRAW, job.pk, code=CONFLICT)
    assert stored(job).status == "in_progress"


@pytest.mark.parametrize("number", [0, 7777, 10**30])
def test_a_job_that_is_not_there_is_refused(job, number):
    assert "sees no such" in fail(*WITHDRAW, number, code=MISTAKE)


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "  ", "\x1b[2J", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(job, reason):
    assert "reason:" in fail("withdraw_job", "--as", "requester", job.pk, f"--reason={reason}", code=MISTAKE)
    assert stored(job).status == "approved"


def test_help_says_what_it_does(capsys):
    assert "no stage has begun" in help_of("withdraw_job", capsys)

import pytest

from jobs.models import Job
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json

SEND_BACK = ("send_back_job", "--as", "approver", "--reason", "not on a Friday")


def stored(job):
    return Job.objects.get(pk=job.pk)


@pytest.mark.parametrize("approved", [False, True])
def test_a_job_is_sent_back_also_when_it_was_approved(make_job, approver, approved):
    job = make_job(approved=approved)
    assert say(*SEND_BACK, job.pk) == f"{job} is sent back.\n"
    assert (stored(job).status, stored(job).approved_at) == ("sent_back", None)
    event = job.events.get(verb="sent_back")
    assert (event.actor, event.reason) == (approver, "not on a Friday")


def test_json_tells_the_new_state(job):
    assert say_json(*SEND_BACK, job.pk) == {"job": job.pk, "status": "sent_back"}


def test_twice_is_a_conflict_and_is_told_once(job):
    say(*SEND_BACK, job.pk)
    assert "changed meanwhile" in fail(*SEND_BACK, job.pk, code=CONFLICT)
    assert job.events.filter(verb="sent_back").count() == 1


def test_a_job_that_has_begun_is_not_sent_back(job, start, machines):
    start(job, machines[:1])
    assert "changed meanwhile" in fail(*SEND_BACK, job.pk, code=CONFLICT)
    assert stored(job).status == "in_progress"


def test_only_the_revision_that_was_read_is_sent_back(job, requester, machines):
    job.edit(requester, machines[:1])
    assert "changed meanwhile" in fail(*SEND_BACK, job.pk, "--revision", "1", code=CONFLICT)
    assert stored(job).status == "waiting"
    say(*SEND_BACK, job.pk, "--revision", "2")
    assert stored(job).status == "sent_back"


@pytest.mark.one_database
@pytest.mark.parametrize("revision", [0, -1])
def test_a_revision_that_never_was_is_refused(job, revision):
    said = fail(*SEND_BACK, job.pk, f"--revision={revision}", code=MISTAKE)
    assert said == "--revision: There is no such revision."
    assert stored(job).status == "approved"


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "  ", "\x1b[2J", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(job, reason):
    assert "--reason:" in fail("send_back_job", "--as", "approver", job.pk, f"--reason={reason}", code=MISTAKE)
    assert stored(job).status == "approved"


def test_help_says_what_it_does(capsys):
    assert "back to who asked for it" in help_of("send_back_job", capsys)

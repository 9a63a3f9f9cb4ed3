import pytest
from django.core.management import call_command

from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json
from tests.conftest import stage_of
from tests.parallel import at_once

pytestmark = pytest.mark.usefixtures("publisher")
SKIP = ("skip_stage", "--as", "publisher", "--reason", "no such machines")


def test_both_are_skipped_so_that_the_release_opens(job, publisher):
    assert say(*SKIP, job.pk, "pre-release") == f"{stage_of(job)} is skipped.\n"
    say(*SKIP, job.pk, "gray-release")
    assert stage_of(job, "release").is_open
    events = job.events.filter(verb="skipped").order_by("pk")
    assert [event.stage for event in events] == ["pre-release", "gray-release"]
    assert {(event.actor, event.reason) for event in events} == {(publisher, "no such machines")}


def test_json_tells_the_new_state(job):
    told = say_json(*SKIP, job.pk, "pre-release")
    assert told == {"job": job.pk, "stage": "pre-release", "status": "skipped"}


@pytest.mark.parametrize("kind", ["pre-release", "gray-release"])
def test_what_is_not_open_is_a_conflict(make_job, kind):
    job = make_job(approved=kind == "gray-release")
    fail(*SKIP, job.pk, kind, code=CONFLICT)
    assert stage_of(job, kind).status == "waiting"
    assert not job.events.filter(verb="skipped").exists()


def test_a_stage_that_runs_is_not_skipped(job, start, machines):
    start(job, machines[:1])
    fail(*SKIP, job.pk, "pre-release", code=CONFLICT)
    assert stage_of(job).status == "running"


def test_what_is_skipped_already_is_told_where_to_look(job):
    say(*SKIP, job.pk, "pre-release")
    said = fail(*SKIP, job.pk, "pre-release", code=CONFLICT)
    assert said == f"{stage_of(job)} cannot be skipped now; job_status {job.pk} tells how it stands."


@pytest.mark.django_db(transaction=True)
def test_of_two_who_skip_it_at_once_one_does(job):
    command = (*SKIP, str(job.pk), "pre-release")
    found = at_once(lambda: call_command(*command), lambda: call_command(*command))
    assert [error.returncode for error in found if error] == [CONFLICT]
    assert job.events.filter(verb="skipped").count() == 1


def test_the_release_itself_cannot_be_skipped(job):
    assert "invalid choice: 'release'" in fail(*SKIP, job.pk, "release", code=MISTAKE)


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "  ", "\x1b[2J", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(job, reason):
    command = ("skip_stage", "--as", "publisher", job.pk, "pre-release", f"--reason={reason}")
    said = fail(*command, code=MISTAKE)
    assert "reason:" in said
    assert "field" not in said
    assert stage_of(job).status == "waiting"


def test_help_says_what_it_does(capsys):
    assert "so that the stage after it opens" in help_of("skip_stage", capsys)

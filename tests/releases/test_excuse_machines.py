import pytest

from jobs.models import Job
from releases.models import ReleaseStage
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json

NOT_NOW = "Not to be had now:"
EXCUSE = ("excuse_machines", "--as", "publisher", "--reason", "in repair")


@pytest.fixture
def failed(make_job, start, finish, machines):
    """A job for pay-1 to pay-4, whose pre-release put 2.0 on pay-1 and failed on pay-2."""
    job = make_job(on=machines[:4])
    start(job, machines[:2])
    finish("failed", on=["pay-2"])
    return job


def excused(job):
    return set(job.job_machines.exclude(excused_at=None).values_list("machine__hostname", flat=True))


def test_what_went_wrong_or_was_not_reached_is_excused(failed, publisher):
    said = say(*EXCUSE, failed.pk, "PAY-[2-3]")
    assert said == f"{failed} is done without pay-[2-3]; 1 more left to do.\n"
    assert excused(failed) == {"pay-2", "pay-3"}
    event = failed.events.get(verb="excused")
    assert (event.actor, event.reason, event.detail["hostnames"]) == (publisher, "in repair", ["pay-2", "pay-3"])


def test_the_last_ones_let_the_job_be_done(failed):
    told = say_json(*EXCUSE, failed.pk, "pay-2", "pay-3", "pay-4")
    assert told == {"job": failed.pk, "status": "released", "machines": ["pay-2", "pay-3", "pay-4"], "left": 0}
    assert Job.objects.get(pk=failed.pk).status == "released"


@pytest.mark.parametrize("name", ["pay-5", "nowhere"])
def test_what_is_not_of_the_job_is_a_mistake_and_none_is_excused(failed, name):
    said = fail(*EXCUSE, failed.pk, "pay-2", name, code=MISTAKE)
    assert said == f"Not among the machines to choose from: {name}"
    assert excused(failed) == set()


def test_what_is_released_is_refused_with_all_others(failed):
    assert fail(*EXCUSE, failed.pk, "pay-1", "pay-2", code=CONFLICT) == f"{NOT_NOW} pay-1 (released by this job)."
    assert excused(failed) == set()


def test_what_is_excused_already_is_refused(failed):
    say(*EXCUSE, failed.pk, "pay-2")
    assert fail(*EXCUSE, failed.pk, "pay-2", code=CONFLICT) == f"{NOT_NOW} pay-2 (excused already)."
    assert failed.events.filter(verb="excused").count() == 1


def test_what_a_run_is_about_to_touch_is_refused(failed, start, machines):
    start(failed, machines[2:3], key="again")
    said = fail(*EXCUSE, failed.pk, "pay-3", code=CONFLICT)
    assert said == f"{NOT_NOW} pay-3 (a run of this job is about to touch it)."
    assert excused(failed) == set()


def test_what_was_rolled_back_is_refused_whoever_has_it_now(failed, publisher, make_job, start, finish, machines):
    ReleaseStage.objects.of_kind(failed, "pre-release").roll_back(publisher, machines[:2], "broken", "back")
    finish()
    start(make_job("3.0"), machines[1:2])
    assert fail(*EXCUSE, failed.pk, "pay-[1-2]", code=CONFLICT) == f"{NOT_NOW} pay-[1-2] (rolled back)."


def test_what_a_run_took_just_now_is_a_conflict(failed, start, machines, monkeypatch):
    from releases.management.commands import excuse_machines

    def left_to_do(job, seen, look=excuse_machines.left_to_do):
        left = look(job, seen)
        start(failed, machines[2:3], key="again")
        return left

    monkeypatch.setattr(excuse_machines, "left_to_do", left_to_do)
    assert "pay-3" in fail(*EXCUSE, failed.pk, "pay-3", code=CONFLICT)
    assert excused(failed) == set()


def test_a_job_that_has_not_begun_has_none_and_is_edited(job, publisher):
    said = fail(*EXCUSE, job.pk, "pay-1", code=CONFLICT)
    assert said == "The job is approved. Machines are excused from a job that has begun; before that it is edited."
    assert excused(job) == set()


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "  ", "\x1b[2J", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(failed, reason):
    command = ("excuse_machines", "--as", "publisher", failed.pk, "pay-2", f"--reason={reason}")
    assert "reason:" in fail(*command, code=MISTAKE)
    assert excused(failed) == set()


def test_help_says_what_it_does(capsys):
    assert "be done without machines" in help_of("excuse_machines", capsys)

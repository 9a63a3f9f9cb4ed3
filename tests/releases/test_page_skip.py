"""Skipping a stage, with a reason."""

import pytest

from jobs.models import Event
from releases.models import ReleaseStage
from tests.forms import Page
from tests.pages import asks_again_for, came_too_late, is_sent_to_login, page, words


def skip(client, job, kind="pre-release", reason="no canary today"):
    return client.post(page("skip_stage", job, kind=kind), {"reason": reason}, follow=True)


def status(job, kind="pre-release"):
    return ReleaseStage.objects.of_kind(job, kind).status


def skips(job):
    return job.events.filter(verb=Event.Verb.SKIPPED)


@pytest.mark.parametrize("person", ["publisher", "ops"])
def test_who_publishes_skips(as_user, request, job, person):
    response = skip(as_user(request.getfixturevalue(person)), job)
    assert "Skipped." in words(response)
    assert status(job) == "skipped"
    event = skips(job).get()
    assert (event.actor.username, event.reason, event.stage) == (person, "no canary today", "pre-release")


def test_it_asks_who_you_are(client, job):
    assert is_sent_to_login(client.post(page("skip_stage", job)), page("skip_stage", job))


@pytest.mark.one_database
@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_only_a_post_skips(as_user, publisher, job, method):
    assert getattr(as_user(publisher), method)(page("skip_stage", job)).status_code == 405
    assert status(job) == "waiting"


@pytest.mark.parametrize("person", ["requester", "approver"])
def test_others_are_told_which_right_is_missing(as_user, request, job, person):
    response = skip(as_user(request.getfixturevalue(person)), job)
    assert response.status_code == 403
    assert "run or roll back a stage of this job" in words(response)
    assert status(job) == "waiting"


def test_for_an_outsider_it_is_not_there(as_user, outsider, job):
    assert skip(as_user(outsider), job).status_code == 404


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("", "Say why the stage is skipped."),
        ("  ", "Say why the stage is skipped."),
        ("a\u202eb", "Remove the control or invisible characters."),
        ("a\0b", "Remove the control or invisible characters."),
        ("x" * 2001, "at most 2000 characters"),
    ],
)
def test_a_bad_reason_skips_nothing_and_is_told(as_user, publisher, job, reason, why):
    response = skip(as_user(publisher), job, reason=reason)
    assert why in words(response)
    assert asks_again_for(response, page("skip_stage", job, kind="pre-release"), reason)
    assert status(job) == "waiting"


def skip_as_seen(client, job):
    """Posts the form as the page of the stage has it now, later."""
    address = page("skip_stage", job)
    forms = Page(page("stage", job), client.get(page("stage", job)).text).forms
    [form] = [form for form in forms if form.action == address]
    return lambda: client.post(address, dict(form.filled({"reason": "no canary today"})), follow=True)


def test_a_stage_that_failed_meanwhile_is_not_skipped_for_what_was_known_before(
    as_user, publisher, job, machines, start, finish
):
    send = skip_as_seen(as_user(publisher), job)
    start(job, machines[:1])
    finish("failed")
    assert came_too_late(send(), "no canary today")
    assert status(job) == "failed"


def test_nor_is_one_of_a_job_that_was_edited_meanwhile(as_user, publisher, requester, approver, job, machines):
    send = skip_as_seen(as_user(publisher), job)
    job.edit(requester, machines[:1])
    job.approve(approver)
    assert came_too_late(send(), "no canary today")
    assert status(job) == "waiting"


def test_as_it_was_seen_it_is_skipped(as_user, publisher, job):
    send = skip_as_seen(as_user(publisher), job)
    for _click in range(2):
        assert "Skipped." in words(send())
    assert skips(job).count() == 1


def test_skipping_twice_is_told_once(as_user, publisher, job):
    client = as_user(publisher)
    for _click in range(2):
        assert "Skipped." in words(skip(client, job))
    response = skip(client, job, reason="small")
    assert "This stage cannot be skipped now." in words(response)
    assert came_too_late(response, "small")
    assert skips(job).count() == 1


def test_a_skipped_stage_no_longer_offers_it(as_user, publisher, job):
    client = as_user(publisher)
    address = page("skip_stage", job)
    assert address in client.get(page("stage", job)).content.decode()
    skip(client, job)
    assert address not in client.get(page("stage", job)).content.decode()


@pytest.mark.parametrize("kind", ["gray-release", "release"])
def test_a_stage_whose_turn_has_not_come(as_user, publisher, job, kind):
    assert "This stage cannot be skipped now." in words(skip(as_user(publisher), job, kind))
    assert status(job, kind) == "waiting"


def test_the_release_itself_is_never_skipped(as_user, publisher, job):
    client = as_user(publisher)
    skip(client, job)
    skip(client, job, "gray-release")
    assert "This stage cannot be skipped now." in words(skip(client, job, "release"))
    assert status(job, "release") == "waiting"


def test_a_job_that_is_not_approved(as_user, publisher, make_job):
    job = make_job(approved=False)
    assert "This stage cannot be skipped now." in words(skip(as_user(publisher), job))
    assert status(job) == "waiting"


def test_a_stage_that_runs(as_user, publisher, job, start, machines):
    start(job, machines[:1])
    assert "This stage cannot be skipped now." in words(skip(as_user(publisher), job))
    assert status(job) == "running"


def test_a_stage_that_succeeded(as_user, publisher, job, start, finish, machines):
    start(job, machines[:1])
    finish()
    assert "This stage cannot be skipped now." in words(skip(as_user(publisher), job))
    assert status(job) == "succeeded"


def test_a_stage_that_failed_can_be_skipped(as_user, publisher, job, start, finish, machines):
    start(job, machines[:1])
    finish("failed")
    skip(as_user(publisher), job)
    assert status(job) == "skipped"


@pytest.mark.parametrize("kind", ["prod", "Release"])
def test_a_stage_that_is_none(as_user, publisher, job, kind):
    assert as_user(publisher).post(f"/jobs/{job.pk}/stages/{kind}/skip/", {"reason": "x"}).status_code == 404


def test_where_nothing_is_left_to_release_it_is_not_offered(as_user, publisher, job, start, finish, machines):
    start(job, machines)
    finish()
    said = words(as_user(publisher).get(page("stage", job, kind="gray-release")))
    assert "nothing is left to be released here" in said
    assert "Or skip this stage" not in said


@pytest.mark.one_database
def test_a_stage_behind_it_says_for_which_it_waits(as_user, publisher, job, start, finish, machines):
    start(job, machines[:1])
    finish()
    client = as_user(publisher)
    skip(client, job, "gray-release")
    ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    said = words(client.get(page("stage", job, kind="release")))
    assert "It opens when pre-release has succeeded or was skipped." in said
    assert "opens when gray release" not in said

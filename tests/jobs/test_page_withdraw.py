"""Withdrawing a job that has not begun."""

import pytest

from jobs.models import Event, Job
from tests.pages import asks_again_for, came_too_late, is_sent_to_login, page, words


def withdraw(client, job, reason="not needed"):
    return client.post(page("withdraw_job", job), {"reason": reason}, follow=True)


@pytest.mark.parametrize("person", ["requester", "ops"])
@pytest.mark.parametrize("approved", [True, False])
def test_its_requester_and_ops_withdraw_it(as_user, request, make_job, person, approved):
    job = make_job(approved=approved)
    response = withdraw(as_user(request.getfixturevalue(person)), job)
    job.refresh_from_db()
    assert job.status == Job.Status.WITHDRAWN
    assert "Withdrawn." in words(response)
    event = job.events.first()
    assert (event.verb, event.actor.username, event.reason) == ("withdrawn", person, "not needed")


def test_it_asks_who_you_are(client, job):
    assert is_sent_to_login(client.post(page("withdraw_job", job)), page("withdraw_job", job))


@pytest.mark.one_database
@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_only_a_post_withdraws(as_user, requester, job, method):
    assert getattr(as_user(requester), method)(page("withdraw_job", job)).status_code == 405


@pytest.mark.one_database
@pytest.mark.parametrize("person", ["publisher", "approver"])
def test_others_are_told_which_right_is_missing(as_user, request, job, person):
    client = as_user(request.getfixturevalue(person))
    response = withdraw(client, job)
    assert response.status_code == 403
    assert "edit or withdraw this job" in words(response)
    assert page("withdraw_job", job) not in client.get(page("job", job)).content.decode()


def test_for_an_outsider_it_is_not_there(as_user, outsider, job):
    assert withdraw(as_user(outsider), job).status_code == 404


@pytest.mark.parametrize("reason", ["", "   "])
def test_it_needs_a_reason(as_user, requester, job, reason):
    assert "Say why the job is withdrawn." in words(withdraw(as_user(requester), job, reason))
    job.refresh_from_db()
    assert job.status == Job.Status.APPROVED


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("a\u202eb", "Remove the control or invisible characters."),
        ("a\0b", "Remove the control or invisible characters."),
        ("x" * 2001, "at most 2000 characters"),
    ],
)
def test_a_reason_that_cannot_be_kept_is_told_from_none(as_user, requester, job, reason, why):
    response = withdraw(as_user(requester), job, reason)
    assert why in words(response)
    assert asks_again_for(response, page("withdraw_job", job), reason)
    job.refresh_from_db()
    assert job.status == Job.Status.APPROVED


def test_a_reason_may_be_as_long_as_a_browser_lets_it_be(as_user, requester, job):
    lines = ["x" * 99] * 20
    withdraw(as_user(requester), job, "\r\n".join(lines))
    assert job.events.first().reason == "\n".join(lines)


def test_withdrawing_twice_withdraws_once(as_user, requester, job):
    client = as_user(requester)
    for _click in range(2):
        assert "Withdrawn." in words(withdraw(client, job))
    response = withdraw(client, job, "again")
    assert "This job was changed meanwhile" in words(response)
    assert came_too_late(response, "again")
    assert job.events.filter(verb=Event.Verb.WITHDRAWN).count() == 1


def test_once_a_stage_has_begun_it_is_too_late(as_user, requester, job, machines, start):
    start(job, machines[:1])
    assert "no longer in the state" in words(withdraw(as_user(requester), job))
    job.refresh_from_db()
    assert job.status == Job.Status.IN_PROGRESS


@pytest.mark.one_database
def test_a_reason_is_text_and_no_markup(as_user, requester, job):
    response = withdraw(as_user(requester), job, "<img src=x onerror=alert(1)>")
    assert "<img" not in response.content.decode()

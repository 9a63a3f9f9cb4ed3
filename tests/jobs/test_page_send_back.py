"""Sending a job back: an approver's no, with what has to be different."""

import pytest

from jobs.models import Event, Job, Membership
from jobs.rights import Role
from tests.pages import asks_again_for, came_too_late, is_sent_to_login, page, source, words

NAME = "send_back_job"


@pytest.fixture
def job(make_job):
    return make_job(approved=False)


def send_back(client, job, **changed):
    fields = {"revision": job.revision, "reason": "not on a Friday"} | changed
    return client.post(page(NAME, job), fields, follow=True)


def status(job):
    return Job.objects.get(pk=job.pk).status


@pytest.mark.parametrize("approved", [True, False])
def test_an_approver_sends_it_back(as_user, approver, make_job, approved):
    job = make_job("3.0", approved=approved)
    assert "Sent back." in words(send_back(as_user(approver), job))
    job.refresh_from_db()
    assert (job.status, job.approved_at) == (Job.Status.SENT_BACK, None)
    event = job.events.first()
    was = Job.Status.APPROVED if approved else Job.Status.WAITING
    assert (event.verb, event.actor, event.reason) == (Event.Verb.SENT_BACK, approver, "not on a Friday")
    assert (event.was, event.became) == (was, Job.Status.SENT_BACK)


def test_its_requester_reads_why_and_may_edit_or_withdraw_it(as_user, approver, requester, job):
    send_back(as_user(approver), job, reason="not on <b>Friday</b>")
    client = as_user(requester)
    home = client.get("/")
    assert f"Sent back #{job.pk}" in words(home)
    assert "read why, then edit or withdraw it" in words(home)
    response = client.get(page("job", job))
    assert "Sent back by approver not on <b>Friday</b> Once it is edited" in words(response)
    assert "<b>Friday" not in response.content.decode()
    assert "approver sent the job back" in words(response)
    assert page("edit_job", job) in source(response)
    assert page("withdraw_job", job) in source(response)
    assert "Sent back by approver not on <b>Friday</b> Title" in words(client.get(page("edit_job", job)))


def test_edited_it_waits_for_approval_again(as_user, approver, requester, job, machines):
    client = as_user(approver)
    send_back(client, job)
    assert "To approve" not in words(client.get("/"))
    job.refresh_from_db()
    job.edit(requester, machines[:2])
    assert (status(job), job.revision) == (Job.Status.WAITING, 2)
    assert "To approve" in words(client.get("/"))
    job.approve(approver)
    assert status(job) == Job.Status.APPROVED


def test_meanwhile_nothing_of_it_is_released_nor_approved(as_user, approver, publisher, ops, job, machines, start):
    send_back(as_user(approver), job)
    for person in (approver, publisher, ops):
        response = as_user(person).get(page("stage", job))
        assert "Check" not in words(response)
        assert "Break glass" not in words(response)
    client = as_user(approver)
    assert page("approve_job", job) not in source(client.get(page("job", job)))
    assert page(NAME, job) not in source(client.get(page("job", job)))
    client.post(page("approve_job", job), {"revision": job.revision, "reason": ""})
    assert status(job) == Job.Status.SENT_BACK


def test_the_half_of_two_approvals_that_was_given_is_void_with_it(approver, payment, make_job, machines, requester):
    payment.approvers_needed = 2
    payment.save()
    job = make_job("3.0", approved=False)
    job.approve(approver)
    job.send_back(approver, "on second thoughts")
    Membership.objects.filter(user=approver).delete()
    job.lapse()
    assert status(job) == Job.Status.SENT_BACK
    job.edit(requester, machines)
    assert job.approvals_left == 2


def test_the_job_page_has_the_button_for_it(as_user, approver, publisher, requester, job):
    assert f'action="{page(NAME, job)}"' in source(as_user(approver).get(page("job", job)))
    for person in (publisher, requester):
        assert page(NAME, job) not in source(as_user(person).get(page("job", job)))


def test_it_asks_who_you_are(client, job):
    assert is_sent_to_login(client.post(page(NAME, job)), page(NAME, job))


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_only_a_post_sends_back(as_user, approver, job, method):
    assert getattr(as_user(approver), method)(page(NAME, job)).status_code == 405


@pytest.mark.one_database
@pytest.mark.parametrize("person", ["requester", "publisher", "ops"])
def test_others_are_told_which_right_is_missing(as_user, request, job, person):
    response = send_back(as_user(request.getfixturevalue(person)), job)
    assert response.status_code == 403
    assert "approve this job" in words(response)
    assert status(job) == Job.Status.WAITING


def test_for_an_outsider_it_is_not_there(as_user, outsider, job):
    assert send_back(as_user(outsider), job).status_code == 404


def test_nobody_sends_back_their_own(as_user, requester, payment, job):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    assert send_back(as_user(requester), job).status_code == 403


def test_it_needs_a_reason(as_user, approver, job):
    for reason in ("", "   "):
        response = send_back(as_user(approver), job, reason=reason)
        assert "Say what has to be different." in words(response)
        assert status(job) == Job.Status.WAITING


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["a\u202eb", "a\0b", "x" * 2001])
def test_a_bad_reason_is_told_and_kept(as_user, approver, job, reason):
    response = send_back(as_user(approver), job, reason=reason)
    assert asks_again_for(response, page(NAME, job), reason)
    assert status(job) == Job.Status.WAITING


@pytest.mark.one_database
@pytest.mark.parametrize("revision", ["", "x", "-1", "0", "9" * 30, "1\0"])
def test_a_revision_that_was_never_shown_sends_nothing_back(as_user, approver, job, revision):
    assert send_back(as_user(approver), job, revision=revision).status_code in (200, 409)
    assert status(job) == Job.Status.WAITING


def test_what_was_edited_meanwhile_is_not_meant(as_user, approver, requester, job, machines):
    read = job.revision
    job.edit(requester, machines[:1])
    response = send_back(as_user(approver), job, revision=read)
    assert "This job was changed meanwhile" in words(response)
    assert came_too_late(response, "not on a Friday")
    assert status(job) == Job.Status.WAITING


def test_twice_is_once(as_user, approver, job):
    client = as_user(approver)
    for _click in range(2):
        assert "Sent back." in words(send_back(client, job))
    assert came_too_late(send_back(client, job, reason="again"), "again")
    assert job.events.filter(verb=Event.Verb.SENT_BACK).count() == 1


def test_once_a_stage_has_begun_it_is_too_late(as_user, approver, make_job, machines, start):
    job = make_job("3.0")
    start(job, machines[:1])
    client = as_user(approver)
    assert page(NAME, job) not in source(client.get(page("job", job)))
    assert came_too_late(send_back(client, job), "not on a Friday")
    assert status(job) == Job.Status.IN_PROGRESS


def test_the_list_of_jobs_has_it_by_its_state(as_user, approver, make_job, job):
    make_job("7.7")
    client = as_user(approver)
    send_back(client, job)
    said = words(client.get("/jobs/?status=sent_back"))
    assert "Sent back" in said
    assert "7.7" not in said

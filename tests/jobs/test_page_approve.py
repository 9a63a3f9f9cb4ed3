"""Approving a job: what the approver read, and nobody's own."""

from datetime import timedelta

import pytest

from deploy_portal.clock import database_now
from jobs.models import Event, Job, Membership
from jobs.rights import Role
from tests.conftest import make_member
from tests.pages import asks_again_for, is_sent_to_login, page, words


@pytest.fixture
def job(make_job):
    return make_job(approved=False)


def approve(client, job, **changed):
    return client.post(page("approve_job", job), {"revision": job.revision, "reason": "read it"} | changed, follow=True)


def test_an_approver_approves(as_user, approver, job):
    response = approve(as_user(approver), job)
    job.refresh_from_db()
    assert (job.status, job.approved_by) == (Job.Status.APPROVED, "approver")
    assert "Approved." in words(response)
    event = job.events.first()
    assert (event.verb, event.actor, event.reason, event.origin) == (
        "approved",
        approver,
        "read it",
        "page from 127.0.0.1",
    )


def test_the_job_page_has_the_button_for_it(as_user, approver, job):
    response = as_user(approver).get(page("job", job))
    assert f'action="{page("approve_job", job)}"' in response.content.decode()
    assert "requester asks to release payment 2.0 on 6 machines." in words(response)


def test_it_asks_who_you_are(client, job):
    assert is_sent_to_login(client.post(page("approve_job", job)), page("approve_job", job))


@pytest.mark.one_database
@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_only_a_post_approves(as_user, approver, job, method):
    assert getattr(as_user(approver), method)(page("approve_job", job)).status_code == 405
    job.refresh_from_db()
    assert job.status == Job.Status.WAITING


@pytest.mark.one_database
@pytest.mark.parametrize("person", ["requester", "publisher", "ops"])
def test_others_are_told_which_right_is_missing(as_user, request, job, person):
    response = approve(as_user(request.getfixturevalue(person)), job)
    assert response.status_code == 403
    assert "approve this job" in words(response)
    job.refresh_from_db()
    assert job.status == Job.Status.WAITING


@pytest.mark.one_database
def test_for_an_outsider_it_is_not_there(as_user, outsider, job):
    assert approve(as_user(outsider), job).status_code == 404


def test_nobody_approves_their_own(as_user, requester, payment, job):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    client = as_user(requester)
    assert approve(client, job).status_code == 403
    assert page("approve_job", job) not in client.get(page("job", job)).content.decode()


def test_approving_twice_approves_once(as_user, approver, job):
    client = as_user(approver)
    for reason in ("read it", "read it", "again"):
        said = words(approve(client, job, reason=reason))
        assert ("Approved." in said, "This job was changed meanwhile" in said) == (reason != "again", reason == "again")
    assert job.events.filter(verb=Event.Verb.APPROVED).count() == 1


def test_who_comes_second_with_the_same_words_is_told(as_user, approver, payment, job):
    approve(as_user(approver), job)
    second = make_member("second", payment, Role.APPROVER)
    assert "This job was changed meanwhile" in words(approve(as_user(second), job))


def test_who_sent_it_back_in_the_same_words_is_not_told_that_they_approved(as_user, approver, job):
    job.send_back(approver, "read it")
    assert "This job was changed meanwhile" in words(approve(as_user(approver), job, reason="read it"))


def test_the_button_pressed_twice_after_somebody_else_acted_is_told(as_user, approver, requester, job):
    client = as_user(approver)
    approve(client, job)
    job.withdraw(requester, "not needed")
    assert "This job was changed meanwhile" in words(approve(client, job))


def test_an_approval_that_an_edit_made_void_is_not_told_again(as_user, approver, requester, job, machines, monkeypatch):
    """Though the database's clock was set back between the two."""
    client, read = as_user(approver), job.revision
    approve(client, job)
    monkeypatch.setattr("jobs.models.event.database_now", lambda: database_now() - timedelta(hours=1))
    job.edit(requester, machines)
    assert "This job was changed meanwhile" in words(approve(client, job, revision=read))


def test_an_approval_that_lapsed_with_another_one_is_not_told_again(as_user, approver, job, payment):
    second, read = make_member("second", payment, Role.APPROVER), job.revision
    Job.objects.update(approvers_needed=2)
    Job.objects.get().approve(second)
    client = as_user(approver)
    assert "Approved." in words(approve(client, job))
    Membership.objects.filter(user=second).delete()
    assert "This job was changed meanwhile" in words(approve(client, job, revision=read))


def test_a_job_that_was_edited_meanwhile_is_not_approved(as_user, approver, requester, job, machines):
    read = job.revision
    job.title = "Something else"
    job.edit(requester, machines)
    response = approve(as_user(approver), job, revision=read)
    assert "This job was changed meanwhile" in words(response)
    job.refresh_from_db()
    assert job.status == Job.Status.WAITING


def test_a_withdrawn_job_is_not_approved(as_user, approver, requester, job):
    job.withdraw(requester, "not needed")
    approve(as_user(approver), job)
    job.refresh_from_db()
    assert job.status == Job.Status.WITHDRAWN


@pytest.mark.one_database
@pytest.mark.parametrize("revision", ["", "x", "-1", "0", "1.5", "9" * 30, "9" * 5000, "1\0", "２"])
def test_a_revision_that_was_never_shown_approves_nothing(as_user, approver, job, revision):
    assert approve(as_user(approver), job, revision=revision).status_code in (200, 409)
    job.refresh_from_db()
    assert job.status == Job.Status.WAITING


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["a\0b", "a\u202eb"])
def test_a_remark_that_cannot_be_kept_is_told(as_user, approver, job, reason):
    response = approve(as_user(approver), job, reason=reason)
    assert "Remove the control or invisible characters." in words(response)
    assert asks_again_for(response, page("approve_job", job), reason)
    assert f'name="revision" value="{job.revision}"' in response.content.decode()
    job.refresh_from_db()
    assert job.status == Job.Status.WAITING


@pytest.mark.one_database
def test_a_remark_is_text_and_no_markup(as_user, approver, job):
    response = approve(as_user(approver), job, reason="<script>alert(1)</script>")
    assert "<script>alert" not in response.content.decode()


def test_a_role_that_is_taken_away_counts_from_the_next_request(as_user, approver, job):
    client = as_user(approver)
    client.get(page("job", job))
    Membership.objects.filter(user=approver).update(role=Role.PUBLISHER)
    assert approve(client, job).status_code == 403

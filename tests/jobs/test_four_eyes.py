"""Approval by as many people as a business wants: none of whom wrote the job, each of them once, of one revision."""

import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connection, transaction

from jobs.access import get_job
from jobs.models import Event, Job, JobMoved, Membership
from jobs.rights import Right, Role
from releases.models import ReleaseStage, StageMoved
from tests.conftest import make_member
from tests.pages import page, words
from tests.parallel import at_once


@pytest.fixture
def second(payment):
    return make_member("second", payment, Role.APPROVER)


@pytest.fixture
def needs(payment):
    """Sets how many approvals a job of payment needs."""

    def needs(number):
        payment.approvers_needed = number
        payment.save(update_fields=["approvers_needed"])

    return needs


@pytest.fixture
def job(needs, make_job):
    """A job that waits for two approvals."""
    needs(2)
    return make_job(approved=False)


def stored(job):
    return Job.objects.get(pk=job.pk)


def approve(client, job):
    return client.post(page("approve_job", job), {"revision": stored(job).revision}, follow=True)


def test_the_last_needed_approval_approves(job, approver, second):
    job.approve(approver, "read it")
    assert (stored(job).status, stored(job).approved_at, stored(job).approvals_left) == (Job.Status.WAITING, None, 1)
    job.approve(second)
    assert (stored(job).status, stored(job).approved_by) == (Job.Status.APPROVED, "approver, second")
    told = job.events.filter(verb="approved").order_by("pk").values_list("became", "detail__given", "detail__needed")
    assert list(told) == [("waiting", 1, 2), ("approved", 2, 2)]


def test_nobody_approves_twice(job, approver):
    job.approve(approver)
    with pytest.raises(JobMoved, match="already"):
        job.approve(approver)
    with pytest.raises(IntegrityError), transaction.atomic():
        job.approvals.create(revision=1, by=approver, requester=job.requester)
    assert (stored(job).status, job.approvals.count()) == (Job.Status.WAITING, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("needed", [1, 2])
def test_two_who_approve_at_once_are_both_counted(needs, make_job, approver, second, needed):
    needs(needed)
    job = make_job(approved=False)
    came = at_once(*(lambda by=by: Job.objects.get(pk=job.pk).approve(by) for by in (approver, second)))
    assert stored(job).status == Job.Status.APPROVED
    assert stored(job).approvals.count() == needed
    assert [type(one) for one in came].count(JobMoved) == 2 - needed
    assert job.events.filter(became="approved").count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no default of its own")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("default", ["repeatable read", "serializable"])
def test_so_they_are_where_the_server_keeps_transactions_further_apart(
    needs, make_job, approver, second, monkeypatch, default
):
    needs(2)
    job = make_job(approved=False)
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_isolation=" + default.replace(" ", "\\ "))
    came = at_once(*(lambda by=by: Job.objects.get(pk=job.pk).approve(by) for by in (approver, second)))
    assert (stored(job).status, came) == (Job.Status.APPROVED, [None, None])


@pytest.mark.django_db(transaction=True)
def test_one_who_approves_twice_at_once_is_counted_once(job, approver):
    at_once(*[lambda: Job.objects.get(pk=job.pk).approve(approver)] * 4)
    assert (stored(job).status, job.approvals.count()) == (Job.Status.WAITING, 1)
    assert job.events.filter(verb="approved").count() == 1


def test_an_edit_makes_all_approvals_void_and_keeps_them(as_user, job, approver, second, requester, machines):
    job.approve(approver, "fine by me")
    job.edit(requester, machines[:2])
    job.approve(second)
    assert (stored(job).status, stored(job).approved_by, stored(job).approvals_left) == (
        Job.Status.WAITING,
        "second",
        1,
    )
    said = words(as_user(requester).get(page("job", job)))
    assert "1 of 2" in said
    assert "Void approver" in said
    assert "fine by me" in said
    job.approve(approver)
    assert stored(job).status == Job.Status.APPROVED


def test_whoever_edited_a_job_has_written_it_and_does_not_approve_it(as_user, job, ops, payment, machines, approver):
    job.edit(ops, machines[:3])
    ops.is_superuser = ops.is_staff = False
    ops.save()
    Membership.objects.create(user=ops, business=payment, role=Role.APPROVER)
    with pytest.raises(PermissionDenied):
        stored(job).approve(ops)
    assert approve(as_user(ops), job).status_code == 403
    assert list(Job.objects.to_approve(ops)) == []
    assert job.approvers_left() == [approver]


def test_ops_do_not_approve_in_whatever_role(as_user, job, ops, payment, approver):
    Membership.objects.create(user=ops, business=payment, role=Role.APPROVER)
    assert approve(as_user(ops), job).status_code == 403
    assert job.approvers_left() == [approver]


@pytest.mark.parametrize("way", ["role", "inactive", "ops"])
def test_an_approval_is_void_once_its_giver_may_no_longer_approve(job, approver, second, publisher, payment, way):
    job.approve(approver)
    job.approve(second)
    if way == "role":
        Membership.objects.filter(user=second).delete()
    else:
        second.is_active, second.is_superuser = way != "inactive", way == "ops"
        second.save()
    seen = get_job(publisher, job.pk)
    assert (seen.status, seen.revision, seen.approvals_left) == (Job.Status.WAITING, 2, 2)
    event = job.events.order_by("-pk").first()
    assert (event.verb, event.actor, event.was, event.detail) == ("lapsed", None, "approved", {"approvers": ["second"]})


def test_so_is_the_first_of_two_while_the_job_still_waits(job, approver, second, publisher):
    job.approve(approver)
    Membership.objects.filter(user=approver).delete()
    seen = get_job(publisher, job.pk)
    assert (seen.status, seen.revision, seen.approvals_left) == (Job.Status.WAITING, 2, 2)


def test_where_no_approval_is_needed_by_now_none_that_is_void_is_waited_for(job, approver, second, publisher, needs):
    job.approve(approver)
    job.approve(second)
    needs(0)
    Membership.objects.filter(user=second).delete()
    seen = get_job(publisher, job.pk)
    assert (seen.status, seen.revision, stored(job).status) == (Job.Status.APPROVED, 2, Job.Status.APPROVED)


def test_what_was_sent_back_meanwhile_stays_so_where_an_approval_is_void(job, approver, second):
    job.approve(approver)
    seen = stored(job)
    Membership.objects.filter(user=approver).delete()
    stored(job).send_back(second, "not this week")
    seen.lapse()
    assert (stored(job).status, stored(job).revision) == (Job.Status.SENT_BACK, 1)
    assert not job.events.filter(verb="lapsed").exists()


def test_a_start_that_comes_before_anybody_looked_is_refused(make_job, start, machines, approver):
    job = make_job()
    Membership.objects.filter(user=approver).delete()
    with pytest.raises(StageMoved):
        start(job, machines[:1])
    assert not job.stages.filter(runs__isnull=False).exists()


def test_so_is_a_skip_which_begins_the_job_too(make_job, approver, publisher):
    job = make_job()
    Membership.objects.filter(user=approver).delete()
    with pytest.raises(StageMoved):
        ReleaseStage.objects.of_kind(job, "pre-release").skip(publisher, "small")
    assert get_job(publisher, job.pk).status == Job.Status.WAITING


def test_once_a_stage_has_begun_an_approval_stays(make_job, start, machines, approver, publisher):
    job = make_job()
    start(job, machines[:1])
    Membership.objects.filter(user=approver).delete()
    assert get_job(publisher, job.pk).status == Job.Status.IN_PROGRESS


def test_where_no_approval_is_needed_a_job_is_approved_as_it_is_asked_for(as_user, needs, make_job, requester):
    needs(0)
    job = make_job(approved=False)
    assert (job.status, stored(job).status, job.approvals.count()) == ("approved", "approved", 0)
    assert job.events.get().detail["needed"] == 0
    said = words(as_user(requester).get(page("job", job)))
    assert "It needs no approval." in said
    assert "Approval not needed" in said
    job.edit(requester, job.machines.all())
    assert stored(job).status == Job.Status.APPROVED


def test_what_a_business_wants_now_counts_for_jobs_that_are_written_from_now_on(job, needs, requester, approver):
    needs(1)
    job.approve(approver)
    assert stored(job).status == Job.Status.WAITING
    stored(job).edit(requester, job.machines.all())
    stored(job).approve(approver)
    assert stored(job).status == Job.Status.APPROVED


@pytest.mark.parametrize("number", [10, 32767])
def test_no_business_needs_more_than_nine(needs, number):
    with pytest.raises(IntegrityError), transaction.atomic():
        needs(number)


@pytest.mark.one_database
def test_the_pages_tell_how_many_are_left(as_user, job, approver, second):
    client = as_user(approver)
    assert "Waits for approver, second." in words(client.get(page("job", job)))
    assert "Approved; it waits for 1 more." in words(approve(client, job))
    said = client.get(page("job", job))
    assert "Waits for second." in words(said)
    assert page("approve_job", job) not in said.content.decode()
    assert "To approve" not in words(client.get("/"))
    assert "To approve" in words(as_user(second).get("/"))


@pytest.mark.one_database
def test_the_pages_tell_how_many_of_more_than_are_needed(as_user, job, payment, approver, second):
    make_member("third", payment, Role.APPROVER)
    client = as_user(approver)
    assert "Waits for 2 of approver, second, third." in words(client.get(page("job", job)))
    approve(client, job)
    assert "Waits for one of second, third." in words(client.get(page("job", job)))


def test_too_few_approvers_are_told(as_user, job, approver):
    assert "These are too few: ask ops for another approver." in words(as_user(approver).get(page("job", job)))


def test_ops_are_warned_of_too_few_approvers(payment, approver, second, needs):
    needs(2)
    assert not payment.lacks_approvers
    second.is_superuser = True
    second.save()
    assert payment.lacks_approvers


def test_an_approver_who_publishes_too_may_do_both(payment, approver, make_job):
    Membership.objects.create(user=approver, business=payment, role=Role.PUBLISHER)
    assert {Right.APPROVE, Right.PUBLISH} <= make_job(approved=False).rights_of(approver)


def test_the_jobs_of_others_are_not_waiting_for_a_stranger(job, outsider, requester):
    assert not Job.objects.to_approve(outsider).exists()
    assert not Job.objects.to_approve(requester).exists()


def test_what_waits_no_longer_takes_no_approval_not_even_one_of_two(job, requester, approver):
    stored(job).withdraw(requester, "not needed")
    with pytest.raises(JobMoved):
        job.approve(approver)
    assert not job.approvals.exists()


def test_nobody_waits_for_their_own_approval(job, requester, payment):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    assert not Job.objects.to_approve(requester).exists()


def test_what_was_edited_since_waits_for_who_approved_or_sent_it_back(job, requester, approver, machines):
    job.approve(approver)
    assert not Job.objects.to_approve(approver).exists()
    stored(job).edit(requester, machines[:2])
    assert list(Job.objects.to_approve(approver)) == [job]
    stored(job).send_back(approver, "not today")
    stored(job).edit(requester, machines[:3])
    assert list(Job.objects.to_approve(approver)) == [job]


def test_asking_is_no_edit(job, approver):
    assert not job.events.filter(verb=Event.Verb.EDITED).exists()
    assert list(Job.objects.to_approve(approver)) == [job]

"""Leave from a freeze: given on the job's page, by an approver, for one time."""

import pytest
from django.db.models.functions import Now
from django.utils import translation

from jobs.models import Event, Freeze, Job, Leave, Membership
from jobs.rights import Role
from releases.models import Frozen
from releases.templatetags.releases import event_notes
from tests.cases import each
from tests.conftest import make_member, stage_of
from tests.forms import Page
from tests.freezes import freeze_now, occurrence_of
from tests.pages import came_too_late, is_sent_to_login, page, source, words


@pytest.fixture
def freeze(ops, payment):
    return freeze_now(ops, payment)


@pytest.fixture
def leave(freeze):
    return {"occurrence": occurrence_of(freeze).key, "reason": "a hole in the wall"}


def test_it_is_offered_and_given_on_the_job_page(as_user, approver, job, leave):
    client = as_user(approver)
    assert leave["occurrence"] in source(client.get(page("job", job)))
    said = words(client.post(page("give_leave", job), leave, follow=True))
    assert "Leave given" in said
    assert "approver gave leave until" in said
    assert "approver gave leave from a freeze" in said
    assert Leave.objects.get().by == approver


def test_its_event_is_told_in_the_language_of_who_reads_it(as_user, approver, job, freeze):
    with translation.override("zh-hans"):
        Leave.objects.give(job, approver, occurrence_of(freeze), "a hole in the wall")
        in_chinese = str(occurrence_of(freeze).in_words)
    client = as_user(approver)
    assert in_chinese not in source(client.get(page("job", job)))
    told = event_notes(job.events.get(verb="leave"))
    assert told == [str(occurrence_of(freeze).in_words)]
    assert "Frozen from" in told[0] and told[0].endswith(": the great sale.")
    assert in_chinese in source(client.get(page("job", job), headers={"accept-language": "zh-hans"}))


def test_an_event_of_before_is_told_as_it_was_kept(approver, job):
    event = job.record(Event.Verb.LEAVE, approver, "a hole", freeze="Frozen 100 % of Sunday.")
    assert event_notes(event) == ["Frozen 100 % of Sunday."]


def test_it_asks_who_you_are(client, job, leave):
    assert is_sent_to_login(client.post(page("give_leave", job), leave), page("give_leave", job))


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("person", "answer"), [("requester", 403), ("publisher", 403), ("ops", 403), ("outsider", 404)]
)
def test_others_may_not(as_user, request, job, leave, person, answer):
    client = as_user(request.getfixturevalue(person))
    assert client.post(page("give_leave", job), leave).status_code == answer
    if answer == 403:
        assert leave["occurrence"] not in source(client.get(page("job", job)))
    assert not Leave.objects.exists()


def test_nobody_gives_leave_to_their_own_job(as_user, requester, payment, job, leave):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    assert as_user(requester).post(page("give_leave", job), leave).status_code == 403
    assert not Leave.objects.exists()


def test_who_has_given_it_is_not_offered_to_give_it_again(as_user, approver, job, leave):
    client = as_user(approver)
    assert page("give_leave", job) in source(client.get(page("job", job)))
    client.post(page("give_leave", job), leave)
    assert page("give_leave", job) not in source(client.get(page("job", job)))


def test_twice_is_once(as_user, approver, job, leave):
    client = as_user(approver)
    client.post(page("give_leave", job), leave)
    response = client.post(page("give_leave", job), leave)
    assert "You have given this leave already." in words(response)
    assert came_too_late(response, leave["reason"])
    assert Leave.objects.count() == 1


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_bad_reason_is_refused(as_user, approver, job, leave, reason):
    assert as_user(approver).post(page("give_leave", job), leave | {"reason": reason}).status_code == 200
    assert not Leave.objects.exists()


@each("key", ["", "0", "1-1", "' OR 1=1", "x" * 9000, "99999999999999999999-20260101000000"])
def test_a_freeze_that_is_not_offered_is_refused_and_the_reason_kept(as_user, approver, job, leave, key):
    response = as_user(approver).post(page("give_leave", job), leave | {"occurrence": key})
    assert response.status_code == 200
    assert "a hole in the wall" in source(response)
    assert not Leave.objects.exists()


def test_neither_another_business_nor_a_stop_is_offered(as_user, approver, ops, orders, job):
    other = occurrence_of(freeze_now(ops, orders))
    stop = Freeze.objects.stop_world(ops, "smoke")
    client = as_user(approver)
    assert "no leave is needed" in words(client.get(page("give_leave", job)))
    for key in (other.key, f"{stop.pk}-{stop.starts_at:%Y%m%d%H%M%S}"):
        assert client.post(page("give_leave", job), {"occurrence": key, "reason": "x"}).status_code == 200
    assert not Leave.objects.exists()


def test_a_released_job_needs_none(as_user, approver, ops, job, start, finish, machines):
    start(job, machines)
    finish()
    freeze_now(ops)
    response = as_user(approver).get(page("job", job))
    assert "the great sale" in words(response)
    assert page("give_leave", job) not in source(response)


def test_one_that_can_be_started_again_does(as_user, publisher, approver, ops, job, start, finish, machines):
    start(job, machines)
    finish()
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    freeze_now(ops)
    with pytest.raises(Frozen, match="Leave can be given on the job's page, by one of: approver"):
        start(stage_of(job).job, machines[:1])
    response = as_user(approver).get(page("job", job))
    assert "Every machine of this job was released, rolled back or excused." in words(response)
    assert page("give_leave", job) in source(response)


def test_a_withdrawn_job_gets_none(as_user, approver, requester, job, leave):
    job.withdraw(requester, "never mind")
    said = words(as_user(approver).post(page("give_leave", job), leave, follow=True))
    assert "edited or withdrawn meanwhile" in said
    assert not Leave.objects.exists()


def test_a_job_that_was_edited_since_its_page_was_read_gets_none(as_user, approver, requester, job, leave, machines):
    client = as_user(approver)
    forms = Page(page("job", job), source(client.get(page("job", job)))).forms
    [sent] = [form.filled(leave) for form in forms if form.url_name == "give_leave"]
    job.title = "Something else"
    job.edit(requester, machines)
    response = client.post(page("give_leave", job), dict(sent))
    assert "edited or withdrawn meanwhile" in words(response)
    assert came_too_late(response, leave["reason"])
    assert not Leave.objects.exists()


@pytest.mark.parametrize("way", ["role", "inactive", "ops"])
def test_it_is_void_once_its_giver_may_no_longer_approve(as_user, approver, publisher, job, freeze, way):
    Leave.objects.give(job, approver, occurrence_of(freeze), "a hole in the wall")
    if way == "role":
        Membership.objects.filter(user=approver).delete()
    else:
        approver.is_active, approver.is_superuser = way != "inactive", way == "ops"
        approver.save()
    said = words(as_user(publisher).get(page("job", job)))
    assert "The leave is void: approver may no longer give it" in said
    assert "approver gave leave until" not in said
    assert Freeze.objects.holding(job, publisher)
    assert Leave.objects.get().void_at


@pytest.mark.parametrize(("made_void", "told"), [(["approver"], [["second"]]), (["approver", "second"], [])])
def test_what_another_made_void_just_before_is_not_told_once_more(
    approver, payment, job, freeze, monkeypatch, made_void, told
):
    second = make_member("second", payment, Role.APPROVER)
    for by in (approver, second):
        Leave.objects.give(job, by, occurrence_of(freeze), "a hole in the wall")
    payment.membership_set.filter(user__in=[approver, second]).delete()
    lock = Job.lock

    def wait(job):
        Leave.objects.filter(by__username__in=made_void, void_at=None).update(void_at=Now())
        return lock(job)

    monkeypatch.setattr(Job, "lock", wait)
    job.leaves.lapse(job)
    assert [event.detail for event in job.events.filter(verb="lapsed")] == [
        {"leave": True, "approvers": names} for names in told
    ]


def test_it_stays_void_when_its_giver_may_approve_again(approver, publisher, payment, job, freeze):
    job.begin()
    Leave.objects.give(job, approver, occurrence_of(freeze), "a hole in the wall")
    assert not Freeze.objects.holding(job, publisher)
    Membership.objects.get(user=approver).delete()
    job.lapse()
    Membership.objects.create(user=approver, business=payment, role=Role.APPROVER)
    assert Freeze.objects.holding(job, publisher)


def test_who_may_approve_again_can_give_it_anew(approver, payment, job, freeze):
    Leave.objects.give(job, approver, occurrence_of(freeze), "a hole in the wall")
    membership = Membership.objects.get(user=approver)
    membership.delete()
    job.lapse()
    job.lapse()
    assert job.events.filter(verb="lapsed", detail__leave=True).count() == 1
    Membership.objects.create(user=approver, business=payment, role=Role.APPROVER)
    job.refresh_from_db()
    Leave.objects.give(job, approver, occurrence_of(freeze), "still there")
    assert Leave.objects.live().get().reason == "still there"


@pytest.mark.django_db(transaction=True)
def test_a_freeze_that_ops_delete_at_that_very_moment_is_told_as_a_conflict(
    as_user, approver, job, freeze, leave, monkeypatch
):
    give = Leave.objects.give

    def give_too_late(*args):
        Freeze.objects.filter(pk=freeze.pk).delete()
        return give(*args)

    client = as_user(approver)
    monkeypatch.setattr(Leave.objects, "give", give_too_late)
    response = client.post(page("give_leave", job), leave)
    assert (response.status_code, "Nothing was changed." in words(response)) == (409, True)
    assert not Leave.objects.exists() and not job.events.filter(verb="leave").exists()

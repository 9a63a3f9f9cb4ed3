"""Ops who start what is not approved: with a reason, marked for ever, told to every approver."""

import pytest
from django.core import mail
from django.core.exceptions import PermissionDenied

from jobs.models import Job, JobMoved, Membership, Notice
from jobs.rights import Role
from releases.models import ReleaseStage, StageMoved
from tests.commands import CONFLICT, MISTAKE, fail, say
from tests.conftest import make_member
from tests.pages import page, source, stage_fields, words

BOX = 'name="break_glass"'


@pytest.fixture
def job(make_job, release_task, rollback_task):
    return make_job(approved=False)


@pytest.fixture
def publish(as_user):
    """Posts the form of the pre-release."""

    def publish(user, job, machines, **changed):
        fields = stage_fields(job, user, machines, **{"remark": "shop is down", "break_glass": "on"} | changed)
        return as_user(user).post(page("stage", job), fields)

    return publish


@pytest.fixture
def break_glass(job, release_task, rollback_task):
    def break_glass(by, machines, reason="shop is down"):
        stage = ReleaseStage.objects.of_kind(job, "pre-release")
        stage.release_task, stage.rollback_task, stage.remark = release_task, rollback_task, reason
        return stage.start(by, machines, "a key", break_glass=True)

    return break_glass


def stored(job):
    return Job.objects.get(pk=job.pk)


def test_ops_start_a_job_that_is_not_approved(publish, ops, job, machines, approver):
    assert publish(ops, job, machines[:1]).status_code == 302
    assert (stored(job).status, stored(job).break_glass) == ("in_progress", True)
    run = job.stages.get(kind="pre-release").runs.get()
    assert (run.break_glass, run.remark) == (True, "shop is down")
    event = job.events.get(verb="break_glass")
    assert (event.actor, event.reason, event.was, event.became) == (ops, "shop is down", "waiting", "in_progress")
    assert event.detail == {"given": 0, "needed": 1}


def test_that_it_was_not_approved_is_told_as_long_as_there_is_a_next_step(
    as_user, publisher, break_glass, ops, finish, job, machines
):
    break_glass(ops, machines[:1])
    finish("failed")
    ReleaseStage.objects.excuse(job, machines[:1], publisher, "in repair")
    said = words(as_user(publisher).get(page("job", job)))
    assert "Next: pre-release Begun by break-glass, with 0 of 1 approvals." in said


@pytest.mark.one_database
def test_the_page_has_the_box_for_ops_only(as_user, request, job):
    for person, has in (("ops", True), ("publisher", False), ("approver", False), ("requester", False)):
        client = as_user(request.getfixturevalue(person))
        assert (BOX in source(client.get(page("stage", job)))) is has
        assert ("Break glass" in words(client.get(page("job", job)))) is has


def test_an_approved_job_needs_no_box(as_user, ops, make_job):
    assert BOX not in source(as_user(ops).get(page("stage", make_job())))


def test_a_job_with_too_few_approvals_needs_it(publish, payment, job, approver, ops, requester, machines):
    payment.approvers_needed = 2
    payment.save(update_fields=["approvers_needed"])
    job.edit(requester, machines)
    job.approve(approver)
    assert publish(ops, job, machines[:1]).status_code == 302
    assert job.events.get(verb="break_glass").detail == {"given": 1, "needed": 2}


def test_the_check_tells_that_it_is_not_approved_and_carries_the_box(publish, ops, job, machines):
    response = publish(ops, job, machines[:1], step="check")
    assert "Not approved you break the glass" in words(response)
    assert '<input type="hidden" name="break_glass" value="True"' in response.content.decode()


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"break_glass": None}, "break the glass, or wait"), ({"remark": ""}, "This field is required")],
)
def test_without_box_or_reason_nothing_starts_and_nothing_typed_is_lost(publish, ops, job, machines, changed, said):
    response = publish(ops, job, machines[:1], **{"batch_size": "7"} | changed)
    assert response.status_code == 200
    assert said in words(response)
    assert 'value="7"' in source(response)
    assert stored(job).status == "waiting"


@pytest.mark.one_database
@pytest.mark.parametrize("person", ["publisher", "approver", "requester"])
@pytest.mark.parametrize("step", ["check", "start"])
def test_a_forged_box_is_refused(request, publish, job, machines, person, step):
    response = publish(request.getfixturevalue(person), job, machines[:1], step=step)
    assert response.status_code == 403
    assert stored(job).status == "waiting"


def test_a_publisher_without_the_box_is_told_that_it_is_not_open(publish, publisher, job, machines):
    assert publish(publisher, job, machines[:1], break_glass=None).status_code == 409


def test_a_forged_box_on_an_approved_job_is_refused_too(publish, publisher, make_job, machines, job):
    assert publish(publisher, make_job(), machines[:1]).status_code == 403


def test_not_even_past_the_pages(break_glass, publisher, machines, job):
    with pytest.raises(PermissionDenied):
        break_glass(publisher, machines[:1])
    assert (stored(job).status, job.notices.count()) == ("waiting", 0)


def test_not_before_its_turn(ops, job, machines, release_task, rollback_task):
    stage = ReleaseStage.objects.of_kind(job, "gray-release")
    stage.release_task, stage.rollback_task, stage.remark = release_task, rollback_task, "shop is down"
    with pytest.raises(StageMoved):
        stage.start(ops, machines[:1], "a key", break_glass=True)
    assert stored(job).status == "waiting"


def test_never_where_only_an_approved_job_was_to_be_started(ops, job, machines, release_task, rollback_task):
    stage = ReleaseStage.objects.of_kind(job, "pre-release")
    stage.release_task, stage.rollback_task, stage.remark = release_task, rollback_task, "shop is down"
    with pytest.raises(StageMoved):
        stage.start(ops, machines[:1], "a key")
    assert stored(job).status == "waiting"


def test_never_without_a_reason(break_glass, ops, machines):
    with pytest.raises(StageMoved):
        break_glass(ops, machines[:1], reason="")


def test_ops_who_are_publishers_too_break_the_glass_all_the_same(publish, ops, payment, job, machines):
    Membership.objects.create(user=ops, business=payment, role=Role.PUBLISHER)
    assert publish(ops, job, machines[:1], remark="").status_code == 200
    assert publish(ops, job, machines[:1], break_glass=None).status_code == 200
    publish(ops, job, machines[:1])
    assert stored(job).break_glass


def test_what_was_edited_since_the_page_was_loaded_is_not_started(publish, as_user, ops, requester, job, machines):
    fields = stage_fields(job, ops, machines[:1], break_glass="on")
    job.version = "6.6.6"
    job.edit(requester, machines)
    assert as_user(ops).post(page("stage", job), fields).status_code == 409
    assert stored(job).status == "waiting"


def test_the_same_form_twice_starts_once_and_tells_once(as_user, ops, approver, job, machines):
    fields = stage_fields(job, ops, machines[:1], break_glass="on")
    for _ in range(2):
        assert as_user(ops).post(page("stage", job), fields).status_code == 302
    assert (job.events.filter(verb="break_glass").count(), Notice.objects.count()) == (1, 1)


def test_a_withdrawn_job_is_not_started(break_glass, ops, requester, job, machines):
    job.withdraw(requester, "no")
    with pytest.raises(StageMoved):
        break_glass(ops, machines[:1])


def test_what_was_started_so_is_not_approved_afterwards(break_glass, ops, approver, job, machines):
    break_glass(ops, machines[:1])
    with pytest.raises(JobMoved):
        stored(job).approve(approver)


def test_ops_who_step_in_for_a_publisher_are_marked_and_told_too(make_job, publish, ops, approver, machines, job):
    approved = make_job()
    publish(ops, approved, machines[:1], break_glass=None)
    assert stored(approved).break_glass
    assert approved.events.get(verb="break_glass").detail == {}
    assert Notice.objects.get().to == approver


STEPS_IN = "you step in for a publisher; every approver is told"


@pytest.mark.one_database
def test_ops_who_step_in_are_told_before_and_give_a_reason_of_their_own(
    as_user, publish, ops, publisher, machines, make_job, start, finish
):
    job = make_job()
    start(job, machines[:1], remark="Careful: refunds")
    finish("failed")
    client = as_user(ops)
    choosing = client.get(page("stage", job))
    assert STEPS_IN in words(choosing)
    assert "Careful: refunds" not in choosing.content.decode().split('name="remark"')[1]
    assert STEPS_IN in words(publish(ops, job, machines[1:2], step="check", break_glass=None))
    assert STEPS_IN in words(client.get(page("roll_back_stage", job)))
    for name in ("stage", "roll_back_stage"):
        assert STEPS_IN not in words(as_user(publisher).get(page(name, job)))


def test_a_publisher_breaks_nothing(make_job, start, machines):
    job = make_job()
    assert not start(job, machines[:1]).break_glass
    assert (stored(job).break_glass, Notice.objects.count()) == (False, 0)


@pytest.mark.one_database
def test_the_mark_is_wherever_the_job_is_shown(as_user, break_glass, ops, publisher, job, machines):
    run = break_glass(ops, machines[:1])
    client = as_user(publisher)
    machine_run = run.machine_runs.get()
    addresses = [page("job", job), page("stage", job), page("machine_run", job, machine_run_id=machine_run.pk)]
    for address in [*addresses, "/jobs/", "/", f"/machines/{machines[0].pk}/"]:
        assert "Break-glass" in words(client.get(address)), address
    assert "broke the glass: the job began with 0 of 1 approvals" in words(client.get(page("job", job)))


@pytest.mark.one_database
def test_what_nobody_approved_is_never_shown_as_approved(as_user, break_glass, ops, publisher, make_job, job, machines):
    approved = make_job()
    assert 'status succeeded push">1 of 1' in as_user(publisher).get(page("job", approved)).content.decode()
    break_glass(ops, machines[:1])
    assert 'status waiting push">0 of 1' in as_user(publisher).get(page("job", job)).content.decode()


@pytest.mark.one_database
def test_who_goes_on_with_it_is_told_that_nobody_approved_it(
    break_glass, publish, ops, publisher, finish, job, machines
):
    break_glass(ops, machines[:1])
    finish("failed")
    checked = publish(publisher, stored(job), machines[1:2], step="check", break_glass=None)
    assert "Not approved begun by break-glass, with 0 of 1 approvals" in words(checked)
    assert "not needed" not in words(checked)


class TestTheCommand:
    RUN = ("run_stage", "--as", "ops")

    def test_starts_it(self, job, ops, machines, release_task, rollback_task):
        say(*self.RUN, job.pk, "pre-release", "pay-1", "--break-glass", "shop is down")
        assert (stored(job).break_glass, job.events.get(verb="break_glass").reason) == (True, "shop is down")

    def test_without_it_says_what_is_missing(self, job, ops):
        said = fail(*self.RUN, job.pk, "pre-release", "pay-1", "--remark", "now", code=MISTAKE)
        assert "break the glass, or wait" in said

    def test_is_for_ops(self, job, publisher):
        called = ("run_stage", "--as", "publisher", job.pk, "pre-release", "pay-1", "--break-glass", "now")
        assert "start this job without approval" in fail(*called, code=MISTAKE)

    @pytest.mark.parametrize(
        ("reason", "said"),
        [("", "--break-glass needs a reason"), (" ", "needs a reason"), ("a\x1b[2J", "--break-glass:")],
    )
    def test_wants_a_reason(self, job, ops, reason, said):
        assert said in fail(*self.RUN, job.pk, "pre-release", "pay-1", "--break-glass", reason, code=MISTAKE)

    def test_wants_the_reason_once(self, job, ops):
        called = (*self.RUN, job.pk, "pre-release", "pay-1", "--break-glass", "a", "--remark", "b")
        assert "leave --remark out" in fail(*called, code=MISTAKE)

    def test_breaks_nothing_where_nothing_is_in_the_way(self, make_job, ops, release_task, rollback_task):
        called = (*self.RUN, make_job().pk, "pre-release", "pay-1", "--break-glass", "a")
        assert "does not wait" in fail(*called, code=CONFLICT)

    def test_says_what_else_is_in_the_way(self, job, ops, break_glass, machines, finish, payment):
        def refused(stage):
            said = fail(*self.RUN, job.pk, stage, "pay-2", "--break-glass", "a", code=CONFLICT)
            return said.removeprefix("This stage is not open now. ")

        assert refused("gray-release") == "pre-release comes first."
        break_glass(ops, machines[:1])
        assert refused("pre-release") == "A run of it goes on."
        finish()
        payment.soak_minutes = 10
        payment.save()
        assert refused("gray-release") == "pre-release soaks first; job_status tells until when."

    def test_starts_nothing_that_was_withdrawn(self, job, ops, requester):
        job.withdraw(requester, "not needed")
        said = fail(*self.RUN, job.pk, "pre-release", "pay-1", "--break-glass", "a", code=CONFLICT)
        assert said == "This stage is not open now. The job is withdrawn."


class TestTelling:
    @pytest.fixture
    def approvers(self, payment, approver):
        approver.email = "approver@example.com"
        approver.save()
        return [approver, make_member("second", payment, Role.APPROVER)]

    def test_every_approver_is_told_at_home_until_they_say_so(
        self, as_user, approvers, break_glass, ops, job, machines
    ):
        break_glass(ops, machines[:1])
        for person in approvers:
            assert f"ops broke the glass for {job}" in words(as_user(person).get("/"))
        notice = Notice.objects.get(to=approvers[0])
        response = as_user(approvers[0]).post(f"/notices/{notice.pk}/acknowledge/", follow=True)
        assert "Acknowledged." in words(response)
        assert "broke the glass" not in words(response)
        assert "broke the glass" in words(as_user(approvers[1]).get("/"))
        event = job.events.get(verb="acknowledged")
        assert event.actor == approvers[0]

    def test_acknowledging_twice_is_told_once(self, as_user, approvers, break_glass, ops, job, machines):
        break_glass(ops, machines[:1])
        address = f"/notices/{Notice.objects.get(to=approvers[0]).pk}/acknowledge/"
        assert [as_user(approvers[0]).post(address).status_code for _ in range(2)] == [302, 302]
        assert job.events.filter(verb="acknowledged").count() == 1

    def test_nobody_acknowledges_for_another(self, as_user, approvers, break_glass, ops, outsider, machines):
        break_glass(ops, machines[:1])
        address = f"/notices/{Notice.objects.get(to=approvers[0]).pk}/acknowledge/"
        for person in (approvers[1], ops, outsider):
            assert as_user(person).post(address).status_code == 404
        assert as_user(approvers[0]).get(address).status_code == 405
        assert not Notice.objects.exclude(acknowledged_at=None).exists()

    def test_who_left_the_business_is_told_no_more(self, as_user, approvers, break_glass, ops, machines):
        break_glass(ops, machines[:1])
        Membership.objects.all().delete()
        assert "broke the glass" not in words(as_user(approvers[0]).get("/"))

    def test_those_with_an_address_get_a_mail_when_it_is_through(
        self, django_capture_on_commit_callbacks, approvers, break_glass, ops, job, machines
    ):
        with django_capture_on_commit_callbacks(execute=True):
            break_glass(ops, machines[:1])
            assert mail.outbox == []
        assert [(one.to, one.subject) for one in mail.outbox] == [(["approver@example.com"], f"Break-glass: {job}")]
        assert "shop is down" in mail.outbox[0].body

    @pytest.mark.django_db(transaction=True)
    def test_a_mail_server_that_is_away_stops_nothing(self, settings, approvers, publish, ops, job, machines):
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
        assert publish(ops, job, machines[:1]).status_code == 302
        assert stored(job).status == "in_progress"
        assert Notice.objects.count() == 2

    @pytest.mark.one_database
    def test_a_reason_is_text_and_no_markup(self, as_user, approvers, break_glass, ops, machines):
        break_glass(ops, machines[:1], reason="<script>alert(1)</script>")
        assert "<script>alert" not in as_user(approvers[0]).get("/").content.decode()

import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from deploy_portal import origin
from jobs.models import Event, Job, JobMoved, Machine, Membership
from jobs.rights import Right, Role
from tests.conftest import list_machines, make_member

Status = Job.Status


@pytest.fixture
def waiting(make_job):
    return make_job(approved=False)


@pytest.fixture
def came_from():
    """The origin that the events of a test are to name."""
    with origin.set_to("192.0.2.7"):
        yield "192.0.2.7"


def put(job, status):
    """Puts a job into `status`, whatever way leads there."""
    is_void = status in (Status.WAITING, Status.SENT_BACK, Status.WITHDRAWN)
    Job.objects.filter(pk=job.pk).update(status=status, approved_at=None if is_void else job.approved_at)
    job.refresh_from_db()
    return job


def stored(job):
    return Job.objects.get(pk=job.pk)


def last_event(job):
    event = job.events.order_by("-pk").first()
    return event.verb, event.actor, event.was, event.became, event.reason, event.origin


STEPS = {
    "approve": lambda job, by: job.approve(make_member("second", job.business, Role.APPROVER), "fine"),
    "send back": lambda job, by: job.send_back(make_member("second", job.business, Role.APPROVER), "not yet"),
    "withdraw": lambda job, by: job.withdraw(by, "not needed"),
    "edit": lambda job, by: job.edit(by, job.machines.all()),
    "begin": lambda job, by: job.begin(),
}
ALLOWED = {
    "approve": [Status.WAITING],
    "send back": [Status.WAITING, Status.APPROVED],
    "withdraw": [Status.WAITING, Status.APPROVED, Status.SENT_BACK],
    "edit": [Status.WAITING, Status.APPROVED, Status.SENT_BACK],
    "begin": [Status.APPROVED, Status.IN_PROGRESS, Status.RELEASED, Status.ROLLED_BACK, Status.NOT_RELEASED],
}
BECOMES = {
    "approve": Status.APPROVED,
    "send back": Status.SENT_BACK,
    "withdraw": Status.WITHDRAWN,
    "edit": Status.WAITING,
    "begin": Status.IN_PROGRESS,
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", Status)
def test_a_step_is_taken_from_its_own_states_only(make_job, approver, step, status):
    job = put(make_job(), status)
    events = job.events.count()
    if status in ALLOWED[step]:
        STEPS[step](job, approver)
        assert (job.status, stored(job).status) == (BECOMES[step], BECOMES[step])
    else:
        with pytest.raises(JobMoved):
            STEPS[step](job, approver)
        assert stored(job).status == status
        assert job.events.count() == events


def test_asking_is_told_by_an_event(make_job, requester, came_from):
    job = make_job(approved=False)
    assert last_event(job) == ("asked", requester, "", "waiting", "", came_from)
    assert job.events.get().detail == {"version": "2.0", "machines": 6}


def test_approving_is_told_by_an_event(waiting, approver, came_from):
    waiting.approve(approver, "read it")
    assert last_event(waiting) == ("approved", approver, "waiting", "approved", "read it", came_from)
    assert (stored(waiting).approved_by, stored(waiting).approved_at is None) == ("approver", False)


def test_withdrawing_is_told_by_an_event_that_says_from_what(job, requester, came_from):
    job.withdraw(requester, "not needed")
    assert last_event(job) == ("withdrawn", requester, "approved", "withdrawn", "not needed", came_from)


def test_editing_is_told_by_an_event_that_says_from_what(job, requester, machines, came_from):
    job.version = "2.1"
    job.edit(requester, machines[:2])
    assert last_event(job) == ("edited", requester, "approved", "waiting", "", came_from)
    dropped = ["pay-3", "pay-4", "pay-5", "pay-6"]
    assert job.events.first().detail == {"version": "2.1", "machines": 2, "fields": ["version"], "dropped": dropped}


def test_an_edit_tells_of_the_moves_that_it_accepts(job, requester, machines):
    Machine.objects.filter(hostname__in=["pay-2", "pay-5"]).update(address="10.9.9.9")
    job.edit(requester, Machine.objects.filter(hostname__in=["pay-1", "pay-2", "pay-3"]))
    moved = {"hostname": "pay-2", "was": "10.0.0.2:22 sh-1", "now": "10.9.9.9:22 sh-1"}
    assert job.events.first().detail["moved"] == [moved]
    assert [one.machine.hostname for one in job.job_machines.moved()] == []


def test_an_edit_tells_of_moves_by_name(make_job, payment, requester, machines):
    job = make_job(on=list_machines(payment, "pay-0", "pay-1"))
    Machine.objects.update(port=2222)
    job.edit(requester, Machine.objects.filter(jobs=job))
    assert [move["hostname"] for move in job.events.first().detail["moved"]] == ["pay-0", "pay-1"]


def test_an_edit_tells_of_no_move_that_came_after_its_machines_were_read(job, requester, machines):
    Machine.objects.filter(hostname="pay-2").update(address="10.9.9.9")
    job.edit(requester, machines[:3])
    assert "moved" not in job.events.first().detail
    assert [one.is_at for one in job.job_machines.moved()] == ["10.9.9.9:22 sh-1"]


def test_an_edit_changes_fields_and_machines_and_makes_the_approval_void(job, requester, machines):
    job.title, job.version, job.remark = "Hot fix", "2.1", "Call me"
    job.edit(requester, machines[:2])
    job = stored(job)
    assert (job.title, job.version, job.remark) == ("Hot fix", "2.1", "Call me")
    assert list(job.machines.order_by("hostname")) == machines[:2]
    assert (job.status, job.approved_by, job.approved_at, job.revision) == (Status.WAITING, "", None, 2)


def test_an_approval_of_what_was_edited_meanwhile_is_refused(waiting, requester, approver, machines):
    read = stored(waiting)
    waiting.version = "6.6.6"
    waiting.edit(requester, machines)
    with pytest.raises(JobMoved):
        read.approve(approver)
    assert stored(waiting).status == Status.WAITING


def test_an_edit_of_what_was_edited_meanwhile_is_refused(waiting, requester, machines):
    late = stored(waiting)
    waiting.edit(requester, machines[:3])
    late.version = "6.6.6"
    with pytest.raises(JobMoved):
        late.edit(requester, machines)
    assert (stored(waiting).version, stored(waiting).machines.count()) == ("2.0", 3)


def test_an_edit_that_comes_after_the_first_stage_began_changes_nothing(job, requester, machines):
    late = stored(job)
    job.begin()
    late.version = "6.6.6"
    with pytest.raises(JobMoved):
        late.edit(requester, machines[:1])
    assert (stored(job).version, stored(job).machines.count(), stored(job).approved_by) == ("2.0", 6, "approver")


def test_who_may_not_approve_sends_nothing_back_not_even_past_the_pages(waiting, requester):
    with pytest.raises(PermissionDenied):
        waiting.send_back(requester, "not today")
    assert stored(waiting).status == Status.WAITING


def test_nobody_approves_their_own_job_not_even_past_the_pages(waiting, requester):
    Membership.objects.create(user=requester, business=waiting.business, role=Role.APPROVER)
    with pytest.raises(PermissionDenied):
        waiting.approve(requester)
    with pytest.raises(IntegrityError), transaction.atomic():
        waiting.approvals.create(revision=1, by=requester, requester=requester)
    assert stored(waiting).status == Status.WAITING


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.WAITING, Status.SENT_BACK, Status.WITHDRAWN}))
def test_the_database_knows_no_job_that_moved_on_without_approval(waiting, status):
    with pytest.raises(IntegrityError), transaction.atomic():
        put(waiting, status)


def test_a_withdrawn_job_is_not_marked_as_released(job):
    put(job, Status.WITHDRAWN)
    job.conclude(Status.RELEASED)
    assert stored(job).status == Status.WITHDRAWN


def test_a_job_with_a_history_cannot_be_deleted(job):
    with pytest.raises(ProtectedError):
        job.delete()
    assert Event.objects.filter(job=job).count() == 2


def test_a_failed_step_leaves_no_event_behind(waiting, requester, machines, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(Job, "record", fail)
    waiting.version = "6.6.6"
    with pytest.raises(RuntimeError):
        waiting.edit(requester, machines[:1])
    assert (stored(waiting).version, stored(waiting).machines.count(), stored(waiting).revision) == ("2.0", 6, 1)


def test_a_missing_right_is_named(waiting, requester):
    with pytest.raises(PermissionDenied, match="approve this job"):
        waiting.require(requester, Right.APPROVE)


def test_a_job_is_known_by_its_number_business_and_version(job):
    assert str(job) == f"#{job.pk} payment 2.0"

"""A job is done without a machine that it cannot, or need not, release."""

import pytest

from jobs.models import Job, JobMachine, JobMoved
from releases.candidates import candidates, left_to_do
from releases.models import MachineRun, MachinesHeld, ReleaseStage, Run, StageMoved
from releases.pictures import JobPicture
from tests.conftest import list_machines, stage_of
from tests.pages import words
from tests.parallel import at_once
from tests.workers import begin, claim, end

excuse = ReleaseStage.objects.excuse


def job_status(job):
    return Job.objects.get(pk=job.pk).status


def excused(job):
    rows = JobMachine.objects.filter(job=job).exclude(excused_at=None)
    return list(rows.order_by("machine__hostname").values_list("machine__hostname", flat=True))


def test_an_excuse_says_who_when_and_why(job, machines, publisher):
    excuse(job, machines[:2], publisher, "scrapped")
    row = JobMachine.objects.get(job=job, machine=machines[0])
    assert (row.excused_by, row.excuse, row.excused_at is None) == (publisher, "scrapped", False)
    event = job.events.get(verb="excused")
    assert (event.actor, event.reason) == (publisher, "scrapped")
    assert event.detail == {"machines": 2, "hostnames": ["pay-1", "pay-2"]}


def test_an_excuse_begins_no_job(job, machines, publisher):
    excuse(job, machines[:1], publisher, "scrapped")
    assert job_status(job) == Job.Status.APPROVED


def test_an_excused_machine_is_offered_by_no_stage(job, machines, start, publisher):
    excuse(job, machines[:5], publisher, "scrapped")
    for kind in ("pre-release", "gray-release", "release"):
        for when_free in (False, True):
            assert [machine.hostname for machine in stage_of(job, kind).offered_machines(when_free)] == ["pay-6"]
    with pytest.raises(MachinesHeld) as refused:
        start(job, machines[4:])
    assert refused.value.machines == [machines[4]]
    assert not Run.objects.exists()


def test_an_excuse_of_one_job_is_none_of_another(make_job, machines, start, publisher):
    first, second = make_job("2.0"), make_job("3.0")
    excuse(first, machines, publisher, "not for these")
    assert start(second, machines).machine_runs.count() == 6


@pytest.mark.parametrize("status", ["queued", "claimed", "running", "held"])
def test_a_machine_that_a_run_is_about_to_touch_is_not_excused(job, machines, start, publisher, status):
    start(job, machines[:2]).machine_runs.update(status=status, started_at="2026-01-01T00:00:00Z")
    with pytest.raises(MachinesHeld) as refused:
        excuse(job, machines[1:4], publisher, "scrapped")
    assert (refused.value.machines, excused(job)) == ([machines[1]], [])
    assert not job.events.filter(verb="excused").exists()


def test_a_machine_that_was_released_is_not_excused_unless_it_is_rolled_back(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish()
    with pytest.raises(MachinesHeld):
        excuse(job, machines[:1], publisher, "scrapped")
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    excuse(job, machines[:1], publisher, "scrapped")
    assert excused(job) == ["pay-1"]


def test_a_machine_is_excused_once_and_its_first_reason_stays(job, machines, publisher):
    excuse(job, machines[:1], publisher, "scrapped")
    with pytest.raises(JobMoved):
        excuse(job, machines[:2], publisher, "me too")
    assert excused(job) == ["pay-1"]
    assert JobMachine.objects.get(job=job, machine=machines[0]).excuse == "scrapped"
    assert job.events.filter(verb="excused").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_who_excuse_a_machine_at_once_excuse_it_once(job, machines, publisher):
    ReleaseStage.objects.of(job)
    found = at_once(*[lambda: excuse(Job.objects.get(pk=job.pk), machines[:1], publisher, "scrapped")] * 4)
    assert sorted(type(one).__name__ for one in found) == ["JobMoved"] * 3 + ["NoneType"]
    assert job.events.filter(verb="excused").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_machine_is_started_or_excused_never_both(make_job, machines, start, publisher):
    for number in range(4):
        job = make_job(f"2.{number}")
        ReleaseStage.objects.of(job)
        found = at_once(
            lambda job=job: excuse(Job.objects.get(pk=job.pk), machines[:1], publisher, "scrapped"),
            lambda job=job: start(Job.objects.get(pk=job.pk), machines[:1]),
        )
        assert [isinstance(one, MachinesHeld) for one in found].count(True) == 1, found
        assert bool(excused(job)) != MachineRun.objects.in_job(job).exists()
        MachineRun.objects.update(status="not_run")
        Run.objects.update(status="failed")


def test_a_machine_that_is_not_of_the_job_is_not_excused(make_job, machines, orders, publisher):
    job = make_job(on=machines[:3])
    for other in (machines[5], *list_machines(orders, "ord-1")):
        with pytest.raises(JobMoved):
            excuse(job, [machines[0], other], publisher, "scrapped")
    assert excused(job) == []


@pytest.mark.parametrize("step", ["withdraw", "edit", "nothing"])
def test_nothing_of_a_job_that_is_not_approved_is_excused(make_job, machines, requester, publisher, step):
    job = make_job(approved=step != "nothing")
    if step != "nothing":
        getattr(job, step)(requester, machines if step == "edit" else "no")
    with pytest.raises(JobMoved):
        excuse(job, machines[:1], publisher, "scrapped")
    assert excused(job) == []


def test_a_stage_has_succeeded_once_its_failed_machines_are_excused(job, machines, start, finish, publisher):
    start(job, machines[:3])
    finish("failed", on=["pay-1", "pay-2"])
    excuse(job, machines[:1], publisher, "scrapped")
    assert (stage_of(job).status, stage_of(job, "gray-release").is_open) == ("failed", False)
    excuse(job, machines[1:2], publisher, "scrapped too")
    assert (stage_of(job).status, stage_of(job, "gray-release").is_open) == ("succeeded", True)
    assert stage_of(job).done_at is not None


def test_a_stage_whose_machines_are_all_excused_is_open_again(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish("failed", on=["pay-1", "pay-2"])
    excuse(job, machines[:2], publisher, "scrapped")
    assert (stage_of(job).status, stage_of(job).is_open) == ("waiting", True)
    start(job, machines[2:3])
    finish()
    assert stage_of(job).status == "succeeded"


def test_a_stage_of_which_what_went_back_is_all_that_is_not_excused_is_rolled_back(
    job, machines, start, finish, publisher
):
    start(job, machines[:1])
    finish()
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    start(job, machines[1:2])
    finish("failed")
    excuse(job, machines[1:2], publisher, "scrapped")
    assert stage_of(job).status == "rolled_back"


def test_a_stage_of_which_all_is_excused_and_went_back_is_rolled_back(job, machines, start, finish, publisher, client):
    start(job, machines[:1])
    finish("failed")
    excuse(job, machines[:1], publisher, "scrapped")
    stage_of(job).skip(publisher, "nothing else to try")
    stage_of(job).roll_back(publisher, machines[:1], "what it left there", "back")
    finish()
    assert stage_of(job).status == "rolled_back"
    client.force_login(publisher)
    assert "Pre-release Rolled back publisher" in words(client.get(f"/jobs/{job.pk}/"))


def test_a_stage_is_not_rolled_back_by_a_rollback_that_was_called_off(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish("failed")
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back").cancel(publisher)
    excuse(job, machines[:1], publisher, "scrapped")
    assert stage_of(job).status == "waiting"


def test_nor_by_one_after_which_it_was_released_again(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish()
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    start(job, machines[:1])
    finish("failed")
    excuse(job, machines[:1], publisher, "scrapped")
    assert stage_of(job).status == "waiting"


def test_a_stage_is_not_skipped_as_it_was_seen_before_an_excuse(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish("failed")
    seen = stage_of(job).as_seen
    excuse(job, machines[:1], publisher, "scrapped")
    with pytest.raises(StageMoved):
        stage_of(job).skip(publisher, "it fails", seen)


def test_a_stage_that_runs_on_other_machines_goes_on(job, machines, start, finish, publisher):
    start(job, machines[:2])
    excuse(job, machines[2:3], publisher, "scrapped")
    assert stage_of(job).status == "running"
    finish()
    assert stage_of(job).status == "succeeded"


def test_a_stage_that_is_done_already_does_not_soak_anew(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish()
    before = stage_of(job)
    excuse(job, machines[5:], publisher, "scrapped")
    assert (stage_of(job).version, stage_of(job).done_at) == (before.version, before.done_at)


def test_the_excuse_of_the_last_machine_that_is_left_releases_the_job(job, machines, start, finish, publisher):
    start(job, machines[:5])
    finish("failed", on=["pay-2"])
    excuse(job, machines[5:], publisher, "scrapped")
    assert job_status(job) == Job.Status.IN_PROGRESS
    excuse(job, machines[1:2], publisher, "scrapped too")
    assert job_status(job) == Job.Status.RELEASED


def test_a_job_that_is_rolled_back_or_excused_everywhere_is_rolled_back(job, machines, start, finish, publisher):
    start(job, machines[:3], failure_budget=None)
    finish("failed", on=["pay-1"])
    stage_of(job).roll_back(publisher, machines[1:3], "it hurts", "back")
    finish()
    assert job_status(job) == Job.Status.IN_PROGRESS
    excuse(job, [machines[0], *machines[3:]], publisher, "scrapped")
    assert job_status(job) == Job.Status.ROLLED_BACK


def test_a_job_is_not_released_while_a_run_of_it_goes_on(job, machines, start, finish, publisher):
    start(job, machines[:3])
    finish()
    start(job, machines[3:], "gray-release")
    finish("failed", on=["pay-6"])
    stage_of(job).roll_back(publisher, machines[:3], "it hurts", "back")
    excuse(job, machines[5:], publisher, "scrapped")
    assert job_status(job) == Job.Status.IN_PROGRESS
    finish()
    assert job_status(job) == Job.Status.RELEASED


def test_a_job_of_which_every_machine_is_excused_ends_as_not_released(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish("failed")
    excuse(job, machines[1:], publisher, "scrapped")
    assert job_status(job) == Job.Status.IN_PROGRESS
    excuse(job, machines[:1], publisher, "scrapped, too")
    assert job_status(job) == Job.Status.NOT_RELEASED
    stage_of(job).roll_back(publisher, machines[:1], "what it left there", "back")
    assert job_status(job) == Job.Status.IN_PROGRESS
    finish()
    assert job_status(job) == Job.Status.ROLLED_BACK


def test_a_job_that_was_only_skipped_ends_with_the_excuse_of_its_last_machine(job, machines, publisher):
    stage_of(job).skip(publisher, "nothing to try")
    with pytest.raises(JobMoved):  # what was skipped for this version is not for another
        Job.objects.get(pk=job.pk).edit(job.requester, machines)
    excuse(job, machines[1:], publisher, "scrapped")
    assert job_status(job) == Job.Status.IN_PROGRESS
    excuse(job, machines[:1], publisher, "scrapped, too")
    assert job_status(job) == Job.Status.NOT_RELEASED


def test_an_excused_machine_that_proves_to_be_released_still_counts_as_released(
    job, machines, start, worker, publisher
):
    run = start(job, machines[:2], failure_budget=None)
    first, second = begin(worker)
    end(worker, [first], "unknown")
    end(worker, [second])
    excuse(job, [machines[0], *machines[2:]], publisher, "nobody can look")
    assert job_status(job) == Job.Status.RELEASED
    stage_of(job).roll_back(publisher, machines[1:2], "it hurts", "back")
    end(worker, begin(worker))
    assert job_status(job) == Job.Status.ROLLED_BACK
    run.machine_runs.get(pk=first).resolve(publisher, "succeeded", "somebody could")
    assert job_status(job) == Job.Status.RELEASED


def test_an_excused_machine_can_still_be_rolled_back(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish("failed", on=["pay-1"])
    excuse(job, machines[:1], publisher, "later")
    assert [one.machine.hostname for one in stage_of(job).rollback_candidates()] == ["pay-1", "pay-2"]
    run = stage_of(job).roll_back(publisher, machines[:1], "now", "back")
    finish()
    assert run.machine_runs.get().status == "succeeded"


def test_what_becomes_of_the_job_is_reckoned_once(job, machines, start, finish, publisher, monkeypatch):
    """With ten thousand machines that takes a while."""
    for kind, some in (("pre-release", machines[:2]), ("gray-release", machines[2:4]), ("release", machines[4:5])):
        start(job, some, kind)
        finish()
    concluded, conclude = [], Job.conclude
    monkeypatch.setattr(Job, "conclude", lambda job, status: concluded.append(status) or conclude(job, status))
    excuse(job, machines[5:], publisher, "scrapped")
    assert (concluded, job_status(job)) == (["released"], "released")


def test_what_pages_tell_to_be_left_is_what_lists_have(
    make_job, machines, start, worker, requester, approver, publisher
):
    """One rule twice: of the rows that a picture has read already, and of each machine of a list."""
    job = make_job(approved=False, on=machines[:2])

    def left():
        now = Job.objects.get(pk=job.pk)
        picture, seen = JobPicture(now), candidates(now)
        told = picture.are_left, picture.are_to_excuse
        assert told == (not all(one.is_done for one in seen), bool(left_to_do(now, seen)))
        return told

    assert left() == (True, False)
    job.send_back(approver, "on Friday")
    assert left() == (True, False)
    job.edit(requester, machines[:2])
    job.approve(approver)
    assert left() == (True, False)
    for status in ("failed", "timed_out", "cancelled", "unknown"):
        run = start(job, machines[:2])
        assert left() == (True, False)
        ids = begin(worker)
        end(worker, ids[:1], status)
        assert left() == (True, True)
        end(worker, ids[1:], status)
    run.resolve(machines[:2], publisher, "failed", "I looked")
    start(job, machines[:2])
    end(worker, claim(worker), "unreachable")
    assert left() == (True, True)
    start(job, machines[:2], batch_size="1")
    end(worker, begin(worker), "failed")  # the other is not run
    assert left() == (True, True)
    start(job, machines[:2], batch_size=None)
    end(worker, begin(worker))
    assert left() == (False, False)

    def roll_back(key):
        return stage_of(job).roll_back(publisher, machines[:1], "it hurts", key)

    roll_back("first").cancel(publisher, "no")
    end(worker, [])
    assert left() == (False, False)
    roll_back("second")
    assert left() == (True, False)
    end(worker, begin(worker), "failed")
    assert left() == (True, True)
    roll_back("third")
    end(worker, begin(worker))
    assert left() == (True, False)
    start(stage_of(job).job, machines[:1])
    end(worker, claim(worker), "unreachable")
    assert left() == (True, False)
    excuse(job, machines[:1], publisher, "scrapped")
    assert left() == (False, False)

"""A retry is a new run on some of the machines of an old one; and a stage may have to wait before it opens."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from deploy_portal.clock import database_now
from jobs.models import Job
from releases.models import MachineRun, MachinesHeld, ReleaseStage, StageMoved
from releases.tidying import tidy
from tests.conftest import stage_of
from tests.pages import page, words
from tests.workers import begin, claim, end


def to_try_again(job, what, machines):
    ids = stage_of(job).to_try_again(what)
    assert len(ids) == len(set(ids))
    return [machine.hostname for machine in machines if machine.pk in ids]


# What to try again


def test_the_failed_and_the_not_run_are_told_apart(job, machines, start, worker):
    start(job, machines, batch_size="5", failure_budget="4")
    ids = claim(worker)
    MachineRun.objects.begin(worker, ids[:4])
    for pk, status in zip(ids, ["succeeded", "failed", "timed_out", "unknown", "unreachable"], strict=True):
        end(worker, [pk], status)
    assert to_try_again(job, "failed", machines) == ["pay-2", "pay-3", "pay-4", "pay-5"]
    assert to_try_again(job, "not_run", machines) == ["pay-6"]


def test_what_was_cancelled_before_it_began_is_among_the_not_run(job, machines, start, worker, publisher):
    run = start(job, machines[:3])
    running = begin(worker, 1)
    run.cancel(publisher)
    end(worker, running, "cancelled")
    assert to_try_again(job, "not_run", machines) == ["pay-2", "pay-3"]
    assert to_try_again(job, "cancelled", machines) == ["pay-1"]
    assert to_try_again(job, "failed", machines) == []


@pytest.mark.parametrize("what", ["", None, "succeeded", "nonsense"])
def test_nothing_else_is_tried_again(job, machines, start, finish, what):
    start(job, machines)
    finish("failed")
    assert to_try_again(job, what, machines) == []


def test_what_failed_in_another_stage_is_not_tried_again_here(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish("failed")
    stage_of(job).skip(publisher, "go on")
    start(job, machines[1:2], "gray-release")
    finish("failed")
    assert stage_of(job, "gray-release").to_try_again("failed") == [machines[1].pk]


def test_a_machine_that_went_well_at_its_second_try_is_not_tried_a_third_time(job, machines, start, finish):
    start(job, machines[:2])
    finish("failed")
    start(job, machines[:1])
    finish()
    assert to_try_again(job, "failed", machines) == ["pay-2"]


def test_a_machine_whose_rollback_failed_is_not_released_again_by_a_retry(job, machines, start, finish, publisher):
    """Whoever tries again what failed wants it back, and would get the new version."""
    start(job, machines[:2])
    finish()
    stage_of(job).roll_back(publisher, machines[:2], "it hurts", "back")
    finish("failed", on=["pay-1"])
    assert to_try_again(job, "failed", machines) == []
    assert [one.machine.hostname for one in stage_of(job).rollback_candidates()] == ["pay-1"]


def test_a_machine_whose_rollback_was_cancelled_is_not_released_again_by_a_retry(
    job, machines, start, finish, publisher
):
    start(job, machines[:2])
    finish("failed")
    stage_of(job).roll_back(publisher, machines[:2], "it hurts", "back").cancel(publisher)
    assert to_try_again(job, "failed", machines) == to_try_again(job, "not_run", machines) == []


# The new run and the old ones


def test_a_first_run_tries_nothing_again(job, machines, start, finish):
    assert start(job, machines[:2]).retry_of is None
    finish("failed")
    assert start(job, machines[2:]).retry_of is None


def test_a_retry_is_a_new_run_that_names_the_first_and_erases_nothing(job, machines, start, finish):
    first = start(job, machines[:3])
    finish("failed", on=["pay-1", "pay-2"])
    before = list(first.machine_runs.values())
    second = start(job, machines[:2])
    finish("failed")
    third = start(job, machines[1:2])
    assert (second.retry_of, third.retry_of) == (first, first)
    assert list(first.machine_runs.values()) == before
    assert [event.detail.get("retry_of") for event in job.events.filter(verb="started")] == [first.pk, first.pk, None]


def test_a_retry_with_another_text_says_so_in_the_timeline(
    as_user, job, machines, start, finish, publisher, release_task
):
    def shown():
        return words(as_user(publisher).get(page("job", job)))

    start(job, machines[:2])
    finish("failed")
    start(job, machines[:2])
    finish("failed")
    assert "the first try ran" not in shown()
    release_task.revise("echo better", None)
    start(job, machines[:2])
    assert "publisher tried Pre-release again on 2 machines With deploy · v2; the first try ran deploy · v1" in shown()


def test_a_retry_of_some_with_others_that_are_new_names_the_first_too(job, machines, start, finish):
    first = start(job, machines[:2])
    finish("failed")
    assert start(job, machines[1:4]).retry_of == first


def test_a_rollback_or_another_stage_is_no_retry(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish("failed", on=["pay-2"])
    assert stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back").retry_of is None
    finish()
    stage_of(job).skip(publisher, "go on")
    assert start(job, machines[1:2], "gray-release").retry_of is None


def test_a_retry_has_a_pace_and_a_budget_of_its_own(job, machines, start, finish):
    start(job, machines, failure_budget="50 %", batch_size="50 %", canary=True)
    finish("failed", on=["pay-1", "pay-2", "pay-3", "pay-4"])
    retry = start(job, machines[:4], key="again")
    assert (retry.failure_budget, retry.batch_size, retry.canary, retry.batches) == (2, 2, True, 3)


# Soak time


@pytest.fixture
def soaking(payment):
    payment.soak_minutes = 30
    payment.save()
    return payment


def shift(job, **by):
    """Moves the moment when the first stage was done."""
    ReleaseStage.objects.filter(job=job, kind="pre-release").update(done_at=Now() + timedelta(**by))


def test_a_stage_opens_a_while_after_the_one_before_has_succeeded(soaking, job, machines, start, finish):
    start(job, machines[:1])
    finish()
    assert stage_of(job, "release").opens_at is None
    stage = stage_of(job, "gray-release")
    assert (stage.is_soaking, stage.is_open, stage.can_be_skipped) == (True, False, False)
    assert timedelta(minutes=29) < stage.opens_at - database_now() <= timedelta(minutes=30)
    with pytest.raises(StageMoved):
        start(job, machines[1:2], "gray-release")
    shift(job, minutes=-29)
    assert stage_of(job, "gray-release").is_soaking
    shift(job, minutes=-30)
    assert (stage_of(job, "gray-release").is_soaking, stage_of(job, "gray-release").is_open) == (False, True)
    start(job, machines[1:2], "gray-release")


def test_the_first_stage_and_one_after_a_skipped_one_wait_for_nothing(soaking, job, machines, start, publisher):
    assert (stage_of(job).opens_at, stage_of(job).is_open) == (None, True)
    stage_of(job).skip(publisher, "known to work")
    assert (stage_of(job, "gray-release").opens_at, stage_of(job, "gray-release").is_open) == (None, True)


def test_a_stage_that_has_begun_waits_no_more(soaking, job, machines, start, finish):
    start(job, machines[:1])
    finish()
    shift(job, minutes=-31)
    start(job, machines[1:3], "gray-release")
    finish("failed", on=["pay-2"])
    start(job, machines[3:4])
    finish()
    assert stage_of(job, "gray-release").is_open


def test_more_machines_in_the_stage_before_have_to_soak_as_well(soaking, job, machines, start, finish):
    start(job, machines[:1])
    finish()
    shift(job, minutes=-31)
    start(job, machines[1:2])
    finish()
    assert stage_of(job, "gray-release").is_soaking


def test_also_for_who_saw_the_stage_open_before(soaking, job, machines, start, finish, publisher, release_task):
    start(job, machines[:1])
    finish()
    shift(job, minutes=-31)
    stage = stage_of(job, "gray-release")
    stage.release_task = release_task
    assert stage.is_open
    start(job, machines[1:2])
    finish()
    with pytest.raises(StageMoved, match="not open"):
        stage.start(publisher, machines[2:3], "late")


def test_it_does_not_soak_for_as_long_as_the_databases_clock_was_set_back(soaking, job, machines, start, finish):
    start(job, machines[:1])
    finish()
    shift(job, hours=6)
    tidy()
    opens_at = stage_of(job, "gray-release").opens_at
    assert timedelta(minutes=29) < opens_at - database_now() <= timedelta(minutes=30)
    tidy()
    assert stage_of(job, "gray-release").opens_at == opens_at


def test_a_rollback_is_never_kept_waiting_by_the_soak_time(soaking, job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish()
    assert stage_of(job, "gray-release").is_soaking
    run = stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    assert run.machine_runs.get().status == "succeeded"


def test_a_soak_time_that_ends_between_looking_and_starting_is_looked_at_again(soaking, job, machines, start, finish):
    start(job, machines[:1])
    finish()
    seen = stage_of(job, "gray-release")
    assert seen.is_soaking
    shift(job, minutes=-31)
    seen.release_task, seen.rollback_task = stage_of(job).release_task, stage_of(job).rollback_task
    run = seen.start(job.events.get(verb="started").actor, machines[1:2], "k")
    assert run.status == "running"


# Rolling back what nobody knows the end of


@pytest.fixture
def lost(job, machines, start, worker):
    """pay-1 is unknown, pay-2 released; nothing else was touched."""
    run = start(job, machines[:2], failure_budget=None)
    first, second = begin(worker)
    end(worker, [first], "unknown")
    end(worker, [second])
    return run


def test_an_unknown_machine_is_offered_for_a_rollback_which_settles_it_first(lost, job, machines, worker, publisher):
    assert [one.machine.hostname for one in stage_of(job).rollback_candidates()] == ["pay-1", "pay-2"]
    assert stage_of(job).count_rollback_candidates() == 2
    run = stage_of(job).roll_back(publisher, machines[:2], "I looked", "back")
    settled = lost.machine_runs.get(machine=machines[0])
    assert (settled.status, settled.reason) == ("failed", "I looked")
    told = job.events.get(verb="resolved")
    assert (told.actor, told.was, told.became, told.reason) == (publisher, "unknown", "failed", "I looked")
    assert [(one.version_before, one.version_after) for one in run.machine_runs.all()] == [("", ""), ("2.0", "")]
    end(worker, begin(worker))
    assert (stage_of(job).status, Job.objects.get().status) == ("rolled_back", "rolled_back")


def test_an_unknown_machine_has_succeeded_or_failed_and_nothing_else(lost, machines, publisher):
    unknown = lost.machine_runs.get(machine=machines[0])
    with pytest.raises(ValueError):
        unknown.resolve(publisher, "queued", "once more")
    assert lost.machine_runs.get(machine=machines[0]).status == "unknown"


def test_an_unknown_machine_that_was_not_named_stays_unknown(lost, job, machines, worker, publisher):
    stage_of(job).roll_back(publisher, machines[1:2], "it hurts", "back")
    end(worker, begin(worker))
    assert lost.machine_runs.get(machine=machines[0]).status == "unknown"
    assert stage_of(job).status == "failed"


def test_a_rollback_that_is_refused_settles_nothing(lost, job, machines, publisher):
    with pytest.raises(MachinesHeld):
        stage_of(job).roll_back(publisher, [machines[0], machines[5]], "I looked", "back")
    assert lost.machine_runs.get(machine=machines[0]).status == "unknown"
    assert not job.events.filter(verb="resolved").exists()


def test_the_late_word_of_a_lost_worker_does_not_change_what_a_rollback_settled(
    job, machines, start, worker, publisher
):
    run = start(job, machines[:1])
    running = begin(worker)
    worker.leave()
    run.advance()
    back = stage_of(job).roll_back(publisher, machines[:1], "I looked", "back")
    end(worker, running, "succeeded")
    late = run.machine_runs.get()
    assert (late.status, "saw: succeeded" in late.note) == ("failed", True)
    assert back.machine_runs.get().status == "queued"


def test_an_unknown_rollback_is_rolled_back_again_to_the_same_version(make_job, machines, start, finish, publisher):
    start(make_job("1.0"), machines[:1])
    finish()
    job = make_job("2.0")
    start(job, machines[:1])
    finish()
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish("unknown")
    again = stage_of(job).roll_back(publisher, machines[:1], "I looked", "back again")
    assert [(one.version_before, one.version_after) for one in again.machine_runs.all()] == [("", "1.0")]
    finish()
    assert stage_of(job).status == "rolled_back"


def test_a_rollback_of_the_whole_job_takes_the_unknown_of_every_stage(lost, job, machines, finish, publisher, start):
    stage_of(job).skip(publisher, "go on")
    start(job, machines[2:3], "gray-release")
    finish("unknown")
    stages = ReleaseStage.objects.of(Job.objects.get(pk=job.pk))
    runs = ReleaseStage.objects.roll_back(stages, {one.pk for one in machines[:3]}, publisher, "I looked", "all back")
    assert [run.machine_runs.count() for run in runs] == [2, 1]
    finish()
    assert Job.objects.get().status == "rolled_back"

"""What a publisher does with a run that is under way: pause, resume, cancel."""

import pytest

from jobs.models import Event
from releases.models import MachineRun, ReleaseStage, Run, RunMoved
from releases.tidying import move_on
from tests.parallel import at_once
from tests.workers import begin, claim, end, state


def stage_of(run):
    return ReleaseStage.objects.get(pk=run.stage_id)


def told(job, verb):
    """What the newest event of this kind tells."""
    event = job.events.filter(verb=verb).first()
    return event.actor, event.was, event.became, event.reason, event.stage


# Pause and resume


def test_a_paused_run_begins_nothing_and_what_runs_goes_on(start, job, machines, worker, publisher):
    run = start(job, machines, batch_size="2")
    running = begin(worker, 1)
    run.pause(publisher, "the graphs look odd")
    assert run.status == "paused"
    assert told(job, "paused") == (publisher, "running", "paused", "the graphs look odd", "pre-release")
    assert claim(worker) == []
    end(worker, running)
    assert state(run) == ("paused", 1, {"succeeded": 1, "queued": 5})
    run.resume(publisher, "it was the graphs")
    assert told(job, "resumed") == (publisher, "paused", "running", "it was the graphs", "pre-release")
    assert len(claim(worker)) == 1


def test_what_was_claimed_before_a_pause_is_queued_again(start, job, machines, worker, publisher):
    """Its page says that nothing more begins, and a login to its machine may take long."""
    run = start(job, machines, batch_size="2")
    running, claimed = begin(worker, 1), claim(worker)
    run.pause(publisher)
    # What has begun is asked for again before its check.
    assert MachineRun.objects.begin(worker, [*running, *claimed]) == set(running)
    assert state(run) == ("paused", 1, {"running": 1, "queued": 5})
    run.resume(publisher)
    assert begin(worker) == claimed


def test_a_batch_that_ends_in_a_pause_opens_the_next_one_which_waits(start, job, machines, worker, publisher):
    run = start(job, machines, batch_size="3")
    running = begin(worker)
    run.pause(publisher)
    end(worker, running)
    assert state(run) == ("paused", 2, {"succeeded": 3, "queued": 3})
    assert claim(worker) == []
    run.resume(publisher)
    assert len(claim(worker)) == 3


def test_a_paused_run_whose_last_batch_ends_has_ended(start, job, machines, worker, publisher):
    run = start(job, machines[:2])
    running = begin(worker)
    run.pause(publisher)
    end(worker, running)
    assert state(run)[0] == "succeeded"
    assert stage_of(run).status == "succeeded"
    assert told(job, "ended") == (None, "paused", "succeeded", "", "pre-release")
    with pytest.raises(RunMoved):
        run.resume(publisher)


def test_a_budget_that_is_spent_in_a_pause_ends_the_run(start, job, machines, worker, publisher):
    run = start(job, machines, batch_size="2")
    running = begin(worker)
    run.pause(publisher)
    end(worker, running, "failed")
    assert state(run) == ("failed", 1, {"failed": 2, "not_run": 4})


def test_a_paused_run_keeps_its_machines_and_its_stage(start, job, machines, publisher):
    run = start(job, machines[:2])
    run.pause(publisher)
    stage = stage_of(run)
    assert (stage.is_running, stage.is_open) == (True, False)
    assert [machine.hostname for machine in stage.offered_machines()] == ["pay-3", "pay-4", "pay-5", "pay-6"]


@pytest.mark.parametrize("step", ["pause", "resume", "cancel"])
def test_a_step_from_another_state_changes_nothing_and_is_told_so(start, job, machines, publisher, step):
    run = start(job, machines[:2])
    if step != "resume":
        getattr(Run.objects.get(pk=run.pk), step)(publisher, "first")
    before, events = state(run), Event.objects.count()
    with pytest.raises(RunMoved, match="no longer in the state"):
        getattr(run, step)(publisher, "second")
    assert (state(run), Event.objects.count()) == (before, events)


@pytest.mark.parametrize("step", ["pause", "resume", "cancel"])
def test_no_step_is_taken_with_a_run_that_has_ended(start, job, machines, finish, publisher, step):
    stale = start(job, machines[:2])
    finish()
    events = Event.objects.count()
    with pytest.raises(RunMoved):
        getattr(stale, step)(publisher)
    assert state(stale) == ("succeeded", 1, {"succeeded": 2})
    assert (stale.cancelled_at, Event.objects.count()) == (None, events)


@pytest.mark.django_db(transaction=True)
def test_twenty_who_pause_at_once_pause_once(start, job, machines, publisher):
    run = start(job, machines)
    found = at_once(*[lambda: Run.objects.get(pk=run.pk).pause(publisher)] * 8)
    assert sorted(map(type, found), key=str) == sorted([type(None)] + [RunMoved] * 7, key=str)
    assert job.events.filter(verb="paused").count() == 1


# Cancelling


def test_cancel_calls_off_what_has_not_begun_and_asks_for_the_end_of_what_runs(start, job, machines, worker, publisher):
    run = start(job, machines, batch_size="4")
    running = begin(worker, 2)
    claimed = claim(worker, 1)
    run.cancel(publisher, "wrong version")
    assert state(run) == ("running", 1, {"running": 2, "cancelled": 4})
    assert MachineRun.objects.begin(worker, claimed) == set()
    assert claim(worker) == []
    assert sorted(MachineRun.objects.to_cancel(worker).values_list("pk", flat=True)) == running
    assert told(job, "cancelled") == (publisher, "running", "cancelled", "wrong version", "pre-release")
    facts = job.events.get(verb="cancelled").detail
    assert (facts["run"], facts["machines"], facts["running"]) == (run.pk, 4, 2)
    end(worker, running, "cancelled")
    assert state(run) == ("cancelled", 1, {"cancelled": 6})
    assert told(job, "ended") == (None, "running", "cancelled", "", "pre-release")
    assert not MachineRun.objects.to_cancel(worker).exists()


def test_cancel_with_nothing_running_ends_the_run_at_once(start, job, machines, publisher):
    run = start(job, machines, batch_size="2", batch_pause=600)
    run.cancel(publisher)
    assert run.status == "cancelled"
    assert state(run) == ("cancelled", 1, {"cancelled": 6})
    assert run.ended_at is not None
    assert not run.machine_runs.filter(ended_at=None).exists()
    stage = stage_of(run)
    assert (stage.status, stage.is_open, stage.job.status) == ("cancelled", True, "in_progress")
    assert stage.offered_machines().count() == 6


def test_a_run_is_cancelled_once(start, job, machines, worker, publisher):
    run = start(job, machines[:1])
    begin(worker)
    run.cancel(publisher)
    with pytest.raises(RunMoved):
        run.cancel(publisher)
    assert job.events.filter(verb="cancelled").count() == 1


def test_a_paused_run_is_cancelled(start, job, machines, worker, publisher):
    run = start(job, machines, batch_size="2")
    running = begin(worker, 1)
    run.pause(publisher)
    Run.objects.get(pk=run.pk).cancel(publisher)
    assert state(run) == ("paused", 1, {"running": 1, "cancelled": 5})
    assert told(job, "cancelled")[1] == "paused"
    with pytest.raises(RunMoved):
        run.resume(publisher)
    end(worker, running, "cancelled")
    assert state(run)[0] == "cancelled"


def test_an_event_of_a_cancel_tells_the_state_that_the_run_was_in(start, job, machines, publisher):
    stale = start(job, machines)
    Run.objects.get(pk=stale.pk).pause(publisher)
    stale.cancel(publisher)
    assert told(job, "cancelled")[1:3] == ("paused", "cancelled")


@pytest.mark.parametrize(
    ("seen", "run_status", "stage_status"),
    [
        ("cancelled", "cancelled", "cancelled"),
        ("succeeded", "cancelled", "cancelled"),
        ("failed", "cancelled", "failed"),
        ("unknown", "cancelled", "failed"),
    ],
)
def test_what_ran_when_its_run_was_cancelled_ends_as_it_was_seen(
    start, job, machines, worker, publisher, seen, run_status, stage_status
):
    run = start(job, machines[:2])
    running = begin(worker, 1)
    run.cancel(publisher)
    end(worker, running, seen)
    assert state(run)[0] == run_status
    assert run.machine_runs.get(pk=running[0]).status == seen
    assert stage_of(run).status == stage_status


def test_a_run_that_was_cancelled_too_late_to_stop_anything_is_what_it_became(start, job, machines, worker, publisher):
    run = start(job, machines[:2])
    running = begin(worker)
    run.cancel(publisher)
    end(worker, running)
    assert state(run) == ("succeeded", 1, {"succeeded": 2})
    assert stage_of(run).status == "succeeded"


def test_a_rollback_that_was_cancelled_midway_leaves_no_success(start, job, machines, worker, finish, publisher):
    run = start(job, machines[:1])
    finish()
    back = stage_of(run).roll_back(publisher, machines[:1], "it hurts", "back")
    running = begin(worker)
    back.cancel(publisher)
    end(worker, running, "cancelled")
    assert (state(back)[0], stage_of(run).status) == ("cancelled", "cancelled")


def test_what_had_begun_before_a_cancel_can_be_rolled_back_and_nothing_else(
    start, job, machines, worker, finish, publisher
):
    run = start(job, machines[:4])
    done, cut = begin(worker, 2)
    end(worker, [done])
    run.cancel(publisher)
    end(worker, [cut], "cancelled")
    stage = stage_of(run)
    assert [one.machine.hostname for one in stage.rollback_candidates()] == ["pay-1", "pay-2"]
    stage.roll_back(publisher, machines[:2], "both", "back")
    finish()
    assert stage_of(run).status == "rolled_back"
    assert not stage_of(run).rollback_candidates()


def test_a_worker_that_is_lost_while_it_ends_cancelled_commands_leaves_them_unknown(
    start, job, machines, worker, publisher
):
    run = start(job, machines[:2])
    running = begin(worker, 1)
    run.cancel(publisher)
    worker.leave()
    move_on()
    assert state(run) == ("cancelled", 1, {"unknown": 1, "cancelled": 1})
    MachineRun.objects.end(worker, running, "cancelled", 143)
    late = run.machine_runs.get(pk=running[0])
    assert (late.status, "saw: cancelled" in late.note) == ("unknown", True)


def test_what_a_dead_worker_had_claimed_of_a_cancelled_run_does_not_come_back(start, job, machines, worker, publisher):
    run = start(job, machines[:2])
    claim(worker)
    run.cancel(publisher)
    worker.leave()
    move_on()
    assert state(run) == ("cancelled", 1, {"cancelled": 2})


def test_who_saw_an_earlier_batch_cancels_all_that_is_left(start, job, machines, worker, publisher):
    run = start(job, machines, batch_size="3")
    seen = Run.objects.get(pk=run.pk)
    end(worker, begin(worker))
    seen.cancel(publisher)
    assert state(run) == ("cancelled", 2, {"succeeded": 3, "cancelled": 3})


def test_a_cancel_leaves_other_runs_alone(start, make_job, machines, worker, publisher):
    first, second = start(make_job("2.0"), machines[:2]), start(make_job("3.0"), machines[2:4])
    begin(worker, 3)
    first.cancel(publisher)
    assert set(MachineRun.objects.to_cancel(worker).values_list("run", flat=True)) == {first.pk}
    assert state(second) == ("running", 1, {"running": 1, "queued": 1})

"""In what steps a run goes through its machines, and at how many failures it stops."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from deploy_portal.clock import database_now
from releases.models import MachineRun, ReleaseStage, Run
from releases.tidying import move_on, tidy
from tests.workers import begin, claim, end, state

# Batches


def test_a_canary_goes_alone_and_the_others_follow_in_their_batches(start, job, machines, worker):
    run = start(job, machines, canary=True, batch_size="40 %")
    sizes = []
    while ids := begin(worker):
        sizes.append(len(ids))
        end(worker, ids)
    assert sizes == [1, 3, 2]
    assert state(run) == ("succeeded", 3, {"succeeded": 6})


def test_a_failed_canary_is_the_only_machine_that_was_touched(start, job, machines, worker):
    run = start(job, machines, canary=True)
    end(worker, begin(worker), "failed")
    assert state(run) == ("failed", 1, {"failed": 1, "not_run": 5})


# The failure budget


@pytest.mark.parametrize(
    ("written", "machines_kept"), [("1", 1), ("2", 2), ("1 %", 1), ("34 %", 3), ("100%", 6), ("9", 9), (None, None)]
)
def test_the_budget_is_a_number_or_a_share_of_the_machines_of_the_run(start, job, machines, written, machines_kept):
    assert start(job, machines, failure_budget=written).failure_budget == machines_kept


def test_a_run_goes_on_until_its_budget_is_spent(start, job, machines, worker):
    run = start(job, machines, failure_budget="2", batch_size="1")
    end(worker, begin(worker), "failed")
    assert state(run)[:2] == ("running", 2)
    end(worker, begin(worker))
    end(worker, begin(worker), "timed_out")
    assert state(run) == ("failed", 3, {"failed": 1, "succeeded": 1, "timed_out": 1, "not_run": 3})


def test_a_budget_that_is_spent_in_a_batch_stops_what_has_not_begun_and_lets_end_what_runs(
    start, job, machines, worker
):
    run = start(job, machines, failure_budget="34 %", batch_size="5")
    first, second, third = begin(worker, 3)
    claimed = claim(worker, 1)
    end(worker, [first, second], "failed")
    assert state(run)[0] == "running"
    assert MachineRun.objects.begin(worker, claimed) == set(claimed)
    end(worker, claimed, "unknown")
    assert state(run) == ("running", 1, {"failed": 2, "unknown": 1, "running": 1, "not_run": 2})
    assert claim(worker) == []
    assert not Run.objects.due().exists()
    end(worker, [third])
    assert state(run) == ("failed", 1, {"failed": 2, "unknown": 1, "succeeded": 1, "not_run": 2})
    assert run.machine_runs.filter(status="not_run", ended_at=None).count() == 0


def test_what_was_claimed_when_the_budget_was_spent_is_not_begun(start, job, machines, worker):
    run = start(job, machines[:2])
    [first] = begin(worker, 1)
    claimed = claim(worker)
    end(worker, [first], "failed")
    assert MachineRun.objects.begin(worker, claimed) == set()
    assert state(run) == ("failed", 1, {"failed": 1, "not_run": 1})


@pytest.mark.parametrize("bad", ["failed", "timed_out", "unknown"])
def test_every_kind_of_failure_is_counted(start, job, machines, worker, bad):
    run = start(job, machines, failure_budget="2", batch_size="1")
    [unreachable] = claim(worker)
    end(worker, [unreachable], "unreachable")
    assert state(run)[:2] == ("running", 2)
    end(worker, begin(worker), bad)
    assert state(run) == ("failed", 2, {"unreachable": 1, bad: 1, "not_run": 4})


def test_what_a_lost_worker_left_unknown_is_counted(start, job, machines, worker):
    run = start(job, machines, batch_size="2")
    begin(worker)
    worker.leave()
    move_on()
    assert state(run) == ("failed", 1, {"unknown": 2, "not_run": 4})


def test_an_unknown_machine_that_was_resolved_as_succeeded_is_no_failure(start, job, machines, worker, publisher):
    run = start(job, machines, failure_budget="2", batch_size="2")
    first, second = begin(worker)
    end(worker, [first], "unknown")
    MachineRun.objects.get(pk=first).resolve(publisher, "succeeded", "it is there")
    end(worker, [second], "failed")
    assert state(run)[:2] == ("running", 2)


def test_a_run_without_a_budget_never_stops_by_itself(start, job, machines, worker):
    run = start(job, machines, failure_budget=None, batch_size="1")
    while ids := begin(worker):
        end(worker, ids, "failed")
    assert state(run) == ("failed", 6, {"failed": 6})


def test_a_rollback_does_not_stop_at_failures(start, job, machines, finish, worker, publisher):
    start(job, machines)
    finish()
    run = ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines, "it hurts", "back")
    ids = begin(worker)
    end(worker, ids[:5], "failed")
    assert state(run) == ("running", 1, {"failed": 5, "running": 1})


# The pause between batches


def test_nothing_of_a_batch_is_claimed_before_its_pause_is_over_by_the_databases_clock(start, job, machines, worker):
    run = start(job, machines, batch_size="3", batch_pause=600)
    assert run.batch_opens_at is None
    before = database_now()
    end(worker, begin(worker))
    assert state(run)[:2] == ("running", 2)
    assert timedelta(seconds=590) < run.batch_opens_at - before < timedelta(seconds=660)
    assert claim(worker) == []
    run.stage.runs.update(batch_opens_at=Now() + timedelta(seconds=30))
    assert claim(worker) == []
    run.stage.runs.update(batch_opens_at=Now())
    assert len(claim(worker)) == 3


def test_there_is_no_pause_after_the_last_batch(start, job, machines, worker):
    run = start(job, machines[:2], batch_size="1", batch_pause=600)
    end(worker, begin(worker))
    run.stage.runs.update(batch_opens_at=Now())
    end(worker, begin(worker))
    assert state(run)[0] == "succeeded"


def test_a_pause_does_not_last_for_as_long_as_the_databases_clock_was_set_back(start, job, machines, worker):
    run = start(job, machines, batch_size="3", batch_pause=600)
    end(worker, begin(worker))
    run.stage.runs.update(batch_opens_at=F("batch_opens_at") + timedelta(hours=1))
    tidy()
    state(run)
    assert timedelta(seconds=590) < run.batch_opens_at - database_now() <= timedelta(seconds=600)


def test_looking_again_does_not_lengthen_a_pause(start, job, machines, worker):
    run = start(job, machines, batch_size="3", batch_pause=600)
    end(worker, begin(worker))
    state(run)
    opens_at = run.batch_opens_at
    tidy()
    run.advance()
    state(run)
    assert run.batch_opens_at == opens_at

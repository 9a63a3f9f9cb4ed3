import pytest
from django.db import IntegrityError, transaction

from jobs.models import Event
from releases.models import MachineRun, ReleaseStage, Run
from tests.parallel import at_once


def claim(worker):
    """Claims and begins all that is due; returns the ids."""
    MachineRun.objects.claim(worker, 1000)
    ids = list(MachineRun.objects.claimed_by(worker).values_list("pk", flat=True))
    MachineRun.objects.begin(worker, ids)
    return ids


def end(worker, ids, status="succeeded"):
    MachineRun.objects.end(worker, ids, status, 0)


def now(run):
    run.refresh_from_db()
    return run.status, run.open_batch


@pytest.mark.parametrize(
    ("size", "batches"),
    [(None, [6]), (1, [1] * 6), (4, [4, 2]), (6, [6]), (100, [6]), ("34 %", [3, 3]), ("1%", [1] * 6)],
)
def test_machines_are_parted_into_batches(start, job, machines, size, batches):
    run = start(job, machines, batch_size=size)
    found = [run.machine_runs.filter(batch=number).count() for number in range(1, run.batches + 1)]
    assert found == batches


def test_batches_keep_the_order_in_which_the_machines_were_chosen(start, job, machines):
    run = start(job, machines[::-1], batch_size=4)
    assert list(run.machine_runs.filter(batch=2).values_list("machine__hostname", flat=True)) == ["pay-2", "pay-1"]


def test_only_the_open_batch_is_claimable(start, job, machines, worker):
    run = start(job, machines, batch_size=2)
    assert len(claim(worker)) == 2
    assert MachineRun.objects.claim(worker, 1000) == 0
    assert run.machine_runs.counts() == {"running": 2, "queued": 4}


def test_the_next_batch_opens_only_when_the_open_one_has_ended(start, job, machines, worker):
    run = start(job, machines, batch_size=2)
    first, second = claim(worker)
    end(worker, [first])
    run.advance()
    assert now(run) == ("running", 1)
    end(worker, [second])
    run.advance()
    assert now(run) == ("running", 2)


@pytest.mark.parametrize("bad", ["failed", "timed_out", "unknown"])
def test_after_a_batch_with_a_failure_the_rest_is_not_run(start, job, machines, worker, bad):
    run = start(job, machines, batch_size=2)
    first, second = claim(worker)
    end(worker, [first])
    end(worker, [second], bad)
    run.advance()
    assert now(run) == ("failed", 1)
    assert run.machine_runs.counts() == {"succeeded": 1, bad: 1, "not_run": 4}
    assert run.ended_at is not None
    assert not MachineRun.objects.filter(status="not_run", ended_at=None).exists()


def test_an_unreachable_machine_stops_what_comes_after_too(start, job, machines, worker):
    run = start(job, machines, batch_size=1)
    MachineRun.objects.claim(worker, 1)
    MachineRun.objects.end(worker, [run.machine_runs.first().pk], "unreachable", None, "refused")
    run.advance()
    assert now(run) == ("failed", 1)


def test_what_was_not_run_is_free_again(start, job, machines, worker):
    start(job, machines, batch_size=1)
    end(worker, claim(worker), "failed")
    Run.objects.get().advance()
    offered = ReleaseStage.objects.of_kind(job, "pre-release").offered_machines()
    assert len(offered) == 6


def test_an_unknown_machine_that_is_resolved_in_time_does_not_stop_the_run(start, job, machines, worker, publisher):
    run = start(job, machines[:3], batch_size=2)
    first, second = claim(worker)
    end(worker, [first], "unknown")
    MachineRun.objects.get(pk=first).resolve(publisher, "succeeded", "it is there")
    end(worker, [second])
    run.advance()
    assert now(run) == ("running", 2)


def test_advancing_twice_is_advancing_once(start, job, machines, worker):
    run = start(job, machines, batch_size=2)
    end(worker, claim(worker))
    run.advance()
    run.advance()
    Run.objects.get(pk=run.pk).advance()
    assert now(run) == ("running", 2)


def test_a_run_ends_once(start, job, machines, worker):
    run = start(job, machines)
    end(worker, claim(worker))
    run.advance()
    ended_at = Run.objects.get(pk=run.pk).ended_at
    run.advance()
    Run.objects.get(pk=run.pk).advance()
    assert Run.objects.get(pk=run.pk).ended_at == ended_at
    assert Event.objects.filter(verb="ended").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [3, 6])
def test_two_who_advance_at_once_advance_once(start, job, machines, worker, size):
    run = start(job, machines, batch_size=size)
    end(worker, claim(worker))
    assert at_once(*[lambda: Run.objects.get(pk=run.pk).advance()] * 4) == [None] * 4
    assert now(run) == (("running", 2) if size == 3 else ("succeeded", 1))
    assert Event.objects.filter(verb="ended").count() == (0 if size == 3 else 1)


@pytest.mark.django_db(transaction=True)
def test_two_who_record_the_last_two_ends_at_once_leave_no_run_behind(start, job, machines, worker):
    run = start(job, machines[:4], batch_size=2)
    for batch in (1, 2):
        first, second = claim(worker)
        at_once(*[lambda pk=pk: (end(worker, [pk]), Run.objects.get(pk=run.pk).advance()) for pk in (first, second)])
        assert now(run) == (("running", 2) if batch == 1 else ("succeeded", 2))


def test_a_run_is_stuck_when_nothing_is_pending_in_its_open_batch(start, job, machines, worker):
    run = start(job, machines, batch_size=2)
    assert not Run.objects.due().exists()
    end(worker, claim(worker))
    assert list(Run.objects.due()) == [run]
    run.advance()
    assert not Run.objects.due().exists()


def test_a_run_that_has_ended_is_not_stuck(start, job, machines, finish):
    start(job, machines)
    finish()
    assert not Run.objects.due().exists()


def test_a_stage_has_one_running_run(start, job, machines):
    run = start(job, machines[:1])
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.create(
            stage=run.stage, action="release", task_version=run.task_version, timeout=1, started_by=run.started_by
        )


@pytest.mark.parametrize(("open_batch", "batches"), [(0, 1), (2, 1)])
def test_the_open_batch_is_one_of_the_runs(start, job, machines, open_batch, batches):
    run = start(job, machines[:1])
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(open_batch=open_batch, batches=batches)


def test_a_run_is_started_once_per_key(start, job, machines, finish):
    run = start(job, machines[:1], key="k")
    finish()
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.create(
            stage=run.stage,
            action="release",
            task_version=run.task_version,
            timeout=1,
            started_by=run.started_by,
            submit_key="k",
        )


def test_rollbacks_are_claimed_first(start, make_job, machines, finish, worker, publisher):
    first, second = make_job("2.0"), make_job("3.0")
    start(first, machines[:2])
    finish()
    start(second, machines[3:])
    stage = ReleaseStage.objects.of_kind(first, "pre-release")
    rollback = stage.roll_back(publisher, machines[:2], "it hurts", "back")
    assert MachineRun.objects.claim(worker, 2) == 2
    assert {machine_run.run for machine_run in MachineRun.objects.claimed_by(worker)} == {rollback}

import re

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from jobs.models import Job, Machine
from releases.models import MachineRun, NotUnknown, ReleaseStage, Run, Worker
from releases.models.machine_run import with_versions
from releases.models.queue import HOLDING
from releases.tidying import tidy
from tests.databases import sqlite_plans
from tests.parallel import at_once
from tests.releases.test_rollback_overtaken import MORE, more
from tests.workers import fall_silent


@pytest.fixture
def other(db):
    return Worker.objects.enlist([])


def claimed(worker):
    return list(MachineRun.objects.claimed_by(worker).values_list("pk", flat=True))


def of_each(worker, *runs):
    """How many of each run a worker has had."""
    return [MachineRun.objects.filter(worker=worker, run=run).count() for run in runs]


def begin(worker):
    """Claims and begins all that is due; returns the ids."""
    MachineRun.objects.claim(worker, 1000)
    return sorted(MachineRun.objects.begin(worker, claimed(worker)))


def get(pk):
    return MachineRun.objects.get(pk=pk)


def give_up(worker):
    fall_silent(worker)
    return Worker.objects.bury_dead()


# Claiming


def test_a_claim_takes_no_more_than_there_is_room_for(start, job, machines, worker):
    start(job, machines)
    assert MachineRun.objects.claim(worker, 2) == 2
    assert MachineRun.objects.counts() == {"claimed": 2, "queued": 4}
    assert all(get(pk).claimed_at and get(pk).worker == worker for pk in claimed(worker))


def test_nor_does_it_under_another_plan_of_the_database(start, job, machines, worker):
    start(job, machines)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # a plan that would run a subquery once for each row
            for step in ("hashagg", "sort", "hashjoin", "mergejoin"):
                cursor.execute(f"SET LOCAL enable_{step} = off")
    assert MachineRun.objects.claim(worker, 2) == 2


def test_what_is_claimed_is_not_claimed_again(start, job, machines, worker, other):
    start(job, machines)
    assert (MachineRun.objects.claim(worker, 4), MachineRun.objects.claim(other, 4)) == (4, 2)
    assert not set(claimed(worker)) & set(claimed(other))


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_small_run_does_not_wait_for_the_end_of_a_large_one(start, make_job, machines, worker, other, has_begun):
    large = start(make_job(on=machines[:4]), machines[:4])
    MachineRun.objects.claim(worker, 2)
    if has_begun:
        MachineRun.objects.begin(worker, claimed(worker))
    small = start(make_job(on=machines[4:]), machines[4:])
    assert MachineRun.objects.claim(other, 1) == 1
    assert of_each(other, large, small) == [1, 0]
    for number in (1, 2):
        assert MachineRun.objects.claim(worker, 1) == 1
        assert of_each(worker, large, small) == [2, number]


def test_a_worker_with_one_place_serves_all_runs_in_turn(start, make_job, machines, worker):
    """It never has one in hand when it claims: who began first would have it to the end."""
    runs = [start(make_job(on=machines[first : first + 2]), machines[first : first + 2]) for first in (0, 2, 4)]
    served = []
    for _turn in range(6):
        assert MachineRun.objects.claim(worker, 1) == 1
        [pk] = MachineRun.objects.begin(worker, claimed(worker))
        served.append(get(pk).run)
        MachineRun.objects.end(worker, [pk], "succeeded", 0)
    assert served == [*runs, *runs]


def test_what_one_run_leaves_of_its_share_others_have(start, make_job, machines, worker):
    large = start(make_job(on=machines[:5]), machines[:5])
    small = start(make_job(on=machines[5:]), machines[5:])
    assert MachineRun.objects.claim(worker, 4) == 4
    assert of_each(worker, large, small) == [3, 1]
    assert MachineRun.objects.claim(worker, 4) == 2


def test_a_run_that_nothing_can_be_claimed_of_has_no_share(start, make_job, machines, worker):
    paused = start(make_job(on=machines[:2]), machines[:2])
    gone = start(make_job(on=machines[2:4]), machines[2:4])
    goes_on = start(make_job(on=machines[4:]), machines[4:])
    paused.pause(paused.started_by)
    Machine.objects.filter(pk__in=[machine.pk for machine in machines[2:4]]).update(address="10.9.9.9")
    assert MachineRun.objects.claim(worker, 2) == 2
    assert of_each(worker, paused, gone, goes_on) == [0, 0, 2]


def test_rollbacks_are_claimed_before_all_else(start, make_job, machines, worker, finish, publisher):
    run = start(make_job(on=machines[:3]), machines[:3])
    finish()
    release = start(make_job(on=machines[3:]), machines[3:])
    rollback = ReleaseStage.objects.get(pk=run.stage_id).roll_back(publisher, machines[:3], "too slow", "back")
    assert MachineRun.objects.claim(worker, 2) == 2
    assert of_each(worker, release, rollback) == [0, 2]
    assert MachineRun.objects.claim(worker, 3) == 3
    assert of_each(worker, release, rollback) == [2, 3]


def test_a_claim_is_for_the_workers_sites(start, make_job, machines):
    Machine.objects.filter(hostname="pay-3").update(site="bj-2")
    there = list(Machine.objects.order_by("pk"))
    start(make_job(on=there), there)
    far = Worker.objects.enlist(["bj-2", "bj-3"])
    assert MachineRun.objects.claim(far, 100) == 1
    assert MachineRun.objects.claimed_by(far).get().machine.hostname == "pay-3"


def test_a_worker_that_was_given_up_claims_nothing(start, job, machines, worker):
    start(job, machines)
    worker.leave()
    assert MachineRun.objects.claim(worker, 100) == 0


def test_nothing_of_a_run_that_has_ended_is_claimed(start, job, machines, worker):
    run = start(job, machines)
    Run.objects.filter(pk=run.pk).update(status="failed")
    assert MachineRun.objects.claim(worker, 100) == 0


@pytest.mark.django_db(transaction=True)
def test_many_claimers_at_once_have_one_winner_per_machine(start, job, machines):
    start(job, machines)
    workers = [Worker.objects.enlist([]) for _ in range(6)]
    won = at_once(*[lambda worker=worker: MachineRun.objects.claim(worker, 4) for worker in workers])
    assert sum(won) == 6, won
    assert sorted(pk for worker in workers for pk in claimed(worker)) == sorted(
        MachineRun.objects.values_list("pk", flat=True)
    )
    assert max(won) <= 4


# Beginning and ending


def test_a_command_may_be_sent_by_who_claimed_the_machine(start, job, machines, worker, other):
    start(job, machines[:2])
    MachineRun.objects.claim(worker, 2)
    ids = claimed(worker)
    assert MachineRun.objects.begin(other, ids) == set()
    assert MachineRun.objects.begin(worker, ids) == set(ids)
    assert all(get(pk).status == "running" and get(pk).started_at for pk in ids)


def test_only_what_is_still_claimed_begins(start, job, machines, worker, other):
    start(job, machines[:3])
    MachineRun.objects.claim(worker, 3)
    lost, *kept = claimed(worker)
    MachineRun.objects.filter(pk=lost).update(status="queued", worker=None)
    assert MachineRun.objects.begin(worker, [lost, *kept]) == set(kept)
    assert get(lost).status == "queued"


def test_beginning_again_after_a_lost_answer_gives_the_same(start, job, machines, worker):
    start(job, machines[:2])
    ids = begin(worker)
    started = [get(pk).started_at for pk in ids]
    assert MachineRun.objects.begin(worker, ids) == set(ids)
    assert [get(pk).started_at for pk in ids] == started


def test_what_has_ended_does_not_begin_again(start, job, machines, worker):
    start(job, machines[:1])
    ids = begin(worker)
    MachineRun.objects.end(worker, ids, "succeeded", 0)
    assert MachineRun.objects.begin(worker, ids) == set()
    assert get(ids[0]).status == "succeeded"


def test_an_end_is_recorded_with_its_exit_status_and_reason(start, job, machines, worker):
    start(job, machines[:1])
    [pk] = begin(worker)
    assert MachineRun.objects.end(worker, [pk], "failed", 7, "Exit status 7") == 1
    ended = get(pk)
    assert (ended.status, ended.exit_status, ended.reason, ended.note) == ("failed", 7, "Exit status 7", "")
    assert ended.started_at <= ended.ended_at


def test_nobody_else_ends_a_command(start, job, machines, worker, other):
    start(job, machines[:1])
    ids = begin(worker)
    assert MachineRun.objects.end(other, ids, "succeeded", 0) == 0
    assert (get(ids[0]).status, get(ids[0]).note) == ("running", "")


def test_only_a_machine_without_a_command_is_unreachable(start, job, machines, worker):
    start(job, machines[:2])
    MachineRun.objects.claim(worker, 2)
    first, second = claimed(worker)
    MachineRun.objects.begin(worker, [first])
    assert MachineRun.objects.end(worker, [first, second], "unreachable", None, "refused") == 1
    assert [get(pk).status for pk in (first, second)] == ["running", "unreachable"]
    assert get(first).note == ""


def test_a_command_that_was_not_begun_has_no_end(start, job, machines, worker):
    start(job, machines[:1])
    MachineRun.objects.claim(worker, 1)
    [pk] = claimed(worker)
    assert MachineRun.objects.end(worker, [pk], "succeeded", 0) == 0
    assert get(pk).status == "claimed"


def test_the_late_end_of_a_worker_that_was_given_up_is_a_note_and_changes_nothing(start, job, machines, worker):
    start(job, machines[:1])
    ids = begin(worker)
    give_up(worker)
    assert MachineRun.objects.end(worker, ids, "succeeded", 0) == 0
    late = get(ids[0])
    assert (late.status, late.exit_status) == ("unknown", None)
    assert "saw: succeeded, exit status 0" in late.note


def test_a_late_end_is_noted_even_after_a_person_resolved_the_machine(start, job, machines, worker, publisher):
    start(job, machines[:1])
    [pk] = begin(worker)
    give_up(worker)
    get(pk).resolve(publisher, "succeeded", "looked at it")
    MachineRun.objects.end(worker, [pk], "failed", 7)
    late = get(pk)
    assert (late.status, late.reason) == ("succeeded", "looked at it")
    assert "saw: failed, exit status 7" in late.note


def test_what_was_cancelled_before_it_began_gets_no_note(start, job, machines, worker, publisher):
    run = start(job, machines[:1])
    MachineRun.objects.claim(worker, 1)
    [pk] = claimed(worker)
    run.cancel(publisher)
    assert MachineRun.objects.end(worker, [pk], "unreachable", None, "refused") == 0
    assert (get(pk).status, get(pk).note) == ("cancelled", "")


def test_an_end_that_is_written_twice_leaves_no_note(start, job, machines, worker):
    start(job, machines[:3])
    ids = begin(worker)
    for _ in range(2):
        MachineRun.objects.end(worker, ids[:1], "unknown", None, "Connection cut")
        MachineRun.objects.end(worker, ids[1:2], "failed", 7, "Exit status 7")
        MachineRun.objects.end(worker, ids[2:], "succeeded", 0)
    assert [get(pk).note for pk in ids] == ["", "", ""]


def test_the_late_end_of_one_is_not_noted_on_those_that_ended_in_time(start, job, machines, worker, other):
    start(job, machines[:2])
    first, second = begin(worker)
    MachineRun.objects.filter(pk=second).update(status="unknown", reason="Its worker was lost")
    MachineRun.objects.end(worker, [first, second], "unknown", None, "Connection cut")
    assert get(first).note == ""
    assert get(second).note != ""


def test_a_machine_that_another_worker_has_by_now_gets_no_note(start, job, machines, worker, other):
    start(job, machines[:1])
    MachineRun.objects.claim(worker, 1)
    [pk] = claimed(worker)
    give_up(worker)
    begin(other)
    MachineRun.objects.end(worker, [pk], "succeeded", 0)
    MachineRun.objects.end(worker, [pk], "unreachable", None, "refused")
    assert (get(pk).status, get(pk).worker, get(pk).note) == ("running", other, "")


@pytest.mark.django_db(transaction=True)
def test_an_end_and_a_reaper_at_once_leave_one_of_both(start, job, machines, worker):
    start(job, machines)
    ids = begin(worker)
    fall_silent(worker)
    at_once(
        lambda: MachineRun.objects.end(worker, ids, "succeeded", 0),
        Worker.objects.bury_dead,
        Worker.objects.bury_dead,
    )
    for pk in ids:
        row = get(pk)
        assert (row.status, row.exit_status) in [("succeeded", 0), ("unknown", None)]
        assert bool(row.note) == (row.status == "unknown")


# Resolving


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_person_resolves_an_unknown_machine_with_a_reason(start, job, machines, finish, publisher, status):
    run = start(job, machines[:1])
    finish("unknown")
    run.machine_runs.get().resolve(publisher, status, "looked at it")
    resolved = run.machine_runs.get()
    assert (resolved.status, resolved.reason) == (status, "looked at it")
    event = job.events.get(verb="resolved")
    told = (event.actor, event.was, event.became, event.reason, event.detail["hostnames"])
    assert told == (publisher, "unknown", status, "looked at it", ["pay-1"])
    assert ReleaseStage.objects.of_kind(job, "pre-release").status == status


def test_a_machine_is_resolved_once(start, job, machines, finish, publisher):
    run = start(job, machines[:1])
    finish("unknown")
    late = run.machine_runs.get()
    run.machine_runs.get().resolve(publisher, "succeeded", "looked at it")
    with pytest.raises(NotUnknown):
        late.resolve(publisher, "failed", "me too")
    assert run.machine_runs.get().status == "succeeded"
    assert job.events.filter(verb="resolved").count() == 1


@pytest.mark.parametrize("status", ["queued", "unknown", "running", "not_run", "nonsense"])
def test_a_machine_is_resolved_as_succeeded_or_failed_only(start, job, machines, finish, publisher, status):
    run = start(job, machines[:1])
    finish("unknown")
    with pytest.raises(ValueError, match="succeeded or failed"):
        run.machine_runs.get().resolve(publisher, status, "looked")
    assert run.machine_runs.get().status == "unknown"


@pytest.mark.parametrize("status", ["queued", "nonsense"])
def test_nor_is_one_of_several(start, job, machines, finish, publisher, status):
    run = start(job, machines[:2])
    finish("unknown")
    with pytest.raises(ValueError, match="succeeded or failed"):
        run.resolve(machines[:2], publisher, status, "looked")
    assert run.machine_runs.counts() == {"unknown": 2}


def test_what_is_not_unknown_is_not_resolved(start, job, machines, finish, publisher):
    run = start(job, machines[:1])
    with pytest.raises(NotUnknown):
        run.machine_runs.get().resolve(publisher, "succeeded", "in a hurry")
    assert run.machine_runs.get().status == "queued"


# What the database itself holds to


@pytest.mark.parametrize("status", HOLDING)
def test_the_database_holds_one_active_run_per_machine(start, make_job, machines, status):
    first = start(make_job("2.0"), machines[:1])
    MachineRun.objects.filter(run=first).update(status=status, started_at="2026-01-01T00:00:00Z")
    second = start(make_job("3.0"), machines[1:2])
    with pytest.raises(IntegrityError), transaction.atomic():
        MachineRun.objects.create(run=second, machine=machines[0])
    with pytest.raises(IntegrityError), transaction.atomic():
        MachineRun.objects.bulk_create([MachineRun(run=second, machine=machines[0], status=status)])


@pytest.mark.parametrize("status", sorted(set(MachineRun.Status) - set(HOLDING)))
def test_a_machine_whose_run_has_ended_is_free(start, make_job, machines, status):
    first = start(make_job("2.0"), machines[:1])
    MachineRun.objects.filter(run=first).update(status=status, started_at="2026-01-01T00:00:00Z")
    second = start(make_job("3.0"), machines[1:2])
    assert MachineRun.objects.create(run=second, machine=machines[0]).status == "queued"


def test_a_machine_is_in_a_run_once(start, job, machines):
    run = start(job, machines[:1])
    run.machine_runs.update(status="failed", started_at="2026-01-01T00:00:00Z")
    with pytest.raises(IntegrityError), transaction.atomic():
        MachineRun.objects.create(run=run, machine=machines[0])


@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "timed_out", "unknown"])
def test_nothing_ended_that_did_not_start(start, job, machines, status):
    run = start(job, machines[:1])
    with pytest.raises(IntegrityError), transaction.atomic():
        run.machine_runs.update(status=status)


@pytest.mark.parametrize("status", ["", "done", "SUCCEEDED"])
def test_there_is_no_other_status(start, job, machines, status):
    run = start(job, machines[:1])
    with pytest.raises(IntegrityError), transaction.atomic():
        run.machine_runs.update(status=status)


def test_a_log_block_is_there_once(start, job, machines):
    from releases.models import LogBlock

    machine_run = start(job, machines[:1]).machine_runs.get()
    LogBlock.objects.create(machine_run=machine_run, number=1, stream="out", text="one")
    with pytest.raises(IntegrityError), transaction.atomic():
        LogBlock.objects.create(machine_run=machine_run, number=1, stream="out", text="two")


@pytest.mark.one_database
def test_sqlite_goes_through_the_history_of_no_machine(job):
    """A page looks up in indexes alone who holds each of ten thousand machines, and what was last put there."""
    offered = ReleaseStage.objects.of(job)[0].offered_machines().explain()
    assert "INDEX one_active_run_per_machine" in offered and "INDEX one_active_run_per_host" in offered
    newest = with_versions(Machine.objects.order_by(), job.business).explain()
    assert "INDEX machine_run_by_machine" in newest and "ORDER BY" not in newest


@pytest.mark.one_database
def test_sqlite_goes_through_no_history_for_what_workers_ask_all_the_time(start, job, machines, other):
    start(job, machines[:2])
    with CaptureQueriesContext(connection) as asked:
        MachineRun.objects.claim(other, 1)
        tidy()
    assert not [plan for plan in sqlite_plans(asked) if re.search("SCAN releases_(machine)?run", plan)]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="by what PostgreSQL has counted of its rows")
def test_postgresql_reads_the_newest_of_a_machine_alone(job, orders, start, finish, machines):
    """However long its history is, and of however many other businesses."""
    run = start(job, machines[:1])
    finish()
    jobs = more(Job.objects.filter(pk=job.pk), business=[orders] * MORE)
    stages = more(ReleaseStage.objects.filter(pk=run.stage_id), job=jobs)
    runs = more(Run.objects.filter(pk=run.pk), stage=stages, submit_key=[f"again-{n}" for n in range(MORE)])
    more(MachineRun.objects.filter(run=run), run=runs)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    newest = with_versions(Machine.objects.order_by(), job.business).explain()
    assert "machine_run_by_machine" in newest and "Sort" not in newest

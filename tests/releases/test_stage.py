import pytest
from django.db import IntegrityError, connection, transaction

from jobs.models import Business, Event, Job, JobMoved, Listing, Machine, Membership
from jobs.rights import Role
from releases.candidates import candidates
from releases.models import Kind, MachineRun, MachinesHeld, ReleaseStage, Run, StageMoved
from tests.conftest import list_machines, make_member, make_task, make_user, rows, stage_of
from tests.parallel import at_once

Status = ReleaseStage.Status


def status_of(job, kind="pre-release"):
    return stage_of(job, kind).status


def job_status(job):
    return Job.objects.get(pk=job.pk).status


def names(machines):
    return sorted(machine.hostname for machine in machines)


def versions(run):
    """{host name: (before, after)} of a run."""
    machine_runs = run.machine_runs.select_related("machine")
    return {row.machine.hostname: (row.version_before, row.version_after) for row in machine_runs}


@pytest.fixture
def roll_back(publisher):
    """Rolls machines of a stage back, all that it changed unless some are named; returns the run."""

    def roll_back(job, on=None, kind="pre-release", key=None):
        stage = stage_of(job, kind)
        changed = [machine_run.machine for machine_run in stage.rollback_candidates()]
        chosen = changed if on is None else [machine for machine in changed if machine.hostname in on]
        return stage.roll_back(publisher, chosen, "it hurts", key or f"back-{job.pk}-{kind}-{stage.version}")

    return roll_back


# What a stage is, and when it is open


def test_a_job_has_its_three_stages_in_order(job):
    assert [stage.kind for stage in ReleaseStage.objects.of(job)] == ["pre-release", "gray-release", "release"]
    assert ReleaseStage.objects.of(job)[0].pk == ReleaseStage.objects.of(job)[0].pk
    assert ReleaseStage.objects.count() == 3


def test_the_database_knows_no_other_stage(job):
    for kind in ("prod", "release"):
        ReleaseStage.objects.of(job)
        with pytest.raises(IntegrityError), transaction.atomic():
            ReleaseStage.objects.create(job=job, kind=kind)


def test_only_the_first_stage_is_open_at_first(job):
    assert [stage.is_open for stage in ReleaseStage.objects.of(job)] == [True, False, False]


@pytest.mark.parametrize("approved", [False, True])
def test_no_stage_of_a_job_that_is_not_approved_is_open(make_job, approved):
    job = make_job(approved=approved)
    assert stage_of(job).is_open is approved


def test_a_stage_opens_when_the_one_before_has_succeeded(job, machines, start, finish):
    start(job, machines[:1])
    assert [stage.is_open for stage in ReleaseStage.objects.of(job)] == [False, False, False]
    finish()
    assert [stage_of(job, kind).is_open for kind in Kind.values] == [True, True, False]


def test_a_stage_stays_closed_when_the_one_before_has_failed(job, machines, start, finish):
    start(job, machines[:2])
    finish("failed", on=["pay-1"])
    assert (status_of(job), stage_of(job, "gray-release").is_open) == (Status.FAILED, False)


def test_a_stage_opens_when_the_one_before_was_skipped(job, publisher):
    stage_of(job).skip(publisher, "known to work")
    assert (status_of(job), stage_of(job, "gray-release").is_open) == (Status.SKIPPED, True)


def test_a_skipped_stage_opens_nothing_once_the_one_before_it_was_rolled_back(
    job, machines, start, finish, roll_back, publisher
):
    start(job, machines[:2])
    finish()
    stage_of(job, "gray-release").skip(publisher, "not needed")
    assert stage_of(job, "release").is_open
    roll_back(job)
    finish()
    assert not stage_of(job, "release").is_open
    with pytest.raises(StageMoved):
        start(Job.objects.get(pk=job.pk), machines[2:4], "release")


def test_behind_a_skipped_stage_the_soak_time_of_the_one_before_counts(
    job, machines, start, finish, roll_back, publisher, payment
):
    start(job, machines[:2])
    finish()
    stage_of(job, "gray-release").skip(publisher, "not needed")
    roll_back(job)
    finish()
    Business.objects.filter(pk=payment.pk).update(soak_minutes=30)
    start(Job.objects.get(pk=job.pk), machines[:2])
    finish()
    release = stage_of(job, "release")
    assert release.awaited.kind == "pre-release"
    assert release.is_soaking
    assert not release.is_open


def test_a_job_whose_machines_are_all_excused_is_over_once_a_stage_is_skipped(job, machines, publisher):
    ReleaseStage.objects.excuse(job, machines, publisher, "scrapped")
    stage_of(job).skip(publisher, "nothing is left")
    assert job_status(job) == Job.Status.NOT_RELEASED


def test_a_job_that_is_over_stays_so_when_a_stage_of_it_is_skipped(job, machines, start, finish, publisher):
    start(job, machines)
    finish()
    stage_of(job, "gray-release").skip(publisher, "not needed")
    assert job_status(job) == Job.Status.RELEASED
    assert job.events.filter(verb=Event.Verb.SKIPPED).count() == 1


def test_the_next_stage_is_the_first_that_is_not_done(job, machines, start, finish):
    assert ReleaseStage.objects.next_of(job).kind == "pre-release"
    start(job, machines[:1])
    assert ReleaseStage.objects.next_of(job) is None
    finish()
    assert ReleaseStage.objects.next_of(Job.objects.get(pk=job.pk)).kind == "gray-release"


# Skipping


def test_skipping_is_told_by_an_event(job, publisher):
    stage_of(job).skip(publisher, "known to work")
    event = job.events.get(verb="skipped")
    told = (event.actor, event.reason, event.stage, event.was, event.became)
    assert told == (publisher, "known to work", "pre-release", "waiting", "skipped")


def test_a_stage_that_runs_or_is_closed_is_not_skipped(job, machines, start, publisher):
    with pytest.raises(StageMoved):
        stage_of(job, "gray-release").skip(publisher, "why not")
    start(job, machines[:1])
    with pytest.raises(StageMoved):
        stage_of(job).skip(publisher, "why not")


def test_the_release_itself_is_never_skipped(job, publisher):
    stage_of(job, "pre-release").skip(publisher, "known")
    stage_of(job, "gray-release").skip(publisher, "known")
    with pytest.raises(StageMoved):
        stage_of(job, "release").skip(publisher, "known")


def test_a_failed_stage_that_was_skipped_stays_so_when_its_unknown_machine_is_resolved(
    job, machines, start, finish, publisher
):
    run = start(job, machines[:1])
    finish("unknown")
    stage_of(job).skip(publisher, "go on with the others")
    run.machine_runs.get().resolve(publisher, "failed", "looked at it")
    assert (status_of(job), stage_of(job, "gray-release").is_open) == (Status.SKIPPED, True)
    start(job, machines[1:2], "gray-release")
    finish()
    assert status_of(job, "gray-release") == Status.SUCCEEDED


# What a stage offers


def test_a_stage_offers_the_live_machines_of_its_job(make_job, machines, payment):
    job = make_job(on=machines[:3])
    Listing.objects.take(payment, rows(*names(machines[1:])))
    assert names(stage_of(job).offered_machines()) == ["pay-2", "pay-3"]


def test_to_a_form_that_is_of_another_job_it_offers_none(make_job, machines):
    job, other = make_job(on=machines[:3]), make_job(on=machines[2:])
    assert names(stage_of(job).offered_machines(job_id=job.pk)) == ["pay-1", "pay-2", "pay-3"]
    assert names(stage_of(job).offered_machines(job_id=other.pk)) == []


def test_a_machine_that_another_job_holds_is_not_offered(make_job, machines, start, finish):
    first, second = make_job("2.0"), make_job("3.0")
    start(first, machines[:2])
    assert names(stage_of(second).offered_machines()) == ["pay-3", "pay-4", "pay-5", "pay-6"]
    finish()
    assert len(stage_of(second).offered_machines()) == 6


def test_a_machine_that_the_job_has_released_is_not_offered_again(job, machines, start, finish):
    start(job, machines[:2])
    finish("failed", on=["pay-2"])
    for kind in Kind.values:
        assert names(stage_of(job, kind).offered_machines()) == ["pay-2", "pay-3", "pay-4", "pay-5", "pay-6"]


def test_an_unknown_machine_is_held_until_it_is_resolved(job, machines, start, finish, publisher):
    run = start(job, machines[:1])
    finish("unknown")
    assert "pay-1" not in names(stage_of(job).offered_machines())
    run.machine_runs.get().resolve(publisher, "failed", "looked at it")
    assert "pay-1" in names(stage_of(job).offered_machines())


def test_what_it_offers_is_what_its_page_tells_of_each_machine(make_job, machines, payment, start, finish, publisher):
    """One rule, in SQL for what is offered and in Python for why not: neither may know a state that the other lacks."""
    job = make_job()
    start(job, machines[:1])
    finish()
    start(make_job("3.0"), machines[1:2])
    Listing.objects.take(payment, rows("pay-1", "pay-2", "pay-4", "pay-5", "pay-6"))
    Machine.objects.filter(hostname="pay-4").update(address="10.9.9.9")
    ReleaseStage.objects.excuse(job, machines[4:5], publisher, "scrapped")

    stage = stage_of(job, "gray-release")

    def told(*states):
        return names(one.machine for one in candidates(stage.job) if one.state in states)

    assert names(stage.offered_machines()) == told("free") == ["pay-6"]
    assert names(stage.offered_machines(when_free=True)) == told("free", "held") == ["pay-2", "pay-6"]
    assert names(stage.offered_machines(moved=True)) == told("free", "changed") == ["pay-4", "pay-6"]


# Starting


def test_starting_makes_a_run_and_keeps_what_was_chosen(job, machines, start, publisher, release_task, rollback_task):
    run = start(job, machines[:2], remark="low traffic", batch_size=1)
    stage = stage_of(job)
    assert (stage.status, stage.release_task, stage.rollback_task) == (Status.RUNNING, release_task, rollback_task)
    assert (stage.remark, stage.batch_size, names(stage.machines.all())) == ("low traffic", "1", ["pay-1", "pay-2"])
    assert (run.status, run.started_by, run.task_version, run.batches) == ("running", publisher, release_task.latest, 2)
    assert run.machine_runs.counts() == {"queued": 2}
    assert job_status(job) == Job.Status.IN_PROGRESS


def test_starting_is_told_by_an_event(job, machines, start, publisher):
    run = start(job, machines[:2], remark="low traffic")
    event = job.events.get(verb="started")
    told = (event.actor, event.stage, event.was, event.became, event.reason)
    assert told == (publisher, "pre-release", "waiting", "running", "low traffic")
    assert event.detail == {"run": run.pk, "machines": 2, "break_glass": False}


def test_an_empty_choice_starts_nothing(job, start):
    for size in (None, 2):
        with pytest.raises(StageMoved):
            start(job, [], batch_size=size)
    assert (Run.objects.count(), status_of(job)) == (0, Status.WAITING)


@pytest.mark.parametrize("why", ["held", "gone", "released", "foreign", "not of this job"])
def test_a_machine_that_cannot_be_had_is_refused_by_the_model_too(
    why, make_job, machines, start, finish, payment, orders
):
    job = make_job(on=machines[:3])
    refused = machines[0]
    if why == "held":
        start(make_job("3.0"), machines[:1])
    elif why == "gone":
        Listing.objects.take(payment, rows(*names(machines[1:])))
    elif why == "released":
        start(job, machines[:1])
        finish()
    elif why == "foreign":
        [refused] = list_machines(orders, "ord-1")
    else:
        refused = machines[5]
    runs = Run.objects.count()
    with pytest.raises(MachinesHeld) as caught:
        start(job, [machines[1], refused], key="the refused one")
    assert caught.value.machines == [refused]
    assert (Run.objects.count(), MachineRun.objects.filter(machine=machines[1]).exists()) == (runs, False)


def test_a_stage_that_is_not_open_is_not_started(job, machines, start):
    with pytest.raises(StageMoved):
        start(job, machines[:1], kind="release")
    assert Run.objects.count() == 0


def test_the_same_key_again_gives_the_run_that_it_started(job, machines, start):
    first = start(job, machines[:2], key="k")
    assert start(job, machines[:2], key="k") == first
    assert Run.objects.count() == 1


@pytest.mark.parametrize("has_ended", [False, True])
def test_for_other_machines_it_starts_nothing_and_gives_nothing(job, machines, start, finish, has_ended):
    start(job, machines[:2], key="k")
    if has_ended:
        finish("failed")
    for others in (machines[3:4], machines[:1], machines[:3]):
        with pytest.raises((StageMoved, MachinesHeld)):
            start(job, others, key="k")
    assert Run.objects.count() == 1


def test_a_stage_that_has_moved_on_is_not_started_by_who_saw_it_before(job, machines, start, finish, publisher):
    stale = stage_of(job)
    start(job, machines[:1])
    finish()
    with pytest.raises(StageMoved):
        stale.start(publisher, machines[1:2], "late")
    assert Run.objects.count() == 1


def test_nor_is_one_that_was_skipped_since(job, machines, publisher, release_task):
    stale = stage_of(job)
    stale.release_task = release_task
    stage_of(job).skip(publisher, "small")
    with pytest.raises(StageMoved, match="moved on"):
        stale.start(publisher, machines[:1], "late")
    assert status_of(job) == Status.SKIPPED


def test_a_job_that_was_edited_and_approved_anew_is_not_started_by_who_saw_it_before(
    job, machines, release_task, rollback_task, publisher, approver, requester
):
    stale = stage_of(job)
    stale.release_task, stale.rollback_task = release_task, rollback_task
    assert stale.job.version == "2.0"
    edited = Job.objects.get(pk=job.pk)
    edited.version = "6.6.6"
    edited.edit(requester, machines)
    edited.approve(approver)
    with pytest.raises(StageMoved, match="edited"):
        stale.start(publisher, machines[:1], "late")
    assert Run.objects.count() == 0


@pytest.mark.parametrize("step", ["withdraw", "edit"])
def test_a_job_that_was_withdrawn_or_edited_is_not_started(job, machines, start, requester, step):
    stale = Job.objects.get(pk=job.pk)
    ReleaseStage.objects.of(job)
    if step == "withdraw":
        job.withdraw(requester, "no")
    else:
        job.edit(requester, machines)
    with pytest.raises((StageMoved, JobMoved)):
        start(stale, machines[:1])
    assert Run.objects.count() == 0


def test_ops_start_a_stage_only_with_a_reason(job, machines, ops, release_task, rollback_task):
    def start_as_ops(remark):
        stage = stage_of(job)
        stage.release_task, stage.rollback_task, stage.remark = release_task, rollback_task, remark
        return stage.start(ops, machines[:1], f"ops {remark}")

    with pytest.raises(StageMoved):
        start_as_ops("")
    assert Run.objects.count() == 0
    start_as_ops("nobody else is awake")
    assert job.events.get(verb="started").detail["break_glass"] is True


@pytest.mark.django_db(transaction=True)
def test_twenty_who_start_the_same_form_at_once_start_one_run(job, machines, start, publisher):
    tasks = make_task("a"), make_task("b", "rollback")

    def submit():
        stage = stage_of(job)
        stage.release_task, stage.rollback_task = tasks
        return stage.start(publisher, machines[:2], "the one key")

    results = at_once(*[submit] * 20)
    started = {result.pk for result in results if isinstance(result, Run)}
    refused = [result for result in results if not isinstance(result, Run)]
    assert len(started) == 1
    assert all(isinstance(error, StageMoved | MachinesHeld) for error in refused), refused
    assert Run.objects.count() == 1
    assert Event.objects.filter(verb="started").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_jobs_that_want_one_machine_at_once_do_not_both_get_it(make_job, machines, start):
    jobs = make_job("2.0"), make_job("3.0")
    results = at_once(*[lambda job=job: start(Job.objects.get(pk=job.pk), machines[:3]) for job in jobs])
    assert sorted(type(result).__name__ for result in results) == ["MachinesHeld", "Run"]
    assert MachineRun.objects.counts() == {"queued": 3}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock for all")
@pytest.mark.django_db(transaction=True)
def test_who_loses_a_machine_while_it_is_queued_is_told_of_those_that_were_chosen(
    make_job, machines, start, monkeypatch
):
    job, other = make_job("2.0"), make_job("3.0")
    real, found = Run.queue, []

    def queue(self, *args):
        if not found:
            found.append(None)
            found[:] = at_once(lambda: start(other, machines[1:5]))
        real(self, *args)

    monkeypatch.setattr(Run, "queue", queue)
    with pytest.raises(MachinesHeld) as refused:
        start(job, machines[:2])
    assert [type(one) for one in found] == [Run]
    assert refused.value.machines == machines[1:2]


@pytest.mark.django_db(transaction=True)
def test_two_publishers_who_start_a_stage_at_once_do_not_both_start_it(job, machines, start):
    ReleaseStage.objects.of(job)
    results = at_once(
        lambda: start(Job.objects.get(pk=job.pk), machines[:3], key="one"),
        lambda: start(Job.objects.get(pk=job.pk), machines[3:], key="other"),
    )
    assert sorted(type(result).__name__ for result in results) == ["Run", "StageMoved"]
    assert Run.objects.count() == 1


# How a stage and its job end


@pytest.mark.parametrize("bad", ["failed", "timed_out", "unreachable", "unknown"])
def test_a_stage_with_a_bad_machine_has_failed(job, machines, start, finish, bad):
    run = start(job, machines[:2])
    finish("failed", on=["pay-1"])
    MachineRun.objects.filter(run=run, status="failed").update(status=bad)
    stage_of(job).conclude()
    assert status_of(job) == Status.FAILED


def test_a_failed_stage_succeeds_once_its_machine_was_retried(job, machines, start, finish):
    start(job, machines[:2])
    finish("failed", on=["pay-2"])
    start(job, machines[1:2])
    assert status_of(job) == Status.RUNNING
    finish()
    assert status_of(job) == Status.SUCCEEDED
    assert Run.objects.count() == 2


def test_a_job_is_released_when_it_has_released_all_its_machines(job, make_job, machines, start, finish):
    start(make_job("1.0"), machines)
    finish()
    for kind, chosen in zip(Kind.values, (machines[:1], machines[1:3], machines[3:]), strict=True):
        start(job, chosen, kind)
        assert job_status(job) == Job.Status.IN_PROGRESS
        finish()
        assert (job_status(job) == Job.Status.RELEASED) == (kind == Kind.RELEASE)


def test_so_it_is_while_a_run_of_another_job_goes_on_or_has_failed(make_job, machines, start, finish, publisher):
    start(make_job(on=machines[:1]), machines[:1]).pause(publisher)
    start(make_job(on=machines[2:3]), machines[2:3])
    finish("failed")
    job = make_job(on=machines[1:2])
    start(job, machines[1:2])
    finish()
    assert (status_of(job), job_status(job)) == (Status.SUCCEEDED, Job.Status.RELEASED)


def test_a_machine_that_is_gone_keeps_a_job_open_until_it_is_excused(job, machines, start, finish, payment, publisher):
    Listing.objects.take(payment, rows(*names(machines[:5])))
    start(job, machines[:5])
    finish()
    assert job_status(job) == Job.Status.IN_PROGRESS
    ReleaseStage.objects.excuse(job, machines[5:], publisher, "scrapped")
    assert job_status(job) == Job.Status.RELEASED


def test_a_job_of_which_nothing_was_released_is_not_released(make_job, machines, start, payment):
    job = make_job(on=machines[:1])
    run = start(job, machines[:1])
    Listing.objects.take(payment, rows(*names(machines[1:])))
    run.machine_runs.update(status="unreachable")
    run.advance()
    assert (status_of(job), job_status(job)) == (Status.FAILED, Job.Status.IN_PROGRESS)


def test_an_ended_run_is_told_by_an_event_with_its_counts(job, machines, start, finish):
    run = start(job, machines[:3])
    finish("failed", on=["pay-2"])
    event = job.events.get(verb="ended")
    assert (event.actor, event.was, event.became, event.stage) == (None, "running", "failed", "pre-release")
    assert (event.detail["run"], event.detail["counts"]) == (run.pk, {"failed": 1, "succeeded": 2})


# Rolling back


def test_a_rollback_takes_the_released_machines_back(job, machines, start, finish, roll_back, publisher):
    start(job, machines[:2])
    finish()
    run = roll_back(job)
    assert (run.action, run.remark, run.status) == ("rollback", "it hurts", "running")
    event = job.events.get(verb="rolled_back")
    assert (event.actor, event.was, event.became, event.reason) == (publisher, "succeeded", "running", "it hurts")
    finish()
    assert (status_of(job), job_status(job)) == (Status.ROLLED_BACK, Job.Status.ROLLED_BACK)
    assert len(stage_of(job).offered_machines()) == 6


def test_a_rollback_of_one_machine_leaves_the_stage_succeeded(job, machines, start, finish, roll_back):
    start(job, machines[:2])
    finish()
    roll_back(job, on=["pay-1"])
    finish()
    assert status_of(job) == Status.SUCCEEDED
    assert [run.machine.hostname for run in stage_of(job).rollback_candidates()] == ["pay-2"]


def test_a_rollback_that_fails_on_some_tells_each_machines_own_state(job, machines, start, finish, roll_back):
    start(job, machines[:2])
    finish()
    run = roll_back(job)
    finish("failed", on=["pay-2"])
    assert run.machine_runs.counts() == {"succeeded": 1, "failed": 1}
    assert (status_of(job), job_status(job)) == (Status.FAILED, Job.Status.IN_PROGRESS)
    assert [run.machine.hostname for run in stage_of(job).rollback_candidates()] == ["pay-2"]
    run.machine_runs.filter(status="failed").update(status="unreachable", started_at=None)
    stage_of(job).conclude()
    assert status_of(job) == Status.FAILED


def test_a_failed_machine_can_be_rolled_back_since_it_may_have_changed(job, machines, start, finish, roll_back):
    start(job, machines[:2])
    finish("failed", on=["pay-1"])
    run = roll_back(job, on=["pay-1"])
    assert names(machine_run.machine for machine_run in run.machine_runs.all()) == ["pay-1"]


def test_a_machine_whose_command_was_never_sent_has_nothing_to_roll_back(job, machines, start, finish):
    run = start(job, machines[:2], batch_size=1)
    finish("failed", on=["pay-1"])
    assert run.machine_runs.counts() == {"failed": 1, "not_run": 1}
    assert [run.machine.hostname for run in stage_of(job).rollback_candidates()] == ["pay-1"]


def test_a_rollback_that_was_called_off_before_it_began_changes_nothing(
    job, machines, start, finish, roll_back, publisher
):
    start(job, machines[:1])
    finish()
    roll_back(job).cancel(publisher, "the wrong job")
    assert (status_of(job), stage_of(job, Kind.GRAY_RELEASE).is_open) == (Status.SUCCEEDED, True)
    assert list(stage_of(job).machines_released()) == [machines[0].pk]
    assert machines[0] not in stage_of(job).offered_machines()


def test_a_stage_of_which_all_that_was_changed_is_back_is_rolled_back(job, machines, start, finish, roll_back):
    start(job, machines[:3], batch_size=1, failure_budget="1")
    finish("failed", on=["pay-2"])
    assert status_of(job) == Status.FAILED
    roll_back(job)
    finish()
    assert (status_of(job), job_status(job)) == (Status.ROLLED_BACK, Job.Status.ROLLED_BACK)


def test_a_stage_that_was_cancelled_since_is_not_rolled_back(job, machines, start, finish, roll_back, publisher):
    start(job, machines[:1])
    finish()
    roll_back(job)
    finish()
    start(job, machines[1:2]).cancel(publisher)
    assert status_of(job) == Status.CANCELLED


def test_what_failed_here_and_was_released_by_the_next_stage_goes_back_there(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish("failed")
    stage_of(job).skip(publisher, "go on")
    start(job, machines[:1], Kind.GRAY_RELEASE)
    finish()
    assert stage_of(job).rollback_candidates() == []
    assert [run.machine for run in stage_of(job, Kind.GRAY_RELEASE).rollback_candidates()] == machines[:1]


def test_no_rollback_while_the_stage_runs(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish()
    start(job, machines[2:])
    stage = stage_of(job)
    changed = [machine_run.machine for machine_run in stage.rollback_candidates()]
    assert names(changed) == ["pay-1", "pay-2"]
    with pytest.raises(StageMoved):
        stage.roll_back(publisher, changed, "it hurts", "back")
    assert Run.objects.count() == 2


def test_a_rollback_of_machines_that_the_stage_did_not_change_is_refused(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish()
    with pytest.raises(MachinesHeld):
        stage_of(job).roll_back(publisher, machines[:3], "it hurts", "back")
    with pytest.raises(StageMoved):
        stage_of(job).roll_back(publisher, [], "it hurts", "back")
    assert Run.objects.count() == 1


def test_a_machine_is_not_rolled_back_twice(job, machines, start, finish, roll_back, publisher):
    start(job, machines[:1])
    finish()
    roll_back(job)
    finish()
    with pytest.raises(MachinesHeld):
        stage_of(job).roll_back(publisher, machines[:1], "again", "again")


def test_the_same_key_again_gives_the_rollback_that_it_started(job, machines, start, finish, roll_back, publisher):
    start(job, machines[:1])
    finish()
    run = roll_back(job, key="back")
    assert stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back") == run


def test_a_rollback_of_the_job_rolls_back_every_stage_or_none(job, machines, start, finish, publisher):
    for kind, chosen in zip(Kind.values[:2], (machines[:1], machines[1:3]), strict=True):
        start(job, chosen, kind)
        finish()
    stages = ReleaseStage.objects.of(Job.objects.get(pk=job.pk))
    changed = {machine.pk for machine in machines[:3]}
    runs = ReleaseStage.objects.roll_back(stages, changed, publisher, "it hurts", "back")
    assert [run.machine_runs.count() for run in runs] == [1, 2]
    finish()
    assert job_status(job) == Job.Status.ROLLED_BACK


def test_a_rollback_of_the_job_starts_nothing_when_one_stage_refuses(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish()
    start(job, machines[1:3], "gray-release")
    finish()
    start(job, machines[3:], "gray-release")
    stages = ReleaseStage.objects.of(Job.objects.get(pk=job.pk))
    with pytest.raises(StageMoved):
        ReleaseStage.objects.roll_back(stages, {machine.pk for machine in machines}, publisher, "it hurts", "back")
    assert not Run.objects.filter(action="rollback").exists()


def test_a_rollback_leaves_out_no_machine_that_another_run_took_meanwhile(
    make_job, job, machines, start, finish, publisher
):
    start(job, machines[:2])
    finish()
    start(make_job("3.0"), machines[1:2])
    for chosen in (machines[:2], machines[1:2]):
        stages = ReleaseStage.objects.of(Job.objects.get(pk=job.pk))
        with pytest.raises(MachinesHeld) as refused:
            ReleaseStage.objects.roll_back(stages, {one.pk for one in chosen}, publisher, "it hurts", "back")
        assert refused.value.machines == machines[1:2]
        assert not Run.objects.filter(action="rollback").exists()


def test_a_rollback_of_the_job_goes_by_the_stages_as_they_were_seen(job, machines, start, finish, publisher):
    start(job, machines[:2])
    finish()
    stages = ReleaseStage.objects.of(Job.objects.get(pk=job.pk))
    start(job, machines[2:3], "gray-release")
    with pytest.raises(StageMoved):
        ReleaseStage.objects.roll_back(stages, {one.pk for one in machines[:2]}, publisher, "it hurts", "back")
    assert not Run.objects.filter(action="rollback").exists()


def test_a_rollback_of_the_job_that_is_sent_twice_gives_the_runs_that_it_started(
    job, machines, start, finish, publisher
):
    start(job, machines[:2])
    finish()
    stages = ReleaseStage.objects.of(Job.objects.get(pk=job.pk))
    first, again = (
        ReleaseStage.objects.roll_back(stages, {one.pk for one in machines[:2]}, publisher, "it hurts", "back")
        for _ in range(2)
    )
    assert again == first


def test_only_the_stage_that_changed_a_machine_last_rolls_it_back(job, machines, start, finish, publisher):
    start(job, machines[:1])
    finish("failed")
    stage_of(job).skip(publisher, "try it in gray release")
    start(job, machines[:1], "gray-release")
    finish()
    assert not stage_of(job).rollback_candidates()
    assert len(stage_of(job, "gray-release").rollback_candidates()) == 1


def test_ops_roll_back_only_with_a_reason(job, machines, start, finish, ops):
    start(job, machines[:1])
    finish()
    with pytest.raises(StageMoved):
        stage_of(job).roll_back(ops, machines[:1], "", "back")


# Versions


def test_the_first_release_knows_no_version_before(job, machines, start):
    assert versions(start(job, machines[:1])) == {"pay-1": ("", "2.0")}


def test_the_next_job_knows_the_version_that_the_last_one_left(make_job, machines, start, finish):
    start(make_job("1.0"), machines[:2])
    finish("failed", on=["pay-2"])
    run = start(make_job("2.0"), machines[:3])
    assert versions(run) == {"pay-1": ("1.0", "2.0"), "pay-2": ("", "2.0"), "pay-3": ("", "2.0")}


def test_versions_go_back_and_forth_through_failure_retry_rollback_and_release_again(
    make_job, machines, start, finish, roll_back
):
    start(make_job("1.0"), machines[:1])
    finish()
    job = make_job("2.0", on=machines[:1])

    assert versions(start(job, machines[:1])) == {"pay-1": ("1.0", "2.0")}
    finish("failed")
    assert versions(start(job, machines[:1], key="retry")) == {"pay-1": ("1.0", "2.0")}
    finish()
    assert versions(roll_back(job)) == {"pay-1": ("2.0", "1.0")}
    finish("failed")
    assert versions(roll_back(job)) == {"pay-1": ("", "1.0")}
    finish()
    assert versions(start(job, machines[:1], key="again")) == {"pay-1": ("1.0", "2.0")}
    finish()
    assert job_status(job) == Job.Status.RELEASED


def test_a_rollback_after_a_failure_does_not_claim_to_know_what_is_there(make_job, machines, start, finish, roll_back):
    start(make_job("1.0"), machines[:1])
    finish()
    job = make_job("2.0")
    start(job, machines[:1])
    finish("failed")
    assert versions(roll_back(job)) == {"pay-1": ("", "1.0")}


def test_the_script_of_a_rollback_is_told_the_version_to_go_back_to(make_job, machines, start, finish, roll_back):
    start(make_job("1.0"), machines[:1])
    finish()
    job = make_job("2.0")
    release = start(job, machines[:1]).machine_runs.get()
    finish()
    rollback = roll_back(job).machine_runs.get()
    told = ("DEPLOY_VERSION", "DEPLOY_PREVIOUS_VERSION", "DEPLOY_ACTION")
    assert [release.environment[name] for name in told] == ["2.0", "1.0", "release"]
    assert [rollback.environment[name] for name in told] == ["2.0", "1.0", "rollback"]


def test_the_versions_of_one_business_are_not_those_of_another(make_job, machines, start, finish, orders, publisher):
    """A machine that two businesses share carries a version of each."""
    list_machines(orders, *names(machines))
    Membership.objects.create(user=publisher, business=orders, role=Role.PUBLISHER)
    start(make_job("1.0"), machines[:1])
    finish()
    other = make_user("other")
    Membership.objects.create(user=other, business=orders, role=Role.REQUESTER)
    job = Job(business=orders, title="Orders", version="9.0")
    job.ask(other, machines[:1])
    job.approve(make_member("their approver", orders, Role.APPROVER))
    assert versions(start(job, machines[:1])) == {"pay-1": ("", "9.0")}

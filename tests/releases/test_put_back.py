"""What is on a machine, and whose work goes, where several jobs release, undo and try again there."""

from datetime import timedelta

import pytest
from django.db.models import F

from deploy_portal.clock import database_now
from jobs.models import Job, Machine
from releases.models import MachineRun, ReleaseStage, Run, StageMoved
from releases.tidying import move_on, tidy
from tests.conftest import stage_of
from tests.pages import checked, page, source, words
from tests.releases.test_rollback_overtaken import versions
from tests.workers import begin, claim, end


@pytest.fixture
def here(machines):
    return machines[:1]


@pytest.fixture
def put(make_job, start, finish, here):
    """Has a job release this version on pay-1; 1.0 was there."""

    def put(version, status="succeeded"):
        job = make_job(version)
        start(job, here)
        finish(status)
        return job

    put("1.0")
    return put


@pytest.fixture
def take_back(publisher, finish, here):
    """Rolls a job back there; returns from and to which version."""

    def take_back(job, **options):
        stage = ReleaseStage.objects.of_kind(job, "pre-release")
        run = stage.roll_back(publisher, here, "bad", f"back-{job.pk}-{stage.version}", **options)
        finish()
        return versions(run)

    return take_back


def test_a_newer_job_that_went_back_leaves_the_one_between_them_there(put, take_back, as_user, publisher):
    a, b, c = put("2.0"), put("3.0"), put("4.0")
    take_back(c)
    with pytest.raises(StageMoved, match="A later job ran"):
        take_back(a)
    response = as_user(publisher).get(page("roll_back_stage", a))
    assert f"3.0 Succeeded back to 1.0 · #{b.pk} payment 3.0 ran there since" in words(response)
    assert not checked(response)
    assert take_back(a, undo_later=True) == {("pay-1", "3.0", "1.0")}
    assert a.events.get(verb="rolled_back").detail["undone_jobs"] == [b.pk]


def test_one_that_put_the_same_version_there_again_is_in_the_way(put, take_back):
    job = put("2.0")
    put("2.0")
    with pytest.raises(StageMoved, match="A later job ran"):
        take_back(job)


def test_one_that_went_back_to_what_a_failure_had_left_there_is_not_in_the_way(put, take_back):
    failed = put("2.0", "failed")
    assert take_back(put("3.0")) == {("pay-1", "3.0", "1.0")}
    assert take_back(failed) == {("pay-1", "", "1.0")}


def test_all_that_go_with_it_are_named(put, take_back, as_user, publisher):
    a, b, c = put("2.0"), put("3.0"), put("4.0")
    shown = words(as_user(publisher).get(page("roll_back_stage", a)))
    assert f"4.0 Succeeded back to 1.0 · #{b.pk} payment 3.0, #{c.pk} payment 4.0 ran there since" in shown
    take_back(a, undo_later=True)
    assert a.events.get(verb="rolled_back").detail["undone_jobs"] == [b.pk, c.pk]


def test_a_job_that_was_undone_by_the_way_does_not_put_a_bad_version_back(put, take_back, as_user, publisher):
    a, b = put("2.0"), put("3.0")
    take_back(a, undo_later=True)
    with pytest.raises(StageMoved, match="A later job ran"):
        take_back(b)
    shown = words(as_user(publisher).get(page("roll_back_stage", b)))
    assert f"1.0 Succeeded back to 2.0 · #{a.pk} payment 2.0 ran there since" in shown


def test_released_again_it_finds_what_its_own_rollback_left(put, take_back, start, finish, here):
    a = put("2.0")
    b = put("3.0")
    take_back(b)
    assert take_back(a) == {("pay-1", "2.0", "1.0")}
    assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}
    finish("failed")
    assert {back_to for _, _, back_to in take_back(a)} == {"1.0"}


def test_and_so_after_a_rollback_that_undid_others(put, take_back, start, here):
    a = put("2.0")
    put("3.0")
    take_back(a, undo_later=True)
    assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}


def test_what_another_job_put_there_since_is_what_it_finds(put, start, finish, publisher, here):
    job = put("2.0")
    ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, here, "bad", "back")
    finish("failed")
    put("3.0")
    assert versions(start(job, here)) == {("pay-1", "3.0", "2.0")}


def test_its_own_version_is_never_what_it_found(put, take_back, start, finish, publisher, here):
    """Another job's rollback put it there again, and its own rollback failed."""
    a, b = put("2.0"), put("3.0")
    take_back(b)
    ReleaseStage.objects.of_kind(a, "pre-release").roll_back(publisher, here, "bad", "back")
    finish("failed")
    assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}


def test_nor_where_that_rollback_undid_a_newer_job(put, take_back, start, finish, publisher, here):
    a, b, _ = put("2.0"), put("3.0"), put("4.0")
    assert take_back(b, undo_later=True) == {("pay-1", "4.0", "2.0")}
    ReleaseStage.objects.of_kind(a, "pre-release").roll_back(publisher, here, "bad", "back")
    finish("failed")
    assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}


def test_the_same_version_that_another_job_put_there_is_what_was_before(put, take_back, start, finish, here):
    job = put("2.0")
    take_back(job)
    put("2.0")
    assert versions(start(job, here)) == {("pay-1", "2.0", "2.0")}
    finish()
    assert take_back(job) == {("pay-1", "2.0", "2.0")}


def test_also_when_that_job_came_back_and_a_third_one_went(put, take_back, start, finish, here):
    job = put("2.0")
    take_back(job)
    other = put("2.0")
    take_back(other)
    start(other, here)
    finish()
    take_back(put("3.0"))
    assert versions(start(job, here)) == {("pay-1", "2.0", "2.0")}


def test_also_when_the_rollback_of_that_job_failed(put, take_back, start, finish, publisher, here):
    job = put("2.0")
    take_back(job)
    ReleaseStage.objects.of_kind(put("2.0"), "pre-release").roll_back(publisher, here, "bad", "back")
    finish("failed")
    assert versions(start(job, here)) == {("pay-1", "2.0", "2.0")}


def test_the_same_version_that_another_job_took_back_again_is_its_own(
    put, take_back, start, finish, as_user, publisher, here
):
    """What is there is what it put there itself, and before that was 1.0."""
    a, b = put("2.0"), put("2.0")
    assert take_back(b) == {("pay-1", "2.0", "2.0")}
    assert "2.0 Succeeded back to 1.0" in words(as_user(publisher).get(page("roll_back_stage", a)))
    ReleaseStage.objects.of_kind(a, "pre-release").roll_back(publisher, here, "bad", "back")
    finish("failed")
    assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}
    finish()
    assert take_back(a) == {("pay-1", "2.0", "1.0")}


def test_its_own_version_that_a_later_rollback_put_back_is_never_what_it_found(put, take_back, start, here):
    a, b = put("2.0"), put("3.0")
    take_back(a, undo_later=True)
    assert take_back(b, undo_later=True) == {("pay-1", "1.0", "2.0")}
    assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}


@pytest.fixture
def set_back():
    """Sets the clock back by an hour: all times that the ledger has are later now."""

    def set_back():
        for machine_run in MachineRun.objects.all():
            for name in ("started_at", "ended_at"):
                if moment := getattr(machine_run, name):
                    setattr(machine_run, name, moment + timedelta(hours=1))
            machine_run.save()
        Run.objects.update(started_at=F("started_at") + timedelta(hours=1))

    return set_back


def test_a_clock_that_was_set_back_does_not_change_what_is_there(put, take_back, set_back, start, here):
    a = put("2.0")
    set_back()
    b = put("3.0")
    with pytest.raises(StageMoved, match="A later job ran"):
        take_back(a)
    set_back()
    assert take_back(b) == {("pay-1", "3.0", "2.0")}
    set_back()
    c = put("4.0")
    assert take_back(c) == {("pay-1", "4.0", "2.0")}
    assert take_back(a) == {("pay-1", "2.0", "1.0")}


def test_nor_does_it_when_its_worker_was_lost(put, set_back, start, worker, publisher, here, make_job):
    put("2.0")
    set_back()
    run = start(make_job("3.0"), here)
    begin(worker)
    worker.leave()
    run.machine_runs.get().resolve(publisher, "succeeded", "it is there")
    assert versions(start(make_job("4.0"), here)) == {("pay-1", "3.0", "4.0")}


def test_what_ended_on_another_machine_puts_no_begin_off(put, set_back, start, worker, make_job, machines):
    put("2.0")
    set_back()
    run = start(make_job("3.0"), machines[1:2])
    begin(worker)
    assert run.machine_runs.get().started_at <= database_now()


def test_nor_where_an_older_run_that_waited_was_the_last(
    put, take_back, set_back, start_when_free, start, finish, make_job, here, payment
):
    start(make_job("2.0"), here)
    start_when_free(make_job("3.0"), here)
    finish()
    put("4.0")
    MachineRun.objects.admit()
    finish()
    assert MachineRun.objects.version_on(here[0], payment) == "3.0"
    set_back()
    assert take_back(put("5.0")) == {("pay-1", "5.0", "3.0")}


def test_nothing_ends_before_it_began(put, set_back, start, worker, here, make_job):
    put("2.0")
    start(make_job("3.0"), here)
    ids = begin(worker)
    set_back()
    end(worker, ids)
    move_on()
    machine_run = MachineRun.objects.get(pk__in=ids)
    assert machine_run.ended_at == machine_run.started_at
    assert machine_run.run.took == timedelta()


def test_nor_does_what_follows_begin_at_the_same_moment(put, take_back, set_back, start, worker, here, make_job):
    job = make_job("2.0")
    start(job, here)
    ids = begin(worker)
    set_back()
    end(worker, ids)
    put("3.0")
    with pytest.raises(StageMoved, match="A later job ran"):
        take_back(job)


def test_what_was_undone_before_is_not_named_again(as_user, publisher, put, take_back):
    first, second, third = put("2.0"), put("3.0"), put("4.0")
    take_back(second, undo_later=True)
    last = put("5.0")
    said = words(as_user(publisher).get(page("roll_back_stage", first)))
    assert f"#{last.pk} payment 5.0 ran there since" in said
    assert f"#{third.pk} payment 4.0" not in said
    take_back(first, undo_later=True)
    assert first.events.get(verb="rolled_back").detail["undone_jobs"] == [last.pk]


def test_a_new_try_that_sent_nothing_has_failed(as_user, publisher, put, take_back, start, worker, here):
    job = put("2.0")
    take_back(job)
    assert stage_of(job).status == "rolled_back"
    start(job, here)
    MachineRun.objects.end(worker, claim(worker), "unreachable", None, "no route")
    move_on()
    assert stage_of(job).status == "failed"
    assert "Some of its machines are not released." in words(as_user(publisher).get(page("job", job)))


def test_a_rollback_that_was_called_off_is_nowhere_counted(as_user, publisher, put, here):
    job = put("2.0")
    stage_of(job).roll_back(publisher, here, "bad", "key").cancel(publisher, "no, it is fine")
    assert stage_of(job).status == "succeeded"
    response = as_user(publisher).get(page("job", job))
    said = words(response)
    assert "Pre-release Succeeded: 1 of 1" in said
    assert "1 succeeded" in said
    assert "1 cancelled" not in said.split("Timeline")[0]
    assert "pay-1: Succeeded" in source(response)


def test_work_that_waits_is_not_hidden_by_newer_jobs_that_run(as_user, publisher, make_job):
    make_job("1.0")
    for number in range(21):
        job = make_job(f"2.{number}")
        ReleaseStage.objects.of(job)
        job.stages.filter(kind="pre-release").update(status="running")
        Job.objects.filter(pk=job.pk).update(status="in_progress")
    assert "To publish" in words(as_user(publisher).get("/"))


def test_a_run_without_its_canary_says_so(as_user, publisher, job, machines, start):
    start(job, machines, canary=True, failure_budget=None)
    Machine.objects.filter(hostname="pay-1").update(address="10.9.9.9")
    tidy()
    assert "The one that was to go first was not run." in words(as_user(publisher).get(page("stage", job)))

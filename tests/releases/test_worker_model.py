import datetime as real
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models.functions import Now

from deploy_portal.clock import database_now
from jobs.models import Event
from releases.models import MachineRun, Run, Worker
from releases.tidying import tidy
from tests.parallel import at_once
from tests.workers import fall_silent, grow_old


def hold(worker, begun):
    """Claims all that is due, and begins so many of it."""
    MachineRun.objects.claim(worker, 1000)
    ids = list(MachineRun.objects.claimed_by(worker).values_list("pk", flat=True))[:begun]
    MachineRun.objects.begin(worker, ids)
    return ids


def test_a_worker_is_alive_while_it_beats(worker, settings):
    assert worker.beat()
    assert list(Worker.objects.alive()) == [worker]
    fall_silent(worker)
    assert not Worker.objects.alive().exists()


def test_a_heartbeat_is_written_by_the_databases_clock(worker, monkeypatch):
    """A process whose own clock is years off beats as right as any other."""

    class Later(real.datetime):
        @classmethod
        def now(cls, tz=None):
            return real.datetime(2099, 1, 1, tzinfo=tz)

    monkeypatch.setattr("django.utils.timezone.datetime", Later)
    before = database_now()
    worker.beat()
    worker.refresh_from_db()
    assert (worker.heartbeat_at - before).total_seconds() < 60
    assert Worker.objects.alive().exists()


def test_a_worker_that_falls_silent_is_fenced_off(worker):
    fall_silent(worker)
    Worker.objects.bury_dead()
    assert not Worker.objects.silent().exists()
    assert worker.beat() is False
    worker.refresh_from_db()
    assert worker.stopped_at is not None


def test_a_silent_worker_is_suspected_first_and_may_still_beat(worker):
    """As after the database was away: everybody has been silent then."""
    fall_silent(worker, suspected=False)
    Worker.objects.bury_dead()
    worker.refresh_from_db()
    assert (worker.stopped_at, worker.suspected_at is None) == (None, False)
    assert worker.beat()
    worker.refresh_from_db()
    assert worker.suspected_at is None


def test_a_suspicion_that_has_grown_old_itself_is_renewed(worker, settings):
    """It may be from before the database was away."""
    fall_silent(worker, suspected=False)
    Worker.objects.filter(pk=worker.pk).update(suspected_at="2020-01-01T00:00:00Z")
    Worker.objects.bury_dead()
    worker.refresh_from_db()
    assert worker.stopped_at is None
    assert (database_now() - worker.suspected_at).total_seconds() < settings.WORKER_DEAD_AFTER


def test_looking_again_does_not_put_the_end_off(worker):
    fall_silent(worker, suspected=False)
    Worker.objects.bury_dead()
    worker.refresh_from_db()
    suspected_at = worker.suspected_at - timedelta(seconds=1)
    Worker.objects.update(suspected_at=suspected_at)
    Worker.objects.bury_dead()
    worker.refresh_from_db()
    assert (worker.stopped_at, worker.suspected_at) == (None, suspected_at)


def test_a_heartbeat_of_a_time_to_come_is_none(worker):
    """The database's clock was set back: who lives beats again at once, and who does not is found as ever."""
    Worker.objects.update(heartbeat_at=Now() + timedelta(hours=1))
    assert not Worker.objects.alive().exists()
    Worker.objects.bury_dead()
    assert worker.beat()
    assert Worker.objects.alive().exists()
    Worker.objects.update(heartbeat_at=Now() + timedelta(hours=1))
    Worker.objects.bury_dead()
    grow_old(worker)
    Worker.objects.bury_dead()
    assert not worker.beat()


def test_a_clock_that_is_set_right_by_a_little_makes_nobody_silent(worker):
    Worker.objects.update(heartbeat_at=Now() + timedelta(seconds=settings.WORKER_DEAD_AFTER / 2))
    assert Worker.objects.alive().exists()
    assert not Worker.objects.silent().exists()


def test_a_suspicion_of_a_time_to_come_is_renewed(worker):
    fall_silent(worker, suspected=False)
    Worker.objects.update(suspected_at=Now() + timedelta(hours=1))
    Worker.objects.bury_dead()
    worker.refresh_from_db()
    assert (worker.stopped_at, worker.suspected_at <= database_now()) == (None, True)


def test_a_worker_that_beats_is_left_alone(worker):
    worker.beat()
    assert Worker.objects.bury_dead() == []
    assert worker.beat() is True


def test_a_run_of_a_live_worker_that_has_just_begun_is_not_reaped(start, job, machines, worker):
    run = start(job, machines)
    hold(worker, begun=3)
    tidy()
    assert run.machine_runs.counts() == {"running": 3, "claimed": 3}


def test_what_a_dead_worker_claimed_is_queued_again_and_what_it_ran_is_unknown(start, job, machines, worker):
    run = start(job, machines)
    lost = hold(worker, begun=2)
    fall_silent(worker)
    assert sorted(Worker.objects.bury_dead()) == sorted(lost)
    assert run.machine_runs.counts() == {"unknown": 2, "queued": 4}
    for machine_run in run.machine_runs.filter(status="unknown"):
        assert machine_run.worker == worker
        assert "may still be running" in machine_run.reason
        assert machine_run.ended_at is not None
    assert not run.machine_runs.filter(status="queued").exclude(worker=None, claimed_at=None).exists()


def test_what_was_queued_again_runs_once(start, job, machines, worker):
    run = start(job, machines[:1])
    hold(worker, begun=0)
    fall_silent(worker)
    Worker.objects.bury_dead()
    second = Worker.objects.enlist([])
    [pk] = hold(second, begun=1)
    assert MachineRun.objects.begin(worker, [pk]) == set()
    MachineRun.objects.end(second, [pk], "succeeded", 0)
    run.advance()
    assert Run.objects.get(pk=run.pk).status == "succeeded"


def test_losing_machines_is_told_by_one_event_per_run(start, make_job, machines, worker):
    start(make_job("2.0"), machines[:3])
    start(make_job("3.0"), machines[3:])
    hold(worker, begun=6)
    fall_silent(worker)
    Worker.objects.bury_dead()
    events = Event.objects.filter(verb="lost")
    assert [event.detail["machines"] for event in events] == [3, 3]
    assert {(event.actor, event.was, event.became, event.stage) for event in events} == {
        (None, "running", "unknown", "pre-release")
    }
    assert sorted(name for event in events for name in event.detail["hostnames"]) == [
        machine.hostname for machine in machines
    ]


@pytest.mark.django_db(transaction=True)
def test_several_reapers_at_once_make_one_transition_and_one_event(start, job, machines, worker):
    run = start(job, machines)
    lost = hold(worker, begun=3)
    fall_silent(worker)
    found = at_once(*[Worker.objects.bury_dead] * 4)
    assert sorted(pk for reaped in found for pk in reaped) == sorted(lost)
    assert run.machine_runs.counts() == {"unknown": 3, "queued": 3}
    assert Event.objects.filter(verb="lost").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_and_a_reaper_at_once_agree_on_who_was_first(worker):
    for _ in range(10):
        Worker.objects.filter(pk=worker.pk).update(stopped_at=None)
        fall_silent(worker)
        beat, _ = at_once(worker.beat, Worker.objects.bury_dead)
        again = worker.beat()
        worker.refresh_from_db()
        assert again == (worker.stopped_at is None)
        assert beat or not again


def test_a_worker_that_leaves_gives_back_what_it_held(start, job, machines, worker):
    run = start(job, machines[:3])
    hold(worker, begun=1)
    worker.leave()
    assert not Worker.objects.alive().exists()
    assert run.machine_runs.counts() == {"unknown": 1, "queued": 2}
    assert not Worker.objects.alive().exists()


def test_leaving_twice_does_no_harm(worker):
    worker.leave()
    stopped_at = Worker.objects.get().stopped_at
    worker.leave()
    assert Worker.objects.get().stopped_at == stopped_at


def test_what_was_claimed_by_a_worker_after_it_was_given_up_is_recovered_too(start, job, machines, worker):
    """Its claim was on its way when it was given up."""
    run = start(job, machines[:2])
    worker.leave()
    run.machine_runs.update(status="claimed", worker=worker)
    assert Worker.objects.bury_dead() == []
    assert run.machine_runs.counts() == {"queued": 2}


def test_an_unknown_machine_stays_unknown_however_often_reapers_come(start, job, machines, worker):
    run = start(job, machines[:1])
    hold(worker, begun=1)
    fall_silent(worker)
    for _ in range(3):
        tidy()
    assert run.machine_runs.counts() == {"unknown": 1}
    assert Event.objects.filter(verb="lost").count() == 1
    assert Run.objects.get(pk=run.pk).status == "failed"


def test_a_worker_is_alive_for_as_long_as_the_settings_say(worker, settings):
    Worker.objects.update(heartbeat_at=Now() - timedelta(seconds=30))
    settings.WORKER_DEAD_AFTER = 60
    assert Worker.objects.alive().exists()
    settings.WORKER_DEAD_AFTER = 15
    assert not Worker.objects.alive().exists()
    assert Worker.objects.silent().exists()

"""Each step of the people of chaos, taken for real: by the portal's own commands, as the person it is for."""

import io
import json
import threading
from datetime import timedelta

import pytest
from django.core.management import call_command

from jobs.models import Event, Job
from releases.demo.chaos import people as module
from releases.demo.chaos.people import STEPS, People
from releases.models import Action, Kind, MachineRun, ReleaseStage, Run
from tests.conftest import make_task
from tests.waiting import PATIENCE, wait_until

CHANCE = 20  # tries, for steps that chance may lead to a stage with nothing to do


class Quiet:
    """Machines on which nothing runs; those in `executed` know of their machine run."""

    def __init__(self):
        self.executed, self.is_quiet = set(), lambda hostname: True

    def has_executed(self, hostname, machine_run_id):
        return hostname in self.executed


class Portal:
    """What a demo is to its people."""

    def username(self, role):
        return role

    def act(self, role, command, *arguments):
        out = io.StringIO()
        call_command(command, *map(str, arguments), "--as", role, "--json", stdout=out)
        return json.loads(out.getvalue())


@pytest.fixture
def people(payment, machines, requester, approver, publisher, monkeypatch):
    monkeypatch.setattr(module, "BUSINESSES", {"payment": "Payment"})
    monkeypatch.setattr(module, "LOOK_AFTER", timedelta(hours=1))  # what has ended just now stays so for the test
    make_task("deploy-payment", business=payment)
    make_task("rollback-payment", Action.ROLLBACK, business=payment)
    return People(Portal(), Quiet(), 1)


@pytest.fixture
def run(people, job, machines, publisher):
    """A pre-release of two machines that has begun."""
    names = [machine.hostname for machine in machines[:2]]
    tasks = ["--release-task=deploy-payment", "--rollback-task=rollback-payment", "--stop-after="]
    started = people.demo.act("publisher", "run_stage", job.pk, Kind.PRE_RELEASE, *names, *tasks)
    return Run.objects.get(pk=started["runs"][0]["id"])


def at_last(step):
    """Tries a step until chance lets it be taken."""
    return next(done for _ in range(CHANCE) if (done := step()))


def events(verb):
    return [event.actor.username for event in Event.objects.filter(verb=verb).exclude(actor=None)]


def test_a_job_is_asked_for_and_approved(people):
    assert people.ask()
    job = Job.objects.get()
    assert (job.status, job.requester.username, job.business.slug) == ("waiting", "requester", "payment")
    assert 1 <= job.machines.count() <= 6
    assert people.approve()
    job.refresh_from_db()
    assert (job.status, job.approved_by) == ("approved", "approver")


def test_no_more_is_asked_for_than_can_be_done(people):
    asked = [bool(people.ask()) for _ in range(module.OPEN_JOBS + 2)]
    assert asked == [True] * module.OPEN_JOBS + [False] * 2


def test_stages_are_started_on_machines_that_they_offer(people, job, finish):
    for number, kind in enumerate(Kind.values, 1):
        assert at_last(people.release)
        run = Run.objects.order_by("-pk").first()
        assert (run.stage.kind, run.started_by.username) == (kind, "publisher")
        assert Run.objects.count() == number
        Run.objects.update(batch_opens_at=None, batch_pause=0)
        finish()
    job.refresh_from_db()
    assert job.status == "released"
    assert people.release() is None


def test_every_pace_is_one_that_a_publisher_may_choose(people, job, finish):
    seen = set()
    for _ in range(CHANCE):
        seen |= set(people._pace())
    assert {"--canary", "--batch-size=50%", "--stop-after=", "--batch-pause=1"} <= seen
    assert at_last(people.release)


def test_what_failed_is_tried_again(people, run, finish, job):
    finish("failed", exit_status=1)
    stage = ReleaseStage.objects.of_kind(job, Kind.PRE_RELEASE)
    chosen = [people._which_machines(stage) for _ in range(CHANCE)]
    assert ["--retry", "failed"] in chosen
    assert ["--retry", "failed", "--when-free"] in chosen
    assert not any("not_run" in options for options in chosen)
    assert at_last(people.release)
    assert Run.objects.order_by("-pk").first().stage == stage


def test_a_run_is_paused_resumed_and_cancelled(people, run):
    for step, status in ((people.pause, "paused"), (people.resume, "running"), (people.cancel, "cancelled")):
        assert step()
        run.refresh_from_db()
        assert run.status == status
    assert [events(verb) for verb in ("paused", "resumed", "cancelled")] == [["publisher"]] * 3
    assert not any([people.pause(), people.resume(), people.cancel()])


def test_what_was_released_is_rolled_back(people, run, finish):
    finish()

    def roll_back():
        people._try("roll_back", people.roll_back)
        return people.steps["roll_back"]

    assert at_last(roll_back) == 1
    assert people.refused.keys() <= {"roll_back"}  # another stage was chosen, which changed nothing
    assert Run.objects.get(action=Action.ROLLBACK).machine_runs.count() == 2


@pytest.mark.parametrize("quiet", [True, False])
def test_unknown_machines_are_rolled_back_only_by_who_looked(people, run, finish, quiet):
    finish("unknown", exit_status=None)
    MachineRun.objects.update(ended_at="2020-01-01T00:00:00Z")
    people.machines.is_quiet = lambda hostname: quiet
    if not quiet:
        assert people.roll_back() is None
        return
    for _ in range(CHANCE):
        people._try("roll_back", people.roll_back)
    assert Run.objects.filter(action=Action.ROLLBACK).count() == 1
    assert not MachineRun.objects.filter(status="unknown").exists()


def test_unknown_is_resolved_as_the_machine_says(people, run, finish):
    finish("unknown", exit_status=None)
    assert not people.resolve()
    MachineRun.objects.update(ended_at="2020-01-01T00:00:00Z")
    people.machines.executed = {"pay-1"}
    assert people.resolve() and people.resolve() and not people.resolve()
    assert dict(run.machine_runs.values_list("machine__hostname", "status")) == {
        "pay-1": "succeeded",
        "pay-2": "failed",
    }
    assert events("resolved") == ["publisher"] * 2


def test_a_machine_that_failed_is_excused_and_its_stage_skipped(people, run, finish, job):
    assert not people.excuse() and not people.skip()
    finish("failed", exit_status=1)
    assert people.skip()
    assert ReleaseStage.objects.get(job=job, kind=Kind.PRE_RELEASE).status == "skipped"
    assert people.excuse()
    assert job.job_machines.exclude(excused_at=None).count() == 1
    assert (events("excused"), events("skipped")) == (["publisher"], ["publisher"])


def test_same_seed_chooses_the_same(people):
    def choices(seed):
        group = People(None, None, seed)
        return [group.random.choices(list(STEPS), STEPS.values())[0] for _ in range(20)]

    assert choices("1 people 0") == choices("1 people 0")
    assert choices("1 people 0") != choices("1 people 1")


def test_every_step_can_be_taken():
    assert all(callable(getattr(People, name)) for name in STEPS)


def test_work_goes_on_until_it_is_stopped(monkeypatch):
    group, stop, taken = People(None, None, 1), threading.Event(), []
    for name in STEPS:
        monkeypatch.setattr(group, name, lambda name=name: taken.append(name) or True)
    monkeypatch.setattr(module, "BETWEEN", (0, 0.001))
    thread = threading.Thread(target=group.work, args=[stop])
    thread.start()
    wait_until(lambda: set(taken) == set(STEPS))
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert (group.steps.total(), group.errors) == (len(taken), [])

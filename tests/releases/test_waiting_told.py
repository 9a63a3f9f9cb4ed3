"""What who waits with `--wait` is told: why the run does not go on, and at its end which machines failed."""

import json
from contextlib import ExitStack

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Freeze
from releases.commands import RunCommand
from releases.models import Run
from tests.cases import each
from tests.commands import CONFLICT, FAILED, fail, say
from tests.conftest import list_machines
from tests.databases import no_answers
from tests.freezes import freeze_now
from tests.workers import begin, end

RUN = ("run_stage", "--as", "publisher")


@pytest.fixture(autouse=True)
def _ready(release_task, rollback_task, publisher, worker):
    """Tasks that nobody has to name, and a worker that lives."""


@pytest.fixture
def meanwhile(monkeypatch):
    """Does these one after the other while somebody waits."""

    def meanwhile(*steps):
        steps = iter(steps)
        monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: next(steps)())

    return meanwhile


def nothing():
    pass


def newest():
    return Run.objects.last()


def test_that_it_was_paused_is_told_once(job, publisher, meanwhile, finish, capsys):
    meanwhile(lambda: newest().pause(publisher), nothing, lambda: newest().resume(publisher), finish)
    say(*RUN, job.pk, "pre-release", "--all", "--wait")
    run = newest().pk
    assert capsys.readouterr().err == f"Run {run} is paused; resume_run {run} lets it go on.\n"


def test_so_is_a_stop_of_everything(job, ops, meanwhile, finish, capsys):
    meanwhile(
        lambda: Freeze.objects.stop_world(ops, "smoke"), nothing, lambda: Freeze.objects.resume_world(ops, "-"), finish
    )
    say(*RUN, job.pk, "pre-release", "--all", "--wait")
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith(f"Run {newest().pk} is held. Everything is stopped since ")
    assert "smoke" in told


def test_who_resumes_it_is_told_how_far_it_has_come_and_what_keeps_it(
    job, start, machines, publisher, worker, meanwhile, finish, capsys
):
    run = start(job, machines)
    run.pause(publisher)
    meanwhile(
        lambda: end(worker, begin(worker, 3)),
        lambda: newest().pause(publisher),
        lambda: newest().resume(publisher),
        finish,
    )
    say("resume_run", "--as", "publisher", run.pk, "--wait")
    assert capsys.readouterr().err.splitlines() == [
        f"Run {run.pk}: 3 of 6 machines have ended.",
        f"Run {run.pk} is paused; resume_run {run.pk} lets it go on.",
    ]


def test_a_freeze_holds_nothing_where_all_has_begun(job, ops, worker, meanwhile, capsys):
    running = []

    def freeze():
        running.extend(begin(worker))
        freeze_now(ops)

    meanwhile(freeze, nothing, lambda: end(worker, running))
    say(*RUN, job.pk, "pre-release", "--all", "--wait")
    assert capsys.readouterr().err == ""


def test_that_it_waits_for_machines_is_told_once(make_job, machines, start, worker, meanwhile, capsys):
    start(make_job("3.0"), machines[:2])
    job = make_job()

    def work():
        end(worker, begin(worker))

    meanwhile(nothing, work, work)
    say(*RUN, job.pk, "pre-release", "--all", "--when-free", "--wait")
    assert capsys.readouterr().err.splitlines() == [
        f"Run {newest().pk} waits for machines that others hold; job_status {job.pk} tells which.",
        f"Run {newest().pk}: 4 of 6 machines have ended.",
    ]


def test_how_far_it_has_come_is_told_a_tenth_at_a_time(payment, make_job, worker, meanwhile, finish, capsys):
    """Some pipelines end a step that says nothing; and a log of a thousand lines tells no more than one of ten."""
    many = make_job(on=list_machines(payment, *(f"web-{number:02}" for number in range(40))))

    def some(number, status="succeeded"):
        return lambda: end(worker, begin(worker, number), status)

    meanwhile(some(3), some(6), some(1, "failed"), nothing, finish)
    fail(*RUN, many.pk, "pre-release", "--all", "--stop-after", "", "--wait", code=FAILED)
    assert capsys.readouterr().err.splitlines() == [
        f"Run {newest().pk}: 8 of 40 machines have ended.",
        f"Run {newest().pk}: 8 of 40 machines have ended, 1 went wrong.",
    ]


def test_many_that_fail_one_by_one_are_not_a_line_each(payment, make_job, worker, meanwhile, finish, capsys):
    many = make_job(on=list_machines(payment, *(f"web-{number:03}" for number in range(150))))

    def some(number, status):
        return lambda: end(worker, begin(worker, number), status)

    meanwhile(some(15, "succeeded"), *[some(1, "failed")] * 14, finish)
    fail(*RUN, many.pk, "pre-release", "--all", "--stop-after", "", "--wait", code=FAILED)
    ended = f"Run {newest().pk}: 15 of 150 machines have ended"
    wrong = [*range(1, 10), "10 or more"]
    assert capsys.readouterr().err.splitlines() == [
        f"{ended}.",
        *(f"{ended}, {number} went wrong." for number in wrong),
    ]


@each("command", ["pause_run", "cancel_run"])
def test_who_pauses_or_cancels_it_is_not_told_to_resume_it(job, machines, start, worker, meanwhile, capsys, command):
    run = start(job, machines[:1])
    running = begin(worker)
    meanwhile(nothing, lambda: end(worker, running))
    say(command, "--as", "publisher", run.pk, "--wait")
    assert capsys.readouterr().err == ""


def test_of_many_that_failed_the_first_are_named(make_job, payment, meanwhile, finish):
    machines = list_machines(payment, *(f"web-{number:02}" for number in range(13)))
    meanwhile(lambda: finish("failed"))
    said = fail(*RUN, make_job(on=machines).pk, "pre-release", "--all", "--wait", code=FAILED)
    names = ", ".join(f"web-{number:02}" for number in range(10))
    assert said.splitlines() == ["Not every machine succeeded.", f"failed: {names} and 3 more"]


def test_that_it_failed_is_told_though_the_database_goes_away_before_the_names(job, meanwhile, finish, monkeypatch):
    def say_and_lose_it(command, *args, **facts):
        said(command, *args, **facts)
        stack.enter_context(no_answers())

    said = RunCommand.say
    monkeypatch.setattr(RunCommand, "say", say_and_lose_it)
    meanwhile(lambda: finish("failed"))
    with ExitStack() as stack:
        assert fail(*RUN, job.pk, "pre-release", "--all", "--wait", code=FAILED) == "Not every machine succeeded."


def test_who_no_longer_waits_is_told_what_goes_on(job, capsys, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("releases.commands.time.sleep", interrupt)
    with pytest.raises(CommandError) as caught:
        call_command(*map(str, (*RUN, job.pk, "pre-release", "--all", "--wait", "--json")))
    assert caught.value.returncode == CONFLICT
    run = Run.objects.get()
    assert str(caught.value).splitlines() == [
        "No longer waiting.",
        f"Run {run.pk} (release) goes on: job_status {job.pk} tells how it stands, cancel_run {run.pk} ends it.",
    ]
    told = {"id": run.pk, "action": "release", "status": "running"}
    assert json.loads(capsys.readouterr().out) == {"runs": [told], "left_out": {}}

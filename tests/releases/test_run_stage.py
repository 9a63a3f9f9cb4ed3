import json

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, InterfaceError, OperationalError

from jobs.models import Job, Listing, Membership
from releases.models import Kind, MachineRun, ReleaseStage, Run
from tests.commands import CONFLICT, FAILED, MISTAKE, fail, help_of, say, say_json
from tests.conftest import make_task, rows
from tests.databases import read_only
from tests.waiting import wait_until
from tests.workers import begin, fall_silent, grow_old

RUN = ("run_stage", "--as", "publisher")


@pytest.fixture(autouse=True)
def tasks(release_task, rollback_task, publisher):
    """One of each, so that nobody has to name them."""


def hostnames(run):
    return sorted(run.machine_runs.values_list("machine__hostname", flat=True))


def test_a_stage_is_started_on_named_machines(job, publisher):
    assert "running" in say(*RUN, job.pk, "pre-release", "pay-2", "pay-1")
    run = Run.objects.get()
    assert (hostnames(run), run.started_by, run.stage.kind) == (["pay-1", "pay-2"], publisher, "pre-release")
    assert job.events.get(verb="started").origin.startswith("command on ")


def test_a_stage_is_started_on_all_that_it_offers(job, machines, start, finish):
    start(job, machines[:2])
    finish()
    say(*RUN, job.pk, "gray-release", "--all", "--batch-size", "3", "--remark", "low traffic")
    run = Run.objects.last()
    assert hostnames(run) == ["pay-3", "pay-4", "pay-5", "pay-6"]
    assert (run.batches, run.remark) == (2, "low traffic")


def test_json_tells_the_run(job):
    said = say_json(*RUN, job.pk, "pre-release", "--all")
    run = {"id": Run.objects.get().pk, "action": "release", "status": "running"}
    assert said == {"runs": [run], "left_out": {}}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_waiting_tells_how_it_ended(job, finish, status):
    from tests.parallel import at_once

    def work():
        wait_until(Run.objects.exists)
        finish(status)

    command = (say_json, *RUN) if status == "succeeded" else (fail, *RUN)
    code = {} if status == "succeeded" else {"code": FAILED}
    said, worked = at_once(lambda: command[0](*command[1:], job.pk, "pre-release", "--all", "--wait", **code), work)
    assert worked is None
    assert said == (
        {"runs": [{"id": Run.objects.get().pk, "action": "release", "status": "succeeded"}], "left_out": {}}
        if status == "succeeded"
        else "Not every machine succeeded.\nfailed: pay-1, pay-2, pay-3, pay-4, pay-5, pay-6"
    )


@pytest.mark.one_database
@pytest.mark.parametrize("limit", ["nan", "-1", "soon"])
def test_a_limit_that_makes_no_sense_is_refused(job, limit):
    assert "--wait-limit" in fail(*RUN, job.pk, "pre-release", "--all", "--wait", f"--wait-limit={limit}", code=MISTAKE)
    assert not Run.objects.exists()


def test_who_waits_finds_that_the_only_worker_died(job, worker, monkeypatch):
    steps = iter([lambda: (begin(worker), fall_silent(worker, suspected=False)), lambda: grow_old(worker)])
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: next(steps)())
    assert (
        fail(*RUN, job.pk, "pre-release", "pay-1", "--wait", code=FAILED)
        == "Not every machine succeeded.\nunknown: pay-1"
    )
    assert MachineRun.objects.get().status == "unknown"


def test_waiting_has_a_limit(job):
    said = fail(*RUN, job.pk, "pre-release", "--all", "--wait", "--wait-limit", "0", code=CONFLICT)
    assert said == "Still running; look at the job."
    assert Run.objects.get().status == "running"


def test_who_sets_a_limit_waits(job):
    said = fail(*RUN, job.pk, "pre-release", "--all", "--wait-limit", "0", code=CONFLICT)
    assert said == "Still running; look at the job."


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error", [OperationalError("the server goes down"), InterfaceError("the connection is closed"), read_only()]
)
def test_who_waits_does_so_through_a_database_that_is_away(job, finish, monkeypatch, error):
    def go_away():
        raise error

    looks = iter([lambda: None, go_away, go_away, finish])
    monkeypatch.setattr("releases.commands.tidy_if_alone", lambda: next(looks)())  # noqa: PLW0108
    [run] = say_json(*RUN, job.pk, "pre-release", "--all", "--wait")["runs"]
    assert (run["id"], run["status"]) == (Run.objects.get().pk, "succeeded")


@pytest.mark.django_db(transaction=True)
def test_an_error_that_waiting_does_not_mend_ends_it(job, monkeypatch):
    def break_down():
        raise DataError("no such thing")

    monkeypatch.setattr("releases.commands.tidy_if_alone", break_down)
    with pytest.raises(DataError):
        say(*RUN, job.pk, "pre-release", "--all", "--wait")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_database_that_stays_away_ends_the_waiting_at_its_limit(job, away_when_waited_for, capsys, as_json):
    """What was started is told all the same."""
    line = [*RUN, job.pk, "pre-release", "--all", "--wait", "--wait-limit", "0.3", *["--json"] * as_json]
    with pytest.raises(CommandError) as caught:
        away_when_waited_for(call_command, *map(str, line))
    assert caught.value.returncode == CONFLICT
    assert str(caught.value) == "The database is away. What was started goes on; look at the job later."
    run, said = Run.objects.get(), capsys.readouterr().out
    if as_json:
        told = {"id": run.pk, "action": "release", "status": "running"}
        assert json.loads(said) == {"runs": [told], "left_out": {}}
    else:
        assert said == f"Run {run.pk} (release) of {run.stage}: running\n"


def test_who_waits_is_told_once_that_no_worker_is_alive(job, finish, monkeypatch, capsys):
    looks = iter([lambda: None, lambda: None, finish])
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: next(looks)())
    say(*RUN, job.pk, "pre-release", "--all", "--wait")
    assert capsys.readouterr().err == "No worker is alive: what was started waits until one is.\n"


def test_who_waits_for_a_living_worker_is_told_nothing(job, worker, finish, monkeypatch, capsys):
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: finish())
    say(*RUN, job.pk, "pre-release", "--all", "--wait")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("chosen", [[], ["pay-1", "--all"]])
def test_machines_are_named_or_all_are_taken(job, chosen):
    assert "--all" in fail(*RUN, job.pk, "pre-release", *chosen, code=MISTAKE)
    assert not Run.objects.exists()


def test_machines_that_the_stage_does_not_offer_are_named(make_job, machines, start, payment):
    job = make_job(on=machines[:4])
    start(make_job("3.0"), machines[:1])
    Listing.objects.take(payment, rows(*(machine.hostname for machine in machines if machine != machines[1])))
    said = fail(*RUN, job.pk, "pre-release", "pay-1", "pay-2", "pay-3", "pay-6", "nonsense", code=MISTAKE)
    assert said == "Not among the machines to choose from: pay-6, nonsense"
    said = fail(*RUN, job.pk, "pre-release", "pay-1", "pay-2", "pay-3", code=CONFLICT)
    assert said.splitlines() == [
        f"machines: pay-1 is held by #{Run.objects.get().stage.job_id}.",
        "machines: pay-2 is gone from the config service.",
    ]
    assert Run.objects.count() == 1


def test_what_all_leaves_out_is_told(make_job, machines, start, finish, payment, capsys):
    """A script that asked for all must not believe that all of them have it."""
    job, holder = make_job(), make_job("3.0")
    start(job, machines[:2])
    finish("unknown", on=["pay-2"])
    start(holder, machines[2:3])
    Listing.objects.take(payment, rows("pay-1", "pay-2", "pay-3", "pay-6") + rows("pay-5", port=2222))
    said = say_json(*RUN, job.pk, "pre-release", "--all")
    assert hostnames(Run.objects.last()) == ["pay-6"]
    assert said["left_out"] == {
        "pay-2": f"unknown in #{job.pk}; resolve_machines says how it ended",
        "pay-3": f"held by #{holder.pk}; --when-free waits for its end",
        "pay-4": "gone from the config service",
        "pay-5": "moved; --moved releases it where it is now",
    }
    assert f"Not released now: pay-3 (held by #{holder.pk};" in capsys.readouterr().err


def test_what_waits_or_follows_its_machine_is_not_left_out(make_job, machines, start, payment, capsys):
    job = make_job(on=machines[:3])
    start(make_job("3.0"), machines[:1])
    Listing.objects.take(payment, rows("pay-1", "pay-3") + rows("pay-2", port=2222))
    assert say_json(*RUN, job.pk, "pre-release", "--all", "--when-free", "--moved")["left_out"] == {}
    assert hostnames(Run.objects.last()) == ["pay-1", "pay-2", "pay-3"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_unknown", [False, True])
def test_the_job_of_another_business_that_holds_a_machine_is_not_named(
    make_job, machines, orders, start, finish, approver, publisher, is_unknown
):
    Listing.objects.take(orders, rows("pay-1"))
    people = {"approver": approver, "publisher": publisher}
    both = [Membership(user=user, business=orders, role=role) for role, user in people.items()]
    Membership.objects.bulk_create(both)
    start(make_job(business=orders, on=machines[:1]), machines[:1])
    if is_unknown:
        finish("unknown")
    Membership.objects.filter(business=orders).delete()
    said = say_json(*RUN, make_job(on=machines[:2]).pk, "pre-release", "--all")
    assert said["left_out"] == {"pay-1": "held by a job of another business; --when-free waits for its end"}


def test_all_of_nothing_is_an_error_that_says_why_and_starts_nothing(make_job, machines, start):
    run = start(make_job("3.0"), machines)
    said = fail(*RUN, make_job().pk, "pre-release", "--all", code=CONFLICT)
    assert said.splitlines() == [f"machines: pay-{n} is held by #{run.stage.job_id}." for n in range(1, 7)]
    assert Run.objects.count() == 1


def test_of_a_job_that_is_out_it_is_said_that_all_are_released(job, machines, start, finish):
    start(job, machines)
    finish()
    said = fail(*RUN, job.pk, "gray-release", "--all", code=CONFLICT)
    assert said.splitlines()[0] == "machines: pay-1 is already released by this job."


@pytest.mark.parametrize("kind", ["gray-release", "release"])
def test_a_stage_that_is_not_open_is_a_conflict(job, kind):
    assert "not open" in fail(*RUN, job.pk, kind, "--all", code=CONFLICT)
    assert not Run.objects.exists()


def test_a_job_that_is_not_approved_is_a_conflict(make_job):
    command = (*RUN, make_job(approved=False).pk, "pre-release", "--all")
    for line in (command, (*command, "--dry-run")):
        assert fail(*line, code=CONFLICT) == "This stage is not open now. The job is waiting for approval."


def test_a_stage_that_runs_is_a_conflict(job, machines, start):
    start(job, machines[:1])
    for what in ("--all", "pay-1", "pay-2"):
        said = fail(*RUN, job.pk, "pre-release", what, code=CONFLICT)
        assert said == "This stage is not open now. A run of it goes on."
    said = fail(*RUN, job.pk, "release", "--all", code=CONFLICT)
    assert said == "This stage is not open now. gray-release comes first."
    assert Run.objects.count() == 1


def test_tasks_are_named_when_there_are_several(job):
    other = make_task("other")
    said = fail(*RUN, job.pk, "pre-release", "--all", code=MISTAKE)
    assert "--release-task" in said
    assert "deploy" in said
    assert "other" in said
    assert "release task" in fail(*RUN, job.pk, "pre-release", "--all", "--release-task", "nonsense", code=MISTAKE)
    say(*RUN, job.pk, "pre-release", "--all", "--release-task", "other", "--rollback-task", "roll-back")
    assert Run.objects.get().task_version == other.latest


@pytest.mark.one_database
@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_batch_size_that_is_none_is_refused(job, size):
    assert "--batch-size:" in fail(*RUN, job.pk, "pre-release", "--all", f"--batch-size={size}", code=MISTAKE)
    assert not Run.objects.exists()


@pytest.mark.one_database
def test_a_remark_that_no_page_takes_is_refused(job):
    assert "--remark:" in fail(*RUN, job.pk, "pre-release", "--all", "--remark", "\x1b[2J", code=MISTAKE)


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("requester", "lack the right to run"),
        ("approver", "lack the right to run"),
        ("outsider", "sees no such"),
        ("nobody", "no active user"),
    ],
)
def test_who_may_not_publish_is_told_so(job, outsider, user, said):
    assert said in fail("run_stage", "--as", user, job.pk, "pre-release", "--all", code=MISTAKE)
    assert not Run.objects.exists()


@pytest.mark.parametrize("remark", ["", "   "])
def test_ops_step_in_only_with_a_reason(job, ops, remark):
    command = ("run_stage", "--as", "ops", job.pk, "pre-release", "--all")
    assert "remark:" in fail(*command, "--remark", remark, code=MISTAKE)
    say(*command, "--remark", "nobody else is awake")
    assert job.events.get(verb="started").detail["break_glass"] is True


def test_all_three_stages_release_the_job(job, finish):
    for kind, chosen in zip(Kind.values, (["pay-1"], ["pay-2", "pay-3"], ["--all"]), strict=True):
        say(*RUN, job.pk, kind, *chosen)
        finish()
    assert Job.objects.get().status == "released"
    assert MachineRun.objects.counts() == {"succeeded": 6}
    assert [stage.status for stage in ReleaseStage.objects.of(job)] == ["succeeded"] * 3


def test_help_says_what_it_does(capsys):
    said = help_of("run_stage", capsys)
    assert "Starts a stage" in said
    assert "{pre-release,gray-release,release}" in said
    assert "--wait" in said
    assert "Exit codes: 1 a mistake, a missing right" in said


# At what pace


def test_a_run_has_the_pace_that_was_asked_for(job):
    pace = ("--batch-size", "50 %", "--canary", "--batch-pause", 60, "--stop-after", "34%")
    say(*RUN, job.pk, "pre-release", "--all", *pace)
    run = Run.objects.get()
    assert (run.batches, run.batch_size, run.canary, run.batch_pause, run.failure_budget) == (3, 3, True, 60, 3)


@pytest.mark.parametrize(("stop_after", "budget"), [(["--stop-after="], None), ([], 1), (["--stop-after", "7"], 7)])
def test_a_run_stops_at_the_first_failure_unless_told_otherwise(job, stop_after, budget):
    say(*RUN, job.pk, "pre-release", "--all", *stop_after)
    assert Run.objects.get().failure_budget == budget


@pytest.mark.one_database
@pytest.mark.parametrize(
    "option", ["--stop-after=0", "--stop-after=101 %", "--stop-after=some", "--batch-size=1.5", "--batch-pause=-1"]
)
def test_a_pace_that_no_page_takes_is_refused(job, option):
    name, _, _ = option.partition("=")
    assert fail(*RUN, job.pk, "pre-release", "--all", option, code=MISTAKE).startswith(f"{name}: ")
    assert not Run.objects.exists()


# Trying again


def test_what_failed_is_tried_again_and_what_was_not_run_after_that(job, machines, start, finish):
    first = start(job, machines, batch_size="4", failure_budget="2")
    finish("failed", on=["pay-1", "pay-3"])
    say(*RUN, job.pk, "pre-release", "--retry", "failed")
    retry = Run.objects.last()
    assert (hostnames(retry), retry.retry_of) == (["pay-1", "pay-3"], first)
    finish()
    say(*RUN, job.pk, "pre-release", "--retry", "not_run")
    assert hostnames(Run.objects.last()) == ["pay-5", "pay-6"]


@pytest.mark.parametrize("what", ["failed", "cancelled", "not_run"])
def test_where_there_is_nothing_to_try_again_nothing_is_started(job, machines, start, finish, what):
    start(job, machines[:2])
    finish()
    said = fail(*RUN, job.pk, "pre-release", "--retry", what, code=CONFLICT)
    assert said == "machines: this stage has none of those; job_status tells how each stands."
    assert Run.objects.count() == 1


def test_where_nothing_is_planned_it_says_so_and_what_else_there_is(job, machines):
    said = fail(*RUN, job.pk, "pre-release", "--planned", code=CONFLICT)
    assert said == "machines: no machine is planned for this stage; name them, or say --all."
    assert not Run.objects.exists()


def test_an_unknown_machine_is_not_tried_again(job, machines, start, finish):
    start(job, machines[:1])
    finish("unknown")
    assert "machines:" in fail(*RUN, job.pk, "pre-release", "--retry", "failed", code=CONFLICT)


@pytest.mark.parametrize("chosen", [["--retry", "failed", "--all"], ["pay-1", "--retry", "failed"]])
def test_a_retry_names_no_machines(job, chosen):
    assert "one of them" in fail(*RUN, job.pk, "pre-release", *chosen, code=MISTAKE)


# Waiting for machines


def test_machines_that_other_jobs_hold_are_waited_for_when_that_is_asked_for(make_job, machines, start):
    start(make_job("3.0"), machines[:2])
    job = make_job()
    assert "pay-1" in fail(*RUN, job.pk, "pre-release", "pay-1", "pay-3", code=CONFLICT)
    say(*RUN, job.pk, "pre-release", "pay-1", "pay-3", "--when-free")
    run = Run.objects.last()
    assert dict(run.machine_runs.values_list("machine__hostname", "status")) == {"pay-1": "held", "pay-3": "queued"}


def test_all_are_those_that_are_free_unless_the_others_are_waited_for(make_job, machines, start):
    start(make_job("3.0"), machines[:2])
    first, second = make_job(), make_job()
    say(*RUN, first.pk, "pre-release", "--all")
    assert hostnames(Run.objects.last()) == ["pay-3", "pay-4", "pay-5", "pay-6"]
    say(*RUN, second.pk, "pre-release", "--all", "--when-free")
    assert Run.objects.last().machine_runs.counts() == {"held": 6}


def test_the_jobs_own_machines_are_not_waited_for(make_job, machines, start, finish):
    job = make_job()
    start(job, machines[:1])
    finish("unknown")
    assert "pay-1" in fail(*RUN, job.pk, "pre-release", "pay-1", "--when-free", code=CONFLICT)

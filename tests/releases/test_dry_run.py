"""`run_stage --dry-run` and `rollback_stage --dry-run`: what a start would do, and with what it would be refused."""

import json

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Event, Listing
from releases.models import ReleaseStage, Run
from tests.cases import each
from tests.commands import CONFLICT, MISTAKE, fail, say, say_json
from tests.conftest import rows
from tests.freezes import freeze_now
from tests.workers import begin

RUN = ("run_stage", "--as", "publisher", "--dry-run")
BACK = ("rollback_stage", "--as", "publisher", "--reason", "it hurts", "--dry-run")


@pytest.fixture(autouse=True)
def tasks(release_task, rollback_task, publisher):
    """One of each, so that nobody has to name them."""


@pytest.fixture
def nothing_started():
    """Afterwards the ledger and the history are as they were when this is called, and the stages, too."""
    seen = []

    def look():
        stages = ReleaseStage.objects.order_by("pk").values_list("status", "version")
        return [Run.objects.count(), Event.objects.count(), [one for one in stages if one[1]]]

    yield lambda: seen.append(look())
    assert seen == [look()]


def both(capsys, *line):
    """What a refused command prints as JSON, and its error."""
    with pytest.raises(CommandError) as caught:
        call_command(*map(str, line), "--json")
    return json.loads(capsys.readouterr().out), caught.value


def test_it_tells_what_would_run_where_and_starts_nothing(
    job, machines, start, finish, make_job, worker, nothing_started
):
    start(make_job("1.9", on=machines[:1]), machines[:1])
    finish()
    nothing_started()
    said = say(*RUN, job.pk, "pre-release", "pay-[1-3]", "--batch-size", 2, "--canary", "--stop-after", 2)
    assert said.splitlines() == [
        f"release: #{job.pk} payment 2.0 Pre-release on 3 machines",
        "now on: 1.9 (pay-1), not known (pay-[2-3])",
        "where: sh-1 (pay-[1-3])",
        "tasks: deploy · v1, roll-back · v1",
        "batches: 1, 2",
        "stops after failures: 2",
        "It would be started; nothing was.",
    ]


def test_it_says_so_where_nobody_would_run_it(job, nothing_started):
    nothing_started()
    said = say(*RUN, job.pk, "pre-release", "pay-1").splitlines()
    assert said[-2:] == ["workers: none is alive; it would wait", "It would be started; nothing was."]


def test_json_tells_the_same(job, machines, start, finish, make_job, worker):
    begin(worker)
    start(make_job("1.9", on=machines[:1]), machines[:1])
    finish()
    said = say_json(*RUN, job.pk, "pre-release", "pay-1", "pay-2", "--stop-after=")
    facts = {"site": "sh-1", "version_after": "2.0", "waits": False}
    assert said["machines"] == [
        {"hostname": "pay-1", "version_before": "1.9"} | facts,
        {"hostname": "pay-2", "version_before": ""} | facts,
    ]
    assert (said["dry_run"], said["refused"]) == (True, None)
    assert (said["job"], said["stage"], said["revision"]) == (job.pk, "pre-release", 1)
    assert said["release_task"] == {"name": "deploy", "version": 1}
    assert said["rollback_task"] == {"name": "roll-back", "version": 1}
    assert (said["batches"], said["failure_budget"], said["left_out"]) == ([2], None, {})


def test_what_is_left_out_and_what_changed_since_is_told(make_job, machines, start, payment, capsys):
    job, holder = make_job(), make_job("3.0")
    start(holder, machines[:1])
    Listing.objects.take(payment, rows("pay-1", "pay-4", "pay-5", "pay-6") + rows("pay-2", port=2222))
    said = say(*RUN, job.pk, "pre-release", "--all")
    assert "changed since the job was asked for: pay-[2-3]" in said.splitlines()
    left_out = capsys.readouterr().err.splitlines()
    assert left_out == [
        f"Not released now: pay-1 (held by #{holder.pk}; --when-free waits for its end).",
        "Not released now: pay-2 (moved; --moved releases it where it is now).",
        "Not released now: pay-3 (gone from the config service).",
    ]
    said = say_json(*RUN, job.pk, "pre-release", "--all", "--when-free", "--moved")
    assert list(said["left_out"]) == ["pay-3"]
    assert said["drift"]["pay-3"] == "pay-3 is gone from the config service."
    assert [one["hostname"] for one in said["machines"] if one["waits"]] == ["pay-1"]
    assert [one["hostname"] for one in said["machines"]] == ["pay-1", "pay-2", "pay-4", "pay-5", "pay-6"]


def test_departures_from_the_plan_are_told(make_job):
    job = make_job(plan_pre_release="pay-1, pay-2")
    said = say(*RUN, job.pk, "pre-release", "pay-2", "pay-3").splitlines()
    assert {"beyond the plan: pay-3", "planned but not chosen: pay-1"} <= set(said)


def test_a_freeze_is_told_and_refuses_as_it_would_the_start(job, ops, capsys, nothing_started):
    freeze_now(ops)
    nothing_started()
    told, refused = both(capsys, *RUN, job.pk, "pre-release", "--all")
    assert refused.returncode == CONFLICT
    assert told["refused"] == str(refused)
    assert "the great sale" in told["refused"]
    assert len(told["machines"]) == 6
    assert [(one["is_in_force"], one["leave_by"]) for one in told["freezes"]] == [(True, None)]
    real = [word for word in RUN if word != "--dry-run"]
    assert fail(*real, job.pk, "pre-release", "--all", code=CONFLICT) == told["refused"]


@each(
    "options, code",
    [
        (["release", "--all"], CONFLICT),
        (["pre-release", "nonsense"], MISTAKE),
        (["pre-release", "--all", "--batch-size=0"], MISTAKE),
        (["pre-release", "--all", "--break-glass", "x"], MISTAKE),
        (["pre-release", "--retry", "failed"], CONFLICT),
    ],
)
def test_what_the_start_refuses_it_refuses_alike(job, options, code):
    real = [word for word in RUN if word != "--dry-run"]
    assert fail(*RUN, job.pk, *options, code=code) == fail(*real, job.pk, *options, code=code)
    assert not Run.objects.exists()


def test_ops_who_would_step_in_are_told_so(job, ops, nothing_started):
    nothing_started()
    said = say("run_stage", "--as", "ops", job.pk, "pre-release", "pay-1", "--remark", "x", "--dry-run")
    assert "break-glass: every approver is told" in said.splitlines()


def test_so_they_are_of_a_rollback(released, ops, publisher, nothing_started):
    nothing_started()
    line = [*BACK, released.pk, "pre-release"]
    assert say_json(*line)["break_glass"] is False
    line[2] = "ops"
    assert say_json(*line)["break_glass"] is True
    assert "break-glass: every approver is told" in say(*line).splitlines()


@pytest.fixture
def released(job, machines, start, finish, make_job):
    """A job with pay-1 to pay-3 released, where there was 1.9, the last of them in gray release; pay-4 is unknown."""
    start(make_job("1.9", on=machines[:3]), machines[:3])
    finish()
    start(job, machines[:2])
    finish()
    start(job, machines[2:4], "gray-release")
    finish("unknown", on=["pay-4"])
    return job


def test_a_rollback_tells_from_what_to_what_and_starts_nothing(released, worker, capsys, nothing_started):
    nothing_started()
    said = say(*BACK, released.pk, "all", "--looked").splitlines()
    assert said == [
        "pre-release: by roll-back · v1: 2.0 -> 1.9 (pay-[1-2])",
        "gray-release: by roll-back · v1: 2.0 -> 1.9 (pay-3), unknown -> not known (pay-4)",
        "It would be started; nothing was.",
    ]
    said = say_json(*BACK, released.pk, "all")
    machine = {"site": "sh-1", "version_before": "2.0", "version_after": "1.9", "status": "succeeded"}
    assert [(one["stage"], one["machines"]) for one in said["stages"]] == [
        ("pre-release", [machine | {"hostname": "pay-1"}, machine | {"hostname": "pay-2"}]),
        ("gray-release", [machine | {"hostname": "pay-3"}]),
    ]
    assert said["stages"][0]["task"] == {"name": "roll-back", "version": 1}
    assert list(said["left_out"]) == ["pay-4"]
    assert "Not rolled back: pay-4 (unknown; --looked says" in capsys.readouterr().err


def test_a_rollback_tells_what_else_it_undoes(released, make_job, machines, start, finish):
    later = make_job("3.0", on=machines[:1])
    start(later, machines[:1])
    finish()
    said = say_json(*BACK, released.pk, "pre-release", "pay-1", "--undo-later")
    assert said["undone_jobs"] == [later.pk]
    assert f"undone, too: #{later.pk}" in say(*BACK, released.pk, "pre-release", "pay-1", "--undo-later")


def test_a_rollback_that_would_be_a_conflict_is_one(released, machines, start, capsys):
    """One of its stages runs: of all of them that is found out only when it is started."""
    start(released, machines[4:5], "pre-release")
    told, refused = both(capsys, *BACK, released.pk, "all")
    assert refused.returncode == CONFLICT
    assert "still going on" in told["refused"]
    real = [word for word in BACK if word != "--dry-run"]
    assert fail(*real, released.pk, "all", code=CONFLICT) == told["refused"]
    assert not Run.objects.filter(action="rollback").exists()


@each(
    "options, code",
    [
        (["release"], CONFLICT),
        (["gray-release", "pay-4"], CONFLICT),
        (["gray-release", "pay-1"], CONFLICT),
        (["gray-release", "pay-7"], MISTAKE),
    ],
)
def test_a_rollback_that_would_be_refused_is_so(released, options, code):
    real = [word for word in BACK if word != "--dry-run"]
    assert fail(*BACK, released.pk, *options, code=code) == fail(*real, released.pk, *options, code=code)

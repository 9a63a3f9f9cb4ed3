import json

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Business, Job
from releases.models import Run
from tests.cases import each
from tests.commands import CONFLICT, FAILED, MISTAKE, fail, help_of, say, say_json
from tests.parallel import at_once

ROLL_BACK = ("rollback_stage", "--as", "publisher", "--reason", "it hurts")


@pytest.fixture
def released(job, machines, start, finish):
    """A job with pay-1 released in pre-release, pay-2 and pay-3 in gray release."""
    start(job, machines[:1])
    finish()
    start(job, machines[1:3], "gray-release")
    finish()
    return job


def hostnames(*runs):
    return sorted(name for run in runs for name in run.machine_runs.values_list("machine__hostname", flat=True))


def rollbacks():
    return Run.objects.filter(action="rollback")


def test_a_stage_is_rolled_back(released, publisher):
    assert "rollback" in say(*ROLL_BACK, released.pk, "gray-release")
    run = rollbacks().get()
    assert (hostnames(run), run.remark, run.started_by) == (["pay-2", "pay-3"], "it hurts", publisher)


def test_one_machine_is_rolled_back(released):
    say(*ROLL_BACK, released.pk, "gray-release", "PAY-3")
    assert hostnames(rollbacks().get()) == ["pay-3"]


def test_all_stages_are_rolled_back(released, finish):
    said = say_json(*ROLL_BACK, released.pk, "all")
    assert [(run["action"], run["status"]) for run in said["runs"]] == [("rollback", "running")] * 2
    assert hostnames(*rollbacks()) == ["pay-1", "pay-2", "pay-3"]
    finish()
    assert Job.objects.get().status == "rolled_back"


def test_it_goes_where_its_machines_are_by_now(released, config_files):
    Business.objects.update(asked_at=None)
    given = [{"hostname": f"pay-{n}", "address": f"10.9.0.{n}", "labels": {"site": "sh-1"}} for n in range(1, 6)]
    (config_files / "payment.json").write_text(json.dumps(given))
    say(*ROLL_BACK, released.pk, "pre-release")
    assert rollbacks().get().machine_runs.get().address == "10.9.0.1"


def test_nothing_that_is_wrong_with_the_config_service_is_in_its_way(released, config_files, capsys):
    Business.objects.update(asked_at=None)
    (config_files / "payment.json").write_text("no json")
    say(*ROLL_BACK, released.pk, "pre-release")
    assert hostnames(rollbacks().get()) == ["pay-1"]
    assert capsys.readouterr().err.startswith("The config service gives no list that can be taken: The answer is")


def test_runs_are_told_though_the_database_goes_away_while_they_are_waited_for(released, away_when_waited_for, capsys):
    line = [*ROLL_BACK, released.pk, "all", "--wait", "--wait-limit", "0.3", "--json"]
    with pytest.raises(CommandError) as caught:
        away_when_waited_for(call_command, *map(str, line))
    assert caught.value.returncode == CONFLICT
    told = [run["id"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert told == list(rollbacks().values_list("pk", flat=True))


def test_machines_that_were_not_changed_are_named(released):
    said = fail(*ROLL_BACK, released.pk, "pre-release", "pay-1", "pay-2", "pay-6", code=CONFLICT)
    assert said == "Not rolled back: pay-2, pay-6 (no change of this stage is there)."
    said = fail(*ROLL_BACK, released.pk, "all", "pay-1", "pay-2", "pay-6", code=CONFLICT)
    assert said == "Not rolled back: pay-6 (no change of this job is there)."
    said = fail(*ROLL_BACK, released.pk, "pre-release", "pay-1", "pay-2", "pay-7", code=MISTAKE)
    assert said == "Not among the machines to choose from: pay-7"
    assert not rollbacks().exists()


def test_what_is_rolled_back_already_is_no_mistake(released, finish):
    say(*ROLL_BACK, released.pk, "gray-release", "pay-3")
    finish()
    said = fail(*ROLL_BACK, released.pk, "gray-release", "pay-3", code=CONFLICT)
    assert said == "Not rolled back: pay-3 (no change of this stage is there)."


@pytest.mark.parametrize("names", ["", " , "])
def test_names_that_name_nothing_are_a_mistake(released, names):
    """As a script's empty variable: neither all, nor a rollback of nothing that went well."""
    assert fail(*ROLL_BACK, released.pk, "gray-release", names, code=MISTAKE) == "The host names are empty."
    assert not rollbacks().exists()


def test_where_nothing_was_changed_there_is_nothing_to_roll_back(released, job):
    assert "changed no machine" in fail(*ROLL_BACK, released.pk, "release", code=CONFLICT)


def test_a_stage_that_runs_is_a_conflict(released, machines, start):
    start(released, machines[3:4], "gray-release")
    assert "still going on" in fail(*ROLL_BACK, released.pk, "gray-release", code=CONFLICT)
    assert not rollbacks().exists()


@each("which", [["gray-release"], ["gray-release", "pay-2"], ["all"]])
def test_what_another_rollback_does_already_is_a_conflict(released, which):
    say(*ROLL_BACK, released.pk, "all")
    assert "still going on there" in fail(*ROLL_BACK, released.pk, *which, code=CONFLICT)
    assert rollbacks().count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_rollbacks_at_once_one_is_a_conflict(released):
    command = (*ROLL_BACK, released.pk, "gray-release")
    said = at_once(*[lambda: say(*command)] * 2)
    assert sorted(getattr(one, "returncode", 0) for one in said) == [0, CONFLICT], said
    assert rollbacks().count() == 1


def test_waiting_tells_of_a_rollback_that_fails(released, finish, monkeypatch):
    monkeypatch.setattr("releases.commands.time.sleep", lambda seconds: finish("failed", on=["pay-2"]))
    assert (
        fail(*ROLL_BACK, released.pk, "gray-release", "--wait", code=FAILED)
        == "Not every machine succeeded.\nfailed: pay-2"
    )
    assert rollbacks().get().machine_runs.counts() == {"failed": 1, "succeeded": 1}


@pytest.mark.one_database
@each("reason", ["", "   ", "\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(released, reason):
    command = ("rollback_stage", "--as", "publisher", released.pk, "pre-release", f"--reason={reason}")
    assert "reason:" in fail(*command, code=MISTAKE)
    assert not rollbacks().exists()


def test_a_reason_must_be_given(released):
    assert "--reason" in fail("rollback_stage", "--as", "publisher", released.pk, "pre-release", code=1)


@pytest.mark.one_database
@each(
    "user, said",
    [
        ("requester", "lack the right to run or roll back"),
        ("approver", "lack the right to run or roll back"),
        ("outsider", "sees no such"),
        ("nobody", "no active user"),
    ],
)
def test_who_may_not_publish_is_told_so(released, outsider, user, said):
    command = ("rollback_stage", "--as", user, "--reason", "it hurts")
    assert said in fail(*command, released.pk, "all", code=MISTAKE)
    assert not rollbacks().exists()


def test_help_says_what_it_does(capsys):
    said = help_of("rollback_stage", capsys)
    assert "Rolls back machines that a job changed" in said
    assert "--reason" in said


@pytest.fixture
def lost(released, machines, start, finish):
    """As `released`, and pay-4 unknown."""
    start(released, machines[3:4], "gray-release")
    finish("unknown")
    return released


def test_an_unknown_machine_is_left_alone_unless_somebody_looked(lost):
    assert "pay-4" in fail(*ROLL_BACK, lost.pk, "gray-release", "pay-3", "pay-4", code=CONFLICT)
    say(*ROLL_BACK, lost.pk, "gray-release")
    assert hostnames(rollbacks().get()) == ["pay-2", "pay-3"]
    assert not lost.events.filter(verb="resolved").exists()


def test_what_a_rollback_leaves_out_is_told(lost, make_job, machines, start, finish, capsys):
    start(make_job("3.0"), machines[2:3])  # overtakes at pay-3
    finish()
    start(make_job("4.0"), machines[1:2])  # holds pay-2
    said = say_json(*ROLL_BACK, lost.pk, "all")
    assert sorted(said["left_out"]) == ["pay-2", "pay-3", "pay-4"]
    assert hostnames(*rollbacks()) == ["pay-1"]
    assert capsys.readouterr().err.splitlines() == [
        "Not rolled back: pay-2 (held by another run, or gone from the config service).",
        "Not rolled back: pay-3 (a later job ran there; --undo-later takes back what that put there, too).",
        "Not rolled back: pay-4 (unknown; --looked says that nothing runs there any more).",
    ]


def test_what_a_range_names_is_told_why_it_is_left_out(lost):
    said = fail(*ROLL_BACK, lost.pk, "all", "PAY-[3-4]", code=CONFLICT)
    assert said == "Not rolled back: pay-4 (unknown; --looked says that nothing runs there any more)."
    assert not rollbacks().exists()


def test_they_are_told_in_order_whatever_stage_they_are_of(lost, machines, start, finish, capsys):
    start(lost, machines[4:5], "pre-release")
    finish("unknown")
    say(*ROLL_BACK, lost.pk, "all")
    assert "Not rolled back: pay-[4-5] (unknown;" in capsys.readouterr().err


def test_where_all_is_left_out_its_reason_is_told(lost, finish):
    say(*ROLL_BACK, lost.pk, "gray-release")
    finish()
    for chosen in ([], ["pay-4"]):
        assert "--looked" in fail(*ROLL_BACK, lost.pk, "gray-release", *chosen, code=CONFLICT)


def test_who_looked_rolls_an_unknown_machine_back_too(lost, publisher, finish):
    say(*ROLL_BACK, lost.pk, "all", "--looked")
    assert hostnames(*rollbacks()) == ["pay-1", "pay-2", "pay-3", "pay-4"]
    resolved = lost.events.get(verb="resolved")
    assert (resolved.actor, resolved.became, resolved.reason) == (publisher, "failed", "it hurts")
    finish()
    assert Job.objects.get().status == "rolled_back"


def test_a_cancelled_rollback_is_not_a_success(released, publisher, monkeypatch):
    def cancel(seconds):
        rollbacks().get().cancel(publisher)

    monkeypatch.setattr("releases.commands.time.sleep", cancel)
    assert (
        fail(*ROLL_BACK, released.pk, "gray-release", "--wait", code=FAILED)
        == "Not every machine succeeded.\ncancelled: pay-2, pay-3"
    )
    say(*ROLL_BACK, released.pk, "gray-release")
    assert rollbacks().count() == 2

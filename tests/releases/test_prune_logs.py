"""Old logs go and say so; nothing else does."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from deploy_portal.clock import database_now
from jobs.models import Event
from releases.management.commands import prune_logs
from releases.models import LogBlock, MachineRun
from tests.cases import each
from tests.commands import fail, help_of, say, say_json
from tests.conftest import list_machines
from tests.databases import few_parameters
from tests.pages import page, words

MARK = re.compile(r"… this log was pruned on (\d{4}-\d\d-\d\d \d\d:\d\d) UTC …")


def write(machine_run, *streams):
    LogBlock.objects.bulk_create(
        LogBlock(machine_run=machine_run, number=number, stream=stream, text=f"{stream} {number}\n")
        for number, stream in enumerate(streams, 1)
    )


def texts(machine_run):
    return list(LogBlock.objects.filter(machine_run=machine_run).values_list("text", flat=True))


def is_pruned(machine_run):
    said = texts(machine_run)
    return len(said) == 1 and bool(MARK.fullmatch(said[0]))


def end(machine_runs, days_ago, **fields):
    machine_runs.update(ended_at=Now() - timedelta(days=days_ago), **fields)


@pytest.fixture
def logs(start, job, machines, finish):
    """Six logs of machine runs that ended 40 days ago; pay-2 failed."""
    run = start(job, machines)
    finish("failed", on=["pay-2"], exit_status=3)
    for machine_run in run.machine_runs.all():
        write(machine_run, "out", "err", "mark", "out")
    end(run.machine_runs, 40)
    return list(run.machine_runs.order_by("machine__hostname"))


def test_old_logs_are_pruned_and_say_when(logs):
    assert say("prune_logs", "--older-than", 30) == "Pruned 6 logs, 24 blocks.\n"
    assert all(map(is_pruned, logs))
    when = datetime.fromisoformat(MARK.fullmatch(texts(logs[0])[0])[1]).replace(tzinfo=UTC)
    assert timedelta() <= database_now() - when < timedelta(minutes=5)
    assert LogBlock.objects.get(machine_run=logs[0]).stream == "mark"


def test_a_second_call_prunes_nothing_and_keeps_what_the_first_one_said(logs):
    say("prune_logs", "--older-than", 30)
    LogBlock.objects.update(text="… this log was pruned on 2020-01-01 00:00 UTC …")
    assert say_json("prune_logs", "--older-than", 30) == {"logs": 0, "blocks": 0, "dry_run": False}
    assert texts(logs[0]) == ["… this log was pruned on 2020-01-01 00:00 UTC …"]


def test_what_ended_later_stays(logs):
    end(MachineRun.objects.filter(pk=logs[0].pk), 29.99)
    end(MachineRun.objects.filter(pk=logs[1].pk), 30.01)
    assert say_json("prune_logs", "--older-than", 30)["logs"] == 5
    assert [is_pruned(log) for log in logs] == [False, *[True] * 5]


@each("status", ["queued", "claimed", "running", "unknown"])
def test_what_has_not_ended_for_certain_stays(logs, status):
    end(MachineRun.objects.filter(pk=logs[0].pk), 400, status=status)
    assert say_json("prune_logs", "--older-than", 30)["logs"] == 5
    assert len(texts(logs[0])) == 4


def test_what_never_ended_stays(logs):
    MachineRun.objects.filter(pk=logs[0].pk).update(ended_at=None)
    assert say_json("prune_logs", "--older-than", 30)["logs"] == 5


def test_logs_of_failures_can_be_kept(logs):
    MachineRun.objects.filter(pk=logs[3].pk).update(status="timed_out")
    assert say_json("prune_logs", "--older-than", 30, "--keep-failed") == {"logs": 4, "blocks": 16, "dry_run": False}
    assert [is_pruned(log) for log in logs] == [True, False, True, False, True, True]
    assert say_json("prune_logs", "--older-than", 30)["logs"] == 2


def test_a_dry_run_tells_the_same_and_deletes_nothing(logs):
    assert say("prune_logs", "--older-than", 30, "--dry-run") == "Would prune 6 logs, 24 blocks.\n"
    assert say_json("prune_logs", "--older-than", 30, "--dry-run") == {"logs": 6, "blocks": 24, "dry_run": True}
    assert LogBlock.objects.count() == 24
    assert say_json("prune_logs", "--older-than", 30) == {"logs": 6, "blocks": 24, "dry_run": False}


def test_a_machine_that_said_nothing_gets_no_mark(logs):
    LogBlock.objects.filter(machine_run=logs[0]).delete()
    assert say_json("prune_logs", "--older-than", 30)["logs"] == 5
    assert texts(logs[0]) == []


def test_nothing_but_log_blocks_changes(logs):
    before = list(MachineRun.objects.order_by("pk").values()), Event.objects.count()
    say("prune_logs", "--older-than", 30)
    assert (list(MachineRun.objects.order_by("pk").values()), Event.objects.exclude(job=None).count()) == before


def test_it_is_an_event_when_something_was_pruned(logs):
    say("prune_logs", "--older-than", 30, "--dry-run")
    say("prune_logs", "--older-than", 30, "--keep-failed")
    say("prune_logs", "--older-than", 30, "--keep-failed")
    told = Event.objects.get(job=None)
    assert (told.verb, told.subject, told.origin.startswith("command on ")) == ("pruned", "logs", True)
    assert (told.detail["older_than"], told.detail["keep_failed"]) == (30, True)


def test_it_goes_batch_by_batch_each_in_a_short_transaction(logs, monkeypatch):
    monkeypatch.setattr(prune_logs, "BATCH", 2)
    with CaptureQueriesContext(connection) as captured:
        assert say_json("prune_logs", "--older-than", 30) == {"logs": 6, "blocks": 24, "dry_run": False}
    assert all(map(is_pruned, logs))
    deletes = [query["sql"] for query in captured if query["sql"].startswith("DELETE")]
    assert len(deletes) == 3
    assert sum(query["sql"].startswith("SAVEPOINT") for query in captured) >= 3


@pytest.mark.one_database
def test_each_batch_begins_behind_the_one_before_among_the_blocks_too(logs, monkeypatch):
    """Else PostgreSQL went through the blocks of all that was pruned already, for each batch anew."""
    monkeypatch.setattr(prune_logs, "BATCH", 2)
    with CaptureQueriesContext(connection) as captured:
        say("prune_logs", "--older-than", 30)
    behind = [re.findall(r'U0."machine_run_id" > (\d+)', query["sql"]) for query in captured]
    ids = sorted(machine_run.pk for machine_run in logs)
    assert [int(pk) for some in behind for pk in some] == [0, *ids[1::2]]


def test_what_is_deleted_is_in_the_history_though_the_command_is_killed_midway(logs, monkeypatch):
    monkeypatch.setattr(prune_logs, "BATCH", 2)

    def killed_at_the_third(execute, sql, params, many, context):
        if sql.startswith("DELETE") and Event.objects.filter(verb="pruned").count() == 2:
            raise KeyboardInterrupt
        return execute(sql, params, many, context)

    with connection.execute_wrapper(killed_at_the_third), pytest.raises(KeyboardInterrupt):
        say("prune_logs", "--older-than", 30)
    told = [event.detail for event in Event.objects.filter(verb="pruned")]
    assert [(one["logs"], one["blocks"], one["older_than"]) for one in told] == [(2, 8, 30)] * 2
    assert sum(map(is_pruned, logs)) == 4


def test_many_logs_are_pruned_with_few_parameters(payment, make_job, start, finish):
    machines = list_machines(payment, *(f"pay-{number}" for number in range(1100)))
    run = start(make_job(on=machines), machines)
    finish()
    LogBlock.objects.bulk_create(LogBlock(machine_run=one, number=1, text="x") for one in run.machine_runs.all())
    end(run.machine_runs, 40)
    with few_parameters():
        assert say_json("prune_logs", "--older-than", 30)["logs"] == 1100


def test_two_calls_at_the_same_time_leave_one_mark(logs):
    """The other one prunes what this one has just chosen."""
    old, others = partial(prune_logs._old_logs, database_now(), False), []

    def after_the_other(execute, sql, params, many, context):
        if sql.startswith("DELETE") and not others:
            others.append(None)
            others.append(prune_logs._prune(old, "… by the other …", {}))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(after_the_other):
        assert say_json("prune_logs", "--older-than", 30)["logs"] == 6
    assert others[1] == (6, 24)
    assert [len(texts(log)) for log in logs] == [1] * 6


def test_what_another_call_has_pruned_since_it_was_found_is_told_once(logs):
    old, others = partial(prune_logs._old_logs, database_now(), False), []

    def before_the_other(execute, sql, *rest):
        found = execute(sql, *rest)
        if "LIMIT" in sql and not others:
            others.append(None)
            others.append(prune_logs._prune(old, "… by the other …", {}))
        return found

    with connection.execute_wrapper(before_the_other):
        assert say_json("prune_logs", "--older-than", 30) == {"logs": 0, "blocks": 0, "dry_run": False}
    assert others[1] == (6, 24)
    assert Event.objects.get(verb="pruned").detail == {"logs": 6, "blocks": 24}
    assert texts(logs[0]) == ["… by the other …"]


def test_the_pages_of_a_pruned_log_say_so(logs, as_user, approver):
    say("prune_logs", "--older-than", 30)
    client = as_user(approver)
    where = {"machine_run_id": logs[1].pk}
    shown = words(client.get(page("machine_run", logs[1].run.stage.job, **where)))
    assert MARK.search(shown)
    assert "Failed, exit 3" in shown
    saved = client.get(page("machine_run_download", logs[1].run.stage.job, **where))
    assert MARK.search(b"".join(saved.streaming_content).decode())


@pytest.mark.one_database
@each("days", ["0", "-1", "1.5", "", "x", "٣", "100000", "9" * 30])
def test_days_that_cannot_be(logs, days):
    assert "a whole number of days from 1 to 99999" in fail("prune_logs", f"--older-than={days}", code=1)
    assert LogBlock.objects.count() == 24


def test_the_days_must_be_said(logs):
    assert "--older-than" in fail("prune_logs", code=1)
    assert LogBlock.objects.count() == 24


def test_there_may_be_nothing_to_prune(db):
    assert say("prune_logs", "--older-than", 99999) == "Pruned 0 logs, 0 blocks.\n"


def test_help_says_what_it_does(capsys):
    said = help_of("prune_logs", capsys)
    assert "Deletes what machines said in runs that ended long ago" in said
    assert "The history stays" in said
    assert "prune only the logs of machines that succeeded" in said

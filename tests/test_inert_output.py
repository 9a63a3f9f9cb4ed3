"""What machines, config services and people wrote does nothing to the terminal of ops, nor to the log."""

import json
import logging

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db.models import Value
from django.db.models.functions import Concat

from deploy_portal.logs import InertFormatter
from jobs.management.commands.verify_events import Command as VerifyEvents
from jobs.models import Machine
from releases.models import MachineRun
from tests.commands import say, say_json
from tests.pages import page

NASTY = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202egnp\x7f"
OBEYED = set("\x1b\x07\x9b\u202e\x7f")


@pytest.fixture
def ran(job, machines, start, finish):
    start(job, machines[:1])
    finish("failed")
    MachineRun.objects.update(reason=Value(NASTY))
    Machine.objects.filter(pk=machines[0].pk).update(hostname=f"pay-1{NASTY}")
    return job


def test_how_a_job_stands(ran, requester):
    said = say("job_status", "--as", "requester", ran.pk)
    assert not OBEYED & set(said)
    assert "␛]0;pwned" in said


def test_json_keeps_the_value_and_escapes_it(ran, requester):
    [run] = say_json("job_status", "--as", "requester", ran.pk)["stages"][0]["runs"]
    assert run["machines"][0]["reason"] == NASTY
    assert not (OBEYED - {"\x7f"}) & set(say("job_status", "--as", "requester", ran.pk, "--json"))


def test_rows_that_a_config_service_gave(payment, config_files):
    row = {"hostname": f"web{NASTY}", "address": "10.1.0.1"}
    (config_files / "payment.json").write_text(json.dumps([row, {"hostname": "a", "address": "10.1.0.2"}]))
    said = say("sync_machines", "payment")
    assert "refused" in said
    assert not OBEYED & set(said)


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_what_a_start_leaves_out(make_job, machines, start, rollback_task, release_task, publisher, capsys, dry_run):
    start(make_job("3.0"), machines[:1])
    job = make_job()
    Machine.objects.filter(pk__in=[machine.pk for machine in machines[:2]]).update(
        hostname=Concat("hostname", Value(NASTY))
    )
    said = say("run_stage", "--as", "publisher", job.pk, "pre-release", "--all", *dry_run) + capsys.readouterr().err
    assert not OBEYED & set(said)
    assert "Not released now: pay-1␛]0;pwned" in said


@pytest.mark.parametrize(
    "line", [["job_status", "--as", NASTY, "1"], ["create_job", "--as", "requester", "payment", "1.0", f"no{NASTY}"]]
)
def test_what_a_command_refuses(requester, machines, line):
    with pytest.raises(CommandError) as refused:
        call_command(*line)
    assert not OBEYED & set(str(refused.value))


@pytest.mark.parametrize(
    "line",
    [["job_status", "--as", "requester", "1", NASTY], ["verify_events", "--heads", NASTY], ["release_worker", NASTY]],
)
def test_what_a_command_cannot_read(line):
    with pytest.raises(CommandError) as refused:
        call_command(*line)
    assert "␛]0;pwned" in str(refused.value)
    assert not OBEYED & set(str(refused.value))


def test_the_colours_of_a_check_of_the_settings_stay(monkeypatch):
    def check(*args, **options):
        raise SystemCheckError("\x1b[31mred\x1b[0m")

    monkeypatch.setattr(VerifyEvents, "check", check)
    with pytest.raises(SystemCheckError, match=r"\x1b\[31mred"):
        call_command("verify_events", skip_checks=False)


def formatted(message, *args, exc_info=None):
    record = logging.LogRecord("portal", logging.WARNING, __file__, 1, message, args, exc_info)
    return InertFormatter("{levelname} {message}", style="{").format(record)


def test_a_record_is_one_line():
    assert formatted("Not found: %s", "/a\nERROR all is lost") == "WARNING Not found: /a⏎ERROR all is lost"
    assert not OBEYED & set(formatted("Not found: %s", NASTY))


def test_a_traceback_looks_like_no_record():
    try:
        raise ValueError(f"odd\nERROR all is lost{NASTY}")
    except ValueError as error:
        lines = formatted("It failed", exc_info=(ValueError, error, error.__traceback__)).splitlines()
    assert lines[0] == "WARNING It failed"
    assert all(line.startswith("    | ") for line in lines[1:])
    assert not OBEYED & set("".join(lines))


def test_a_refusal_is_told_without_the_way_to_it(as_user, publisher, job, caplog):
    """Whoever had a login could fill the log with twenty lines for each page that is not theirs."""
    assert as_user(publisher).get(page("edit_job", job)).status_code == 403
    [record] = caplog.records
    lines = InertFormatter("{levelname} {message}", style="{").format(record).splitlines()
    assert lines == [
        f"WARNING Forbidden (Permission denied): {page('edit_job', job)}",
        "    | django.core.exceptions.PermissionDenied: You lack the right to edit or withdraw this job.",
    ]


def test_so_is_a_wrong_host(client, caplog):
    """As whoever scans for hosts makes by the thousand."""
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    [record] = [record for record in caplog.records if "evil.example" in record.getMessage()]
    record.exc_text = None  # which pytest keeps in it
    assert len(InertFormatter("{levelname} {message}", style="{").format(record).splitlines()) == 2

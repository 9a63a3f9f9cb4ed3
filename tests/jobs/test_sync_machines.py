import json
from io import StringIO

import pytest
from django.core.management import call_command

from jobs.management.commands.sync_machines import Progress
from jobs.models import Event, Machine, Sync
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json


@pytest.fixture
def write_list(payment, orders, config_files):
    """Writes the file that a business's machines are read from."""

    def write(business, *hostnames):
        number = 1 if business == "payment" else 2
        machines = [{"hostname": name, "address": f"10.0.{number}.{n}"} for n, name in enumerate(hostnames, 1)]
        (config_files / f"{business}.json").write_text(json.dumps(machines))

    return write


def test_all_businesses_are_synced(write_list, payment):
    write_list("payment", "pay-1", "pay-2")
    write_list("orders", "ord-1")
    said = ["orders: 1 machines; 1 added", "  + ord-1", "payment: 2 machines; 2 added", "  + pay-1", "  + pay-2"]
    assert say("sync_machines").splitlines() == said
    assert Machine.objects.live_in(payment).count() == 2


def test_only_those_that_are_named_are_synced(write_list):
    write_list("payment", "pay-1")
    assert say("sync_machines", "payment") == "payment: 1 machines; 1 added\n  + pay-1\n"
    assert say("sync_machines", "payment") == "payment: 1 machines\n"


def test_json_tells_what_changed(write_list):
    write_list("payment", "pay-1", "-oProxyCommand=id")
    [result] = say_json("sync_machines", "payment")
    reason = result["refused"][0].pop("reason")
    assert reason
    assert result == {
        "business": "payment",
        "machines": 1,
        "added": ["pay-1"],
        "gone": [],
        "moved": [],
        "refused": [{"row": 2, "name": "-oProxyCommand=id"}],
    }


def test_refused_rows_are_told(write_list):
    write_list("payment", "pay-1", "a;b")
    assert "row 2 (a;b) refused: " in say("sync_machines", "payment")


def test_a_source_that_fails_is_an_error_and_the_others_are_synced_all_the_same(write_list, payment, capsys):
    write_list("payment", "pay-1")
    assert fail("sync_machines", code=CONFLICT) == "Not synced: orders"
    assert Machine.objects.live_in(payment).count() == 1


def test_a_sudden_loss_is_an_error_unless_it_is_accepted(write_list, payment):
    write_list("payment", *(f"pay-{number}" for number in range(10)))
    say("sync_machines", "payment")
    write_list("payment", "pay-1")
    assert fail("sync_machines", "payment", code=CONFLICT) == "Not synced: payment"
    assert Machine.objects.live_in(payment).count() == 10
    payment.refresh_from_db()
    why, _, told = payment.why_not_taken.partition(" If they are really gone: ")
    assert why == "9 of 10 machines are suddenly missing from the answer; it was not taken."
    said = say(*told.split()).splitlines()
    assert said[0] == "payment: 1 machines; 9 gone, 1 moved"
    assert said[1:10] == [f"  - pay-{number}" for number in [0, *range(2, 10)]]


def test_a_dry_run_tells_the_difference_and_changes_nothing(write_list, payment):
    write_list("payment", "pay-1", "pay-2", "pay-3", "pay-4")
    say("sync_machines", "payment")
    write_list("payment", "pay-0", "pay-2", "pay-4", "pay-3", "a;b")
    said = say("sync_machines", "payment", "--dry-run").splitlines()
    assert said[:4] == [
        "payment: 4 machines; 1 added, 1 gone, 2 moved, 1 refused",
        "  + pay-0",
        "  - pay-1",
        "  ~ pay-3: 10.0.1.3:22 -> 10.0.1.4:22",
    ]
    assert said[4:] == ["  ~ pay-4: 10.0.1.4:22 -> 10.0.1.3:22", said[5]]
    assert "row 5 (a;b) refused: " in said[5]
    assert {machine.hostname for machine in Machine.objects.live_in(payment)} == {f"pay-{n}" for n in range(1, 5)}
    assert Sync.objects.count() == 1


def test_a_dry_run_of_a_source_that_fails_leaves_no_trace(payment):
    fail("sync_machines", "payment", "--dry-run", code=CONFLICT)
    payment.refresh_from_db()
    assert (payment.sync_error, Sync.objects.count()) == ("", 0)


def test_a_terminal_sees_how_many_rows_have_come_of_about_how_many(write_list, monkeypatch):
    monkeypatch.setattr(Progress, "EVERY", 0)
    write_list("payment", "pay-1", "pay-2", "pay-3")
    drawn = []
    for _ in range(2):
        terminal, out = StringIO(), StringIO()
        terminal.isatty = lambda: True
        call_command("sync_machines", "payment", stdout=out, stderr=terminal)
        drawn.append(terminal.getvalue().split("\r\x1b[K"))
        assert "rows" not in out.getvalue()
    numbers = ("rows: 1", "rows: 2", "rows: 3")
    assert drawn[0] == ["", *(f"payment [{'.' * 30}] {number}" for number in numbers), ""]
    bars = ("#" * 10 + "." * 20, "#" * 20 + "." * 10, "#" * 30)
    assert drawn[1] == ["", *(f"payment [{bar}] {number}" for bar, number in zip(bars, numbers, strict=True)), ""]


def test_who_asks_by_name_is_kept(write_list, ops):
    write_list("payment", "pay-1")
    say("sync_machines", "payment", "--as", "ops", "--dry-run")
    assert not Event.objects.exists()
    say("sync_machines", "payment", "--as", "ops")
    event = Event.objects.get()
    assert (event.actor, event.verb, event.subject) == (ops, "asked_again", "business Payment")
    say("sync_machines", "payment")
    assert Event.objects.count() == 1


def test_a_business_that_is_not_there_is_an_error(payment):
    assert fail("sync_machines", "payment", "nonsense", code=MISTAKE) == "No such business: nonsense"


def test_help_says_what_it_does(capsys):
    said = help_of("sync_machines", capsys)
    assert "Asks the config service" in said
    assert "last good one stays" in said

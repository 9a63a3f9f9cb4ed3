import json

import pytest

from jobs.models import Machine
from tests.commands import MISTAKE, fail, help_of, say, say_json


@pytest.fixture
def write_list(payment, orders, settings):
    """Writes the file that a business's machines are read from."""

    def write(business, *hostnames):
        number = 1 if business == "payment" else 2
        machines = [{"hostname": name, "address": f"10.0.{number}.{n}"} for n, name in enumerate(hostnames, 1)]
        (settings.CONFIG_FILES_DIR / f"{business}.json").write_text(json.dumps(machines))

    return write


def test_all_businesses_are_synced(write_list, payment):
    write_list("payment", "pay-1", "pay-2")
    write_list("orders", "ord-1")
    assert say("sync_machines").splitlines() == ["orders: 1 machines; 1 added", "payment: 2 machines; 2 added"]
    assert Machine.objects.live_in(payment).count() == 2


def test_only_those_that_are_named_are_synced(write_list):
    write_list("payment", "pay-1")
    assert say("sync_machines", "payment") == "payment: 1 machines; 1 added\n"
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
        "refused": [{"row": 2, "name": "-oProxyCommand=id"}],
    }


def test_refused_rows_are_told(write_list):
    write_list("payment", "pay-1", "a;b")
    assert "row 2 (a;b) refused: " in say("sync_machines", "payment")


def test_a_source_that_fails_is_an_error_and_the_others_are_synced_all_the_same(write_list, payment, capsys):
    write_list("payment", "pay-1")
    assert fail("sync_machines", code=MISTAKE) == "Not synced: orders"
    assert Machine.objects.live_in(payment).count() == 1


def test_a_sudden_loss_is_an_error_unless_it_is_accepted(write_list, payment):
    write_list("payment", *(f"pay-{number}" for number in range(10)))
    say("sync_machines", "payment")
    write_list("payment", "pay-1")
    assert fail("sync_machines", "payment", code=MISTAKE) == "Not synced: payment"
    assert Machine.objects.live_in(payment).count() == 10
    assert say("sync_machines", "payment", "--accept-loss") == "payment: 1 machines; 9 gone\n"


def test_a_business_that_is_not_there_is_an_error(payment):
    assert fail("sync_machines", "payment", "nonsense", code=MISTAKE) == "No such business: nonsense"


def test_help_says_what_it_does(capsys):
    said = help_of("sync_machines", capsys)
    assert "Asks the config service" in said
    assert "last good one stays" in said

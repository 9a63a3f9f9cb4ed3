import pytest

from jobs.models import Listing
from releases.models import MachineRun
from tests.commands import MISTAKE, fail, help_of, say, say_json
from tests.conftest import rows

STATUS = ("machine_status", "--as", "requester")


@pytest.fixture
def touched(make_job, machines, start, finish):
    """(2.0, 2.1): both were released on pay-1; of 2.1 it is unknown how that ended."""
    jobs = make_job("2.0"), make_job("2.1")
    for job, ended in zip(jobs, ("succeeded", "unknown"), strict=True):
        start(job, machines[:1])
        finish(ended)
    return jobs


def test_it_tells_what_is_on_each_machine(touched):
    lines = say(*STATUS, "payment").splitlines()
    assert lines == ["pay-1: 2.0", *[f"pay-{n}: not known" for n in range(2, 7)]]
    said = say_json(*STATUS, "payment")
    assert said["business"] == "payment"
    assert said["machines"][0] == {"hostname": "pay-1", "site": "sh-1", "version": "2.0"}


def test_of_a_named_one_it_tells_who_did_what_to_it_and_who_holds_it(touched):
    first, second = touched
    [machine] = say_json(*STATUS, "payment", "PAY-1")["machines"]
    assert machine["held_by"] == str(second)
    told = [[run[name] for name in ("job", "stage", "action", "started_by", "status")] for run in machine["runs"]]
    assert told == [
        [second.pk, "pre-release", "release", "publisher", "unknown"],
        [first.pk, "pre-release", "release", "publisher", "succeeded"],
    ]
    versions = ("version_before", "version_wanted", "version_after")
    assert [[run[name] for name in versions] for run in machine["runs"]] == [["2.0", "2.1", None], ["", "2.0", "2.0"]]
    head, newest, oldest = say(*STATUS, "payment", "pay-1").splitlines()
    assert head == f"pay-1: 2.0, held by {second}"
    assert f"#{second.pk} pre-release, release to 2.1 by publisher in run" in newest
    assert oldest.endswith(": succeeded")


def test_json_tells_times_as_the_other_commands_do(touched):
    [machine] = say_json(*STATUS, "payment", "pay-1")["machines"]
    newest = MachineRun.objects.get(status="unknown")
    assert machine["runs"][0]["queued_at"] == newest.queued_at.isoformat()
    assert [run["ended_at"] for run in machine["runs"]] == [
        one.ended_at.isoformat() for one in MachineRun.objects.filter(machine__hostname="pay-1").order_by("-pk")
    ]


def test_a_reason_of_several_lines_is_told_in_one(touched, publisher):
    """Or what who resolved it wrote would look like other runs or machines."""
    MachineRun.objects.get(status="unknown").resolve(publisher, "failed", "its disk is full\npay-2: 9.9")
    head, newest, _oldest = say(*STATUS, "payment", "pay-1").splitlines()
    assert head == "pay-1: 2.0"
    assert newest.endswith(": failed its disk is full pay-2: 9.9")


def test_it_tells_no_more_of_its_runs_than_was_asked_for(touched):
    [machine] = say_json(*STATUS, "payment", "pay-1", "--runs", 1)["machines"]
    assert [run["job"] for run in machine["runs"]] == [touched[1].pk]


def test_what_is_gone_is_not_listed_but_can_be_named(touched, payment):
    Listing.objects.take(payment, rows(*(f"pay-{n}" for n in range(2, 7))))
    assert "pay-1" not in say(*STATUS, "payment")
    assert say(*STATUS, "payment", "pay-1").startswith("pay-1: 2.0, held by")


def test_what_another_business_did_to_a_shared_machine_is_not_told(touched, orders, outsider):
    Listing.objects.take(orders, rows("pay-1"))
    [machine] = say_json("machine_status", "--as", "outsider", "orders", "pay-1")["machines"]
    told = {"held_by": "a job of another business", "runs": []}
    assert machine == {"hostname": "pay-1", "site": "sh-1", "version": ""} | told


def test_a_machine_of_another_business_is_a_mistake(machines, orders, outsider):
    said = fail("machine_status", "--as", "outsider", "orders", "pay-1", code=MISTAKE)
    assert said == "Not among the machines to choose from: pay-1"


@pytest.mark.one_database
@pytest.mark.parametrize("number", ["-1", "some"])
def test_a_number_of_runs_that_is_none_is_refused(machines, number):
    assert "--runs" in fail(*STATUS, "payment", "pay-1", f"--runs={number}", code=MISTAKE)


def test_help_says_what_it_does(capsys):
    assert "which version the ledger last saw" in help_of("machine_status", capsys)

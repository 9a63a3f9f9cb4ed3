import pytest

from releases.models import LogBlock
from tests.commands import MISTAKE, fail, help_of, say, say_json

LOG = ("machine_log", "--as", "requester")


@pytest.fixture
def run(job, machines, start, finish):
    run = start(job, machines[:2])
    finish("failed", on=["pay-1"], exit_status=1)
    machine_run = run.machine_runs.get(machine=machines[0])
    LogBlock.objects.create(machine_run=machine_run, number=1, stream="out", text="fetch\nunpack\n")
    LogBlock.objects.create(machine_run=machine_run, number=2, stream="err", text="no space left\n")
    return run


def test_it_prints_each_line_behind_its_time_and_stream(run):
    said = say(*LOG, run.pk, "PAY-1")
    assert [line[8:] for line in said.splitlines()] == [" out| fetch", " out| unpack", " err| no space left"]


def test_json_tells_it_with_how_the_machine_ended(run):
    said = say_json(*LOG, run.pk, "pay-1")
    assert (said["run"], said["hostname"], said["status"]) == (run.pk, "pay-1", "failed")
    assert said["log"] == say(*LOG, run.pk, "pay-1")


def test_one_that_said_nothing_is_empty(run):
    assert say(*LOG, run.pk, "pay-2").strip() == ""


def test_a_machine_that_the_run_has_not_is_a_mistake(run):
    assert fail(*LOG, run.pk, "pay-3", code=MISTAKE) == "Not among the machines to choose from: pay-3"


@pytest.mark.parametrize("name", ["", "pay-[1-2]"])
def test_it_is_of_one_machine(run, name):
    fail(*LOG, run.pk, name, code=MISTAKE)


def test_help_says_what_it_does(capsys):
    assert "what a machine said in a run" in help_of("machine_log", capsys)

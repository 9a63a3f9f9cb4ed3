from datetime import timedelta

import pytest
from django.db.models.functions import Now

from releases.demo.comparison import Kind, compare, differences
from releases.models import MachineRun, ReleaseStage
from tests.workers import begin


def line_of(machine_run):
    run = machine_run.run
    return f"{machine_run.pk} {run.action} {machine_run.version_after or '-'} {run.stage.job_id} {run.stage.kind}\n"


@pytest.fixture
def homes(tmp_path):
    return tmp_path


@pytest.fixture
def log(homes):
    """Writes what a machine says that it executed, and what is there now."""

    def log(hostname, *lines, current=None):
        home = homes / hostname
        home.mkdir(exist_ok=True)
        (home / "releases.log").write_text("".join(lines))
        (home / "current").unlink(missing_ok=True)
        if current:
            (home / "current").write_text(f"{current}\n")

    return log


@pytest.fixture
def released(job, machines, start, finish, log):
    """The machine runs of two machines on which 2.0 was released, and which say so."""
    run = start(job, machines[:2])
    finish()
    machine_runs = list(run.machine_runs.select_related("machine", "run__stage"))
    for machine_run in machine_runs:
        log(machine_run.machine.hostname, line_of(machine_run), current="2.0")
    return machine_runs


def test_agreement(released, homes):
    (homes / "pay-6").mkdir()
    assert differences(homes) == {}


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("lines", "sentences"),
    [
        ([], ["Machine run {pk} succeeded by the ledger, but was not executed here."]),
        (["{line}", "{line}"], ["Machine run {pk} was executed 2 times."]),
        (["{line}", "999 release 2.0 1 release\n"], ["Executed, but not in the ledger: '999 release 2.0 1 release'."]),
        (["{line}", "\n"], ["Executed, but not in the ledger: ''."]),
        (
            ["{pk} release 3.0 {job} pre-release\n"],
            ["Executed '{pk} release 3.0 {job} pre-release', where {expected}."],
        ),
        (
            ["{pk} rollback 2.0 {job} pre-release\n"],
            ["Executed '{pk} rollback 2.0 {job} pre-release', where {expected}."],
        ),
        (["{pk}"], ["Executed '{pk}', where {expected}."]),
    ],
)
def test_doctored_log(released, log, homes, lines, sentences):
    machine_run = released[0]
    line = line_of(machine_run)
    words = {"line": line, "pk": machine_run.pk, "job": machine_run.run.stage.job_id}
    words["expected"] = f"the ledger has {line.strip()!r}"
    log("pay-1", *(line.format(**words) for line in lines), current="2.0")
    assert differences(homes) == {"pay-1": [sentence.format(**words) for sentence in sentences]}


@pytest.mark.parametrize("current", [None, "1.0"])
def test_something_else_is_there(released, log, homes, current):
    log("pay-2", line_of(released[1]), current=current)
    assert differences(homes) == {"pay-2": [f"{current or 'Nothing'} is there now, where the ledger has 2.0."]}


def test_line_of_another_machine(released, log, homes):
    log("pay-1", line_of(released[0]), line_of(released[1]), current="2.0")
    assert list(differences(homes)) == ["pay-1"]


def test_machine_whose_home_is_gone(released, homes):
    for file in (homes / "pay-1").iterdir():
        file.unlink()
    (homes / "pay-1").rmdir()
    assert len(differences(homes)["pay-1"]) == 2


def test_rollback_to_nothing(released, job, publisher, finish, log, homes):
    stage = ReleaseStage.objects.of_kind(job, "pre-release")
    back = stage.roll_back(publisher, [released[0].machine], "broken", "key").machine_runs.get()
    finish()
    lines = [line_of(released[0]), line_of(back)]
    log("pay-1", *lines, current="2.0")
    assert differences(homes) == {"pay-1": ["2.0 is there now, where the ledger has nothing."]}
    log("pay-1", *lines)
    assert differences(homes) == {}


@pytest.mark.one_database
@pytest.mark.parametrize("status", ["failed", "timed_out", "unknown"])
@pytest.mark.parametrize("went_far", [True, False])
def test_run_that_did_not_end_well_may_have_changed_the_machine_or_not(
    job, machines, start, finish, log, homes, status, went_far
):
    run = start(job, machines[:1])
    finish(status, exit_status=None)
    log("pay-1", *([line_of(run.machine_runs.get())] if went_far else []), current="2.0" if went_far else None)
    assert differences(homes) == {}
    log("pay-1", current="3.0")
    assert differences(homes) == {"pay-1": ["3.0 is there now, where the ledger has nothing or 2.0."]}


def test_what_still_runs_is_in_the_ledger(job, machines, start, worker, log, homes):
    run = start(job, machines[:1])
    begin(worker)
    log("pay-1", line_of(run.machine_runs.get()), current="2.0")
    assert compare(homes) == []


def test_unreachable_machine_has_nothing_to_say(job, machines, start, finish, log, homes):
    run = start(job, machines[:1])
    MachineRun.objects.filter(run=run).update(status="unreachable")
    assert differences(homes) == {}
    log("pay-1", line_of(run.machine_runs.get()), current="2.0")
    assert len(differences(homes)["pay-1"]) == 2


@pytest.mark.one_database
@pytest.mark.parametrize("status", ["failed", "unknown", "cancelled", "succeeded"])
def test_never_twice_however_it_ended(job, machines, start, finish, log, homes, status):
    """What was cut off may have written its line or not, but not two."""
    machine_run = start(job, machines[:1]).machine_runs.get()
    finish(status)
    line = line_of(machine_run)
    log("pay-1", line, current="2.0")
    assert compare(homes) == []
    log("pay-1", line, line, current="2.0")
    assert [(found.hostname, found.kind) for found in compare(homes)] == [("pay-1", Kind.TWICE)]


def test_success_that_its_check_took_back(job, machines, start, finish, log, homes):
    """The script ran to its end, so that its line is there; the machine run failed all the same."""
    run = start(job, machines[:1])
    finish("failed", exit_status=1)
    log("pay-1", line_of(run.machine_runs.get()), current="2.0")
    assert compare(homes) == []


@pytest.mark.parametrize("line_is_there", [True, False])
def test_unknown_that_a_person_resolved(job, machines, start, finish, publisher, log, homes, line_is_there):
    """As succeeded: that is a claim of which the machine must know."""
    machine_run = start(job, machines[:1]).machine_runs.get()
    finish("unknown")
    log("pay-1", *([line_of(machine_run)] if line_is_there else []), current="2.0")
    assert compare(homes) == []
    machine_run.refresh_from_db()
    machine_run.resolve(publisher, MachineRun.Status.SUCCEEDED, "it is there")
    assert [found.kind for found in compare(homes)] == ([] if line_is_there else [Kind.NOT_EXECUTED])


def test_what_was_begun_counts_too(released, homes):
    """A second try that was cut off before its line."""
    first, second = (str(machine_run.pk) for machine_run in released)
    (homes / "pay-1/begun.log").write_text(f"{first}\n")
    (homes / "pay-2/begun.log").write_text(f"{second}\n{second}\n999\n")
    assert differences(homes) == {
        "pay-2": ["Begun, but not in the ledger: '999'.", f"Machine run {second} was executed 2 times."]
    }
    assert [found.kind for found in compare(homes)] == [Kind.NOT_IN_LEDGER, Kind.TWICE]


def test_order_is_that_of_the_beginnings(machines, make_job, start, finish, log, homes):
    """A run that waited for its machine begins after one that was asked for later."""
    runs = []
    for version in ("2.0", "3.0"):
        runs.append(start(make_job(version), machines[:1]).machine_runs.get())
        finish()
    MachineRun.objects.filter(pk=runs[0].pk).update(started_at=Now() + timedelta(seconds=1))
    log("pay-1", line_of(runs[1]), line_of(runs[0]), current="2.0")
    assert compare(homes) == []

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError

from tests.commands import MISTAKE, fail, help_of, say, say_json
from tests.databases import read_only
from tests.workers import begin, fall_silent, grow_old

STATUS = ("job_status", "--as", "requester")
UNUSABLE = [OperationalError("away"), InterfaceError("closed"), ProgrammingError("no such table"), read_only()]


def test_json_tells_the_stages_their_runs_and_each_machine(job, machines, start, finish):
    run = start(job, machines[:2])
    worker = finish("failed", on=["pay-2"], exit_status=7)
    said = say_json(*STATUS, job.pk)
    assert (said["job"], said["status"]) == (job.pk, "in_progress")
    assert [(stage["kind"], stage["status"]) for stage in said["stages"]] == [
        ("pre-release", "failed"),
        ("gray-release", "waiting"),
        ("release", "waiting"),
    ]
    [told] = said["stages"][0]["runs"]
    assert (told["id"], told["action"], told["status"]) == (run.pk, "release", "failed")
    wanted = ("hostname", "status", "exit_status", "worker")
    assert [tuple(machine[name] for name in wanted) for machine in told["machines"]] == [
        ("pay-1", "succeeded", 0, worker.name),
        ("pay-2", "failed", 7, worker.name),
    ]


def test_json_tells_a_job_that_has_not_begun(make_job):
    said = say_json(*STATUS, make_job(approved=False).pk)
    assert said["status"] == "waiting"
    assert all(stage["runs"] == [] for stage in said["stages"])


def test_a_machine_that_waits_has_neither_exit_status_nor_worker(job, machines, start):
    start(job, machines[:1])
    [machine] = say_json(*STATUS, job.pk)["stages"][0]["runs"][0]["machines"]
    assert (machine["status"], machine["exit_status"], machine["worker"]) == ("queued", None, None)


def test_words_tell_the_same(job, machines, start, finish):
    start(job, machines[:2])
    finish("failed", on=["pay-2"], exit_status=7)
    said = say(*STATUS, job.pk)
    assert f"#{job.pk} payment 2.0" in said
    assert "pre-release: failed" in said
    assert "pay-2: failed, exit 7" in said


def test_a_reason_of_several_lines_looks_like_no_other_machine(job, machines, start, finish, publisher):
    run = start(job, machines[:2])
    finish("unknown", on=["pay-2"])
    run.machine_runs.get(status="unknown").resolve(publisher, "failed", "I looked\n      pay-3: succeeded, exit 0")
    lines = say(*STATUS, job.pk).splitlines()
    assert "      pay-2: failed, exit 0 I looked pay-3: succeeded, exit 0" in lines
    assert "      pay-3: succeeded, exit 0" not in lines


@pytest.fixture
def silent(job, machines, start, worker, settings):
    """A run whose only worker no longer beats, and that nobody suspects yet."""
    settings.WORKER_DEAD_AFTER = 15
    run = start(job, machines[:1])
    begin(worker)
    fall_silent(worker, suspected=False)
    return run


def looked(job):
    return say_json(*STATUS, job.pk)["stages"][0]["runs"][0]["machines"][0]["status"]


def test_one_look_finds_what_a_dead_worker_left(job, silent, worker, monkeypatch):
    waited = []
    monkeypatch.setattr("releases.tidying.time.sleep", lambda seconds: (waited.append(seconds), grow_old(worker)))
    assert looked(job) == "unknown"
    assert waited == [6]
    assert looked(job) == "unknown"
    assert waited == [6]
    silent.refresh_from_db()
    assert silent.status == "failed"


def test_a_worker_that_beats_again_while_it_looks_is_left_alone(job, silent, worker, monkeypatch):
    monkeypatch.setattr("releases.tidying.time.sleep", lambda seconds: (grow_old(worker), worker.beat()))
    assert looked(job) == "running"
    assert worker.beat()


@pytest.mark.parametrize("dead_after", [15, 3600])
def test_it_waits_for_nobody_who_lives_and_for_nobody_too_long(job, silent, worker, settings, monkeypatch, dead_after):
    monkeypatch.setattr("releases.tidying.time.sleep", lambda seconds: pytest.fail("it waited"))
    settings.WORKER_DEAD_AFTER = dead_after
    if dead_after == 15:
        worker.beat()
    assert looked(job) == "running"


@pytest.mark.parametrize("user", ["requester", "publisher", "approver", "ops"])
def test_who_sees_the_job_sees_its_status(job, publisher, ops, user):
    assert say_json("job_status", "--as", user, job.pk)["job"] == job.pk


@pytest.mark.parametrize(("user", "said"), [("outsider", "sees no such"), ("nobody", "no active user")])
def test_who_does_not_see_the_job_is_told_so(job, outsider, user, said):
    assert said in fail("job_status", "--as", user, job.pk, code=MISTAKE)


@pytest.mark.parametrize("number", [0, 7777, 10**30])
def test_a_job_that_is_not_there_is_refused(job, number):
    assert "sees no such" in fail(*STATUS, number, code=MISTAKE)


def test_help_says_what_it_does(capsys):
    assert "how a job stands" in help_of("job_status", capsys)


@pytest.mark.parametrize("error", UNUSABLE, ids=lambda error: type(error).__name__)
def test_a_database_that_cannot_be_used_is_told_in_a_line(requester, monkeypatch, error):
    def unusable(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("django.db.backends.utils.CursorWrapper.execute", unusable)
        assert fail(*STATUS, 1, code=MISTAKE) == f"The database cannot be used: {error}"

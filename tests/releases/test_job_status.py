from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.utils.timezone import localtime

from jobs.models import Freeze, Leave
from releases.models import ReleaseStage
from tests.commands import MISTAKE, fail, help_of, say, say_json
from tests.databases import read_only
from tests.freezes import HOUR, freeze_now, occurrence_of
from tests.workers import begin, claim, end, fall_silent, grow_old

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


@pytest.mark.parametrize("status", ["failed", "timed_out", "unreachable", "unknown"])
def test_a_version_is_there_only_where_it_was_put(make_job, machines, start, finish, worker, status):
    start(make_job("1.0"), machines[:2])
    finish()
    job = make_job("9.0")
    run = start(job, machines[:2], batch_size="1")
    assert versions(job) == {"pay-1": ("1.0", "9.0", None), "pay-2": ("1.0", "9.0", None)}
    end(worker, claim(worker) if status == "unreachable" else begin(worker), status)
    assert versions(job)["pay-1"] == ("1.0", "9.0", None)
    assert run.machine_runs.get(machine=machines[1]).status == "not_run"
    assert versions(job)["pay-2"] == ("1.0", "9.0", None)


def test_a_release_and_a_rollback_tell_what_they_put_there(job, machines, start, finish, publisher):
    run = start(job, machines[:1])
    finish()
    assert versions(job) == {"pay-1": ("", "2.0", "2.0")}
    run.stage.refresh_from_db()
    run.stage.roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    assert versions(job) == {"pay-1": ("2.0", "", "")}


def versions(job):
    """{host name: from which version to which, and what it put there} of the newest run."""
    machines = say_json(*STATUS, job.pk)["stages"][0]["runs"][-1]["machines"]
    told = ("version_before", "version_wanted", "version_after")
    return {machine["hostname"]: tuple(machine[name] for name in told) for machine in machines}


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


# Whether a pipeline can go on


def opening(job, user="requester"):
    stages = say_json("job_status", "--as", user, job.pk)["stages"]
    return [(stage["is_open"], stage["why_not"], stage["opens_at"]) for stage in stages]


AFTER_PRE, AFTER_GRAY = (False, "pre-release comes first.", None), (False, "gray-release comes first.", None)


def test_json_tells_the_revision_and_how_many_must_approve_it(make_job, payment, requester, machines):
    payment.approvers_needed = 2
    payment.save()
    job = make_job(approved=False)
    job.edit(requester, machines[:2])
    said = say_json(*STATUS, job.pk)
    assert (said["revision"], said["approvals_left"]) == (2, 2)
    assert f"{job}: Waiting for approval, revision 2, 2 more to approve it" in say(*STATUS, job.pk).splitlines()
    assert opening(job) == [(False, "The job is waiting for approval.", None)] * 3


def test_of_an_approved_job_none_is_left(job):
    assert say_json(*STATUS, job.pk)["approvals_left"] == 0
    assert f"{job}: Approved, revision 1" in say(*STATUS, job.pk).splitlines()


def test_the_stages_open_one_after_the_other(job, machines, start, finish):
    assert opening(job) == [(True, "", None), AFTER_PRE, AFTER_GRAY]
    start(job, machines[:1])
    assert opening(job) == [(False, "A run of it goes on.", None), AFTER_PRE, AFTER_GRAY]
    finish()
    assert opening(job) == [(True, "", None), (True, "", None), AFTER_GRAY]
    assert "  gray-release: waiting, open" in say(*STATUS, job.pk).splitlines()


@pytest.mark.parametrize("how", ["released", "excused"])
def test_nothing_is_open_where_no_machine_is_left(job, machines, start, finish, publisher, how):
    """Else who starts a stage as long as one is open would not end."""
    start(job, machines if how == "released" else machines[:1])
    finish()
    if how == "excused":
        ReleaseStage.objects.excuse(job, machines[1:], publisher, "in repair")
    assert opening(job) == [(False, "No machine is left to release.", None)] * 3


def opens_at(job, kind="pre-release"):
    return ReleaseStage.objects.of_kind(job, kind).opens_at


def test_a_stage_that_waits_for_a_soak_tells_until_when(soaking):
    until = opens_at(soaking, "gray-release")
    assert opening(soaking)[1] == (False, "pre-release soaks first.", until.isoformat())
    words = f"  gray-release: waiting, opens {localtime(until):%Y-%m-%d %H:%M:%S}: pre-release soaks first."
    assert words in say(*STATUS, soaking.pk).splitlines()


def test_a_frozen_stage_tells_until_when(job, ops):
    freeze = freeze_now(ops)
    is_open, why, until = opening(job)[0]
    assert (is_open, until) == (False, freeze.ends_at.isoformat())
    assert "the great sale" in why


def test_a_freeze_that_is_over_before_the_soak_changes_nothing_and_one_that_follows_does(soaking, ops):
    until = opens_at(soaking, "gray-release")
    freeze_now(ops, reason="short", ends_at=until - timedelta(minutes=5))
    assert opening(soaking)[1][2] == until.isoformat()
    begins, first, last = until - timedelta(minutes=1), until + HOUR, until + 3 * HOUR
    freeze_now(ops, reason="next", starts_at=begins, ends_at=first)
    freeze_now(ops, reason="last", starts_at=until + HOUR / 2, ends_at=last)
    is_open, why, when = opening(soaking)[1]
    assert (is_open, when) == (False, last.isoformat())
    assert ("short" in why, "next" in why, "last" in why) == (False, True, True)


def test_nobody_knows_when_a_stop_of_everything_ends(job, ops):
    Freeze.objects.stop_world(ops, "smoke")
    is_open, why, until = opening(job)[0]
    assert (is_open, until) == (False, None)
    assert "Everything is stopped" in why


def test_a_stage_that_has_leave_is_open_except_for_who_gave_it(job, ops, approver, publisher):
    freeze = freeze_now(ops)
    Leave.objects.give(job, approver, occurrence_of(freeze), "it must be")
    assert opening(job, "publisher")[0] == (True, "", None)
    assert opening(job, "approver")[0][0] is False

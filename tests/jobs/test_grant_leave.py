import pytest

from jobs.models import Freeze, Leave, Membership
from jobs.rights import Role
from tests.cases import each
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json
from tests.freezes import freeze_now, occurrence_of

GRANT = ("grant_leave", "--as", "approver", "--reason", "a hole in the wall")


@pytest.fixture
def freeze(ops, payment):
    return freeze_now(ops, payment)


def test_leave_is_given(freeze, job, approver):
    assert "has leave. Frozen from" in say(*GRANT, job.pk)
    leave = Leave.objects.get()
    assert (leave.by, leave.job, leave.freeze, leave.reason) == (approver, job, freeze, "a hole in the wall")
    assert job.events.get(verb="leave").origin.startswith("command on ")


def test_json_tells_which(freeze, job):
    occurrence = occurrence_of(freeze)
    expected = {"job": job.pk, "freeze": occurrence.key, "until": freeze.ends_at.isoformat()}
    assert say_json(*GRANT, job.pk) == expected


def test_of_several_one_is_named(freeze, job, ops):
    other = occurrence_of(freeze_now(ops, reason="audit"))
    said = fail(*GRANT, job.pk, code=MISTAKE)
    assert "the great sale" in said
    assert f"--freeze {other.key}" in said
    say(*GRANT, job.pk, "--freeze", other.key)
    assert Leave.objects.get().freeze == other.freeze


def test_without_a_freeze_there_is_nothing_to_pass(job, orders, ops):
    freeze_now(ops, orders)
    Freeze.objects.stop_world(ops, "smoke")
    assert "there is none" in fail(*GRANT, job.pk, code=MISTAKE)


def test_no_leave_passes_a_stop(job, ops):
    stop = Freeze.objects.stop_world(ops, "smoke")
    assert "--freeze:" in fail(*GRANT, job.pk, "--freeze", f"{stop.pk}-20260101000000", code=MISTAKE)
    assert not Leave.objects.exists()


def test_again_is_a_conflict(freeze, job):
    say(*GRANT, job.pk)
    assert "given this leave already" in fail(*GRANT, job.pk, code=CONFLICT)
    assert Leave.objects.count() == 1


def test_nobody_gives_leave_to_their_own_job(freeze, job, requester, payment):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    assert "lack the right" in fail("grant_leave", "--as", "requester", job.pk, "--reason", "mine", code=MISTAKE)
    assert not Leave.objects.exists()


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("publisher", "lack the right"),
        ("requester", "lack the right"),
        ("ops", "lack the right"),
        ("outsider", "sees no such"),
        ("nobody", "no active user"),
    ],
)
def test_who_may_not_is_told_so(freeze, job, publisher, outsider, user, said):
    assert said in fail("grant_leave", "--as", user, job.pk, "--reason", "urgent", code=MISTAKE)
    assert not Leave.objects.exists()


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_reason_that_no_page_takes_is_refused(freeze, job, reason):
    assert "--reason:" in fail("grant_leave", "--as", "approver", job.pk, f"--reason={reason}", code=MISTAKE)
    assert not Leave.objects.exists()


@each("name", ["", "0", "-1", "1-x", "9" * 40, "' OR 1=1"])
def test_a_freeze_that_is_not_there_is_refused(job, name, ops, orders):
    freeze_now(ops, orders)
    assert fail(*GRANT, job.pk, f"--freeze={name}", code=MISTAKE)
    assert not Leave.objects.exists()


def test_help_says_what_it_does(capsys):
    assert "Gives leave for a job to pass one time of a freeze" in help_of("grant_leave", capsys)

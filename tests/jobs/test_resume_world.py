import pytest

from jobs.models import Freeze
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json

RESUME = ("resume_world", "--as", "ops", "--reason")


@pytest.fixture(autouse=True)
def stop(ops, approver, outsider):
    return Freeze.objects.stop_world(ops, "smoke")


def test_ops_end_the_stop(stop, ops):
    assert "what waits goes on" in say(*RESUME, "it was toast")
    stop.refresh_from_db()
    assert (stop.ended_by, stop.end_reason) == (ops, "it was toast")
    assert Freeze.objects.stop() is None


def test_json_tells_it():
    assert say_json(*RESUME, "it was toast") == {"stopped": False}


def test_where_nothing_is_stopped_it_is_a_conflict(stop):
    say(*RESUME, "it was toast")
    assert "no stop to end" in fail(*RESUME, "again", code=CONFLICT)
    stop.refresh_from_db()
    assert stop.end_reason == "it was toast"


@pytest.mark.parametrize(("user", "said"), [("approver", "for ops"), ("outsider", "for ops"), ("nobody", "no active")])
def test_others_may_not(user, said):
    assert said in fail("resume_world", "--as", user, "--reason", "I need it", code=MISTAKE)
    assert Freeze.objects.stop()


@pytest.mark.parametrize("reason", ["", "\x1b[2J", "a\u202eb", "x" * 201])
def test_a_reason_that_no_page_takes_is_refused(reason):
    assert "reason:" in fail(*RESUME, reason, code=MISTAKE)
    assert Freeze.objects.stop()


def test_help_says_what_it_does(capsys):
    assert "Ends what stop_world began" in help_of("resume_world", capsys)

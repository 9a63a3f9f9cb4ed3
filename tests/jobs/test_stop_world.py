import pytest

from jobs.models import Freeze
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json

STOP = ("stop_world", "--as", "ops", "--reason")


@pytest.fixture(autouse=True)
def _people(ops, approver, outsider):
    """Who may, and who may not."""


def test_ops_stop_everything(ops):
    assert "no release begins on another machine" in say(*STOP, "the switch in sh-1 burns")
    stop = Freeze.objects.stop()
    assert (stop.made_by, stop.reason, stop.business) == (ops, "the switch in sh-1 burns", None)


def test_json_tells_it():
    assert say_json(*STOP, "smoke") == {"stopped": True}


def test_again_is_a_conflict():
    say(*STOP, "smoke")
    assert "stopped already" in fail(*STOP, "fire", code=CONFLICT)
    assert Freeze.objects.get().reason == "smoke"


@pytest.mark.parametrize(("user", "said"), [("approver", "for ops"), ("outsider", "for ops"), ("nobody", "no active")])
def test_others_may_not(user, said):
    assert said in fail("stop_world", "--as", user, "--reason", "smoke", code=MISTAKE)
    assert not Freeze.objects.exists()


@pytest.mark.parametrize("reason", ["", " ", "\x1b[2J", "a\u202eb", "two\nlines", "x" * 201])
def test_a_reason_that_no_page_takes_is_refused(reason):
    assert "reason:" in fail(*STOP, reason, code=MISTAKE)
    assert not Freeze.objects.exists()


def test_help_says_what_it_does(capsys):
    assert "Stops everything: no release of any business begins" in help_of("stop_world", capsys)

"""What many ask for at once is made once."""

import threading

import pytest

from releases import shared
from tests.parallel import at_once


@pytest.fixture
def made():
    return []


@pytest.fixture
def ask(made):
    answers = shared.Shared()

    def ask(key="run 1", seconds=60, is_for_all=True):
        def make():
            made.append(key)
            return len(made), is_for_all

        return answers.get(key, seconds, make)

    return ask


def test_who_asks_alike_gets_what_is_there(ask):
    assert [ask(), ask(), ask("run 2"), ask()] == [1, 1, 2, 1]


def test_of_many_who_ask_at_the_same_moment_one_has_it_made(ask):
    assert at_once(*[ask] * 8) == [1] * 8


def test_after_its_time_it_is_made_anew(ask):
    assert [ask(seconds=0), ask(), ask()] == [1, 2, 2]


def test_what_is_not_for_all_is_for_who_asked(ask):
    assert [ask(is_for_all=False), ask(is_for_all=False), ask()] == [1, 2, 3]


def test_what_went_wrong_is_tried_again(made):
    answers = shared.Shared()
    with pytest.raises(ZeroDivisionError):
        answers.get("run 1", 60, lambda: 1 / 0)
    assert answers.get("run 1", 60, lambda: ("made", True)) == "made"


def test_nobody_waits_for_long_for_who_waits_for_something(made, monkeypatch):
    """A database that does not answer is waited for by all at once, and not by one after the other."""
    monkeypatch.setattr(shared, "PATIENCE", 0.01)
    answers, all_are_here = shared.Shared(), threading.Barrier(3)

    def make():
        all_are_here.wait(timeout=60)
        made.append("run 1")
        return "made", True

    assert at_once(*[lambda: answers.get("run 1", 60, make)] * 3) == ["made"] * 3
    assert len(made) == 3


def test_no_more_are_kept_than_there_is_room_for(ask, made, monkeypatch):
    monkeypatch.setattr(shared, "KEPT", 2)
    for key in ("run 1", "run 2", "run 1", "run 3", "run 1", "run 2"):
        ask(key)
    assert made == ["run 1", "run 2", "run 3", "run 2"]

import asyncio

import pytest

from releases.executors.base import Ending, ExecutorError, Order, Outcome
from releases.executors.dummy import DummyExecutor


class Told:
    """What the executor told its caller."""

    def __init__(self, go=True):
        self.go = go
        self.started = 0
        self.blocks = []

    async def start(self):
        self.started += 1
        return self.go

    async def take(self, data, stream):
        self.blocks.append((data, stream))


def execute(script, told=None, hostname="web-01", timeout=10):
    told = told or Told()
    order = Order(hostname, "10.0.0.1", 22, "", script, timeout)
    return DummyExecutor().execute(order, told.start, told.take)


def run(script, told=None, **options):
    return asyncio.run(execute(script, told, **options))


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("", Outcome(Ending.SUCCEEDED, 0)),
        ("rm -rf /\nexit 1", Outcome(Ending.SUCCEEDED, 0)),
        ("echo\n# dummy: fail 3\n", Outcome(Ending.FAILED, 3)),
        ("# dummy: fail 3 on web-01", Outcome(Ending.FAILED, 3)),
        ("# dummy: fail 3 on web-*", Outcome(Ending.FAILED, 3)),
        ("# dummy: fail 3 on db-*", Outcome(Ending.SUCCEEDED, 0)),
        ("# dummy: sleep 0.01\r\n# dummy: fail 4\r\n", Outcome(Ending.FAILED, 4)),
        ("echo '# dummy: fail 3'", Outcome(Ending.SUCCEEDED, 0)),
    ],
)
def test_the_script_says_how_it_ends(script, outcome):
    assert run(script) == outcome


def test_the_end_may_remain_unseen():
    outcome = run("# dummy: unknown")
    assert (outcome.ending, outcome.exit_status) == (Ending.UNKNOWN, None)
    assert outcome.reason


@pytest.mark.parametrize(("word", "permanent"), [("unreachable", False), ("denied", True)])
def test_a_machine_that_cannot_be_reached(word, permanent):
    told = Told()
    with pytest.raises(ExecutorError) as error:
        run(f"# dummy: say hello\n# dummy: {word} on web-01", told)
    assert error.value.permanent is permanent
    assert (told.started, told.blocks) == (0, [])


def test_it_says_what_it_is_told_to():
    told = Told()
    run("# dummy: say 你好, goes on\n# dummy: complain oh\n# dummy: say only here on web-02\n# dummy: say", told)
    assert told.blocks == [("你好, goes on\n".encode(), "out"), (b"oh\n", "err"), (b"\n", "out")]


def test_nothing_happens_when_the_caller_says_no():
    told = Told(go=False)
    assert run("# dummy: say hello", told).ending == Ending.UNKNOWN
    assert (told.started, told.blocks) == (1, [])


def test_a_sleep_longer_than_the_timeout():
    assert run("# dummy: sleep 60", timeout=0.05).ending == Ending.TIMED_OUT


def test_cancelling():
    async def cancelled():
        told = Told()
        task = asyncio.create_task(execute("# dummy: say hello\n# dummy: sleep 60", told))
        while not told.blocks:
            await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(cancelled()) == Outcome(Ending.CANCELLED)

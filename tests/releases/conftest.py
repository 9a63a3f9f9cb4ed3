"""What the tests of releases share."""

import contextlib

import pytest

from tests.at_work import ScriptedExecutor, Working
from tests.waiting import wait_until


@pytest.fixture
def at_work():
    """Starts workers, and ends at the end of the test those that still work."""
    working = []

    def at_work(executor=None, **options):
        started = Working(executor or ScriptedExecutor(), **options)
        started.thread.start()
        working.append(started)
        wait_until(lambda: getattr(started.worker, "worker", None))
        return started

    yield at_work
    for started in working:
        with contextlib.suppress(RuntimeError):  # its loop has ended by now
            started.drain()
            started.drain()
        started.end()

"""A headless Chromium that forgets everything after each test, and a worker that touches no machine."""

import contextlib
import os

import pytest

from releases.executors.dummy import DummyExecutor
from releases.models import Worker
from tests.at_work import Working
from tests.browser.browser import WIDE, Browser, missing, start
from tests.waiting import wait_until


@pytest.fixture(scope="session")
def driver():
    if names := missing():
        reason = f"not on PATH: {names}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    driver = start()
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver, live_server):
    """A browser that was never here, 1280 wide, light, in English. What its console complains of fails the test."""
    browser = Browser(driver, live_server.url)
    browser.width(WIDE)
    browser.scheme("light")
    yield browser
    complaints = browser.complaints()
    browser.forget()  # now, for a page that is left open goes on asking
    assert not complaints


@pytest.fixture
def publisher_at(browser, client, publisher):
    """The browser, logged in as the publisher."""
    browser.log_in(client, publisher)
    return browser


@pytest.fixture
def worker(transactional_db):
    """A worker in a thread, with an event loop of its own and the dummy executor."""
    working = Working(DummyExecutor(), at_once=300)
    working.thread.start()
    wait_until(Worker.objects.alive().exists)
    yield working.worker
    with contextlib.suppress(RuntimeError):  # its loop has ended by now
        working.drain()
        working.drain()  # at once
    working.end()


@pytest.fixture
def task_that(release_task, rollback_task):
    """Makes the release task do as these words of the dummy executor say."""

    def say(*words):
        release_task.revise("\n".join(f"# dummy: {word}" for word in words), None)

    return say

"""A headless Chromium that forgets everything after each test, and a worker that touches no machine."""

import asyncio
import os
from threading import Thread

import pytest

from releases.executors.dummy import DummyExecutor
from releases.models import Worker
from releases.worker import ReleaseWorker
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
    loop = asyncio.new_event_loop()
    worker = ReleaseWorker(DummyExecutor(), at_once=300)
    thread = Thread(target=lambda: loop.run_until_complete(worker.work()))
    thread.start()
    wait_until(Worker.objects.alive().exists)
    yield worker
    for _ in range(2):  # the second time ends it at once
        loop.call_soon_threadsafe(worker.drain)
    thread.join()
    loop.close()


@pytest.fixture
def task_that(release_task, rollback_task):
    """Makes the release task do as these words of the dummy executor say."""

    def say(*words):
        release_task.revise("\n".join(f"# dummy: {word}" for word in words), None)

    return say

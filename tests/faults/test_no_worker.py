"""No worker is alive: every page says so, and since when; and it is a page that finds what the last one left."""

import pytest
from django.urls import reverse

from jobs.models import Event
from releases.models import MachineRun, Run, Worker
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import ended, events, is_so, statuses
from tests.pages import page, words
from tests.waiting import wait_until
from tests.workers import fall_silent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.fleet("pay-1", "pay-2")
def test_a_page_finds_what_a_dead_worker_left(worker, release, fleet, publisher, as_user, settings):
    """Once the worker has been silent for longer than it may; what it never began waits for the next one."""
    client = as_user(publisher)
    assert "No worker has ever been alive" in words(client.get(reverse("home")))
    first = worker("--at-once", 1)
    run = release(TELL + UNTIL_GO)
    address = page("stage", run.stage.job)
    is_so(run, pay_1="running")
    wait_until(lambda: fleet.executed("pay-1"))
    assert "1 worker alive" in words(client.get(address))
    first.kill()
    usual, settings.WORKER_DEAD_AFTER = settings.WORKER_DEAD_AFTER, 3
    wait_until(lambda: client.get(address) and statuses(run)["pay-1"] == "unknown", every=0.1)
    assert statuses(run) == {"pay-1": "unknown", "pay-2": "queued"}
    assert Run.objects.get().status == Run.Status.RUNNING
    assert events(run, Event.Verb.LOST).count() == 1
    since = Worker.objects.get().heartbeat_at
    assert f"No worker is alive since {since:%Y-%m-%d %H:%M:%S}" in words(client.get(address))

    settings.WORKER_DEAD_AFTER = usual
    fleet.let_go()
    worker()
    assert ended(run).status == Run.Status.FAILED
    assert statuses(run) == {"pay-1": "unknown", "pay-2": "succeeded"}
    assert "1 worker alive" in words(client.get(address))


@pytest.mark.fleet("pay-1")
@pytest.mark.parametrize("name", ["stage", "stage_live", "job", "home"])
def test_whichever_page_is_looked_at(release, publisher, as_user, name):
    run = release()
    dead = Worker.objects.enlist([])
    MachineRun.objects.claim(dead, 1)
    MachineRun.objects.begin(dead, list(run.machine_runs.values_list("pk", flat=True)))
    fall_silent(dead)
    client = as_user(publisher)
    client.get(reverse(name) if name == "home" else page(name, run.stage.job))
    assert statuses(run) == {"pay-1": "unknown"}
    assert Run.objects.get().status == Run.Status.FAILED

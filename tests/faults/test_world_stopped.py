"""The world is stopped while a run is half through: it claims nothing more, and goes on once the stop is ended."""

import pytest

from releases.models import ReleaseStage, Run
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.manage import manage
from tests.faults.seen import ended, is_so, row, statuses
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_that_is_half_through_waits_and_goes_on(worker, release, fleet, machines, publisher, ops):
    worker("--at-once", 1)
    before = release(on=["pay-3"])
    assert ended(before).status == Run.Status.SUCCEEDED
    stage = ReleaseStage.objects.get(pk=before.stage_id)
    run = release(TELL + UNTIL_GO, on=["pay-1", "pay-2"], version="3.0")
    wait_until(lambda: fleet.executed("pay-1"))
    stopped = manage("stop_world", "--as", "ops", "--reason", "smoke")
    assert stopped.returncode == 0, stopped.stderr
    fleet.let_go()
    is_so(run, pay_1="succeeded", pay_2="queued")
    # That the worker still looks and claims, it shows by a rollback.
    back = stage.roll_back(publisher, machines[2:], "broken", "back")
    assert ended(back).status == Run.Status.SUCCEEDED
    assert statuses(run) == {"pay-1": "succeeded", "pay-2": "queued"}
    assert not fleet.executed("pay-2")
    resumed = manage("resume_world", "--as", "ops", "--reason", "it was toast")
    assert resumed.returncode == 0, resumed.stderr
    assert ended(run).status == Run.Status.SUCCEEDED
    assert fleet.executed("pay-2") == [row(run, "pay-2").pk]

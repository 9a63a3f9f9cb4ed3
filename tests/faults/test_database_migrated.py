"""A database that is migrated under a worker that was not ended: it ends what runs, and begins nothing more."""

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from tests.commands import MISTAKE
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import is_so, statuses
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def migrate():
    """Makes the database that of a newer portal, until the end of the test."""
    recorder = MigrationRecorder(connection)
    yield lambda: recorder.record_applied("releases", "9999_to_come")
    recorder.record_unapplied("releases", "9999_to_come")


@pytest.mark.usefixtures("dead_soon")
@pytest.mark.fleet("pay-1", "pay-2")
def test_what_runs_is_ended_and_nothing_else_begun(worker, release, fleet, migrate):
    old = worker("--at-once", 1)
    run = release(TELL + UNTIL_GO)
    is_so(run, pay_1="running", pay_2="queued")
    migrate()
    seen = old.row.heartbeat_at
    wait_until(lambda: old.row.heartbeat_at > seen)
    fleet.let_go()
    assert old.end() == MISTAKE
    assert "it is newer than the portal: start the newer one here, too" in old.output
    assert statuses(run) == {"pay-1": "succeeded", "pay-2": "queued"}
    assert [len(fleet.executed(name)) for name in fleet.hostnames] == [1, 0]

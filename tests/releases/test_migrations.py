"""What the migrations make of the rows that an older version of the portal left."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from jobs.models import Machine
from releases.models import MachineRun
from tests.workers import begin, end


def migrate(*targets):
    executor = MigrationExecutor(connection)
    executor.migrate(targets or executor.loader.graph.leaf_nodes())


@pytest.mark.django_db(transaction=True)
@pytest.mark.any_database
def test_a_machine_run_takes_the_place_of_its_machine(make_job, machines, start, worker):
    """Of two that hold one host, since a machine moved, the newer holds no more than its machine."""
    start(make_job("1.0"), machines[:1])
    end(worker, begin(worker), "unknown")
    start(make_job("2.0"), machines[1:3])
    Machine.objects.filter(pk=machines[1].pk).update(address="10.0.0.1")
    migrate(("releases", "0003_printable_names"))
    migrate()
    places = MachineRun.objects.values_list("machine__hostname", "address", "port", "site", "status")
    newer = MachineRun.objects.get(machine=machines[1])
    assert list(places.order_by("pk")) == [
        ("pay-1", "10.0.0.1", 22, "sh-1", "unknown"),
        ("pay-2", f"machine run {newer.pk}", 22, "sh-1", "queued"),
        ("pay-3", "10.0.0.3", 22, "sh-1", "queued"),
    ]

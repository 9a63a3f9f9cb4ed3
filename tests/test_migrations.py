"""What the migrations make of an older portal's rows, and that they leave what the models say."""

import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from jobs.models import Job, Machine
from releases.models import MachineRun, Worker
from tests.workers import begin, end


def migrate(*targets):
    executor = MigrationExecutor(connection)
    executor.migrate(targets or executor.loader.graph.leaf_nodes())


OWN_MODELS = [model for app in ("deploy_portal", "jobs", "releases") for model in apps.get_app_config(app).get_models()]


@pytest.mark.parametrize("model", OWN_MODELS, ids=lambda model: model.__name__)
def test_what_holds_in_the_models_holds_in_the_database(db, model):
    """PostgreSQL loses a constraint of one column without a word when that column loses its index."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    named = {one.name for one in [*model._meta.constraints, *model._meta.indexes]}
    assert named <= found.keys()


@pytest.mark.django_db(transaction=True)
@pytest.mark.any_database
def test_the_approval_of_a_withdrawn_job_is_void(make_job, requester):
    job = make_job()
    approved_at = job.approved_at
    job.withdraw(requester, "not needed")
    migrate(("jobs", "0015_job_submit_key"))
    Job.objects.update(approved_at=approved_at)
    migrate()
    assert Job.objects.get().approved_at is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.any_database
def test_a_machine_run_takes_the_place_of_its_machine(make_job, machines, start):
    """Of two that hold one host, since a machine moved, the newer holds no more than its machine."""
    worker = Worker.objects.enlist([])
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

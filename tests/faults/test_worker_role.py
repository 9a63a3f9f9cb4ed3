"""A worker without SECRET_KEY, whose database role is that of docs/worker-role.sql, can do its work, and no more."""

import os
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from deploy_portal.models import User
from jobs.models import Event, Freeze
from releases.models import ReleaseStage, Run
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import ended, events, is_so, statuses, text
from tests.faults.worker import database_url
from tests.freezes import freeze_now

pytestmark = pytest.mark.django_db(transaction=True)

GRANTS = Path(settings.BASE_DIR, "docs/worker-role.sql").read_text()
READ = {
    *("jobs_business", "jobs_machine", "jobs_listing", "jobs_job", "jobs_jobmachine", "jobs_event"),
    *("jobs_freeze", "jobs_leave"),
    *("releases_task", "releases_taskversion", "releases_releasestage", "releases_run", "releases_machinerun"),
    *("releases_worker", "jobs_membership", "deploy_portal_user", "django_migrations"),
}
FORBIDDEN = [
    "UPDATE jobs_job SET approved_at = now()",
    "UPDATE jobs_job SET break_glass = false",
    "INSERT INTO jobs_approval (revision) VALUES (1)",
    "UPDATE jobs_job SET version = '6.6.6'",
    "UPDATE jobs_business SET source_options = '{}'",
    "UPDATE jobs_machine SET address = '10.6.6.6'",
    "UPDATE releases_taskversion SET script = 'id'",
    "UPDATE releases_run SET task_version_id = 1",
    "UPDATE releases_machinerun SET machine_id = 1",
    "UPDATE releases_machinerun SET version_after = '6.6.6'",
    "UPDATE releases_worker SET sites = '[]'",
    "INSERT INTO releases_run (stage_id) VALUES (1)",
    "INSERT INTO jobs_membership (role) VALUES ('approver')",
    "UPDATE jobs_event SET reason = ''",
    "DELETE FROM jobs_event",
    "DELETE FROM releases_machinerun",
    "DELETE FROM releases_logblock",
    "UPDATE releases_logblock SET text = ''",
    "TRUNCATE jobs_event",
    "CREATE TABLE mine (id int)",
]


@pytest.fixture
def role(transactional_db):
    """The address of the tests' database for a role that was made as the document says."""
    if connection.vendor != "postgresql":
        pytest.skip("postgresql only")
    name = f"portal_worker_{os.getpid()}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name} LOGIN")
        cursor.execute(GRANTS.replace("portal_worker", name))
        yield database_url().replace("//postgres:", f"//{name}:")
        cursor.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def bare(worker, role):
    """Starts workers under that role, without SECRET_KEY."""
    return lambda *arguments: worker(*arguments, DATABASE_URL=role, SECRET_KEY="")


def test_it_releases_in_batches_checks_and_rolls_back(bare, release, fleet, machines, publisher):
    started = bare()
    run = release(check="echo checked", batch_size="1", canary=True)
    assert ended(run).status == Run.Status.SUCCEEDED, started.output
    assert "checked" in text(run, "pay-3")
    stage = ReleaseStage.objects.get(pk=run.stage_id)
    back = stage.roll_back(publisher, machines, "not as hoped", "back")
    assert ended(back).status == Run.Status.SUCCEEDED
    assert fleet.executed("pay-1") == [run.machine_runs.first().pk]
    started.terminate()
    assert started.end() == 0


def test_it_ends_what_is_cancelled_and_what_spends_its_budget(bare, release, fleet, publisher):
    bare()
    run = release(TELL + UNTIL_GO, on=["pay-1"])
    is_so(run, pay_1="running")
    run.cancel(publisher, "not now")
    assert ended(run).status == Run.Status.CANCELLED
    broken = release("exit 7", on=["pay-2", "pay-3"], failure_budget="1", batch_size="1")
    assert ended(broken).status == Run.Status.FAILED
    assert sorted(statuses(broken).values()) == ["failed", "not_run"]


def test_it_finds_what_another_one_lost_and_starts_what_waited_for_a_machine(
    bare, release, fleet, machines, make_job, publisher
):
    first = bare()
    run = release(TELL + UNTIL_GO, on=["pay-1"])
    is_so(run, pay_1="running")
    stage = ReleaseStage.objects.of_kind(make_job("3.0", on=machines[:2]), "pre-release")
    stage.release_task = stage.rollback_task = run.stage.release_task
    waiting = stage.start(publisher, machines[:2], "waiting", when_free=machines[:1])
    fleet.let_go("pay-1", "pay-2")
    assert ended(waiting).status == Run.Status.SUCCEEDED
    lost = release(UNTIL_GO, on=["pay-3"])
    is_so(lost, pay_3="running")
    first.kill_long_ago()
    bare()
    assert ended(lost).status == Run.Status.FAILED
    assert events(lost, Event.Verb.LOST).count() == 1


def test_it_lives_through_a_freeze_of_another_business_and_a_stop_of_everything(
    bare, release, fleet, machines, publisher, orders, ops
):
    started = bare()
    freeze_now(ops, orders)
    run = release(TELL, on=["pay-1"])
    assert ended(run).status == Run.Status.SUCCEEDED, started.output
    Freeze.objects.stop_world(ops, "incident")
    back = ReleaseStage.objects.get(pk=run.stage_id).roll_back(publisher, machines[:1], "not as hoped", "back")
    assert ended(back).status == Run.Status.SUCCEEDED, started.output
    assert started.is_alive


@pytest.mark.parametrize("column", ["exit_status", "reason", "note", "ended_at"])
def test_it_begins_nothing_when_it_may_not_record_how_that_ends(bare, role, release, fleet, column):
    with connection.cursor() as cursor:
        cursor.execute(f"REVOKE UPDATE ({column}) ON releases_machinerun FROM portal_worker_{os.getpid()}")
    run = release(TELL, on=["pay-1"])
    started = bare()
    assert started.end() == 1
    assert "permission denied for table releases_machinerun" in started.output
    assert statuses(run) == {"pay-1": "queued"}
    assert fleet.executed("pay-1") == []


def test_it_reads_what_it_needs_and_of_people_only_who_has_which_role(role):
    tables = connection.introspection.table_names()
    with psycopg.connect(role, autocommit=True) as worker:
        assert {table for table in tables if is_allowed(worker, f"SELECT FROM {table} LIMIT 0")} == READ
        whole = ["deploy_portal_user", "django_session", "django_admin_log", "releases_logblock"]
        assert [table for table in whole if is_allowed(worker, f"SELECT * FROM {table}")] == []
        of_people = [name for name in columns_of(User) if is_allowed(worker, f"SELECT {name} FROM deploy_portal_user")]
        assert sorted(of_people) == ["id", "is_active", "is_superuser"]


def test_it_changes_nothing_that_is_not_its_own(role):
    with psycopg.connect(role, autocommit=True) as worker:
        assert [statement for statement in FORBIDDEN if is_allowed(worker, statement)] == []


@pytest.mark.parametrize("step", ["withdraw", "send_back"])
def test_it_brings_no_job_back_that_was_taken_back(role, job, requester, approver, step):
    getattr(job, step)(requester if step == "withdraw" else approver, "no")
    with psycopg.connect(role, autocommit=True) as worker, pytest.raises(psycopg.errors.CheckViolation):
        worker.execute("UPDATE jobs_job SET status = 'approved' WHERE id = %s", [job.pk])


def test_it_tells_of_what_it_did_but_not_in_the_name_of_a_person(role, job, approver):
    row = "(job_id, actor_id, at, origin, verb, number, previous, digest, was, became, detail, reason, stage, subject)"
    told = f"INSERT INTO jobs_event {row} VALUES (%s, %s, now(), '', 'edited', %s, '', '', '', '', '{{}}', '', '', '')"
    with psycopg.connect(role, autocommit=True) as worker:
        worker.execute(told, [job.pk, None, 77])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute(told, [job.pk, approver.pk, 78])


def columns_of(model):
    return [field.column for field in model._meta.concrete_fields]


def is_allowed(connection, statement):
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True

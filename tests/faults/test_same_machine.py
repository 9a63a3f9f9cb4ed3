"""Two who want the same machine: two jobs, or a release and its rollback."""

import pytest

from releases import tokens
from releases.models import ReleaseStage, Run
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import ended, is_so, row, statuses
from tests.fleet import Fault
from tests.pages import ids, page, stage_fields, words
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

# Says so when another command is at work on the machine.
ALONE = TELL + "mkdir at-work || echo 0 >> executed\n" + UNTIL_GO + "rmdir at-work\n"


@pytest.mark.fleet("pay-1", "pay-2")
def test_two_jobs(worker, release, fleet, make_job, machines, publisher, as_user):
    """The second is refused and told by whom, or waits for its turn when it was told to; never both at once."""
    worker()
    run = release(ALONE, on=["pay-1"])
    is_so(run, pay_1="running")
    first, second = run.stage.job, make_job("3.0")
    client = as_user(publisher)
    shown = words(client.get(page("stage", second)))
    assert f"Held by {first}, publisher" in shown and "start when free" in shown
    task = run.task_version.task
    refused = client.post(page("stage", second), stage_fields(second, publisher, machines, release_task=task.pk))
    assert f"pay-1 is held by #{first.pk}." in words(refused)
    assert not Run.objects.filter(stage__job=second).exists()

    fields = stage_fields(second, publisher, machines[1:], release_task=task.pk, when_free=ids(machines[:1]))
    assert client.post(page("stage", second), fields).status_code == 302
    waiting = Run.objects.get(stage__job=second)
    is_so(waiting, pay_1="held", pay_2="running")
    assert "1 held" in words(client.get(page("stage", second)))
    shown = words(client.get(page("machine_run", second, machine_run_id=row(waiting, "pay-1").pk)))
    assert f"Also on this machine Running {first}" in shown
    wait_until(lambda: fleet.executed("pay-2"))
    assert fleet.logins == 2
    fleet.let_go()
    assert (ended(run).status, ended(waiting).status) == (Run.Status.SUCCEEDED, Run.Status.SUCCEEDED)
    assert fleet.executed("pay-1") == [row(run, "pay-1").pk, row(waiting, "pay-1").pk]
    assert row(waiting, "pay-1").version_before == "2.0"


@pytest.mark.fleet("pay-1", "pay-2", pay_3=Fault("cuts"))
def test_a_rollback(worker, release, fleet, machines, publisher, as_user):
    """Refused while the release goes on; then each machine tells its own end.

    It needs no login where the connection was kept, and one where the machine has dropped it meanwhile.
    """
    worker()
    script = TELL + 'test "$DEPLOY_ACTION.$DEPLOY_MACHINE" != rollback.pay-2 || exit 4\n' + UNTIL_GO
    run = release(script)
    stage, job = run.stage, run.stage.job
    ReleaseStage.objects.filter(pk=stage.pk).update(rollback_task=run.task_version.task)
    is_so(run, pay_1="running", pay_2="running", pay_3="running")
    client = as_user(publisher)

    def roll_back(name, what):
        version = sum(each.version for each in ReleaseStage.objects.of(job) if what in (each.kind, "job"))
        token = tokens.issue(publisher, job, what, version)
        return client.post(page(name, job), {"token": token, "reason": "it is broken", "machines": ids(machines)})

    job.refresh_from_db()
    for name, what in (("roll_back_stage", "pre-release"), ("roll_back_job", "job")):
        assert roll_back(name, what).status_code == 409
    assert Run.objects.get() == run
    fleet.let_go()
    assert ended(run).status == Run.Status.SUCCEEDED
    assert fleet.logins == 3

    fleet.strike("pay-3")
    assert roll_back("roll_back_stage", "pre-release").status_code == 302
    rollback = Run.objects.exclude(pk=run.pk).get()
    assert ended(rollback).status == Run.Status.FAILED
    assert statuses(rollback) == {"pay-1": "succeeded", "pay-2": "failed", "pay-3": "succeeded"}
    assert row(rollback, "pay-2").exit_status == 4
    assert (fleet.logins, fleet.commands) == (4, 6)
    assert [len(fleet.executed(name)) for name in fleet.hostnames] == [2, 2, 2]
    shown = words(client.get(page("stage", job)))
    assert "2 rolled back 1 failed" in shown and "Failed, exit 4 pay-2" in shown
    job.refresh_from_db()
    assert job.status == job.Status.IN_PROGRESS

"""The web server is killed while publishers start stages: each run exists whole, or not at all."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings

from jobs.models import Event, Job
from releases.models import MachineRun, Run
from tests.conftest import list_machines
from tests.faults import database
from tests.faults.web import WebProcess
from tests.pages import page, stage_fields
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

JOBS, EACH = 24, 20


@pytest.fixture
def web(tmp_path):
    server = WebProcess(tmp_path / "web.log", threads=6)
    yield server
    server.kill()


@pytest.fixture
def jobs(payment, make_job):
    """Jobs that share no machine."""
    machines = list_machines(payment, *(f"pay-{number:03}" for number in range(JOBS * EACH)))
    return [make_job(f"2.{number}", on=machines[number * EACH : (number + 1) * EACH]) for number in range(JOBS)]


def is_whole(job):
    """Whether its stage was started; asserts that everything that belongs to that is there, or nothing of it."""
    job.refresh_from_db()
    stage = job.stages.get(kind="pre-release")
    run = stage.runs.first()
    seen = {
        "job": job.status,
        "stage": (stage.status, stage.version, stage.machines.count(), stage.remark),
        "machine runs": MachineRun.objects.in_job(job).count(),
        "events": job.events.filter(verb=Event.Verb.STARTED).count(),
    }
    if run is None:
        assert seen == {"job": Job.Status.APPROVED, "stage": ("waiting", 0, 0, ""), "machine runs": 0, "events": 0}
        return False
    started = ("running", 1, EACH, "as planned")
    assert seen == {"job": Job.Status.IN_PROGRESS, "stage": started, "machine runs": EACH, "events": 1}
    assert set(run.machine_runs.values_list("status", "batch")) == {("queued", 1)}
    assert run.machine_runs.count() == EACH
    return True


def test_a_run_exists_whole_or_not_at_all(web, jobs, publisher, as_user, release_task, rollback_task):
    """And the same submit again, for whoever never saw its answer, starts what is missing, and nothing twice."""
    client = as_user(publisher)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    posts = [(page("stage", job), stage_fields(job, publisher, job.machines.all(), typed_count=EACH)) for job in jobs]
    with ThreadPoolExecutor(6) as pool:
        *first, last = [(web.post, address, session, fields) for address, fields in posts]
        answers = [pool.submit(*post) for post in first]
        wait_until(lambda: Run.objects.count() >= 3 and any(answer.done() for answer in answers))
        web.kill()
        answers.append(pool.submit(*last))  # who comes too late for an answer, however slow the kill was
    wait_until(database.left_by_all_others)
    statuses = [answer.result() for answer in answers]
    assert set(statuses) == {302, None}
    whole = [is_whole(job) for job in jobs]
    assert all(was_whole for was_whole, status in zip(whole, statuses, strict=True) if status == 302)
    assert 3 <= sum(whole) < JOBS
    assert {client.post(address, fields).status_code for address, fields in posts} == {302}
    assert all(is_whole(job) for job in jobs)
    assert Run.objects.count() == JOBS

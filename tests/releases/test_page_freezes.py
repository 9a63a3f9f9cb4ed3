"""What pages tell of freezes: those in force, those of the next seven days, and why a run waits."""

import re
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.urls import reverse

from deploy_portal.clock import database_now
from jobs.models import Freeze, Leave
from releases.models import Run
from tests.commands import CONFLICT, fail
from tests.freezes import HOUR, freeze_now, occurrence_of
from tests.pages import page, source, stage_fields, token_in, words

pytestmark = pytest.mark.usefixtures("release_task", "rollback_task")

PAGES = {
    "home": lambda job: reverse("home"),
    "job": lambda job: page("job", job),
    "stage": lambda job: page("stage", job),
    "job form": lambda job: reverse("new_job") + "?business=payment",
}


@pytest.fixture
def check(as_user, publisher, job, machines):
    """Posts the stage form as the publisher, to be checked; or with `step="start"`."""
    return lambda **changed: as_user(publisher).post(
        page("stage", job), stage_fields(job, publisher, machines[:2], **{"step": "check"} | changed)
    )


def next_poll(response):
    return re.search(r'hx-get="([^"]+/live/[^"]+)"', source(response))[1]


def freeze_in(by, hours, **fields):
    now = database_now()
    return freeze_now(by, starts_at=now + hours * HOUR, ends_at=now + (hours + 5) * HOUR, **fields)


@pytest.mark.one_database
@pytest.mark.parametrize("name", PAGES)
def test_those_in_force_and_near_are_told(as_user, publisher, ops, job, payment, orders, name):
    freeze_now(ops, payment)
    freeze_in(ops, 100, reason="the <i>audit</i>")
    freeze_in(ops, 24 * 8, reason="too far")
    freeze_now(ops, orders, "not ours")
    response = as_user(publisher).get(PAGES[name](job))
    said = words(response)
    assert "Frozen from" in said
    assert said.index("the great sale") < said.index("the <i>audit</i>")
    assert "<i>audit" not in response.text
    assert "too far" not in said
    assert "not ours" not in said


@pytest.mark.one_database
@pytest.mark.parametrize("name", PAGES)
def test_without_any_nothing_is_said(as_user, publisher, job, name):
    assert "Frozen" not in words(as_user(publisher).get(PAGES[name](job)))


def test_a_weekly_one_is_told_with_its_days(as_user, publisher, job, ops):
    tomorrow = database_now() + timedelta(days=1)
    weekdays, times = 1 << tomorrow.weekday(), {"from_time": "23:30", "hours": 2}
    Freeze.objects.create(kind="weekly", weekdays=weekdays, reason="backup", made_by=ops, **times)
    ends = tomorrow + timedelta(days=1)
    expected = f"Frozen from {tomorrow:%a %Y-%m-%d} 23:30 to {ends:%a %Y-%m-%d} 01:30: backup."
    assert expected in words(as_user(publisher).get(page("job", job)))


def test_a_start_is_refused_and_what_was_typed_kept(check, ops, approver):
    freeze_now(ops)
    response = check(step="start")
    assert response.status_code == 409
    said = words(response)
    assert said.count("the great sale") == 1
    assert "No release may begin now. Leave can be given on the job's page, by one of: approver." in said
    assert "What you had typed is kept below." in said
    assert "as planned" in source(response)
    assert not Run.objects.exists()


def test_a_stop_refuses_it_too(check, ops):
    Freeze.objects.stop_world(ops, "smoke")
    response = check(step="start")
    said = words(response)
    assert (response.status_code, said.count("smoke")) == (409, 1)
    assert "No release may begin now. Only ops can end that." in said


def test_with_leave_it_starts(check, ops, approver, job):
    Leave.objects.give(job, approver, occurrence_of(freeze_now(ops)), "urgent")
    said = words(check())
    assert "the great sale. It goes on by the leave of approver: urgent" in said
    assert "none within the next 12 hours" not in said
    assert check(step="start").status_code == 302
    assert Run.objects.exists()


@pytest.mark.parametrize("field", ["void_at", "until"])
def test_leave_that_is_void_or_over_is_not_told(as_user, publisher, approver, ops, job, field):
    Leave.objects.give(job, approver, occurrence_of(freeze_now(ops)), "urgent")
    client = as_user(publisher)
    assert "approver gave leave until" in words(client.get(page("stage", job)))
    Leave.objects.update(**{field: Now()})
    assert "gave leave" not in words(client.get(page("stage", job)))


def test_the_check_warns_of_what_comes_soon(check, ops):
    freeze_in(ops, 13)
    assert "none within the next 12 hours" in words(check())
    freeze_in(ops, 11, reason="audit")
    assert "audit. What has not begun by then waits for its end." in words(check())
    freeze_now(ops)
    assert "the great sale. It would not start." in words(check())


@pytest.mark.parametrize("name", ["stage", "stage_live"])
def test_a_run_says_why_it_waits(as_user, publisher, start, job, machines, ops, name):
    start(job, machines)
    client = as_user(publisher)
    assert "Nothing more of this run begins" not in words(client.get(page(name, job)))
    freeze_now(ops)
    said = words(client.get(page(name, job)))
    assert "the great sale. Nothing more of this run begins before that ends" in said
    Freeze.objects.stop_world(ops, "smoke")
    assert "Everything is stopped since" in words(client.get(page(name, job)))


def test_a_live_page_gets_what_is_told_of_freezes_only_when_it_is_another(
    as_user, publisher, approver, start, job, machines, ops
):
    start(job, machines)
    client = as_user(publisher)
    whole = client.get(page("stage", job))

    def swapped():
        """What the next poll brings beside the live part; the one after that is asked as it says."""
        nonlocal asked
        response = client.get(asked, headers={"HX-Request": "true"})
        asked = next_poll(response)
        brought = re.findall(r'<div id="(\w+)" hx-swap-oob="innerHTML">(.*?)\n</div>(?:\n|$)', response.text, re.DOTALL)
        assert all(source(whole).count(f'id="{where}"') == 1 for where, _ in brought)
        return {where: " ".join(re.sub("<[^>]*>", " ", what).split()) for where, what in brought}

    asked = next_poll(whole)
    assert swapped() == {}
    freeze = freeze_now(ops)
    assert "the great sale." in swapped()["freezes"]
    assert swapped() == {}
    Leave.objects.give(job, approver, occurrence_of(freeze), "urgent")
    assert "approver gave leave until" in swapped()["freezes"]
    freeze.end(ops, "sold out")
    assert swapped() == {"freezes": ""}
    Freeze.objects.stop_world(ops, "smoke")
    assert "smoke" in swapped()["stopped"]
    assert swapped() == {}
    Freeze.objects.resume_world(ops, "none")
    assert swapped() == {"stopped": ""}


def test_one_with_nothing_left_to_begin_does_not(as_user, publisher, start, finish, job, machines, ops):
    start(job, machines)
    finish()
    freeze_now(ops)
    assert "Nothing more of this run begins" not in words(as_user(publisher).get(page("stage", job)))


def test_run_stage_ends_with_a_conflict(job, machines, publisher, ops):
    freeze_now(ops)
    said = fail("run_stage", "--as", "publisher", job.pk, "pre-release", "--all", code=CONFLICT)
    assert "the great sale" in said
    assert not Run.objects.exists()


def test_rollback_pages_work_while_everything_is_stopped(as_user, publisher, start, finish, job, machines, ops):
    start(job, machines[:2])
    finish()
    Freeze.objects.stop_world(ops, "smoke")
    client = as_user(publisher)
    response = client.get(page("roll_back_job", job))
    fields = {"token": token_in(response), "machines": [machines[0].pk], "reason": "broken"}
    assert client.post(page("roll_back_job", job), fields).status_code == 302
    assert Run.objects.get(action="rollback").machine_runs.count() == 1

"""What an approver sees before approving: where, what, and what is new since the last release."""

import re

import pytest

from jobs.models import Job, Machine
from releases.models import Action, Task
from releases.preview import LONGEST_COMPARED, Preview
from tests.conftest import list_machines, make_task
from tests.pages import page, source, words


@pytest.fixture
def released(make_job, start, finish, machines):
    """1.0 is out on pay-1 to pay-4."""
    job = make_job("1.0", on=machines[:4])
    start(job, machines[:4])
    finish()
    return job


@pytest.fixture
def waiting(make_job, machines, released):
    return make_job("2.0", on=machines[2:], approved=False, plan_pre_release="1")


def shown(response):
    """What the card says, with what is folded in it."""
    card = re.search(r'<section class="card" id="preview">.*?</section>', source(response), re.DOTALL)[0]
    return " ".join(re.sub(r"<[^>]*>", " ", card).split())


def test_it_tells_what_differs_from_the_last_release(as_user, approver, waiting, released):
    said = shown(as_user(approver).get(page("job", waiting)))
    assert f"against the last release: #{released.pk} 1.0" in said
    assert "1.0 → 2.0" in said
    assert "Machines added 2 Names pay-[5-6]" in said
    assert "Left out 2 Names pay-[1-2]" in said
    assert "sh-1 4 pay-[3-6]" in said
    assert "Pre-release 1 pay-3 Release 3 pay-[4-6]" in said


def test_machines_stand_at_the_site_where_they_are_now_and_those_gone_at_none(
    as_user, approver, payment, machines, make_job
):
    job = make_job(approved=False)
    list_machines(payment, *(f"pay-{number}" for number in range(1, 6)))
    Machine.objects.filter(hostname="pay-2").update(site="bj-1")
    said = shown(as_user(approver).get(page("job", job)))
    assert "Machines by site bj-1 1 pay-2 sh-1 4 pay-1, pay-[3-5] Gone 1 pay-6" in said


def test_the_first_release_of_a_business_has_nothing_to_differ_from(as_user, approver, make_job, release_task):
    said = shown(as_user(approver).get(page("job", make_job(approved=False))))
    assert "Nothing to compare with: no other job of this business is released to its end yet." in said
    assert "No plan: the publisher chooses" in said
    assert "Machines added" not in said


def test_what_another_job_has_put_somewhere_is_not_called_nothing(as_user, approver, make_job, start, finish, machines):
    start(make_job("1.0"), machines[:1])
    finish()
    response = as_user(approver).get(page("job", make_job("2.0", approved=False)))
    assert "<small>1.0 · " in source(response)
    assert "no other job of this business is released to its end yet" in shown(response)


@pytest.mark.one_database
def test_a_text_that_changed_since_is_compared(as_user, approver, waiting, release_task):
    Task.objects.get(pk=release_task.pk).revise("echo <b>other</b>\nexit 0", None)
    response = as_user(approver).get(page("job", waiting))
    assert "changed since v1" in shown(response)
    page_text = response.content.decode()
    assert '<li class="del">echo done</li>' in page_text
    assert '<li class="add">echo &lt;b&gt;other&lt;/b&gt;</li>' in page_text


@pytest.mark.one_database
def test_a_task_that_is_new_since_is_told(as_user, approver, waiting, payment, orders):
    make_task("new way", business=payment)
    make_task("theirs", business=orders)
    said = shown(as_user(approver).get(page("job", waiting)))
    assert "Release: new way · v1 new since" in said
    assert "theirs" not in said


@pytest.mark.one_database
def test_a_rollback_task_that_changed_since_is_told_too(waiting, rollback_task):
    rollback_task.revise("echo other", None)
    assert [one.is_changed for one in Preview(waiting).tasks] == [False, True]


@pytest.mark.one_database
def test_a_check_is_part_of_the_text(waiting, release_task):
    release_task.revise("echo done", None, "test -f /ok")
    assert ("add", "test -f /ok") in Preview(waiting).tasks[0].lines


@pytest.mark.one_database
def test_a_very_long_text_is_shown_without_comparing(waiting, release_task):
    release_task.revise("echo\n" * (LONGEST_COMPARED + 1), None)
    assert {mark for mark, _ in Preview(waiting).tasks[0].lines} == {""}


@pytest.mark.one_database
def test_release_tasks_come_first(waiting, rollback_task, release_task):
    assert [one.task.action for one in Preview(waiting).tasks] == list(Action)


def test_the_last_release_is_the_one_that_ran_last_and_not_one_that_failed(make_job, start, finish, machines, released):
    failed = make_job("1.5", on=machines[:1])
    start(failed, machines[:1])
    finish("failed")
    assert Preview(make_job("2.0")).last == released


def test_the_release_of_another_business_is_none_of_ours(released, orders, outsider, machines):
    job = Job(business=orders, title="Theirs", version="9")
    job.ask(outsider, machines[:1])
    assert Preview(job).last is None


@pytest.mark.one_database
def test_once_a_stage_has_begun_it_is_gone(as_user, approver, released):
    assert "What will happen" not in words(as_user(approver).get(page("job", released)))

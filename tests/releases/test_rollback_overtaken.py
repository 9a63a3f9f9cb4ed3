"""Rolling back a job on machines where a later one of the business ran since: said, and never done by the way."""

import pytest

from jobs.models import Job, Membership
from jobs.rights import Role
from releases.models import Action, MachineRun, ReleaseStage, Run, StageMoved
from tests.commands import CONFLICT, fail, say
from tests.conftest import list_machines, make_member
from tests.pages import checked, ids, offered, page, source, words
from tests.releases.test_page_rollback import BOTH, machines_of, rollback_fields, rollbacks

ROLL_BACK = ("rollback_stage", "--as", "publisher", "--reason", "it hurts")
MORE = 1000


@pytest.fixture
def earlier(make_job, start, finish, machines):
    """1.0 was on pay-1 and pay-2; this job put 2.0 on pay-1 to pay-3."""
    start(make_job("1.0"), machines[:2])
    finish()
    job = make_job("2.0")
    start(job, machines[:3])
    finish()
    return job


@pytest.fixture
def later(earlier, make_job, start, finish, machines):
    """Then this one put 3.0 on pay-1."""
    job = make_job("3.0")
    start(job, machines[:1])
    finish()
    return job


def versions(run):
    return set(run.machine_runs.values_list("machine__hostname", "version_before", "version_after"))


def more(rows, **changed):
    """Copies of one row: in each, `changed` gives a field its own value."""
    row = rows.get()
    same = {field.name: getattr(row, field.name) for field in row._meta.fields if not field.primary_key}
    each = zip(*changed.values(), strict=True) if changed else [()] * MORE
    model = type(row)
    return model.objects.bulk_create(model(**same | dict(zip(changed, values, strict=True))) for values in each)


@BOTH
def test_the_page_tells_what_is_there_now_and_leaves_it_out(as_user, publisher, earlier, later, machines, name):
    response = as_user(publisher).get(page(name, earlier))
    assert f"sh-1 3.0 Succeeded back to 1.0 · #{later.pk} payment 3.0 ran there since" in words(response)
    assert "pay-2 10.0.0.2 sh-1 2.0 Succeeded back to 1.0" in words(response)
    assert offered(response) == set(ids(machines[:3]))
    assert checked(response) == set(ids(machines[1:3]))
    assert "Undo what later jobs put there, too" in words(response)


@BOTH
def test_it_is_refused_without_the_box_and_what_was_typed_stays(as_user, publisher, earlier, later, machines, name):
    fields = rollback_fields(earlier, publisher, machines[:2], name)
    response = as_user(publisher).post(page(name, earlier), fields)
    assert "A later job ran on pay-1: roll that one back, or tick this." in words(response)
    assert "it is broken" in source(response)
    assert checked(response) == set(ids(machines[:2]))
    assert not rollbacks(earlier)


@BOTH
def test_with_the_box_it_goes_back_from_what_is_there(as_user, publisher, earlier, later, machines, name):
    fields = rollback_fields(earlier, publisher, machines[:2], name, undo_later="on")
    assert as_user(publisher).post(page(name, earlier), fields).status_code == 302
    run = rollbacks(earlier).get()
    assert versions(run) == {("pay-1", "3.0", "1.0"), ("pay-2", "2.0", "1.0")}
    assert earlier.events.get(verb="rolled_back").detail["undone_jobs"] == [later.pk]
    assert f"Undone with it, for they ran later: #{later.pk}" in words(as_user(publisher).get(page("job", earlier)))


@BOTH
def test_without_those_machines_no_box_is_needed(as_user, publisher, earlier, later, machines, name):
    fields = rollback_fields(earlier, publisher, machines[1:3], name)
    assert as_user(publisher).post(page(name, earlier), fields).status_code == 302
    assert machines_of(rollbacks(earlier).get()) == {"pay-2", "pay-3"}
    assert "undone_jobs" not in earlier.events.get(verb="rolled_back").detail


@pytest.mark.parametrize("status", ["failed", "timed_out"])
def test_one_that_failed_there_since_has_left_nobody_knows_what(
    as_user, publisher, earlier, make_job, start, finish, machines, status
):
    later = make_job("3.0")
    start(later, machines[:1])
    finish(status)
    shown = words(as_user(publisher).get(page("roll_back_stage", earlier)))
    assert f"not known Succeeded back to 1.0 · #{later.pk} payment 3.0 ran there since" in shown


def test_a_later_job_that_was_rolled_back_is_not_in_the_way(as_user, publisher, earlier, later, finish, machines):
    ReleaseStage.objects.of_kind(later, "pre-release").roll_back(publisher, machines[:1], "bad", "back")
    finish()
    response = as_user(publisher).get(page("roll_back_stage", earlier))
    assert "pay-1 10.0.0.1 sh-1 2.0 Succeeded back to 1.0" in words(response)
    assert checked(response) == set(ids(machines[:3]))
    assert "Undo what later jobs" not in words(response)


def test_one_whose_turn_never_came_is_not_in_the_way(as_user, publisher, earlier, make_job, start, finish, machines):
    run = start(make_job("3.0"), machines[:1])
    run.cancel(publisher)
    assert "ran there since" not in words(as_user(publisher).get(page("roll_back_stage", earlier)))


def test_a_job_of_another_business_is_not_in_the_way(as_user, publisher, earlier, orders, start, finish, machines):
    """What it put there is another thing, by another task."""
    list_machines(orders, "pay-1")
    Membership.objects.create(user=publisher, business=orders, role=Role.PUBLISHER)
    job = Job(business=orders, title="Orders", version="9.0")
    job.ask(make_member("requester of orders", orders, Role.REQUESTER), machines[:1])
    job.approve(make_member("approver of orders", orders, Role.APPROVER))
    start(job, machines[:1])
    finish()
    response = as_user(publisher).get(page("roll_back_stage", earlier))
    assert "pay-1 10.0.0.1 sh-1 2.0 Succeeded back to 1.0" in words(response)
    assert checked(response) == set(ids(machines[:3]))


def test_one_that_ran_there_before_is_not_in_the_way(as_user, publisher, make_job, start, finish, machines):
    """Though it ran after the first machines of the stage."""
    job = make_job("2.0")
    for one, machine in ((job, machines[1]), (make_job("3.0"), machines[0]), (job, machines[0])):
        start(one, [machine])
        finish()
    shown = words(as_user(publisher).get(page("roll_back_stage", job)))
    assert "pay-1 10.0.0.1 sh-1 2.0 Succeeded back to 3.0" in shown
    assert "ran there since" not in shown


def test_the_later_job_itself_is_rolled_back_without_a_box(as_user, publisher, earlier, later, machines):
    response = as_user(publisher).get(page("roll_back_stage", later))
    assert "pay-1 10.0.0.1 sh-1 3.0 Succeeded back to 2.0" in words(response)
    assert "ran there since" not in words(response)


def test_one_that_ran_there_between_the_page_and_the_click_is_seen(
    earlier, publisher, make_job, start, finish, machines
):
    stage = ReleaseStage.objects.of_kind(earlier, "pre-release")
    start(make_job("3.0"), machines[:1])
    finish()
    with pytest.raises(StageMoved, match="A later job ran on some of these machines"):
        stage.roll_back(publisher, machines[:2], "too late", "back")
    assert not rollbacks(earlier)
    assert not MachineRun.objects.pending().exists()


def test_also_where_all_stages_of_the_job_are_rolled_back(earlier, later, publisher, machines):
    stages = ReleaseStage.objects.of(Job.objects.get(pk=earlier.pk))
    with pytest.raises(StageMoved, match="A later job ran on some of these machines"):
        ReleaseStage.objects.roll_back(stages, {machines[0].pk}, publisher, "it hurts", "key")
    assert not rollbacks(earlier)


def test_the_command_leaves_them_out(earlier, later):
    say(*ROLL_BACK, earlier.pk, "all")
    assert machines_of(rollbacks(earlier).get()) == {"pay-2", "pay-3"}


def test_the_command_names_one_that_was_asked_for(earlier, later):
    assert "pay-1" in fail(*ROLL_BACK, earlier.pk, "all", "pay-1", code=CONFLICT)
    assert not Run.objects.filter(action=Action.ROLLBACK).exists()


def test_the_command_undoes_later_jobs_when_it_is_told_to(earlier, later):
    say(*ROLL_BACK, earlier.pk, "all", "--undo-later")
    assert ("pay-1", "3.0", "1.0") in versions(rollbacks(earlier).get())


@pytest.mark.one_database
@BOTH
def test_however_many_ran_there_since(as_user, publisher, earlier, later, machines, name):
    """SQLite takes no more than a thousand conditions in a query."""
    jobs = more(Job.objects.filter(pk=later.pk))
    stages = more(ReleaseStage.objects.filter(job=later, kind="pre-release"), job=jobs)
    runs = more(Run.objects.filter(stage__job=later), stage=stages, submit_key=[f"again-{n}" for n in range(MORE)])
    more(MachineRun.objects.filter(run__stage__job=later), run=runs)
    fields = rollback_fields(earlier, publisher, machines[:2], name, undo_later="on")
    response = as_user(publisher).get(page(name, earlier))
    assert offered(response) == set(ids(machines[:3]))
    assert f"#{jobs[-1].pk} payment 3.0 and 996 earlier ones ran there since" in words(response)
    assert f"#{jobs[-6].pk} " not in words(response)
    assert as_user(publisher).post(page(name, earlier), fields).status_code == 302
    assert len(earlier.events.get(verb="rolled_back").detail["undone_jobs"]) == MORE + 1

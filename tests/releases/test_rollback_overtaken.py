"""Rolling back a job on machines where a later one of the business ran since: said, and never done by the way."""

import pytest

from releases.models import Action, MachineRun, ReleaseStage, Run, StageMoved
from tests.commands import MISTAKE, fail, say
from tests.pages import checked, ids, offered, page, source, words
from tests.releases.test_page_rollback import BOTH, machines_of, rollback_fields, rollbacks

ROLL_BACK = ("rollback_stage", "--as", "publisher", "--reason", "it hurts")


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


def test_the_command_leaves_them_out(earlier, later):
    say(*ROLL_BACK, earlier.pk, "all")
    assert machines_of(rollbacks(earlier).get()) == {"pay-2", "pay-3"}


def test_the_command_names_one_that_was_asked_for(earlier, later):
    assert "pay-1" in fail(*ROLL_BACK, earlier.pk, "all", "pay-1", code=MISTAKE)
    assert not Run.objects.filter(action=Action.ROLLBACK).exists()


def test_the_command_undoes_later_jobs_when_it_is_told_to(earlier, later):
    say(*ROLL_BACK, earlier.pk, "all", "--undo-later")
    assert ("pay-1", "3.0", "1.0") in versions(rollbacks(earlier).get())


class TestWhoseVersionIsThere:
    """1.0 was on pay-1; then this job, `a`, put 2.0 there, and `b` 3.0. Who goes back from what to what?"""

    @pytest.fixture
    def here(self, machines):
        return machines[:1]

    @pytest.fixture
    def put(self, make_job, start, finish, here):
        def put(version, status="succeeded"):
            job = make_job(version)
            start(job, here)
            finish(status)
            return job

        put("1.0")
        return put

    @pytest.fixture
    def take_back(self, publisher, finish, here):
        def take_back(job, **options):
            stage = ReleaseStage.objects.of_kind(job, "pre-release")
            run = stage.roll_back(publisher, here, "bad", f"back-{job.pk}-{stage.version}", **options)
            finish()
            return versions(run)

        return take_back

    def test_a_newer_job_that_went_back_leaves_the_one_between_them_there(self, put, take_back, as_user, publisher):
        a, b, c = put("2.0"), put("3.0"), put("4.0")
        take_back(c)
        with pytest.raises(StageMoved, match="A later job ran"):
            take_back(a)
        response = as_user(publisher).get(page("roll_back_stage", a))
        assert f"3.0 Succeeded back to 1.0 · #{b.pk} payment 3.0 ran there since" in words(response)
        assert not checked(response)
        assert take_back(a, undo_later=True) == {("pay-1", "3.0", "1.0")}
        assert a.events.get(verb="rolled_back").detail["undone_jobs"] == [b.pk]

    def test_all_that_go_with_it_are_named(self, put, take_back, as_user, publisher):
        a, b, c = put("2.0"), put("3.0"), put("4.0")
        shown = words(as_user(publisher).get(page("roll_back_stage", a)))
        assert f"#{b.pk} payment 3.0, #{c.pk} payment 4.0 ran there since" in shown
        take_back(a, undo_later=True)
        assert a.events.get(verb="rolled_back").detail["undone_jobs"] == [b.pk, c.pk]

    def test_a_job_that_was_undone_by_the_way_does_not_put_a_bad_version_back(self, put, take_back, as_user, publisher):
        a, b = put("2.0"), put("3.0")
        take_back(a, undo_later=True)
        with pytest.raises(StageMoved, match="A later job ran"):
            take_back(b)
        shown = words(as_user(publisher).get(page("roll_back_stage", b)))
        assert f"1.0 Succeeded back to 2.0 · #{a.pk} payment 2.0 ran there since" in shown

    def test_released_again_it_finds_what_its_own_rollback_left(self, put, take_back, start, finish, here):
        a = put("2.0")
        b = put("3.0")
        take_back(b)
        assert take_back(a) == {("pay-1", "2.0", "1.0")}
        assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}
        finish("failed")
        assert {back_to for _, _, back_to in take_back(a)} == {"1.0"}

    def test_and_so_after_a_rollback_that_undid_others(self, put, take_back, start, here):
        a = put("2.0")
        put("3.0")
        take_back(a, undo_later=True)
        assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}

    def test_its_own_version_is_never_what_it_found(self, put, take_back, start, finish, publisher, here):
        """Another job's rollback put it there again, and its own rollback failed."""
        a, b = put("2.0"), put("3.0")
        take_back(b)
        ReleaseStage.objects.of_kind(a, "pre-release").roll_back(publisher, here, "bad", "back")
        finish("failed")
        assert versions(start(a, here)) == {("pay-1", "1.0", "2.0")}

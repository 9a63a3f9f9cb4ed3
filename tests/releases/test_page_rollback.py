"""Rolling back: of one stage, and of the whole job."""

from itertools import product

import pytest

from jobs.models import Event, Job
from releases import tokens
from releases.models import Action, MachineRun, ReleaseStage, Run
from releases.models.stage import ReleaseStageQuerySet
from releases.tidying import move_on
from tests.cases import each
from tests.conftest import list_machines
from tests.pages import (
    NO_MACHINES,
    checked,
    ids,
    is_sent_to_login,
    offered,
    page,
    source,
    token_in,
    without_nones,
    words,
)
from tests.workers import begin, end

BOTH_PAGES = ["roll_back_stage", "roll_back_job"]
BOTH = each("name", BOTH_PAGES)


@pytest.fixture
def released(job, start, finish, machines):
    """The job, with 2.0 on pay-1 to pay-3 by its pre-release."""
    start(job, machines[:3])
    finish()
    return job


@pytest.fixture
def roll_back(as_user, publisher):
    """Posts the rollback form as the publisher, who has never looked at it before."""

    def roll_back(job, machines, name="roll_back_stage", /, by=publisher, **changed):
        return as_user(by).post(page(name, job), rollback_fields(job, by, machines, name, **changed))

    return roll_back


def rollback_fields(job, user, machines, name="roll_back_stage", /, **changed):
    what = "pre-release" if name == "roll_back_stage" else "job"
    stages = [stage for stage in ReleaseStage.objects.of(job) if what in (stage.kind, "job")]
    token = tokens.issue(user, job, what, sum(stage.version for stage in stages))
    return without_nones({"token": token, "machines": ids(machines), "reason": "it is broken"} | changed)


def rollbacks(job):
    return Run.objects.filter(stage__job=job, action=Action.ROLLBACK)


def machines_of(run):
    return {machine_run.machine.hostname for machine_run in run.machine_runs.select_related("machine")}


class TestLooking:
    @BOTH
    def test_it_lists_what_this_job_changed_now_and_back_to(
        self, as_user, publisher, make_job, start, finish, machines, name
    ):
        start(make_job("1.0"), machines[:1])
        finish()
        job = make_job("2.0")
        start(job, machines[:2])
        finish("failed", on=["pay-2"])
        response = as_user(publisher).get(page(name, job))
        assert offered(response) == checked(response) == set(ids(machines[:2]))
        assert "pay-1 10.0.0.1 sh-1 2.0 Succeeded back to 1.0" in words(response)
        assert "pay-2 10.0.0.2 sh-1 not known Failed back to a version that is not known" in words(response)

    @pytest.mark.one_database
    @BOTH
    def test_it_asks_who_you_are(self, client, released, name):
        assert is_sent_to_login(client.get(page(name, released)), page(name, released))
        assert is_sent_to_login(client.post(page(name, released)), page(name, released))

    @pytest.mark.one_database
    @BOTH
    @pytest.mark.parametrize("person", ["requester", "approver"])
    def test_others_are_told_which_right_is_missing(
        self, as_user, roll_back, request, released, machines, person, name
    ):
        user = request.getfixturevalue(person)
        for response in (as_user(user).get(page(name, released)), roll_back(released, machines[:1], name, by=user)):
            assert response.status_code == 403
            assert "run or roll back a stage of this job" in words(response)
        assert not rollbacks(released)

    @pytest.mark.one_database
    @BOTH
    def test_for_an_outsider_it_is_not_there(self, as_user, roll_back, outsider, released, machines, name):
        assert as_user(outsider).get(page(name, released)).status_code == 404
        assert roll_back(released, machines[:1], name, by=outsider).status_code == 404

    @pytest.mark.one_database
    @each("name, method", list(product(BOTH_PAGES, ["put", "patch", "delete"])))
    def test_other_methods_are_refused(self, as_user, publisher, released, method, name):
        assert getattr(as_user(publisher), method)(page(name, released)).status_code == 405

    @pytest.mark.one_database
    @BOTH
    def test_with_nothing_to_roll_back_it_says_so(self, as_user, publisher, job, name):
        response = as_user(publisher).get(page(name, job))
        assert response.status_code == 200
        assert "There is nothing to roll back" in words(response)

    def test_a_stage_that_is_none(self, as_user, publisher, released):
        assert as_user(publisher).get(f"/jobs/{released.pk}/stages/prod/rollback/").status_code == 404

    @pytest.mark.one_database
    @BOTH
    def test_it_says_which_machines_it_cannot_reach_and_why(
        self, as_user, publisher, payment, make_job, released, start, machines, name
    ):
        holder = make_job("3.0")
        start(holder, machines[:1])
        list_machines(payment, "pay-1", "pay-3", "pay-4", "pay-5", "pay-6")
        response = as_user(publisher).get(page(name, released))
        assert offered(response) == {machines[2].pk}
        assert f"pay-1 is held by #{holder.pk}." in words(response)
        assert "pay-2 is gone from the config service." in words(response)

    def test_of_a_job_a_stage_that_runs_is_left_out_and_said_to_be(
        self, as_user, publisher, roll_back, start, worker, released, machines
    ):
        start(released, machines[3:5], "gray-release", batch_size="1")
        end(worker, begin(worker))
        client = as_user(publisher)
        said = "1 more machine carries a change of this job and cannot be rolled back now"
        assert "Roll back 3 machines…" in words(client.get(page("job", released)))
        response = client.get(page("roll_back_job", released))
        assert offered(response) == checked(response) == set(ids(machines[:3]))
        assert f"{said} A run of gray release is still going on. Wait for its end, or cancel it." in words(response)
        refused = roll_back(released, machines[:4], "roll_back_job")
        assert refused.status_code == 409
        assert not rollbacks(released)
        assert roll_back(released, machines[:3], "roll_back_job").status_code == 302
        assert machines_of(rollbacks(released).get()) == {"pay-1", "pay-2", "pay-3"}


class TestRollingBack:
    def test_a_stage_goes_back(self, roll_back, finish, released, machines):
        response = roll_back(released, machines[:2])
        assert response.url == page("stage", released)
        run = rollbacks(released).get()
        assert machines_of(run) == {"pay-1", "pay-2"}
        assert (run.remark, run.task_version.task.name) == ("it is broken", "roll-back")
        finish()
        assert ReleaseStage.objects.of_kind(released, "pre-release").status == "succeeded"

    def test_the_whole_job_goes_back_stage_by_stage(self, roll_back, start, finish, released, machines):
        start(released, machines[3:], "gray-release")
        finish()
        response = roll_back(released, machines, "roll_back_job")
        assert response.url == page("job", released)
        assert [(run.stage.kind, len(machines_of(run))) for run in rollbacks(released)] == [
            ("pre-release", 3),
            ("gray-release", 3),
        ]
        finish()
        released.refresh_from_db()
        assert released.status == Job.Status.ROLLED_BACK

    @BOTH
    def test_the_token_of_the_page_is_taken(self, as_user, publisher, roll_back, released, machines, name):
        token = token_in(as_user(publisher).get(page(name, released)))
        roll_back(released, machines[:1], name, token=token)
        assert machines_of(rollbacks(released).get()) == {"pay-1"}

    @BOTH
    def test_twice_the_same_is_one_run_each(self, roll_back, publisher, released, machines, name):
        data = rollback_fields(released, publisher, machines[:2], name)
        first, second = (roll_back(released, [], name, **data) for _ in range(2))
        assert (first.status_code, second.status_code) == (302, 302)
        assert first.url == second.url
        assert rollbacks(released).count() == 1

    @each("name, chosen", list(product(BOTH_PAGES, [(1, 2), (0, 1), ()])))
    @pytest.mark.parametrize("has_ended", [False, True])
    def test_other_machines_by_its_token_are_told_and_kept(
        self, roll_back, publisher, finish, released, machines, name, chosen, has_ended
    ):
        data = rollback_fields(released, publisher, machines[:1], name)
        roll_back(released, [], name, **data)
        if has_ended:
            finish()
        response = roll_back(released, [], name, **data | {"machines": [machines[number].pk for number in chosen]})
        assert response.status_code == 409
        assert "This job has moved on since the page was loaded. Nothing was started." in words(response)
        assert "it is broken" in words(response)
        if has_ended:
            assert checked(response) == {machines[number].pk for number in chosen if number}
        assert machines_of(rollbacks(released).get()) == {"pay-1"}

    @BOTH
    def test_so_are_they_at_the_same_moment(self, roll_back, publisher, released, machines, name, monkeypatch):
        """Whose form was looked at before the first one's run was there."""
        data = rollback_fields(released, publisher, machines[1:2], name)
        real = ReleaseStageQuerySet.roll_back

        def first_the_other(stages, these, chosen, by, reason, key, undo_later):
            monkeypatch.undo()
            fresh = [ReleaseStage.objects.of_kind(released, stage.kind) for stage in these]
            real(stages, fresh, {machines[0].pk}, by, reason, key)
            return real(stages, these, chosen, by, reason, key, undo_later)

        monkeypatch.setattr(ReleaseStageQuerySet, "roll_back", first_the_other)
        response = roll_back(released, [], name, **data)
        assert response.status_code == 409
        assert "it is broken" in words(response)
        assert machines_of(rollbacks(released).get()) == {"pay-1"}

    @BOTH
    def test_ops_do_it_as_break_glass(self, roll_back, ops, released, machines, name):
        roll_back(released, machines[:1], name, by=ops)
        event = released.events.filter(verb=Event.Verb.ROLLED_BACK).get()
        assert event.detail["break_glass"] is True
        assert event.reason == "it is broken"

    def test_what_is_rolled_back_is_not_offered_again(self, as_user, publisher, roll_back, finish, released, machines):
        roll_back(released, machines[:2])
        finish()
        assert offered(as_user(publisher).get(page("roll_back_stage", released))) == {machines[2].pk}

    def test_what_failed_to_go_back_is_offered_again(self, as_user, publisher, roll_back, finish, released, machines):
        roll_back(released, machines[:2])
        finish("failed", on=["pay-2"])
        response = as_user(publisher).get(page("roll_back_stage", released))
        assert offered(response) == set(ids(machines[1:3]))


@pytest.fixture
def unknown(job, start, finish, machines):
    """The job, with 2.0 on pay-1; how its pre-release ended on pay-2 nobody saw."""
    start(job, machines[:2])
    finish("unknown", on=["pay-2"])
    return job


class TestUnknown:
    """A machine on which a command may still run goes back only when a person says that none does."""

    @pytest.mark.one_database
    @BOTH
    def test_it_is_listed_but_not_chosen(self, as_user, publisher, unknown, machines, name):
        response = as_user(publisher).get(page(name, unknown))
        assert offered(response) == set(ids(machines[:2]))
        assert checked(response) == {machines[0].pk}
        told = "Unknown back to a version that is not known · only if nothing still runs there"
        assert f"sh-1 not known {told}" in words(response)
        assert "I have looked: nothing of this job still runs there" in words(response)

    @pytest.mark.one_database
    def test_where_none_is_nobody_is_asked_to_look(self, as_user, publisher, released):
        assert "I have looked" not in words(as_user(publisher).get(page("roll_back_stage", released)))

    @BOTH
    def test_without_a_look_it_is_refused_and_stays_unknown(self, roll_back, unknown, machines, name):
        response = roll_back(unknown, machines[:2], name)
        assert response.status_code == 200
        refused = "Look first: a command may still be running on pay-2."
        above_the_list, below = source(response).split("<tbody>", 1)
        assert refused in above_the_list
        assert refused in below
        assert source(response).count('id="id_looked_error"') == 1
        assert checked(response) == set(ids(machines[:2]))
        assert not rollbacks(unknown)
        assert unknown.stages.get(kind="pre-release").runs.get().machine_runs.filter(status="unknown").count() == 1

    @BOTH
    def test_without_it_the_others_go_back_and_it_stays_held(self, roll_back, unknown, machines, name):
        roll_back(unknown, machines[:1], name)
        assert machines_of(rollbacks(unknown).get()) == {"pay-1"}
        assert MachineRun.objects.holding().filter(machine=machines[1]).get().status == "unknown"

    @BOTH
    def test_after_a_look_it_is_settled_as_failed_and_goes_back(self, roll_back, finish, unknown, machines, name):
        roll_back(unknown, machines[:2], name, looked="on")
        assert machines_of(rollbacks(unknown).get()) == {"pay-1", "pay-2"}
        event = unknown.events.filter(verb=Event.Verb.RESOLVED).get()
        assert (event.reason, event.was, event.became) == ("it is broken", "unknown", "failed")
        finish()
        unknown.refresh_from_db()
        assert unknown.status == Job.Status.ROLLED_BACK

    def test_twice_the_same_settles_it_once(self, roll_back, publisher, unknown, machines):
        data = rollback_fields(unknown, publisher, machines[:2]) | {"looked": "on"}
        for _ in range(2):
            assert roll_back(unknown, [], **data).status_code == 302
        assert unknown.events.filter(verb=Event.Verb.RESOLVED).count() == 1
        assert rollbacks(unknown).count() == 1

    def test_one_that_is_resolved_meanwhile_just_goes_back(self, roll_back, publisher, unknown, machines):
        data = rollback_fields(unknown, publisher, machines[1:2]) | {"looked": "on"}
        MachineRun.objects.get(status="unknown").resolve(publisher, "succeeded", "it is fine")
        response = roll_back(unknown, [], **data)
        assert response.status_code == 409  # the stage moved on; the page shows what it is now
        assert "pay-2 10.0.0.2 sh-1 2.0 Succeeded back to" in words(response)
        assert not rollbacks(unknown)


BAD_MACHINES = [
    *NO_MACHINES,
    ([f"{10**9}-{10**9 + 9_999}"], "carry no change"),
]


class TestBadInput:
    def test_machines(self, roll_back, released, machines, case):
        for name, (value, why) in product(BOTH_PAGES, BAD_MACHINES):
            with case(name, machines=value):
                response = roll_back(released, [], name, machines=value)
                assert response.status_code in (200, 409)
                assert why in words(response)
                assert "it is broken" in words(response)
                assert "<script>alert" not in response.content.decode()
                assert not rollbacks(released)

    @BOTH
    def test_a_machine_that_this_job_never_changed(self, roll_back, released, machines, name):
        response = roll_back(released, [machines[0], machines[5]], name)
        assert response.status_code == 409
        assert "carry no change" in words(response)
        assert checked(response) == {machines[0].pk}
        assert not rollbacks(released)

    @pytest.mark.one_database
    def test_a_bad_reason(self, roll_back, released, machines, case):
        for name, reason in product(BOTH_PAGES, ["", "  ", None, "a\0b", "a\u202eb", "x" * 2001]):
            with case(name, reason=reason):
                response = roll_back(released, machines[1:2], name, reason=reason)
                assert response.status_code == 200
                assert checked(response) == {machines[1].pk}
                assert not rollbacks(released)

    @pytest.mark.one_database
    @BOTH
    def test_a_reason_is_text_and_no_markup(self, roll_back, as_user, publisher, released, machines, name):
        reason = "<script>alert(1)</script>"
        roll_back(released, machines[:1], name, reason=reason)
        for address in (page("job", released), page("stage", released)):
            response = as_user(publisher).get(address)
            assert reason in source(response)
            assert "<script>alert" not in response.content.decode()


class TestConflicts:
    @pytest.mark.one_database
    def test_no_token_or_nonsense(self, roll_back, released, machines, case):
        for name, token in product(BOTH_PAGES, [None, "", "x", "\0", "x" * 1_000_000]):
            with case(name, token=token):
                response = roll_back(released, machines[1:2], name, token=token)
                assert response.status_code == 409
                assert "This form was not made by this page." in words(response)
                assert "it is broken" in words(response)
                assert checked(response) == {machines[1].pk}
                assert not rollbacks(released)

    def test_the_token_of_something_else(self, roll_back, publisher, ops, released, make_job, machines):
        other = make_job("3.0")
        version = ReleaseStage.objects.of_kind(released, "pre-release").version
        for token, why in [
            (tokens.issue(publisher, other, "pre-release", version), "another job or stage"),
            (tokens.issue(publisher, released, "gray-release", version), "another job or stage"),
            (tokens.issue(publisher, released, "job", version), "another job or stage"),
            (tokens.issue(ops, released, "pre-release", version), "another user"),
        ]:
            response = roll_back(released, machines[:1], token=token)
            assert response.status_code == 409
            assert why in words(response)
        assert not rollbacks(released)

    @BOTH
    def test_a_stage_that_moved_on(self, roll_back, publisher, start, finish, released, machines, name):
        late = rollback_fields(released, publisher, machines[:1], name)
        run = start(released, machines[3:4])
        finish()
        response = roll_back(released, [], name, **late)
        assert response.status_code == 409
        assert "moved on" in words(response)
        happened = f"What happened last: Pre-release , {run} succeeded: 1 succeeded"
        assert f"Nothing was started. {happened}" in words(response)
        assert "publisher started Pre-release on 1 machine" in words(response)
        assert "it is broken" in words(response)
        assert not rollbacks(released)

    def test_while_a_release_of_the_same_machines_goes_on(self, roll_back, start, finish, job, machines):
        start(job, machines[:2])
        finish("failed")
        start(job, machines[:2])
        response = roll_back(job, machines[:2])
        assert response.status_code == 409
        assert "A run of this stage is still going on." in words(response)
        assert not rollbacks(job)

    @BOTH
    def test_while_another_job_holds_a_machine(self, roll_back, start, make_job, released, machines, name):
        holder = make_job("3.0")
        start(holder, machines[:1])
        response = roll_back(released, machines[:2], name)
        assert response.status_code == 409
        assert f"pay-1 is held by #{holder.pk}." in words(response)
        assert "it is broken" in words(response)
        assert not rollbacks(released)

    @BOTH
    def test_while_the_job_itself_waits_for_a_machine(
        self, as_user, publisher, roll_back, start, finish, make_job, job, machines, name
    ):
        """Else the rollback goes first, and the release after it is told, and kept, as rolled back."""
        start(job, machines[:2])
        finish("failed", on=["pay-1"])
        stage, waits = ReleaseStage.objects.of(job)[:2]
        stage.skip(publisher, "it is old")
        holding = start(make_job("3.0"), machines[:1])
        waits.release_task, waits.rollback_task = stage.release_task, stage.rollback_task
        waits.start(publisher, machines[:1], "waits", when_free=machines[:1])
        holding.cancel(publisher)
        assert offered(as_user(publisher).get(page(name, job))) == {machines[1].pk}
        response = roll_back(job, machines[:2], name)
        assert response.status_code == 409
        assert f"pay-1 is held by #{job.pk}." in words(response)
        assert not rollbacks(job)
        move_on()
        finish()
        assert offered(as_user(publisher).get(page("roll_back_job", job))) == set(ids(machines[:2]))

    @BOTH
    def test_a_machine_that_is_another_businesses_now(self, roll_back, payment, orders, released, machines, name):
        list_machines(payment, "pay-2", "pay-3")
        list_machines(orders, "pay-1")
        response = roll_back(released, machines[:2], name)
        assert response.status_code == 409
        assert "pay-1 is gone from the config service." in words(response)
        assert not rollbacks(released)

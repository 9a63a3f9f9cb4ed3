"""The page of a stage: choosing machines of this job and of no other, checking, starting."""

import re
from types import SimpleNamespace

import pytest
from django.core import signing

from deploy_portal.models import User
from jobs.access import get_job
from jobs.models import Job, Listing, Membership
from jobs.rights import Role
from releases import tokens
from releases.forms import ReleaseStageForm
from releases.models import Action, MachineRun, ReleaseStage, Run, Worker
from tests.cases import each
from tests.conftest import list_machines, make_task, make_user
from tests.pages import (
    checked,
    ids,
    is_sent_to_login,
    offered,
    page,
    source,
    stage_fields,
    token_in,
    without_nones,
    words,
)

pytestmark = pytest.mark.usefixtures("release_task", "rollback_task")


@pytest.fixture
def second_publisher(payment):
    user = make_user("second")
    Membership.objects.create(user=user, business=payment, role=Role.PUBLISHER)
    return user


@pytest.fixture
def publish(as_user, publisher):
    """Posts the form of a stage as the publisher, who has never looked at it before."""

    def publish(job, machines, kind="pre-release", /, by=publisher, **changed):
        return as_user(by).post(page("stage", job, kind=kind), stage_fields(job, by, machines, kind, **changed))

    return publish


def started(job):
    return Run.objects.filter(stage__job=job)


def machines_of(run):
    return {machine_run.machine.hostname for machine_run in run.machine_runs.select_related("machine")}


def is_kept(response):
    """Whether the page still has the remark and the tasks that were typed."""
    text = source(response)
    return "as planned" in text and "selected>deploy" in text.replace('selected="selected"', "selected")


def conflict_of(response):
    """What the page says above all of why it did not do what it was asked for."""
    [alert] = re.findall(r'<div class="note warn" role="alert">.*?</div>\n<div id="freezes">', response.text, re.DOTALL)
    return words(SimpleNamespace(content=alert.encode()))


class TestLooking:
    def test_the_very_first_display_offers_this_jobs_machines(self, as_user, publisher, make_job, machines):
        make_job("1.0", on=machines[3:])
        job = make_job("2.0", on=machines[:3])
        assert offered(as_user(publisher).get(page("stage", job))) == set(ids(machines[:3]))

    @pytest.mark.one_database
    def test_each_display_offers_its_own_job_whatever_was_shown_before(self, as_user, publisher, make_job, machines):
        one, other = make_job("1.0", on=machines[:3]), make_job("2.0", on=machines[2:])
        client = as_user(publisher)
        for job, its in [(one, machines[:3]), (other, machines[2:]), (one, machines[:3]), (other, machines[2:])]:
            assert offered(client.get(page("stage", job))) == set(ids(its))

    @pytest.mark.one_database
    def test_it_asks_who_you_are(self, client, job):
        assert is_sent_to_login(client.get(page("stage", job)), page("stage", job))
        assert is_sent_to_login(client.post(page("stage", job)), page("stage", job))

    @pytest.mark.one_database
    def test_for_an_outsider_it_is_not_there(self, as_user, outsider, job, machines):
        client = as_user(outsider)
        assert client.get(page("stage", job)).status_code == 404
        assert client.post(page("stage", job), stage_fields(job, outsider, machines)).status_code == 404

    @pytest.mark.one_database
    @pytest.mark.parametrize("person", ["requester", "approver"])
    def test_others_look_but_choose_nothing(self, as_user, request, job, person):
        response = as_user(request.getfixturevalue(person)).get(page("stage", job))
        assert response.status_code == 200
        assert not offered(response)
        assert "This stage is open Publishers of this business can start it." in words(response)

    @pytest.mark.one_database
    @pytest.mark.parametrize("person", ["requester", "approver"])
    def test_others_are_told_which_right_is_missing(self, publish, request, job, machines, person):
        response = publish(job, machines, by=request.getfixturevalue(person))
        assert response.status_code == 403
        assert "run or roll back a stage of this job" in words(response)
        assert not started(job)

    @pytest.mark.one_database
    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    def test_other_methods_are_refused(self, as_user, publisher, job, method):
        assert getattr(as_user(publisher), method)(page("stage", job)).status_code == 405

    @each(
        "path",
        [
            "/jobs/{}/stages/prod/",
            "/jobs/{}/stages/Pre-Release/",
            "/jobs/{}/stages/",
            "/jobs/0{}/stages/pre-release/",
            "/jobs/-{}/stages/pre-release/",
            "/jobs/99999{}/stages/pre-release/",
            "/jobs/12345678901234567890123/stages/pre-release/",
            "/jobs/{}/stages/pre-release/x/",
        ],
    )
    def test_an_address_that_is_none(self, as_user, publisher, job, path):
        assert as_user(publisher).get(path.format(job.pk)).status_code == 404

    @pytest.mark.one_database
    def test_a_held_machine_is_shown_with_who_holds_it(self, as_user, publisher, make_job, start, machines):
        holder = make_job("1.0")
        start(holder, machines[:1])
        response = as_user(publisher).get(page("stage", make_job("2.0")))
        assert offered(response) == set(ids(machines[1:]))
        assert f"by #{holder.pk} payment 1.0, publisher, since" in words(response)

    @pytest.mark.one_database
    def test_one_that_is_held_or_gone_for_long_says_since_which_day(
        self, as_user, publisher, make_job, start, machines, payment
    ):
        run = start(make_job("1.0"), machines[:2])
        run.machine_runs.filter(machine=machines[0]).update(queued_at="2024-03-05T14:02:00Z")
        job = make_job("2.0")
        Listing.objects.filter(machine=machines[2]).update(gone_at="2024-03-06T14:02:00Z")
        said = words(as_user(publisher).get(page("stage", job)))
        assert said.count("payment 1.0, publisher, since 2024-03-05 14:02") == 1
        assert "from the config service, since 2024-03-06 14:02" in said

    @pytest.mark.one_database
    def test_when_every_machine_is_held_it_says_by_whom(self, as_user, publisher, make_job, start, machines):
        holder = make_job("1.0")
        start(holder, machines)
        response = as_user(publisher).get(page("stage", make_job("2.0")))
        assert not offered(response)
        assert words(response).count(f"by #{holder.pk} payment 1.0, publisher, since") == 6

    def test_what_went_back_is_offered_again(self, as_user, publisher, job, start, finish, machines):
        start(job, machines[:1])
        finish()
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "it hurts", "back")
        finish()
        assert offered(as_user(publisher).get(page("stage", job))) == set(ids(machines))

    @pytest.mark.one_database
    def test_when_every_machine_is_gone_it_says_so(self, as_user, publisher, make_job, payment, machines):
        job = make_job()
        list_machines(payment, "pay-7")
        assert words(as_user(publisher).get(page("stage", job))).count("from the config service, since") == 6

    def test_a_gone_machine_is_shown_as_gone(self, as_user, publisher, job, payment, machines):
        list_machines(payment, *(f"pay-{n}" for n in range(1, 6)))
        response = as_user(publisher).get(page("stage", job))
        assert offered(response) == set(ids(machines[:5]))
        assert "from the config service, since" in words(response)

    @pytest.mark.one_database
    def test_a_released_machine_is_shown_as_released(self, as_user, publisher, job, start, finish, machines):
        start(job, machines[:2])
        finish()
        response = as_user(publisher).get(page("stage", job, kind="gray-release"))
        assert offered(response) == set(ids(machines[2:]))
        assert words(response).count("Released in pre-release") == 2

    def test_also_while_a_later_job_has_it(self, as_user, publisher, make_job, start, finish, machines):
        job = make_job(on=machines[:1])
        start(job, machines[:1])
        finish()
        start(make_job("3.0"), machines[:1])
        said = words(as_user(publisher).get(page("stage", job, kind="gray-release")))
        assert "Every machine of this job is released or excused: nothing is left" in said

    def test_only_tasks_of_this_business_and_for_this_use_are_offered(self, as_user, publisher, job, orders, payment):
        make_task("theirs", business=orders)
        make_task("ours", business=payment)
        make_task("retired", in_use=False)
        said = words(as_user(publisher).get(page("stage", job)))
        assert "ours · v1" in said
        assert "theirs" not in said
        assert "retired" not in said

    @pytest.mark.one_database
    def test_a_closed_stage_says_what_it_waits_for(self, as_user, publisher, job):
        response = as_user(publisher).get(page("stage", job, kind="gray-release"))
        assert not offered(response)
        assert "It opens when pre-release has succeeded or was skipped." in words(response)

    @pytest.mark.one_database
    def test_before_approval_it_says_so(self, as_user, publisher, make_job):
        response = as_user(publisher).get(page("stage", make_job(approved=False)))
        assert not offered(response)
        assert "The job must be approved first." in words(response)


class TestStarting:
    def test_a_post_without_any_look_before_starts_what_it_names(self, publish, job, machines):
        response = publish(job, machines[1:3])
        assert response.status_code == 302
        assert response.url == page("stage", job)
        run = started(job).get()
        assert machines_of(run) == {"pay-2", "pay-3"}
        assert (run.action, run.remark, run.started_by.username) == (Action.RELEASE, "as planned", "publisher")
        assert run.task_version.task.name == "deploy"

    def test_the_token_of_the_page_is_taken(self, as_user, publisher, job, machines):
        client = as_user(publisher)
        token = token_in(client.get(page("stage", job)))
        client.post(page("stage", job), stage_fields(job, publisher, machines[:1], token=token))
        assert machines_of(started(job).get()) == {"pay-1"}

    def test_checking_starts_nothing_and_says_what_would_be(self, publish, job, machines):
        make_task("evil", script="rm -rf / <b>now</b>")
        response = publish(job, machines[:2], step="check", batch_size="1")
        assert not started(job)
        assert not MachineRun.objects.exists()
        said = words(response)
        assert "payment 2.0 goes to 2 machines , as pre-release ." in said
        assert "pay-1, pay-2" in said
        assert "pay-3" not in said
        assert "echo done" in said
        assert "2 batches" in said

    def test_checking_says_what_is_there_now(self, publish, start, finish, make_job, job, machines):
        """An older job that was left lying must not take a newer one's version away unseen."""
        start(make_job("2.1", on=machines[1:2]), machines[1:2])
        finish()
        assert "Now on not known 3 2.1 1 pay-2 Where" in words(publish(job, machines[:4], step="check"))

    def test_a_job_that_is_edited_while_it_is_checked_is_no_error(self, publish, requester, job, machines, monkeypatch):
        def by_site(chosen):
            job.edit(requester, machines[1:])
            return []

        monkeypatch.setattr("releases.check._by_site", by_site)
        assert "Now on not known 4" in words(publish(job, machines[:4], step="check"))

    def test_what_was_checked_is_what_starts(self, as_user, publish, publisher, job, machines):
        import re

        response = publish(job, machines[:2], step="check", batch_size="1", remark='two\nlines "quoted" <b>')
        inputs = re.findall(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?', response.content.decode())
        import html

        sent = {}
        for name, value in inputs:
            sent.setdefault(name, []).append(html.unescape(value))
        as_user(publisher).post(page("stage", job), sent | {"step": "start"})
        run = started(job).get()
        assert machines_of(run) == {"pay-1", "pay-2"}
        assert (run.batch_size, run.batches) == (1, 2)
        assert run.remark == 'two\nlines "quoted" <b>'

    def test_every_stage_after_the_other(self, publish, finish, job, machines):
        for kind, its in [
            ("pre-release", machines[:1]),
            ("gray-release", machines[1:3]),
            ("release", machines[3:]),
        ]:
            assert publish(job, its, kind).status_code == 302
            finish()
        job.refresh_from_db()
        assert job.status == Job.Status.RELEASED
        assert started(job).count() == 3

    def test_a_failed_machine_is_tried_again(self, publish, finish, job, machines):
        publish(job, machines[:2])
        finish("failed", on=["pay-2"])
        publish(job, machines[1:2])
        assert [machines_of(run) for run in started(job)] == [{"pay-1", "pay-2"}, {"pay-2"}]

    @pytest.mark.one_database
    def test_a_bad_batch_size_starts_nothing(self, publish, job, machines, case):
        for size in ["0", "-1", "x", "1.5", "101 %", "% 5", "1000001", "9" * 40, "1\0"]:
            with case(size=size):
                response = publish(job, machines, batch_size=size)
                assert response.status_code == 200
                assert is_kept(response)
                assert not started(job)

    @pytest.mark.one_database
    def test_a_bad_remark_starts_nothing(self, publish, job, machines, case):
        for remark in ["a\0b", "a\u202eb", "x" * 2001]:
            with case(remark=remark):
                response = publish(job, machines[:1], remark=remark)
                assert response.status_code == 200
                assert checked(response) == {machines[0].pk}
                assert not started(job)

    def test_a_remark_may_be_as_long_as_a_browser_lets_it_be(self, publish, job, machines):
        lines = ["x" * 99] * 20
        publish(job, machines[:1], remark="\r\n".join(lines))
        assert started(job).get().remark == "\n".join(lines)

    @pytest.mark.parametrize("name", ["release_task", "rollback_task"])
    def test_a_task_that_is_not_offered_starts_nothing(
        self, publish, job, machines, orders, release_task, rollback_task, case, name
    ):
        action = Action.RELEASE if name == "release_task" else Action.ROLLBACK
        values = {value: value for value in ["", "0", "-1", "x", "9" * 40, "9" * 5000, "1\0"]} | {
            "swapped": (rollback_task if name == "release_task" else release_task).pk,
            "foreign": make_task("theirs", action, business=orders).pk,
            "retired": make_task("old", action, in_use=False).pk,
        }
        for told, value in values.items():
            with case(task=told):
                response = publish(job, machines[:1], **{name: value})
                assert response.status_code == 200
                assert checked(response) == {machines[0].pk}
                assert not started(job)

    @pytest.mark.one_database
    def test_a_post_that_does_not_say_its_step_only_checks(self, publish, job, machines):
        response = publish(job, machines[:2], step=None)
        assert response.status_code == 200
        assert "payment 2.0 goes to 2 machines" in words(response)
        assert "as planned" in source(response)
        assert not started(job)

    @pytest.mark.one_database
    def test_a_step_that_is_none_makes_no_sense(self, publish, job, machines, case):
        for step in ["", "go", "START", "check,start"]:
            with case(step=step):
                assert publish(job, machines, step=step).status_code == 400
                assert not started(job)

    @pytest.mark.one_database
    def test_a_remark_is_text_and_no_markup(self, publish, as_user, publisher, job, machines):
        remark = "<script>alert(1)</script>"
        assert "<script>alert" not in publish(job, machines, remark=remark, step="check").content.decode()
        publish(job, machines, remark=remark)
        response = as_user(publisher).get(page("stage", job))
        assert remark in source(response)
        assert "<script>alert" not in response.content.decode()

    @pytest.mark.one_database
    def test_a_script_is_text_and_shows_what_it_hides(self, publish, job, machines, release_task):
        release_task.revise("echo </li><script>alert(1)</script>\necho \u202egnp.exe", None)
        response = publish(job, machines, step="check")
        assert "<script>alert" not in response.content.decode()
        assert "\u202e" not in response.content.decode()

    def test_a_task_that_was_rewritten_since_the_check_is_shown_again(
        self, publish, as_user, publisher, job, machines, release_task
    ):
        response = publish(job, machines[:1], step="check")
        texts = re.search(r'name="texts" value="([^"]+)"', response.content.decode())[1]
        release_task.revise("echo something else", None)
        response = publish(job, machines[:1], texts=texts)
        assert response.status_code == 200
        assert "echo something else" in words(response)
        assert "A task was rewritten since you checked it." in words(response)
        assert not started(job)
        texts = re.search(r'name="texts" value="([^"]+)"', response.content.decode())[1]
        publish(job, machines[:1], texts=texts)
        assert started(job).get().task_version.script == "echo something else"

    def test_so_it_is_when_the_way_back_was_rewritten(self, publish, job, machines, rollback_task):
        texts = re.search(r'name="texts" value="([^"]+)"', publish(job, machines[:1], step="check").content.decode())[1]
        rollback_task.revise("echo something else", None)
        assert "A task was rewritten since you checked it." in words(publish(job, machines[:1], texts=texts))
        assert not started(job)


ABSENT = "1" + "0" * 9
BAD_MACHINES = {
    "missing": (None, "Choose at least one machine."),
    "empty": ([""], "Choose at least one machine."),
    "no number": (["pay-1"], "This is not a machine's id"),
    "zero": (["0"], "This is not a machine's id"),
    "negative": (["-1"], "This is not a machine's id"),
    "leading zero": (["01"], "This is not a machine's id"),
    "decimal": (["1.0"], "This is not a machine's id"),
    "exponent": (["1e3"], "This is not a machine's id"),
    "blank": ([" 1"], "This is not a machine's id"),
    "40 digits": (["9" * 40], "This is not a machine's id"),
    "19 digits": (["9" * 19], "This is not a machine's id"),
    "5,000 digits": (["9" * 5000], "This is not a machine's id"),
    "SQL": (["1 OR 1=1; --"], "This is not a machine's id"),
    "shell": (["$(reboot)"], "This is not a machine's id"),
    "markup": (["<script>alert(1)</script>"], "This is not a machine's id"),
    "NUL": (["1\0"], "This is not a machine's id"),
    "Arabic digit": (["٣"], "This is not a machine's id"),
    "all": (["all"], "This is not a machine's id"),
    "list in one": (["1;2"], "This is not a machine's id"),
    "absent": ([ABSENT], "Only machines of this job can be chosen."),
    "1,000 ids": (list(range(10**9, 10**9 + 1000)), "Only machines of this job can be chosen."),
    "10,000 ids": ([f"{10**9}-{10**9 + 9_999}"], "Only machines of this job can be chosen."),
}


class TestBadMachines:
    @pytest.mark.parametrize("step", ["check", "start"])
    def test_they_start_nothing(self, publish, job, machines, case, step):
        for name, (value, why) in BAD_MACHINES.items():
            with case(name):
                response = publish(job, [], machines=value, step=step)
                assert response.status_code == 200
                assert why in words(response)
                assert is_kept(response)
                assert "<script>alert" not in response.content.decode()
                assert not started(job)

    @pytest.mark.one_database
    def test_a_good_one_beside_them_is_not_started_but_stays_chosen(self, publish, job, machines, case):
        for name, (value, _) in BAD_MACHINES.items():
            with case(name):
                response = publish(job, [], machines=[machines[0].pk, *(value or ["x"])])
                assert response.status_code == 200
                assert checked(response) == {machines[0].pk}
                assert not started(job)

    def test_one_named_twice(self, publish, job, machines):
        response = publish(job, [machines[0], machines[0]])
        assert "Some machines were named twice." in words(response)
        assert is_kept(response)
        assert not started(job)

    def test_one_of_another_job(self, publish, make_job, machines):
        job = make_job(on=machines[:3])
        make_job("3.0", on=machines[3:])
        response = publish(job, [machines[0], machines[4]])
        assert "Only machines of this job can be chosen." in words(response)
        assert checked(response) == {machines[0].pk}
        assert not started(job)

    def test_one_of_another_business_is_not_named(self, publish, job, orders):
        response = publish(job, list_machines(orders, "ord-secret"))
        assert "Only machines of this job can be chosen." in words(response)
        assert "ord-secret" not in source(response)
        assert not started(job)

    def test_one_that_is_held(self, publish, make_job, start, machines):
        holder, job = make_job("1.0"), make_job("2.0")
        start(holder, machines[:1])
        response = publish(job, machines[:2])
        assert f"pay-1 is held by #{holder.pk}." in words(response)
        assert is_kept(response)
        assert checked(response) == {machines[1].pk}
        assert not started(job)

    def test_one_that_is_unknown_is_held(self, publish, make_job, start, finish, machines):
        holder, job = make_job("1.0"), make_job("2.0")
        start(holder, machines[:1])
        finish("unknown")
        told = f"pay-1 is unknown in #{holder.pk} until somebody says how it ended."
        assert told in words(publish(job, machines[:1]))
        assert not started(job)

    def test_one_that_is_gone(self, publish, job, payment, machines):
        list_machines(payment, *(f"pay-{n}" for n in range(1, 6)))
        response = publish(job, machines)
        assert "pay-6 is gone from the config service." in words(response)
        assert is_kept(response)
        assert not started(job)

    def test_one_that_this_job_released_already(self, publish, start, finish, job, machines):
        start(job, machines[:1])
        finish()
        response = publish(job, machines[:2], "gray-release")
        assert "pay-1 is already released by this job." in words(response)
        assert is_kept(response)
        assert started(job).count() == 1


@pytest.mark.one_database
class TestToken:
    """None of these starts anything; all say why, and keep what was typed."""

    def assert_refused(self, publish, job, machines, token, why, step="start"):
        response = publish(job, machines[:2], token=token, step=step)
        assert response.status_code == 409
        assert why in words(response)
        assert is_kept(response)
        assert checked(response) == set(ids(machines[:2]))
        assert not started(job)
        return response

    @pytest.mark.parametrize("step", ["check", "start"])
    def test_none_or_nonsense(self, publish, job, machines, case, step):
        for token in [None, "", "x", "a:b:c", "\0", "中", ":" * 100, "x" * 1_000_000]:
            with case(token=token):
                self.assert_refused(publish, job, machines, token, "This form was not made by this page.", step)

    def test_the_one_of_a_page_of_a_job_that_was_edited(
        self, as_user, publish, publisher, requester, approver, job, machines
    ):
        job.edit(requester, machines)
        job.approve(approver)
        token = token_in(as_user(publisher).get(page("stage", job)))
        assert publish(job, machines[:1], token=token).status_code == 302

    def test_a_true_one_with_a_changed_letter(self, publish, publisher, job, machines):
        token = tokens.issue(publisher, job, "pre-release", 0)
        forged = ("A" if token[0] != "A" else "B") + token[1:]
        self.assert_refused(publish, job, machines, forged, "This form was not made by this page.")

    def test_one_signed_for_something_else(self, publish, publisher, job, machines):
        told = {"user": publisher.pk, "job": job.pk, "what": "pre-release", "version": 0, "key": "k"}
        token = signing.dumps(told, salt="django.contrib.sessions.backends.signed_cookies")
        self.assert_refused(publish, job, machines, token, "This form was not made by this page.")

    def test_one_signed_with_another_key(self, publish, publisher, job, machines):
        told = {"user": publisher.pk, "job": job.pk, "what": "pre-release", "version": 0, "key": "k"}
        token = signing.dumps(told, key="another", salt=tokens.SALT)
        self.assert_refused(publish, job, machines, token, "This form was not made by this page.")

    def test_one_of_another_job(self, publish, publisher, make_job, machines):
        job, other = make_job(), make_job("3.0")
        token = tokens.issue(publisher, other, "pre-release", 0)
        self.assert_refused(publish, job, machines, token, "This form was made for another job or stage.")
        assert not started(other)

    @pytest.mark.parametrize("what", ["gray-release", "release", "job"])
    def test_one_of_another_stage(self, publish, publisher, job, machines, what):
        token = tokens.issue(publisher, job, what, 0)
        self.assert_refused(publish, job, machines, token, "This form was made for another job or stage.")

    def test_one_of_another_user(self, publish, second_publisher, job, machines):
        token = tokens.issue(second_publisher, job, "pre-release", 0)
        self.assert_refused(publish, job, machines, token, "This form was made for another user.")

    def test_one_that_is_older_than_a_session(self, publish, publisher, job, machines, monkeypatch, settings):
        import time

        then = time.time() - settings.SESSION_AGE - 60
        with monkeypatch.context() as past:
            past.setattr(time, "time", lambda: then)
            token = tokens.issue(publisher, job, "pre-release", 0)
        self.assert_refused(publish, job, machines, token, "This page is too old.")

    def test_the_page_that_refused_has_one_that_works(self, publish, job, machines):
        response = self.assert_refused(publish, job, machines, "", "not made by this page")
        publish(job, machines[:2], token=token_in(response))
        assert machines_of(started(job).get()) == {"pay-1", "pay-2"}


class TestMovedOn:
    def test_after_a_run_of_somebody_else(self, publish, second_publisher, finish, job, machines):
        late = stage_fields(job, second_publisher, machines[2:4])
        publish(job, machines[:2])
        finish("failed")
        response = publish(job, [], by=second_publisher, **late)
        assert response.status_code == 409
        assert "This stage has moved on since the page was loaded." in words(response)
        assert is_kept(response)
        assert checked(response) == set(ids(machines[2:4]))
        assert started(job).count() == 1

    def test_it_says_what_happened(self, publish, publisher, second_publisher, finish, job, machines):
        late = stage_fields(job, second_publisher, machines[2:4])
        publish(job, machines[:2], remark="<script>alert(1)</script>")
        finish("failed")
        response = publish(job, [], by=second_publisher, **late)
        run = started(job).get()
        told = conflict_of(response)
        assert "Nothing was started. What happened last: " in told
        assert f"Pre-release , run {run.pk} failed: 2 failed" in told
        assert "publisher started Pre-release on 2 machines <script>alert(1)</script>" in told
        assert "<script>alert" not in response.content.decode()

    @pytest.mark.one_database
    def test_a_hostile_name_in_that_is_inert(self, publish, second_publisher, job, machines):
        late = stage_fields(job, second_publisher, machines[2:4])
        publish(job, machines[:2])
        User.objects.filter(pk=second_publisher.pk).update(username="<b>she</b>")
        second_publisher.refresh_from_db()
        ReleaseStage.objects.of_kind(job, "pre-release").runs.get().pause(second_publisher, "look")
        response = publish(job, [], by=second_publisher, **late)
        assert "<b>she</b> paused Pre-release look" in conflict_of(response)
        assert "<b>she</b>" not in response.content.decode()

    @pytest.mark.one_database
    def test_no_other_stage_s_runs_hide_it(self, publish, publisher, second_publisher, start, finish, job, machines):
        start(job, machines[:1])
        finish()
        late = stage_fields(job, second_publisher, machines[1:3], "gray-release")
        start(job, machines[3:4], "gray-release")
        finish()
        for number in range(3):
            ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "x", f"back {number}")
            finish("failed")
        told = conflict_of(publish(job, [], "gray-release", by=second_publisher, **late))
        assert "publisher started Gray release on 1 machine" in told
        assert "roll back" not in told

    @pytest.mark.parametrize("step", ["check", "start"])
    def test_while_a_run_of_somebody_else_goes_on(self, publish, second_publisher, job, machines, step):
        late = stage_fields(job, second_publisher, machines[2:4], step=step)
        publish(job, machines[:2])
        response = publish(job, [], by=second_publisher, **late)
        assert response.status_code == 409
        assert is_kept(response)
        assert checked(response) == set(ids(machines[2:4]))
        assert started(job).count() == 1

    @pytest.mark.parametrize("step", ["check", "start"])
    def test_a_job_that_was_edited_and_approved_anew(
        self, publish, publisher, requester, approver, job, machines, step
    ):
        late = stage_fields(job, publisher, machines[:2], step=step)
        job.version = "6.6.6"
        job.edit(requester, machines)
        job.approve(approver)
        response = publish(job, [], **late)
        assert response.status_code == 409
        assert "This job was edited since the page was loaded." in words(response)
        assert "requester changed the job to 6.6.6 on 6 machines" in conflict_of(response)
        assert is_kept(response)
        assert not started(job)

    @pytest.mark.parametrize("step", ["check", "start"])
    def test_a_job_that_was_withdrawn(self, publish, publisher, requester, job, machines, step):
        late = stage_fields(job, publisher, machines[:2], step=step)
        job.withdraw(requester, "not needed")
        response = publish(job, [], **late)
        assert response.status_code == 409
        assert "This stage is not open now." in words(response)
        assert is_kept(response)
        assert not started(job)

    @pytest.mark.parametrize("step", ["check", "start"])
    def test_a_job_that_is_not_approved(self, publish, make_job, machines, step):
        job = make_job(approved=False)
        response = publish(job, machines, step=step)
        assert response.status_code == 409
        assert "This stage is not open now." in words(response)
        assert not started(job)

    @pytest.mark.parametrize("kind", ["gray-release", "release"])
    @pytest.mark.parametrize("step", ["check", "start"])
    def test_a_stage_whose_turn_has_not_come(self, publish, job, machines, kind, step):
        response = publish(job, machines, kind, step=step)
        assert response.status_code == 409
        assert "This stage is not open now." in words(response)
        assert is_kept(response)
        assert not started(job)

    def test_a_stage_before_it_that_was_rolled_back(self, publish, publisher, start, finish, job, machines):
        start(job, machines[:1])
        finish()
        late = stage_fields(job, publisher, machines[1:2], "gray-release")
        stage = ReleaseStage.objects.of_kind(job, "pre-release")
        stage.roll_back(publisher, machines[:1], "broken", "key")
        finish()
        assert publish(job, [], "gray-release", **late).status_code == 409
        assert started(job).count() == 2

    def test_a_skipped_stage_can_still_be_started(self, publish, publisher, job, machines):
        ReleaseStage.objects.of_kind(job, "pre-release").skip(publisher, "no canary")
        assert publish(job, machines[:1]).status_code == 302
        assert started(job).count() == 1

    def test_after_a_skipped_stage_the_next_is_open(self, publish, publisher, job, machines):
        ReleaseStage.objects.of_kind(job, "pre-release").skip(publisher, "no canary")
        assert publish(job, machines[:1], "gray-release").status_code == 302
        assert started(job).get().stage.kind == "gray-release"


class TestTwice:
    def test_the_same_start_twice_starts_once_and_leads_to_it(self, publish, publisher, job, machines):
        data = stage_fields(job, publisher, machines[:2])
        first, second = (publish(job, [], **data) for _ in range(2))
        assert (first.status_code, first.url) == (second.status_code, second.url) == (302, page("stage", job))
        assert started(job).count() == 1

    @each("chosen, step", [([1, 2], "start"), ([0, 1], "start"), ([], "start"), ([0], "check"), ([1], "check")])
    @pytest.mark.parametrize("has_ended", [False, True])
    def test_anything_else_by_its_token_is_told_and_kept(
        self, publish, publisher, finish, job, machines, chosen, step, has_ended
    ):
        token = tokens.issue(publisher, job, "pre-release", 0)
        publish(job, machines[:1], token=token)
        if has_ended:
            finish("failed")
        response = publish(job, [machines[number] for number in chosen], token=token, step=step)
        assert response.status_code == 409
        assert "This stage has moved on since the page was loaded. Nothing was started." in words(response)
        assert is_kept(response)
        can_be_had = {machines[number].pk for number in chosen if number or has_ended}
        assert checked(response) == can_be_had
        assert machines_of(started(job).get()) == {"pay-1"}

    def test_so_is_one_of_them_at_the_same_moment(self, publish, publisher, start, job, machines, monkeypatch):
        """Whose form was looked at before the first one's run was there."""
        data = stage_fields(job, publisher, machines[1:2])
        key, _version = tokens.read(data["token"], publisher, job, "pre-release")
        real = ReleaseStage.start

        def first_the_other(stage, *args, **facts):
            monkeypatch.undo()
            start(job, machines[:1], key=key)
            return real(stage, *args, **facts)

        monkeypatch.setattr(ReleaseStage, "start", first_the_other)
        response = publish(job, [], **data)
        assert response.status_code == 409
        assert checked(response) == {machines[1].pk}
        assert machines_of(started(job).get()) == {"pay-1"}

    def test_and_long_after_the_run_has_ended(self, publish, publisher, finish, job, machines):
        data = stage_fields(job, publisher, machines[:2])
        publish(job, [], **data)
        finish("failed")
        assert publish(job, [], **data).status_code == 302
        assert started(job).count() == 1


@pytest.mark.one_database
class TestCounting:
    @pytest.fixture
    def fleet(self, payment):
        return list_machines(payment, *(f"web-{n:02}" for n in range(1, 26)))

    def test_nineteen_start_without(self, publish, make_job, fleet):
        job = make_job(on=fleet)
        publish(job, fleet[:19])
        assert started(job).get().machine_runs.count() == 19

    @each("typed", [None, "", "19", "21", "-20", "x", "20.5", "9" * 5000, "20\0", "²0"])
    def test_from_twenty_on_their_number_must_be_typed(self, publish, make_job, fleet, typed):
        job = make_job(on=fleet)
        response = publish(job, fleet[:20], typed_count=typed)
        assert response.status_code == 200
        assert "Type the number of machines, 20, to start" in words(response)
        assert 'aria-invalid="true" aria-describedby="id_typed_count_error"' in response.content.decode()
        assert 'class="errorlist" id="id_typed_count_error"' in response.content.decode()
        assert 'value="as planned"' in source(response)
        assert not started(job)

    def test_the_right_number_starts(self, publish, make_job, fleet):
        job = make_job(on=fleet)
        publish(job, fleet[:20], typed_count=" 20 ")
        assert started(job).get().machine_runs.count() == 20


@pytest.mark.one_database
class TestOps:
    def test_without_a_remark_they_start_nothing(self, publish, ops, job, machines):
        response = publish(job, machines[:1], by=ops, remark="")
        assert response.status_code == 200
        assert "This field is required." in words(response)
        assert checked(response) == {machines[0].pk}
        assert not started(job)

    def test_with_one_it_is_told_as_break_glass(self, as_user, publish, ops, job, machines):
        publish(job, machines[:1], by=ops, remark="nobody else awake")
        assert started(job).get().remark == "nobody else awake"
        assert "as break-glass" in words(as_user(ops).get(page("job", job)))

    def test_who_is_also_a_publisher_needs_none(self, publish, ops, payment, job, machines):
        Membership.objects.create(user=ops, business=payment, role=Role.PUBLISHER)
        publish(job, machines[:1], by=ops, remark="")
        assert started(job).count() == 1


class TestRights:
    def test_a_role_that_is_taken_away_counts_from_the_next_request(self, publish, publisher, job, machines):
        data = stage_fields(job, publisher, machines[:1])
        Membership.objects.filter(user=publisher).update(role=Role.REQUESTER)
        assert publish(job, [], **data).status_code == 403
        assert not started(job)

    def test_a_publisher_who_left_sees_nothing(self, publish, publisher, job, machines):
        data = stage_fields(job, publisher, machines[:1])
        Membership.objects.filter(user=publisher).delete()
        assert publish(job, [], **data).status_code == 404
        assert not started(job)


@pytest.mark.parametrize("name", ["machines", "when_free", "moved"])
def test_a_form_offers_no_machine_where_the_session_names_another_job(make_job, publisher, name):
    job, other = get_job(publisher, make_job("2.0").pk), make_job("3.0")
    stage = ReleaseStage.objects.of(job)[0]
    for named, offers in ((job, 6), (other, 0)):
        request = SimpleNamespace(user=publisher, session={"job_id": named.pk})
        form = ReleaseStageForm({name: ""}, request=request, instance=stage)
        assert form.fields[name].queryset.count() == offers


@pytest.mark.one_database
def test_what_was_said_of_the_run_before_is_not_said_again(as_user, publisher, job, machines, start, finish):
    start(job, machines[:1], remark="as planned")
    finish()
    assert re.search(r'<textarea name="remark"[^>]*>\s*</textarea>', source(as_user(publisher).get(page("stage", job))))


@pytest.mark.one_database
def test_back_to_choosing_keeps_what_was_typed_though_the_stage_has_moved_on(publish, second_publisher, job, machines):
    publish(job, machines[1:2], by=second_publisher)
    response = publish(job, machines[:1], step=None, list=1)
    assert response.status_code == 409
    assert "This stage is not open now." in words(response)
    assert is_kept(response)
    assert checked(response) == {machines[0].pk}


def test_the_check_says_when_no_worker_is_alive(publish, job, machines):
    assert "none alive; it would wait" in words(publish(job, machines[:1], step="check"))
    Worker.objects.enlist([])
    assert "1 alive" in words(publish(job, machines[:1], step="check"))


def test_the_check_says_for_which_sites_no_worker_is_alive(publish, job, machines):
    Worker.objects.enlist(["bj-1"])
    assert "none alive for sh-1; what is there would wait" in words(publish(job, machines[:1], step="check"))
    Worker.objects.enlist(["sh-1", "sh-2"])
    assert "2 alive" in words(publish(job, machines[:1], step="check"))


def test_nothing_is_left_in_the_fields_helper():
    assert without_nones({"a": None, "b": ""}) == {"b": ""}

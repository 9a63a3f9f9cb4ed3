"""The page of a stage: at what pace, what to try again, and machines that are awaited."""

import html
import re

import pytest
from django.utils import timezone

from jobs.models import Business, Job, Listing, Machine
from releases.models import MachineRun, ReleaseStage, Run, Worker
from tests.cases import each
from tests.conftest import list_machines
from tests.pages import checked, ids, offered, page, source, stage_fields, token_in, words
from tests.workers import begin, end

pytestmark = pytest.mark.usefixtures("release_task", "rollback_task")


@pytest.fixture
def publish(as_user, publisher):
    def publish(job, machines, kind="pre-release", /, **changed):
        fields = stage_fields(job, publisher, machines, kind, **changed)
        return as_user(publisher).post(page("stage", job, kind=kind), fields)

    return publish


def runs(job):
    return Run.objects.filter(stage__job=job)


def hostnames(machine_runs):
    return {machine_run.machine.hostname for machine_run in machine_runs.select_related("machine")}


def awaited(response, also=""):
    """The ids of the machines that may be awaited; with ` checked`, of those that are to be."""
    boxes = re.findall(rf'<input type="checkbox" name="when_free" value="(\d+)"{also}', response.content.decode())
    return {int(value) for value in boxes}


def as_checked(response):
    """What the form on the check page sends when its button is pressed."""
    inputs = re.findall(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?', response.content.decode())
    sent = {"step": ["start"]}
    for name, value in inputs:
        sent.setdefault(name, []).append(html.unescape(value))
    return sent


def has_box(response, name):
    return re.search(rf'<input type="checkbox" name="{name}"[^>]*>', response.content.decode())


class TestPace:
    @pytest.mark.one_database
    def test_the_canary_is_offered_by_default_on_the_release_only(
        self, as_user, publisher, job, start, finish, machines
    ):
        for number, kind in enumerate(("pre-release", "gray-release")):
            assert "checked" not in has_box(as_user(publisher).get(page("stage", job, kind=kind)), "canary")[0]
            start(job, machines[number : number + 1], kind)
            finish()
        assert "checked" in has_box(as_user(publisher).get(page("stage", job, kind="release")), "canary")[0]
        start(job, machines[2:3], "release", canary=False)
        finish("failed")
        assert "checked" not in has_box(as_user(publisher).get(page("stage", job, kind="release")), "canary")[0]

    @pytest.mark.one_database
    @pytest.mark.parametrize(
        ("fields", "told", "made"),
        [
            ({}, "All at once. Stops after 1 failure ;", (None, 1, 1)),
            ({"batch_size": "2"}, "So it runs in 3 batches 2 2 2", (2, 3, 1)),
            ({"batch_size": "50 %"}, "So it runs in 2 batches 3 3", (3, 2, 1)),
            ({"batch_size": "1%"}, "So it runs in 6 batches 1 1 1 1 1 1", (1, 6, 1)),
            ({"batch_size": "3", "canary": "on"}, "So it runs in 3 batches 1 3 2", (3, 3, 1)),
            ({"batch_size": "9", "batch_pause": "60"}, "All at once.", (9, 1, 1)),
            ({"batch_size": "3", "batch_pause": "60"}, "has ended, 60 s later", (3, 2, 1)),
            ({"failure_budget": "50 %"}, "Stops after 3 failures ;", (None, 1, 3)),
            ({"failure_budget": ""}, "Does not stop by itself, however many fail.", (None, 1, None)),
        ],
        ids=str,
    )
    def test_what_is_told_is_what_starts(self, as_user, publisher, publish, job, machines, fields, told, made):
        response = publish(job, machines, step="check", **fields)
        assert told in words(response)
        assert not runs(job)
        as_user(publisher).post(page("stage", job), as_checked(response))
        run = runs(job).get()
        assert (run.batch_size, run.batches, run.failure_budget) == made
        assert run.canary == ("canary" in fields)
        assert run.batch_pause == int(fields.get("batch_pause", 0))

    @pytest.mark.one_database
    @pytest.mark.parametrize("name", ["batch_size", "failure_budget"])
    def test_a_bad_share(self, publish, job, machines, case, name):
        for value in ["0", "0 %", "-1", "x", "1.5", "101 %", "1  %", "% 1", "٣", "9" * 40, "1\0"]:
            with case(value=value):
                self.assert_refused(publish(job, machines[:1], **{name: value}), job, machines)

    @pytest.mark.one_database
    def test_a_bad_pause(self, publish, job, machines, case):
        for value in ["-1", "x", "1.5", "86401", "9" * 40, "9" * 5000, "1\0", "1 s"]:
            with case(value=value):
                self.assert_refused(publish(job, machines[:1], batch_pause=value), job, machines)

    def assert_refused(self, response, job, machines):
        assert response.status_code == 200
        assert 'class="errorlist"' in response.content.decode()
        assert "as planned" in source(response)
        assert checked(response) == {machines[0].pk}
        assert not runs(job)


class TestTryingAgain:
    @pytest.fixture
    def stopped(self, job, start, finish, machines):
        """Its pre-release: pay-1 released, pay-2 failed, pay-3 unknown, pay-4 and pay-5 not run, pay-6 not chosen."""
        run = start(job, machines[:5], batch_size="3", failure_budget="2")
        worker = Worker.objects.enlist([])
        MachineRun.objects.claim(worker, 10)
        by_hostname = {one.machine.hostname: one.pk for one in MachineRun.objects.claimed_by(worker)}
        MachineRun.objects.begin(worker, list(by_hostname.values()))
        for hostname, status in [("pay-1", "succeeded"), ("pay-2", "failed"), ("pay-3", "unknown")]:
            MachineRun.objects.end(worker, [by_hostname[hostname]], status)
        run.advance()
        return job

    @pytest.mark.one_database
    @each("what, chosen", [("failed", [2]), ("not_run", [4, 5]), ("nonsense", []), ("", []), ("failed\0", [])])
    def test_the_address_chooses_them(self, as_user, publisher, stopped, machines, what, chosen):
        response = as_user(publisher).get(page("stage", stopped), {"retry": what})
        assert response.status_code == 200
        assert checked(response) == {machines[number - 1].pk for number in chosen}
        assert offered(response) == {machines[number - 1].pk for number in (2, 4, 5, 6)}

    @pytest.mark.one_database
    def test_the_page_says_why_it_stopped_and_how_to_go_on(self, as_user, publisher, stopped):
        said = words(as_user(publisher).get(page("stage", stopped)))
        assert "Pre-release stopped itself: 2 machines went wrong, and 2 was the limit" in said
        assert "3 of 5 machines touched, 2 not. Nothing more happens until you choose." in said
        assert "Roll back 3 machines" in said
        assert "Retry the 1 that failed" in said  # the unknown one is held until somebody looked
        assert "Release the 2 not run" in said
        assert "Say how the unknown machine ended held until somebody has looked at the machine Resolve" in said
        assert "more cannot be had now" not in said
        assert "Excuse a machine" in said

    @pytest.mark.one_database
    def test_no_machine_is_to_be_excused_where_all_went_back(
        self, as_user, publisher, make_job, start, finish, machines
    ):
        job = make_job(on=machines[:1])
        start(job, machines[:1])
        finish()
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "it hurts", "back")
        finish()
        response = as_user(publisher).get(page("stage", job))
        assert offered(response) == {machines[0].pk}
        assert "Excuse a machine" not in words(response)
        assert "Go on" not in words(response)

    @pytest.mark.one_database
    def test_what_is_unknown_is_not_forgotten_over_a_later_run(
        self, as_user, publisher, stopped, start, machines, finish
    ):
        start(stopped, machines[1:2])
        finish("failed")
        unknown = MachineRun.objects.get(status="unknown")
        response = as_user(publisher).get(page("stage", stopped))
        assert "Say how the unknown machine ended" in words(response)
        assert page("machine_run", stopped, machine_run_id=unknown.pk) in source(response)

    @pytest.mark.one_database
    def test_what_else_cannot_be_had_is_counted(self, as_user, publisher, stopped, start, make_job, machines):
        start(make_job("3.0"), machines[1:2])
        said = words(as_user(publisher).get(page("stage", stopped)))
        assert "1 more cannot be had now held, excused, released since, moved or gone" in said

    @pytest.mark.one_database
    def test_it_still_says_so_when_what_went_wrong_was_resolved(self, as_user, publisher, stopped, machines):
        unknown = runs(stopped).get().machine_runs.get(machine=machines[2])
        unknown.resolve(publisher, "succeeded", "I have looked")
        said = words(as_user(publisher).get(page("stage", stopped)))
        assert "stopped itself: 2 was the limit of what may go wrong; some of that has been resolved since" in said
        assert "3 of 5 machines touched, 2 not." in said

    @pytest.mark.one_database
    def test_a_run_of_an_older_portal_says_so_too(self, as_user, publisher, stopped):
        MachineRun.objects.filter(status="not_run").update(reason="")
        assert "Pre-release stopped itself" in words(as_user(publisher).get(page("stage", stopped)))

    @pytest.mark.one_database
    def test_for_others_it_says_why_only(self, as_user, requester, stopped):
        said = words(as_user(requester).get(page("stage", stopped)))
        assert "Pre-release stopped itself" in said
        assert "Retry" not in said
        assert "Roll back" not in said

    def test_it_is_a_new_run_that_names_the_first(self, as_user, publisher, publish, stopped, machines):
        first = runs(stopped).get()
        publish(stopped, machines[1:2])
        assert runs(stopped).last().retry_of == first
        assert f"Tries again: some of its machines were in run {first.pk}." in words(
            as_user(publisher).get(page("stage", stopped))
        )

    def test_what_a_cancel_ended_midway_is_not_called_not_run(self, as_user, publisher, job, start, worker, machines):
        run = start(job, machines[:3])
        running = begin(worker, 1)
        run.cancel(publisher)
        end(worker, running, "cancelled")
        client = as_user(publisher)
        said = words(client.get(page("stage", job)))
        assert "Retry the 1 cancelled midway" in said
        assert "Release the 2 not run" in said
        assert "cannot be had" not in said
        assert checked(client.get(page("stage", job), {"retry": "cancelled"})) == {machines[0].pk}

    def test_what_another_job_holds_is_named_where_it_is_not_offered(
        self, as_user, publisher, job, make_job, start, machines
    ):
        run = start(job, machines[:2])
        run.cancel(publisher)
        start(make_job("3.0"), machines[1:2])
        said = words(as_user(publisher).get(page("stage", job)))
        assert "Release the 1 not run a new run; what failed stays as it is Choose 1 more cannot be had now" in said

    def test_a_rollback_that_failed_is_not_offered_as_a_release(self, as_user, publisher, job, start, finish, machines):
        start(job, machines[:2])
        finish("failed", on=["pay-2"])
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:2], "broken", "key")
        finish("failed")
        response = as_user(publisher).get(page("stage", job))
        assert "Retry" not in words(response)
        assert "Roll back 2 machines" in words(response)


class TestTheBudget:
    @pytest.mark.one_database
    @pytest.mark.parametrize(("budget", "squares"), [("4", 4), ("10", 10), ("11", 0), ("", 0)])
    def test_is_drawn_while_it_is_short(self, as_user, publisher, job, start, machines, budget, squares):
        start(job, machines, failure_budget=budget)
        shown = as_user(publisher).get(page("stage", job)).content.decode()
        assert shown.count("<i></i>") == squares
        assert '<i class="used">' not in shown

    @pytest.mark.one_database
    def test_what_is_used_of_it_is_filled(self, as_user, publisher, job, start, finish, machines):
        start(job, machines, batch_size="3", failure_budget="3")
        finish("failed", on=["pay-1", "pay-2"])
        shown = as_user(publisher).get(page("stage", job)).content.decode()
        assert (shown.count('<i class="used">'), shown.count("<i></i>")) == (2, 1)

    def test_more_that_fail_at_once_are_no_fraction_of_it(self, as_user, publisher, job, start, finish, machines):
        start(job, machines)
        finish("failed", on=["pay-1", "pay-2"])
        said = words(as_user(publisher).get(page("stage", job)))
        assert "went wrong; stops at 1 2" in said
        assert "2 / 1" not in said


class TestWaiting:
    """For a machine that a run of another job holds: only who names it waits for it."""

    @pytest.fixture
    def holder(self, make_job, start, machines):
        """A job whose run holds pay-1."""
        holder = make_job("1.0")
        start(holder, machines[:1])
        return holder

    @pytest.mark.one_database
    def test_it_is_offered_beside_the_refusal(self, as_user, publisher, holder, job, machines):
        response = as_user(publisher).get(page("stage", job))
        assert awaited(response) == {machines[0].pk}
        assert awaited(response, " checked") == set()
        assert "start when free" in words(response)
        assert offered(response) == set(ids(machines[1:]))

    def test_not_for_what_this_job_holds_has_released_or_cannot_reach(
        self, as_user, publisher, holder, make_job, payment, start, finish, machines
    ):
        finish()
        job = make_job("2.0")
        start(job, machines[:3])
        finish("unknown", on=["pay-3"])
        start(holder, machines[1:2], "gray-release")  # pay-2, which the job has released
        start(make_job("4.0"), machines[5:])
        list_machines(payment, *(f"pay-{n}" for n in range(1, 6)))
        response = as_user(publisher).get(page("stage", job, kind="pre-release"))
        assert words(response).count("Held") == 2
        assert words(response).count("Released in pre-release") == 2
        assert awaited(response) == set()

    def test_not_for_one_of_them_that_is_gone_or_moved(
        self, as_user, publisher, holder, make_job, start, finish, machines
    ):
        finish()
        start(holder, machines[1:4], "gray-release")
        job = make_job("2.0")
        Listing.objects.filter(machine=machines[2]).update(gone_at=timezone.now())
        Machine.objects.filter(pk=machines[3].pk).update(port=2222)
        response = as_user(publisher).get(page("stage", job))
        assert words(response).count("Held") == 3
        assert awaited(response) == {machines[1].pk}

    def test_not_for_what_another_stage_of_this_job_waits_for(
        self, as_user, publisher, publish, make_job, start, finish, machines
    ):
        job = make_job("2.0")
        start(job, machines[1:2])
        finish()
        start(make_job("3.0"), machines[:1])
        publish(job, [], "gray-release", when_free=ids(machines[:1]), machines=None)
        response = as_user(publisher).get(page("stage", job))
        assert f"by #{job.pk} payment 2.0, publisher, since" in words(response)
        assert awaited(response) == set()

    def test_what_another_stage_of_this_job_takes_back_is_held(
        self, as_user, publisher, make_job, start, finish, machines
    ):
        job = make_job("2.0")
        for number, kind in enumerate(("pre-release", "gray-release")):
            start(job, machines[number : number + 1], kind)
            finish()
        ReleaseStage.objects.of_kind(job, "gray-release").roll_back(publisher, machines[1:2], "it hurts", "back")
        said = words(as_user(publisher).get(page("stage", job)))
        assert (said.count("Released in"), said.count(f"by #{job.pk} payment 2.0, publisher, since")) == (1, 1)

    @pytest.mark.one_database
    def test_it_is_kept_from_choosing_to_checking_to_starting(
        self, as_user, publisher, publish, finish, holder, job, machines
    ):
        response = publish(job, machines[1:2], when_free=ids(machines[:1]), step="check")
        assert "goes to 2 machines" in words(response)
        assert "Wait for the end of other runs: pay-1" in words(response)
        assert "1 is held and waits" in words(response)
        as_user(publisher).post(page("stage", job), as_checked(response))
        run = runs(job).get()
        assert hostnames(run.machine_runs.filter(status="held")) == {"pay-1"}
        assert hostnames(run.machine_runs.filter(status="queued")) == {"pay-2"}
        assert "1 held" in words(as_user(publisher).get(page("stage", job)))

    def test_it_may_be_all_that_is_chosen(self, publish, holder, job, machines):
        publish(job, [], when_free=ids(machines[:1]), machines=None)
        assert hostnames(runs(job).get().machine_runs.all()) == {"pay-1"}

    @pytest.mark.one_database
    def test_it_is_kept_after_an_error(self, publish, holder, job, machines):
        response = publish(job, machines[1:2], when_free=ids(machines[:1]), batch_size="x")
        assert awaited(response, " checked") == {machines[0].pk}
        assert checked(response) == {machines[1].pk}
        assert not runs(job)

    def test_also_when_it_came_free_meanwhile(self, publish, finish, holder, job, machines):
        finish()
        response = publish(job, machines[1:2], when_free=ids(machines[:1]), batch_size="x")
        assert checked(response) == set(ids(machines[:2]))

    def test_when_it_came_free_meanwhile_it_starts_at_once(self, publish, finish, holder, job, machines):
        finish()
        publish(job, machines[1:2], when_free=ids(machines[:1]))
        assert hostnames(runs(job).get().machine_runs.filter(status="queued")) == {"pay-1", "pay-2"}

    @pytest.mark.one_database
    def test_who_does_not_name_it_is_refused(self, publish, holder, job, machines):
        response = publish(job, machines[:2])
        assert f"pay-1 is held by #{holder.pk}." in words(response)
        assert awaited(response, " checked") == set()
        assert not runs(job)

    @each("value", ["x", "-1", "9" * 40, "$(reboot)", "1\0", "<script>alert(1)</script>"])
    def test_nonsense_is_refused(self, publish, holder, job, machines, value):
        response = publish(job, machines[1:2], when_free=[value])
        assert "This is not a machine's id" in words(response)
        assert "<script>alert" not in response.content.decode()
        assert checked(response) == {machines[1].pk}
        assert not runs(job)

    def test_a_machine_of_another_job_is_refused(self, publish, holder, make_job, machines):
        job = make_job(on=machines[1:])
        response = publish(job, machines[1:2], when_free=ids(machines[:1]))
        assert "Only machines of this job can be chosen." in words(response)
        assert not runs(job)

    def test_one_that_this_job_released_is_refused(self, publish, start, finish, job, machines):
        start(job, machines[:1])
        finish()
        response = publish(job, machines[1:2], "gray-release", when_free=ids(machines[:1]))
        assert "pay-1 is already released by this job." in words(response)
        assert runs(job).count() == 1

    @pytest.mark.one_database
    @pytest.mark.parametrize("step", ["check", "start"])
    def test_neither_of_both_is_no_choice(self, publish, holder, job, step):
        response = publish(job, [], machines=None, step=step)
        assert "Choose at least one machine." in words(response)
        assert not runs(job)

    @pytest.mark.one_database
    def test_a_conflict_keeps_it_too(self, publish, holder, job, machines):
        response = publish(job, machines[1:2], when_free=ids(machines[:1]), token="x")
        assert response.status_code == 409
        assert awaited(response, " checked") == {machines[0].pk}
        publish(job, machines[1:2], when_free=ids(machines[:1]), token=token_in(response))
        assert runs(job).get().machine_runs.count() == 2


class TestSoaking:
    def test_the_next_stage_says_until_when_and_offers_nothing(self, as_user, publisher, soaking):
        response = as_user(publisher).get(page("stage", soaking, kind="gray-release"))
        assert "Pre-release has succeeded and is watched for a while; it opens at" in words(response)
        assert "after the soak time" in words(response)
        assert not offered(response)

    @pytest.mark.one_database
    @pytest.mark.parametrize(("name", "kind"), [("stage", "gray-release"), ("job", None)])
    def test_should_that_be_on_another_day_it_says_on_which(self, as_user, publisher, payment, soaking, name, kind):
        Business.objects.update(soak_minutes=2 * 24 * 60)
        stage = ReleaseStage.objects.of_kind(Job.objects.get(pk=soaking.pk), "gray-release")
        said = words(as_user(publisher).get(page(name, soaking, **({"kind": kind} if kind else {}))))
        assert said.count(f"opens at {timezone.localtime(stage.opens_at):%Y-%m-%d %H:%M}") == 2

    def test_and_starts_nothing(self, publish, soaking, machines):
        response = publish(soaking, machines[1:2], "gray-release")
        assert response.status_code == 409
        assert "This stage is not open now." in words(response)
        assert runs(soaking).count() == 1

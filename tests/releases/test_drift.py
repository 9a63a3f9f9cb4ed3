"""What changed since a job was asked for: shown before anything starts, and not released without being named."""

import json
import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.utils import translation

from jobs.models import Business, Event, Freeze, JobMachine, Listing, Machine
from releases.candidates import candidates
from releases.models import MachineRun, MachinesHeld, ReleaseStage, Run
from releases.templatetags.releases import event_notes
from tests.cases import each
from tests.commands import CONFLICT, MISTAKE, fail, say
from tests.conftest import list_machines, mark_fresh, rows
from tests.pages import checked, ids, offered, page, stage_fields, words
from tests.workers import begin, claim, end, state

RUN_STAGE = ("run_stage", "--as", "publisher")


@pytest.fixture
def moved(job, machines):
    """pay-2 has another address now, pay-3 another site."""
    Machine.objects.filter(hostname="pay-2").update(address="10.9.9.9")
    Machine.objects.filter(hostname="pay-3").update(site="bj-1")
    return job


def released(run):
    return sorted(run.machine_runs.values_list("machine__hostname", flat=True))


class TestModel:
    def test_what_moved_is_not_offered(self, moved):
        names = {machine.hostname for machine in ReleaseStage.objects.of(moved)[0].offered_machines()}
        assert names == {"pay-1", "pay-4", "pay-5", "pay-6"}

    def test_where_it_moved_is_not_told_once_it_is_gone(self, job, make_job, machines, payment, start):
        start(make_job("3.0"), machines[1:2])
        Machine.objects.filter(hostname="pay-2").update(address="10.9.9.9")
        list_machines(payment, "pay-1", *(f"pay-{number}" for number in range(3, 7)))
        [held] = candidates(job).drifted
        assert held.drift == "pay-2 is gone from the config service."

    def test_it_is_told_by_site_and_name(self, moved):
        drifted = candidates(moved).drifted
        assert [one.machine.hostname for one in drifted] == ["pay-3", "pay-2"]

    def test_it_is_refused_unless_named_and_then_told_and_settled(
        self, moved, machines, publisher, release_task, rollback_task, start
    ):
        with pytest.raises(MachinesHeld) as refused:
            start(moved, machines[:2])
        assert refused.value.machines == [machines[1]]
        stage = ReleaseStage.objects.of(moved)[0]
        stage.release_task, stage.rollback_task = release_task, rollback_task
        with pytest.raises(MachinesHeld) as refused:
            stage.start(publisher, machines[:3], "key", moved=moved.job_machines.moved_of(machines[:2]))
        assert refused.value.machines == [machines[2]]
        run = stage.start(publisher, machines[:2], "key", moved=moved.job_machines.moved_of(machines[:2]))
        assert released(run) == ["pay-1", "pay-2"]
        told = Event.objects.get(verb="started").detail["moved"]
        assert told == [{"hostname": "pay-2", "was": "10.0.0.2:22 sh-1", "now": "10.9.9.9:22 sh-1"}]
        left = JobMachine.objects.filter(job=moved).moved()
        assert [one.machine.hostname for one in left] == ["pay-3"]

    def test_one_that_is_gone_cannot_be_named_either(self, job, machines, payment, publisher, start):
        list_machines(payment, *(f"pay-{number}" for number in range(2, 7)))
        stage = ReleaseStage.objects.of(job)[0]
        with pytest.raises(MachinesHeld):
            stage.start(publisher, machines[:1], "key", moved=list(job.job_machines.filter(machine=machines[0])))

    def test_a_rollback_asks_nothing(self, job, machines, start, finish, publisher):
        run = start(job, machines[:1])
        finish()
        Machine.objects.filter(hostname="pay-1").update(address="10.9.9.9")
        run.stage.refresh_from_db()
        assert released(run.stage.roll_back(publisher, machines[:1], "it hurts", "key")) == ["pay-1"]

    def test_what_another_business_no_longer_lists_is_not_gone(self, job, orders):
        list_machines(orders, "pay-1")
        list_machines(orders)
        assert not candidates(job).not_free

    def test_nor_is_what_a_run_of_the_job_has_there_told(self, job, payment, machines, start):
        start(job, machines[:1])
        list_machines(payment, *(f"pay-{number}" for number in range(2, 7)))
        assert candidates(job).drifted == []

    def test_a_choice_beyond_the_plan_is_told(self, make_job, machines, start):
        job = make_job(plan_pre_release="pay-1 pay-2")
        start(job, [machines[0], machines[4]])
        detail = Event.objects.get(verb="started").detail
        assert (detail["beyond_plan"], detail["left_out"]) == (["pay-5"], ["pay-2"])

    def test_a_choice_as_planned_is_not(self, make_job, machines, start):
        start(make_job(plan_pre_release="pay-1 pay-2"), machines[:2])
        assert not {"beyond_plan", "left_out"} & Event.objects.get(verb="started").detail.keys()

    def test_what_was_released_before_is_not_left_out_unless_it_went_back(
        self, make_job, machines, start, finish, publisher
    ):
        job = make_job(plan_pre_release="pay-1 pay-2")
        start(job, machines[:2])
        finish()
        ReleaseStage.objects.of(job)[0].roll_back(publisher, machines[:1], "it hurts", "back")
        finish()
        start(job, machines[2:3])
        assert job.events.filter(verb="started").first().detail["left_out"] == ["pay-1"]


class TestPages:
    @pytest.mark.parametrize("name", ["job", "stage"])
    def test_what_changed_is_told_before_anything_starts(self, as_user, publisher, moved, payment, name):
        list_machines(payment, *(f"pay-{number}" for number in range(1, 6)))
        Machine.objects.filter(hostname="pay-2").update(address="10.9.9.9")
        said = words(as_user(publisher).get(page(name, moved)))
        assert "2 machines have changed since this job was asked for" in said
        assert "pay-2 was chosen at 10.0.0.2:22 sh-1 and is at 10.9.9.9:22 sh-1 now." in said
        assert "pay-6 is gone from the config service." in said

    @pytest.mark.one_database
    @each(
        "person, step",
        [
            ("requester", ("edit_job", "", "Edit")),
            ("ops", ("edit_job", "", "Edit")),
            ("approver", ("job", "#send-back-reason", "Send this job back")),
            ("publisher", None),
        ],
    )
    def test_what_is_gone_before_it_has_begun_is_for_its_requester(
        self, as_user, request, job, payment, machines, person, step
    ):
        list_machines(payment, *(f"pay-{number}" for number in range(1, 6)))
        response = as_user(request.getfixturevalue(person)).get(page("job", job))
        assert "1 machine has changed" in words(response)
        assert "What is gone stays in this job until requester edits it." in words(response)
        assert "excuse" not in words(response)
        note = response.text.partition("What is gone")[2].partition("</div>")[0]
        found = re.findall(r'<a href="(.*?)">(.*?)</a>', note)
        assert found == ([(page(step[0], job) + step[1], step[2])] if step else [])

    @pytest.mark.one_database
    @each("person, may", [("requester", False), ("publisher", True)])
    def test_once_it_has_begun_it_can_be_excused(
        self, as_user, request, job, payment, start, finish, machines, person, may
    ):
        start(job, machines[:1])
        finish()
        list_machines(payment, *(f"pay-{number}" for number in range(1, 6)))
        response = as_user(request.getfixturevalue(person)).get(page("job", job))
        assert "A publisher can excuse what is gone." in words(response)
        link = f'<a href="{page("excuse_machines", job)}">Excuse machines</a>'
        assert (link in response.text) == may

    @pytest.mark.one_database
    def test_but_not_once_it_went_back(self, as_user, publisher, job, payment, machines, start, finish):
        start(job, machines)
        finish()
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[5:], "it hurts", "back")
        finish()
        list_machines(payment, *(f"pay-{number}" for number in range(1, 6)))
        for name in ("job", "stage"):
            said = words(as_user(publisher).get(page(name, job)))
            assert "pay-6 is gone from the config service." in said
            assert "Excuse" not in said and "excuse what is gone" not in said

    def test_a_new_name_at_the_old_address_is_told(self, as_user, publisher, job, payment):
        given = rows(*(f"pay-{number}" for number in range(1, 6)), "new-6")
        Listing.objects.take(payment, given)
        mark_fresh(payment)
        assert "At its address there is new-6 now." in words(as_user(publisher).get(page("stage", job)))

    def test_nothing_is_told_where_nothing_changed(self, as_user, publisher, job):
        assert "since this job was asked for" not in words(as_user(publisher).get(page("stage", job)))

    def test_it_is_chosen_by_a_box_of_its_own(self, as_user, publisher, moved, machines, release_task, rollback_task):
        client = as_user(publisher)
        response = client.get(page("stage", moved))
        assert offered(response) == set(ids(machines)) - set(ids(machines[1:3]))
        assert f'name="moved" value="{machines[1].pk}"' in response.text
        fields = stage_fields(moved, publisher, machines[:1], moved=ids(machines[1:2]))
        response = client.post(page("stage", moved), fields | {"step": "check"})
        assert "was 10.0.0.2:22 sh-1, is 10.9.9.9:22 sh-1" in words(response)
        assert f'<input type="hidden" name="moved" value="{machines[1].pk}" data-kept>' in response.text
        client.post(page("stage", moved), fields)
        assert released(Run.objects.get()) == ["pay-1", "pay-2"]

    @pytest.mark.parametrize("which", ["machines", "held"])
    def test_it_is_refused_among_the_others(
        self, as_user, publisher, moved, machines, release_task, rollback_task, make_job, which
    ):
        fields = stage_fields(moved, publisher, machines[1:2])
        if which == "held":
            fields |= {"machines": [], "when_free": ids(machines[1:2])}
        response = as_user(publisher).post(page("stage", moved), fields)
        assert "pay-2 was chosen at" in words(response)
        assert not Run.objects.exists()

    def test_what_is_planned_is_chosen_already(self, as_user, publisher, make_job, machines):
        job = make_job(plan_pre_release="pay-2", plan_gray_release="2")
        client = as_user(publisher)
        response = client.get(page("stage", job))
        assert checked(response) == {machines[1].pk}
        assert "Planned 1" in words(response)
        assert checked(client.get(page("stage", job) + "?retry=failed")) == set()

    def test_the_check_tells_how_a_choice_departs_from_the_plan(
        self, as_user, publisher, make_job, machines, release_task, rollback_task
    ):
        job = make_job(plan_pre_release="pay-2")
        fields = stage_fields(job, publisher, machines[:1], step="check")
        said = words(as_user(publisher).post(page("stage", job), fields))
        assert "Departs from the plan + pay-1 − pay-2" in said


class TestMovedAgain:
    """A machine that was named as moved, and is elsewhere once more when the last button is pressed."""

    @pytest.fixture
    def fields(self, as_user, publisher, moved, machines, release_task, rollback_task):
        fields = stage_fields(moved, publisher, machines[:1], moved=ids(machines[1:2]))
        checked = as_user(publisher).post(page("stage", moved), fields | {"step": "check"})
        assert "pay-2 was 10.0.0.2:22 sh-1, is 10.9.9.9:22 sh-1" in words(checked)
        return fields | {"places": re.search(r'name="places" value="(\w+)"', checked.content.decode())[1]}

    def test_it_is_looked_at_again(self, as_user, publisher, moved, fields):
        Machine.objects.filter(hostname="pay-2").update(address="10.66.66.66")
        response = as_user(publisher).post(page("stage", moved), fields)
        assert "A machine moved again since you checked it. Look where it is now." in words(response)
        assert "pay-2 was 10.0.0.2:22 sh-1, is 10.66.66.66:22 sh-1" in words(response)
        assert not Run.objects.exists()

    def test_one_that_moves_while_it_is_started_is_run_nowhere(
        self, as_user, publisher, moved, fields, monkeypatch, worker
    ):
        """It is looked at, then the start waits for the job's lock, and the config service is asked meanwhile."""
        lock = ReleaseStage._lock

        def locked(self):
            Machine.objects.filter(hostname="pay-2").update(address="10.66.66.66")
            lock(self)

        monkeypatch.setattr(ReleaseStage, "_lock", locked)
        assert as_user(publisher).post(page("stage", moved), fields).status_code == 302
        end(worker, begin(worker))
        ends = Run.objects.get().machine_runs.values_list("machine__hostname", "address", "status")
        assert list(ends) == [("pay-1", "10.0.0.1", "succeeded"), ("pay-2", "10.9.9.9", "not_run")]

    def test_where_it_was_shown_it_is_released(self, as_user, publisher, moved, fields):
        assert as_user(publisher).post(page("stage", moved), fields).status_code == 302
        assert released(Run.objects.get()) == ["pay-1", "pay-2"]


class TestTimeline:
    def test_it_tells_what_was_chosen_against_the_plan_and_the_place(
        self, as_user, publisher, make_job, machines, release_task, rollback_task
    ):
        job = make_job(plan_pre_release="pay-1")
        Machine.objects.filter(hostname="pay-2").update(address="10.9.9.9")
        stage = ReleaseStage.objects.of(job)[0]
        stage.release_task, stage.rollback_task = release_task, rollback_task
        moved = job.job_machines.moved_of(machines)
        stage.start(publisher, machines[1:2], "key", moved=moved, why_old="It is down.", old_list=None)
        said = words(as_user(publisher).get(page("job", job)))
        for note in (
            "Beyond the plan: pay-2",
            "Planned, but left out: pay-1",
            "Released where it is now: pay-2 (10.0.0.2:22 sh-1 → 10.9.9.9:22 sh-1)",
            "Started with an old list of machines: It is down.",
        ):
            assert note in said

    def test_of_many_it_names_some_and_counts_the_others(self, as_user, publisher, payment, make_job, start):
        many = list_machines(payment, *(f"pay-{number}" for number in range(1, 31)))
        job = make_job(on=many, plan_pre_release="pay-1")
        start(job, many)
        names = sorted(machine.hostname for machine in many[1:])[:20]
        assert f"Beyond the plan: {', '.join(names)} and 9 more" in words(as_user(publisher).get(page("job", job)))

    def test_so_of_those_that_were_lost(self, as_user, publisher, payment, make_job, start, worker):
        many = list_machines(payment, *(f"pay-{number}" for number in range(10, 31)))
        job = make_job(on=many)
        start(job, many)
        begin(worker)
        worker.leave()
        assert "pay-29 and 1 more ran; how that ended is unknown" in words(as_user(publisher).get(page("job", job)))


class TestAfterTheStart:
    """Between a start and a machine's turn there may be days: a pause, a freeze, batches."""

    @pytest.fixture
    def run(self, start, job, machines):
        return start(job, machines[:3], batch_size="1", failure_budget=None)

    def ends(self, run):
        return list(run.machine_runs.values_list("machine__hostname", "status", "reason"))

    def test_what_is_gone_or_moved_when_its_turn_comes_is_not_run(self, run, machines, worker, payment, orders):
        end(worker, begin(worker))
        list_machines(orders, "pay-2")  # which is not its business
        list_machines(payment, "pay-1", "pay-3", "pay-4", "pay-5", "pay-6")
        assert claim(worker) == []
        end(worker, [])
        Machine.objects.filter(hostname="pay-3").update(port=2222)
        assert claim(worker) == []
        end(worker, [])
        assert self.ends(run) == [
            ("pay-1", "succeeded", ""),
            ("pay-2", "not_run", "It left the business line before its turn came."),
            ("pay-3", "not_run", "It moved before its turn came. Look where it is now, then choose it as moved."),
        ]
        assert state(run)[0] == "failed"

    def test_nor_does_one_that_moves_long_before_its_turn_go_where_that_is(self, run, worker):
        Machine.objects.filter(hostname="pay-3").update(port=2222)
        end(worker, [])
        for _ in range(3):
            end(worker, begin(worker))
        assert state(run) == ("failed", 3, {"succeeded": 2, "not_run": 1})

    def test_only_when_its_turn_has_come(self, run, machines, worker, payment):
        """A machine that was out of the list for a moment meanwhile is released."""
        list_machines(payment, "pay-1", "pay-3", "pay-4", "pay-5", "pay-6")
        end(worker, [])
        list_machines(payment, *(f"pay-{number}" for number in range(1, 7)))
        for _ in range(3):
            end(worker, begin(worker))
        assert state(run) == ("succeeded", 3, {"succeeded": 3})

    def test_nor_while_a_freeze_holds_it(self, run, worker, payment, ops):
        stop = Freeze.objects.stop_world(ops, "smoke")
        list_machines(payment, *(f"pay-{number}" for number in range(2, 7)))
        end(worker, [])
        assert state(run) == ("running", 1, {"queued": 3})
        stop.end(ops, "no fire")
        end(worker, [])
        assert state(run)[2] == {"not_run": 1, "queued": 2}

    def test_without_the_one_that_was_to_go_first_none_follows(self, start, job, machines, worker):
        run = start(job, machines, canary=True, failure_budget=None)
        Machine.objects.filter(hostname="pay-1").update(address="10.9.9.9")
        end(worker, [])
        assert state(run) == ("failed", 1, {"not_run": 6})
        reasons = set(run.machine_runs.exclude(machine=machines[0]).values_list("reason", flat=True))
        assert reasons == {"The one that was to go first was not run."}

    def test_one_that_moved_after_it_was_claimed_is_not_begun(self, run, worker):
        [pk] = claim(worker)
        Machine.objects.filter(hostname="pay-1").update(address="10.9.9.9")
        assert MachineRun.objects.begin(worker, [pk]) == set()
        assert run.machine_runs.get(pk=pk).status == "queued"
        end(worker, [])
        assert run.machine_runs.get(pk=pk).status == "not_run"

    def test_one_that_was_named_as_moved_is_run_there(
        self, moved, machines, publisher, release_task, rollback_task, worker
    ):
        stage = ReleaseStage.objects.of(moved)[0]
        stage.release_task, stage.rollback_task = release_task, rollback_task
        run = stage.start(publisher, machines[1:2], "key", moved=moved.job_machines.moved_of(machines[1:2]))
        end(worker, begin(worker))
        assert state(run) == ("succeeded", 1, {"succeeded": 1})

    def test_a_rollback_goes_where_its_machine_is_now(self, job, machines, start, finish, publisher, worker, payment):
        run = start(job, machines[:1])
        finish()
        run.stage.refresh_from_db()
        back = run.stage.roll_back(publisher, machines[:1], "it hurts", "key")
        Machine.objects.filter(hostname="pay-1").update(address="10.9.9.9")
        list_machines(payment, *(f"pay-{number}" for number in range(2, 7)))
        end(worker, begin(worker))
        end(worker, begin(worker))
        assert state(back) == ("succeeded", 1, {"succeeded": 1})
        assert back.machine_runs.get().address == "10.9.9.9"

    def test_also_while_another_has_the_host_where_it_was(self, make_job, machines, start, finish, publisher):
        run = start(make_job("2.0"), machines[:1])
        finish()
        Machine.objects.filter(hostname="pay-1").update(address="10.9.9.9")
        Machine.objects.filter(hostname="pay-2").update(address="10.0.0.1")
        start(make_job("3.0", on=Machine.objects.filter(hostname="pay-2")), machines[1:2])
        run.stage.refresh_from_db()
        back = run.stage.roll_back(publisher, machines[:1], "it hurts", "key")
        assert back.machine_runs.get().address == "10.9.9.9"


class TestAskedAtTheStart:
    @pytest.fixture
    def asked(self, settings, config_files, payment, machines):
        """The config service is asked before each start, and gives `names`; None: it is down."""
        settings.CONFIG_SERVICE_MAX_AGE_AT_START = 0

        def gives(names):
            file = config_files / "payment.json"
            given = [
                {"hostname": f"pay-{n}", "address": f"10.0.0.{n}", "labels": {"site": "sh-1"}} for n in names or ()
            ]
            file.write_text(json.dumps(given) if names else "no json")

        return gives

    @pytest.fixture
    def submit(self, as_user, publisher, job, machines, release_task, rollback_task):
        def submit(**changed):
            fields = stage_fields(job, publisher, machines[:2], **changed)
            return as_user(publisher).post(page("stage", job), fields)

        return submit

    def test_it_starts_when_all_are_there(self, asked, submit):
        asked(range(1, 7))
        assert submit().status_code == 302
        assert "old_list" not in Event.objects.get(verb="started").detail

    def test_one_that_has_gone_a_moment_ago_is_refused(self, asked, submit):
        asked([1, 3, 4, 5, 6])
        assert "pay-2 is gone from the config service." in words(submit())
        assert not Run.objects.exists()

    def test_when_it_is_down_nothing_starts(self, asked, submit):
        asked(None)
        response = submit()
        assert "gave no list that can be taken" in words(response)
        assert 'name="old_list"' in response.text
        assert not Run.objects.exists()

    def test_a_person_can_answer_for_the_last_list_with_a_reason(self, asked, submit):
        asked(None)
        response = submit(old_list="on", remark="")
        assert "Say in the remark why" in words(response)
        assert '<textarea name="remark"' in response.text  # there and then: nobody goes back for it
        assert not Run.objects.exists()
        assert submit(old_list="on", remark="the fix cannot wait").status_code == 302
        detail = Event.objects.get(verb="started").detail
        assert detail["old_list"].startswith("20")
        assert detail["why_old"]

    def test_once_it_answers_again_no_reason_is_needed(self, asked, submit):
        asked(range(1, 7))
        assert submit(old_list="on", remark="").status_code == 302
        assert "old_list" not in Event.objects.get(verb="started").detail

    def test_a_question_that_somebody_else_still_waits_for_is_no_answer(self, asked, submit, settings):
        settings.CONFIG_SERVICE_MAX_AGE_AT_START = 30
        Business.objects.update(asked_at=Now(), synced_at=Now() - timedelta(hours=1))
        asked([1, 3, 4, 5, 6])
        assert "pay-2 is gone from the config service." in words(submit())
        assert not Run.objects.exists()

    def test_why_the_list_was_old_is_told_in_the_language_of_who_reads_it(self, asked, submit):
        asked(None)
        submit(old_list="on", remark="the fix cannot wait")
        event = Event.objects.get(verb="started")
        for language, _name in settings.LANGUAGES:
            with translation.override(language):
                [note] = event_notes(event)
                assert note.endswith(Business.objects.get().why_not_taken)
        assert len(set(event.detail["why_old"].values())) == 2

    def test_checking_does_not_ask(self, asked, submit):
        asked(None)
        assert submit(step="check").status_code == 200

    @pytest.mark.usefixtures("publisher", "release_task", "rollback_task")
    def test_the_command_refuses_and_can_be_overridden_too(self, asked, job, capsys):
        asked(None)
        command = (*RUN_STAGE, job.pk, "pre-release", "pay-1")
        assert fail(*command, code=CONFLICT).startswith("--old-list: The config service")
        told = "The config service gives no list that can be taken: The answer is not complete JSON."
        assert capsys.readouterr().err.startswith(told)
        assert fail(*command, "--stop-after=0", code=MISTAKE).startswith("--stop-after: ")
        assert "Say in the remark" in fail(*command, "--old-list", code=MISTAKE)
        assert not Run.objects.exists()
        say(*command, "--old-list", "--remark", "cannot wait")
        assert released(Run.objects.get()) == ["pay-1"]


class TestCommand:
    def test_what_moved_is_left_out_unless_it_is_asked_for(self, moved, publisher, release_task, rollback_task):
        assert "pay-2" in fail(*RUN_STAGE, moved.pk, "pre-release", "pay-2", code=CONFLICT)
        say(*RUN_STAGE, moved.pk, "pre-release", "pay-2", "--moved")
        assert released(Run.objects.get()) == ["pay-2"]

    def test_all_means_all_that_stand_where_they_stood(self, moved, publisher, release_task, rollback_task):
        say(*RUN_STAGE, moved.pk, "pre-release", "--all")
        assert released(Run.objects.get()) == ["pay-1", "pay-4", "pay-5", "pay-6"]

    def test_the_planned_ones_can_be_released(self, make_job, publisher, machines, release_task, rollback_task):
        job = make_job(plan_pre_release="pay-3")
        say(*RUN_STAGE, job.pk, "pre-release", "--planned")
        assert released(Run.objects.get()) == ["pay-3"]


@pytest.mark.parametrize("where", ["job", "roll_back_job", "machines"])
def test_pages_of_an_old_list_ask_for_a_new_one(
    as_user, publisher, job, payment, config_files, machines, start, finish, where
):
    if where == "roll_back_job":
        start(job, machines)
        finish()
    given = [{"hostname": f"pay-{number}", "address": f"10.0.0.{number}", "site": "sh-1"} for number in range(1, 6)]
    (config_files / "payment.json").write_text(json.dumps(given))
    type(payment).objects.update(asked_at="2020-01-01T00:00:00Z")
    said = words(as_user(publisher).get("/machines/" if where == "machines" else page(where, job)))
    assert ("pay-6 is gone from the config service." in said) == (where != "machines")
    assert ("pay-6" in said) == (where != "machines")

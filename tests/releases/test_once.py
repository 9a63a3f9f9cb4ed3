"""`--once STEP`: a pipeline's step that is tried again after it was cut off starts nothing a second time."""

from functools import partial

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Job, Membership
from jobs.rights import Role
from releases.models import Run
from tests.commands import CONFLICT, FAILED, MISTAKE, fail, say, say_json
from tests.conftest import list_machines, make_member
from tests.parallel import at_once

CREATE = ("create_job", "--as", "requester", "payment")
RUN = ("run_stage", "--as", "publisher")
BACK = ("rollback_stage", "--as", "publisher", "--reason", "it hurts")
ONCE = ("--once", "build 77")


class TestCreateJob:
    def test_the_same_step_again_tells_of_the_job_that_it_asked_for(self, requester, machines):
        first = say_json(*CREATE, "3.0", "--all", *ONCE)
        job = Job.objects.get()
        assert say_json(*CREATE, "3.0", "--all", *ONCE) == first
        assert say(*CREATE, "3.0", "--all", *ONCE) == f"{job} was asked for by this step before: waiting.\n"
        assert job.events.count() == 1

    def test_by_the_name_of_another_step_nothing_is_asked_for(self, requester, machines):
        job = say_json(*CREATE, "3.0", "--all", *ONCE)["job"]
        said = fail(*CREATE, "3.1", "--all", *ONCE, code=CONFLICT)
        assert said == f"This step asked for #{job} payment 3.0 before; name another one."
        assert say_json(*CREATE, " 3.0 ", "--all", *ONCE)["job"] == job

    def test_two_steps_that_ask_for_just_the_same_ask_for_two_jobs(self, requester, machines):
        jobs = [say_json(*CREATE, "3.0", "--all", "--once", step)["job"] for step in ("build 77", "build 78") * 2]
        assert jobs == [*Job.objects.order_by("pk").values_list("pk", flat=True)] * 2
        assert Job.objects.count() == 2

    def test_also_when_its_machines_are_others_by_now(self, requester, payment, machines):
        first = say_json(*CREATE, "3.0", "--all", *ONCE)
        list_machines(payment, "pay-1")
        assert say_json(*CREATE, "3.0", "--all", *ONCE) == first

    def test_what_became_of_it_is_told(self, requester, machines):
        job = say_json(*CREATE, "3.0", "--all", *ONCE)["job"]
        say("withdraw_job", "--as", "requester", job, "--reason", "called off")
        assert say_json(*CREATE, "3.0", "--all", *ONCE) == {"job": job, "status": "withdrawn", "machines": 6}

    def test_another_step_another_business_and_another_person_ask_for_their_own(self, requester, payment, orders):
        list_machines(payment, "pay-1"), list_machines(orders, "ord-1")
        make_member("other", payment, Role.REQUESTER)
        Membership.objects.create(user=requester, business=orders, role=Role.REQUESTER)
        say(*CREATE, "3.0", "--all", *ONCE)
        say(*CREATE, "3.1", "--all", "--once", "build 78")
        say("create_job", "--as", "requester", "orders", "3.0", "--all", *ONCE)
        say("create_job", "--as", "other", "payment", "3.0", "--all", *ONCE)
        assert Job.objects.count() == 4

    @pytest.mark.django_db(transaction=True)
    def test_of_two_at_once_one_asks(self, requester, machines):
        found = at_once(*[lambda: call_command(*CREATE, "3.0", "--all", *ONCE)] * 2)
        assert found == [None, None]
        assert Job.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_of_two_at_once_that_ask_for_different_machines_too(self, requester, machines):
        """As `--all` may come to mean others between the one and the other."""
        calls = [(*CREATE, "3.0", names, *ONCE) for names in ("pay-1", "pay-[1-2]")]
        assert at_once(*[partial(call_command, *call) for call in calls]) == [None, None]
        assert Job.objects.count() == 1


@pytest.mark.usefixtures("release_task", "rollback_task", "publisher")
class TestRunStage:
    def test_the_same_step_again_tells_of_the_run_that_it_started(self, job, finish, capsys):
        first = say_json(*RUN, job.pk, "pre-release", "pay-1", *ONCE)
        assert say_json(*RUN, job.pk, "pre-release", "pay-1", *ONCE) == first
        assert "started already" in capsys.readouterr().err
        finish()
        [told] = say_json(*RUN, job.pk, "pre-release", "pay-1", *ONCE, "--wait")["runs"]
        assert told == first["runs"][0] | {"status": "succeeded"}
        assert Run.objects.count() == 1

    def test_with_wait_it_ends_as_the_first_would_have(self, job, finish):
        say(*RUN, job.pk, "pre-release", "pay-[1-2]", *ONCE)
        finish("failed", on=["pay-2"])
        assert "failed: pay-2" in fail(*RUN, job.pk, "pre-release", "pay-[1-2]", *ONCE, "--wait", code=FAILED)
        assert Run.objects.count() == 1

    def test_with_other_machines_it_is_a_conflict_that_says_which_run_it_was(self, job):
        run = say_json(*RUN, job.pk, "pre-release", "pay-[1-2]", *ONCE)["runs"][0]["id"]
        for names in (["pay-3"], ["pay-1"], ["pay-[1-3]"]):
            for more in ([], ["--dry-run"]):
                said = fail(*RUN, job.pk, "pre-release", *names, *ONCE, *more, code=CONFLICT)
                where = f"This step started run {run} before, on other machines: pay-[1-2]."
                assert said == f"{where} Name another step."
        assert Run.objects.count() == 1

    def test_the_same_machines_may_be_named_otherwise(self, job):
        first = say_json(*RUN, job.pk, "pre-release", "--all", *ONCE)
        for names in (["--all"], ["pay-6", "pay-[1-5]", "pay-1"]):
            assert say_json(*RUN, job.pk, "pre-release", *names, *ONCE) == {"runs": first["runs"], "left_out": {}}

    @pytest.mark.django_db(transaction=True)
    def test_of_two_at_once_on_different_machines_one_is_told_of_the_conflict(self, job):
        calls = [(*RUN, str(job.pk), "pre-release", name, *ONCE) for name in ("pay-1", "pay-2")]
        found = at_once(*[partial(call_command, *call) for call in calls])
        assert [type(one) for one in found].count(CommandError) == 1
        [refused] = [one for one in found if one]
        assert (refused.returncode, "Name another step." in str(refused)) == (CONFLICT, True)

    def test_it_tells_of_the_run_also_when_the_database_goes_away_meanwhile(self, job, away_when_waited_for, capsys):
        line = (*RUN, str(job.pk), "pre-release", "pay-1", *ONCE)
        call_command(*line)
        first = capsys.readouterr().out
        with pytest.raises(CommandError) as caught:
            away_when_waited_for(call_command, *line, "--wait", "--wait-limit", "0.1")
        assert (caught.value.returncode, capsys.readouterr().out) == (CONFLICT, first)

    @pytest.mark.django_db(transaction=True)
    def test_of_several_at_once_one_starts_it_and_all_tell_of_it(self, job):
        line = (*RUN, str(job.pk), "pre-release", "pay-[1-3]", *ONCE)
        assert at_once(*[lambda: call_command(*line)] * 4) == [None] * 4
        assert Run.objects.count() == 1

    def test_the_next_stage_is_another_step(self, job, finish):
        say(*RUN, job.pk, "pre-release", "pay-1", *ONCE)
        finish()
        say(*RUN, job.pk, "gray-release", "pay-2", *ONCE)
        assert [run.stage.kind for run in Run.objects.all()] == ["pre-release", "gray-release"]

    def test_without_a_name_the_stage_is_not_open(self, job):
        say(*RUN, job.pk, "pre-release", "pay-1")
        assert "A run of it goes on." in fail(*RUN, job.pk, "pre-release", "pay-1", code=CONFLICT)
        assert Run.objects.count() == 1

    def test_it_tells_nobody_of_the_runs_of_others(self, job, outsider):
        say(*RUN, job.pk, "pre-release", "pay-1", *ONCE)
        said = fail("run_stage", "--as", "outsider", job.pk, "pre-release", "pay-1", *ONCE, code=MISTAKE)
        assert "sees no such" in said

    @pytest.mark.parametrize("name", ["", " "])
    def test_a_script_s_empty_variable_is_no_name(self, job, name):
        assert "is empty" in fail(*RUN, job.pk, "pre-release", "pay-1", f"--once={name}", code=MISTAKE)
        assert not Run.objects.exists()


@pytest.fixture
def released(job, start, finish, machines):
    """2.0 is on pay-1 by the pre-release, and on pay-2 by the gray release."""
    for kind, machine in zip(("pre-release", "gray-release"), machines, strict=False):
        start(job, [machine], kind)
        finish()
    return job


def test_a_rollback_of_several_stages_is_told_of_as_a_whole(released, finish):
    first = say_json(*BACK, released.pk, "all", *ONCE)
    assert len(first["runs"]) == 2
    assert say_json(*BACK, released.pk, "all", *ONCE) == first
    finish()
    say(*BACK, released.pk, "all", *ONCE, "--wait")
    assert Run.objects.filter(action="rollback").count() == 2


def test_a_rollback_of_other_machines_is_a_conflict(released):
    runs = [run["id"] for run in say_json(*BACK, released.pk, "all", *ONCE)["runs"]]
    said = fail(*BACK, released.pk, "all", "pay-2", *ONCE, code=CONFLICT)
    which = f"run {runs[0]}, run {runs[1]}"
    assert said == f"This step started {which} before, on other machines: pay-[1-2]. Name another step."
    assert Run.objects.filter(action="rollback").count() == 2

"""The page of a job."""

import re

import pytest

from jobs.models import Job, Membership
from jobs.rights import Role
from releases.models import MachineRun, ReleaseStage
from releases.tidying import move_on
from tests.cases import each
from tests.conftest import list_machines
from tests.pages import is_sent_to_login, page, source, words
from tests.workers import begin, claim, end


@pytest.mark.one_database
def test_everybody_of_the_business_reads_it(as_user, request, job):
    for person in ("requester", "publisher", "approver", "ops"):
        response = as_user(request.getfixturevalue(person)).get(page("job", job))
        assert response.status_code == 200
        assert "Payment 2.0" in words(response)


def test_it_asks_who_you_are(client, job):
    assert is_sent_to_login(client.get(page("job", job)), page("job", job))


def test_for_an_outsider_it_is_not_there(as_user, outsider, job):
    assert as_user(outsider).get(page("job", job)).status_code == 404


@pytest.mark.one_database
@each("method", ["post", "put", "patch", "delete"])
def test_it_is_only_read(as_user, publisher, job, method):
    assert getattr(as_user(publisher), method)(page("job", job)).status_code == 405


@each("number", ["0", "01", "-1", "9" * 18, "9" * 19, "1" * 23, "x", "1e1", "١", "1%00"])
def test_a_number_that_is_no_job(as_user, ops, job, number):
    assert as_user(ops).get(f"/jobs/{number}/").status_code == 404


def buttons(response, job):
    """Which steps the page offers, as names of pages."""
    names = ["edit_job", "withdraw_job", "approve_job", "roll_back_job"]
    return [name for name in names if f'"{page(name, job)}"' in response.content.decode()]


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("person", "steps"),
    [
        ("requester", ["edit_job", "withdraw_job"]),
        ("approver", ["approve_job"]),
        ("publisher", []),
        ("ops", ["edit_job", "withdraw_job"]),
    ],
)
def test_before_approval_it_offers(as_user, request, make_job, person, steps):
    job = make_job(approved=False)
    assert buttons(as_user(request.getfixturevalue(person)).get(page("job", job)), job) == steps


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("person", "steps"),
    [("requester", []), ("approver", []), ("publisher", ["roll_back_job"]), ("ops", ["roll_back_job"])],
)
def test_after_a_release_it_offers(as_user, request, job, start, finish, machines, person, steps):
    start(job, machines[:2])
    finish()
    shown = as_user(request.getfixturevalue(person)).get(page("job", job))
    assert buttons(shown, job) == steps
    assert ("Roll back this job" in words(shown)) == bool(steps)


@pytest.mark.one_database
def test_it_says_what_is_next(as_user, publisher, make_job, requester, start, finish, machines):
    client = as_user(publisher)
    job = make_job(approved=False)
    assert "Waits for approver." in words(client.get(page("job", job)))
    job = make_job()
    assert "Next: pre-release" in words(client.get(page("job", job)))
    start(job, machines[:1])
    assert "Pre-release is running" in words(client.get(page("job", job)))
    finish("failed")
    assert "Some of its machines are not released." in words(client.get(page("job", job)))
    start(job, machines[:1])
    finish()
    assert "Next: gray release" in words(client.get(page("job", job)))
    start(job, machines[1:2], "gray-release")
    finish()
    start(job, machines[2:], "release")
    finish()
    assert "2.0 is out" in words(client.get(page("job", job)))


def test_a_job_of_which_every_machine_is_excused_has_ended(as_user, publisher, job, machines, start, finish):
    start(job, machines)
    finish("failed")
    ReleaseStage.objects.excuse(job, machines, publisher, "scrapped")
    said = words(as_user(publisher).get(page("job", job)))
    assert "2.0 was not released Every machine of this job was excused." in said


@pytest.mark.one_database
def test_a_withdrawn_job_promises_nothing(as_user, requester, job):
    job.withdraw(requester, "not needed")
    for name in ("job", "stage"):
        said = words(as_user(requester).get(page(name, job)))
        assert "when the job is approved" not in said
        assert "must be approved first" not in said
        assert "Nothing of it was or will be released." in said


@pytest.mark.parametrize("person", ["requester", "publisher"])
def test_a_withdrawn_job_offers_nothing(as_user, request, requester, job, person):
    job.withdraw(requester, "not needed")
    response = as_user(request.getfixturevalue(person)).get(page("job", job))
    assert buttons(response, job) == []
    assert "Excuse machines" not in words(response)
    assert "Nothing of it was or will be released." in words(response)


def test_nobody_is_named_as_approver_of_their_own(as_user, requester, payment, make_job):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    assert "Waits for approver." in words(as_user(requester).get(page("job", make_job(approved=False))))


def test_without_an_approver_it_says_so(as_user, requester, payment, make_job):
    job = make_job(approved=False)
    Membership.objects.filter(role=Role.APPROVER).delete()
    assert "Nobody can approve it yet: ask ops for an approver." in words(as_user(requester).get(page("job", job)))


def test_its_timeline_tells_who_did_what_and_why(as_user, publisher, job, start, finish, machines):
    ReleaseStage.objects.of_kind(job, "pre-release").skip(publisher, "no canary today")
    run = start(job, machines[:2], "gray-release", remark="slowly")
    finish("failed", on=["pay-2"])
    said = words(as_user(publisher).get(page("job", job)))
    for sentence in (
        "requester asked for 2.0 on 6 machines",
        "approver approved",
        "publisher skipped Pre-release no canary today",
        "publisher started Gray release on 2 machines slowly",
        f"run {run.pk} failed: 1 failed, 1 succeeded",
    ):
        assert sentence in said


def test_its_timeline_tells_of_machines_that_went_back_and_not_of_a_success(
    as_user, publisher, job, start, finish, machines
):
    start(job, machines[:3])
    finish()
    stage = ReleaseStage.objects.of_kind(job, "pre-release")
    run = stage.roll_back(publisher, machines[:3], "broken", "key")
    finish("failed", on=["pay-3"])
    said = words(as_user(publisher).get(page("job", job)))
    assert f"Rollback of Pre-release , run {run.pk} failed: 1 failed, 2 rolled back" in said


def test_its_machines_are_shown_with_their_states(as_user, publisher, job, payment, start, finish, machines):
    start(job, machines[:3])
    finish("unknown", on=["pay-2"])
    list_machines(payment, *(f"pay-{n}" for n in range(1, 6)))
    said = words(as_user(publisher).get(page("job", job)))
    assert "2 succeeded 1 unknown 2 waiting 1 gone" in said


def test_what_waits_is_one_number_whether_its_run_has_begun_or_not(as_user, publisher, job, start, machines, worker):
    start(job, machines[:3])
    client, shown = as_user(publisher), []
    for _step in range(3):
        shown.append(words(client.get(page("job", job))))
        claim(worker, 1)
    assert ["Machines 6 6 waiting" in said for said in shown] == [True] * 3


def test_a_release_that_was_cancelled_before_it_began_is_told_as_cancelled(as_user, publisher, job, start, machines):
    start(job, machines[:1]).cancel(publisher)
    assert "Machines 6 1 cancelled 5 waiting" in words(as_user(publisher).get(page("job", job)))


def test_a_tile_is_read_out_with_all_that_it_shows(as_user, publisher, job, start, finish, machines):
    start(job, machines[:1])
    finish()
    response = as_user(publisher).get(page("job", job))
    assert "pay-1 2.0 · pre-release" in words(response)
    assert 'aria-label="pay-1: Succeeded · 2.0 · pre-release"' in source(response)


def test_a_tile_leads_to_what_ran_last_on_its_machine(as_user, publisher, job, start, machines):
    last = start(job, machines[:1]).machine_runs.get()
    shown = as_user(publisher).get(page("job", job)).content.decode()
    of_pay = {number: re.search(rf'<a [^>]*title="pay-{number}: [^>]*>', shown)[0] for number in (1, 2)}
    assert f'href="{page("machine_run", job, machine_run_id=last.pk)}"' in of_pay[1]
    assert "href" not in of_pay[2]


class TestSoaking:
    def test_the_next_step_is_told_with_its_time(self, as_user, publisher, soaking):
        response = as_user(publisher).get(page("job", soaking))
        assert "Next: gray release, after the soak time" in words(response)
        assert "Pre-release has succeeded and is watched for a while; it opens at" in words(response)
        assert "Open gray release stage" not in words(response)

    def test_once_it_is_over_the_stage_opens(self, as_user, publisher, payment, soaking):
        payment.soak_minutes = 0
        payment.save()
        assert "Open gray release stage" in words(as_user(publisher).get(page("job", soaking)))


class TestRollingBack:
    def test_what_went_back_does_not_count_as_done(self, as_user, publisher, job, start, finish, machines):
        start(job, machines)
        finish()
        stage = ReleaseStage.objects.of_kind(job, "pre-release")
        stage.roll_back(publisher, machines[:4], "it hurts", "back")
        finish()
        said = words(as_user(publisher).get(page("job", job)))
        assert "2.0 was released on 2 of 6 machines Every machine of this job was released, rolled back" in said
        assert "Pre-release Succeeded: 2 of 6 · 4 rolled back" in said
        assert "sh-1 2 of 6 4 rolled back" in said

    @pytest.mark.one_database
    def test_what_was_released_and_excused_was_released(self, as_user, publisher, job, start, finish, machines):
        start(job, machines[:2])
        finish("unknown", on=["pay-2"])
        ReleaseStage.objects.excuse(job, machines[1:], publisher, "in repair")
        MachineRun.objects.get(machine=machines[1]).resolve(publisher, "succeeded", "I have looked")
        assert "2.0 was released on 2 of 6 machines" in words(as_user(publisher).get(page("job", job)))

    @pytest.mark.one_database
    def test_what_a_rollback_did_not_reach_is_still_released(
        self, as_user, publisher, make_job, start, finish, machines, worker
    ):
        job = make_job(on=machines[:2])
        start(job, machines[:2])
        finish()
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "it hurts", "back")
        MachineRun.objects.end(worker, claim(worker), "unreachable", None, "no route")
        move_on()
        said = words(as_user(publisher).get(page("job", job)))
        assert "2.0 is out" in said
        assert "1 unreachable" in said

    @pytest.mark.one_database
    def test_what_a_cancel_ended_midway_is_no_success(self, as_user, publisher, job, start, finish, machines, worker):
        start(job, machines[:1])
        finish()
        back = ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "it hurts", "back")
        running = begin(worker)
        back.cancel(publisher)
        end(worker, running, "cancelled")
        assert "Machines 6 1 cancelled 5 waiting" in words(as_user(publisher).get(page("job", job)))

    @pytest.mark.one_database
    def test_a_stage_that_went_back_whole_says_just_that(self, as_user, publisher, job, start, finish, machines):
        start(job, machines[:3])
        finish()
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:3], "it hurts", "back")
        finish()
        said = words(as_user(publisher).get(page("job", job)))
        assert "Pre-release Rolled back publisher" in said
        assert "sh-1 0 of 6 3 rolled back" in said

    @pytest.mark.one_database
    def test_its_run_counts_what_went_back_as_done(self, as_user, publisher, job, start, finish, machines):
        start(job, machines[:3])
        finish()
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:3], "it hurts", "back")
        finish("failed", on=["pay-2"])
        assert "sh-1 2 of 3" in words(as_user(publisher).get(page("stage", job)))


class TestExcusing:
    CARD = "keeps the job from being done, until it is excused with a reason"

    def test_what_is_excused_is_shown_so_and_not_counted_as_released(
        self, as_user, publisher, job, start, finish, machines
    ):
        start(job, machines[:3])
        finish("failed", on=["pay-2", "pay-3"])
        ReleaseStage.objects.excuse(job, machines[1:2], publisher, "in repair")
        response = as_user(publisher).get(page("job", job))
        assert "1 succeeded 1 failed 1 excused 3 waiting" in words(response)
        assert "sh-1 1 of 6 1 failed 1 excused" in words(response)
        assert "Pre-release Failed: 1 of 3 · 1 excused" in words(response)
        assert "publisher excused pay-2 in repair" in words(response)
        assert re.search(r'<a class="tile excused" id="tile-\d+"[^>]* title="pay-2: Excused"', source(response))
        in_chinese = as_user(publisher).get(page("job", job), headers={"accept-language": "zh-hans"})
        assert 'title="pay-2：已豁免"' in source(in_chinese)

    def test_a_stage_that_is_done_without_it_says_how_many_it_released(
        self, as_user, publisher, make_job, start, finish, machines
    ):
        job = make_job(on=machines[:3])
        start(job, machines[:3])
        finish("failed", on=["pay-3"])
        ReleaseStage.objects.excuse(job, machines[2:3], publisher, "in repair")
        for name in ("job", "stage"):
            assert "Succeeded: 2 of 3 · 1 excused" in words(as_user(publisher).get(page(name, job)))

    def test_an_unknown_machine_is_shown_as_unknown_for_it_is_held(
        self, as_user, publisher, job, start, finish, machines
    ):
        start(job, machines[:2])
        finish("unknown", on=["pay-2"])
        ReleaseStage.objects.excuse(job, machines[1:2], publisher, "in repair")
        client = as_user(publisher)
        response = client.get(page("job", job))
        assert "1 succeeded 1 unknown 4 waiting" in words(response)
        assert "Pre-release Succeeded: 1 of 2" in words(response)
        MachineRun.objects.get(machine=machines[1]).resolve(publisher, "failed", "nothing runs there")
        assert "1 succeeded 1 excused 4 waiting" in words(client.get(page("job", job)))

    @pytest.mark.one_database
    @pytest.mark.parametrize(("person", "may"), [("publisher", True), ("ops", True), ("requester", False)])
    def test_it_is_offered_to_who_may_while_something_is_left(
        self, as_user, request, publisher, job, start, finish, machines, person, may
    ):
        client = as_user(request.getfixturevalue(person))
        assert self.CARD not in words(client.get(page("job", job)))  # it has not begun
        start(job, machines[:1])
        finish()
        assert (self.CARD in words(client.get(page("job", job)))) == may
        ReleaseStage.objects.excuse(job, machines[1:], publisher, "in repair")
        assert self.CARD not in words(client.get(page("job", job)))


@pytest.mark.one_database
@pytest.mark.parametrize("field", ["title", "remark"])
def test_what_was_written_is_text_and_no_markup(as_user, publisher, make_job, field):
    job = make_job(**{field: "<script>alert(1)</script>"})
    response = as_user(publisher).get(page("job", job))
    assert "<script>alert" not in response.content.decode()
    assert "<script>alert(1)</script>" in source(response)


@pytest.mark.one_database
def test_what_a_config_service_sent_is_text_and_no_markup(as_user, publisher, job):
    for number, machine in enumerate(job.machines.all()):
        machine.hostname, machine.site = f"<b>host</b>{number}", '"><b>site</b>'
        machine.labels = {"<b>key</b>": '"><b>label</b>'}
        machine.save()
    client = as_user(publisher)
    for address in (page("job", job), page("stage", job)):
        shown = client.get(address).content.decode()
        assert "<b>host" not in shown
        assert "<b>site" not in shown
        assert "<b>label" not in shown
        assert "<b>key" not in shown


def test_a_released_job_stays_a_record(as_user, requester, job, start, finish, machines):
    Job.objects.filter(pk=job.pk).update(status=Job.Status.RELEASED)
    assert buttons(as_user(requester).get(page("job", job)), job) == []


def test_the_plan_stands_in_the_pipeline(as_user, publisher, make_job):
    said = words(as_user(publisher).get(page("job", make_job(plan_pre_release="1", plan_gray_release="2"))))
    for planned in ("planned: 1 machine ·", "planned: 2 machines ·", "planned: 3 machines ·"):
        assert planned in said


class TestNothingLeft:
    """Every machine was released in the first stage: those after it have nothing to wait for."""

    @pytest.fixture
    def released(self, make_job, start, finish, machines):
        job = make_job(on=machines[:2])
        start(job, machines[:2])
        finish()
        return job

    LEFT = "Gray release no machine is left for it Release no machine is left for it"

    def test_the_later_stages_promise_nothing(self, as_user, publisher, released):
        for name in ("job", "stage"):
            assert self.LEFT in words(as_user(publisher).get(page(name, released)))

    @pytest.mark.one_database
    def test_nor_where_the_others_were_excused(self, as_user, publisher, make_job, start, finish, machines):
        job = make_job(on=machines[:2])
        start(job, machines[:1])
        finish()
        ReleaseStage.objects.excuse(job, machines[1:2], publisher, "in repair")
        assert self.LEFT in words(as_user(publisher).get(page("job", job)))

    @pytest.mark.one_database
    def test_what_went_back_can_be_released_again(self, as_user, publisher, released, finish, machines):
        ReleaseStage.objects.of_kind(released, "pre-release").roll_back(publisher, machines[:1], "it hurts", "back")
        finish()
        released.refresh_from_db()
        said = words(as_user(publisher).get(page("job", released)))
        assert "Gray release Waiting open Release Waiting opens when gray release has succeeded" in said
        ReleaseStage.objects.excuse(released, machines[:1], publisher, "in repair")
        assert self.LEFT in words(as_user(publisher).get(page("job", released)))

    @pytest.mark.one_database
    def test_nor_can_what_was_excused_and_went_back_be_started_again(
        self, as_user, publisher, make_job, start, finish, machines
    ):
        job = make_job(on=machines[:1])
        start(job, machines[:1])
        finish("failed")
        ReleaseStage.objects.excuse(job, machines[:1], publisher, "scrapped")
        ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "what it left", "back")
        finish()
        client = as_user(publisher)
        said = words(client.get(page("job", job)))
        assert "Rolled back Every machine of this job was excused." in said
        assert self.LEFT in said
        assert "nothing is left to be released here" in words(client.get(page("stage", job)))

    @pytest.mark.one_database
    @each("person, kind", [("requester", "gray-release"), ("requester", "release"), ("publisher", "release")])
    def test_their_pages_say_so(self, as_user, request, released, person, kind):
        said = words(as_user(request.getfixturevalue(person)).get(page("stage", released, kind=kind)))
        assert "This stage is not open Every machine of this job is released or excused" in said

"""Steering a run from its pages: pause, resume, and cancel, which asks once more."""

from itertools import product

import pytest

from jobs.models import Event
from releases.models import MachineRun, ReleaseStage, Run, Worker
from tests.cases import each
from tests.pages import came_too_late, is_sent_to_login, page, source, words

NAMES = ["pause_run", "resume_run", "cancel_run"]
EVERY_STEP = each("name", NAMES)
# What state a step begins from, and to which it leads
STEPS = [
    ("pause_run", "running", "paused", Event.Verb.PAUSED),
    ("resume_run", "paused", "running", Event.Verb.RESUMED),
    ("cancel_run", "running", "cancelled", Event.Verb.CANCELLED),
    ("cancel_run", "paused", "cancelled", Event.Verb.CANCELLED),
]
EVERY_STEP_FROM = each("name, was, became, verb", STEPS)


@pytest.fixture
def run(job, start, machines):
    """A run on four machines, two at a time, of which none has begun."""
    return start(job, machines[:4], batch_size="2")


def address(run, name):
    return page(name, run.stage.job, run_id=run.pk)


def turn(client, run, name, **fields):
    return client.post(address(run, name), fields, follow=True)


def status(run):
    return Run.objects.get(pk=run.pk).status


def put(run, was):
    """Takes a fresh run to the state that a step begins from."""
    if was == "paused":
        Run.objects.get(pk=run.pk).pause(run.started_by)


def begin(run, number=1):
    """Has a worker begin `number` machines, and leaves them running."""
    worker = Worker.objects.enlist([])
    MachineRun.objects.claim(worker, number)
    MachineRun.objects.begin(worker, list(MachineRun.objects.claimed_by(worker).values_list("pk", flat=True)))
    return worker


def told(run, verb):
    return run.stage.job.events.filter(verb=verb)


def test_who_publishes_steers(as_user, publisher, ops, run, case):
    for user, (name, was, became, verb) in product([publisher, ops], STEPS):
        with case(f"{name} while {was}", user=user.username):
            put(run, was)
            response = turn(as_user(user), run, name, reason="healthz 503")
            assert response.redirect_chain == [(page("stage", run.stage.job), 302)]
            assert status(run) == became
            event = told(run, verb).get()
            assert (event.actor, event.reason, event.became) == (user, "healthz 503", became)


@pytest.mark.one_database
@EVERY_STEP
def test_it_asks_who_you_are(client, run, name):
    assert is_sent_to_login(client.post(address(run, name)), address(run, name))
    assert status(run) == "running"


@pytest.mark.one_database
def test_other_methods_are_refused(as_user, publisher, run, case):
    for name, method in product(NAMES, ["get", "put", "patch", "delete"]):
        with case(name, method=method):
            asks_once_more = (name, method) == ("cancel_run", "get")
            response = getattr(as_user(publisher), method)(address(run, name))
            assert response.status_code == (200 if asks_once_more else 405)
            assert status(run) == "running"


@pytest.mark.one_database
@EVERY_STEP
@pytest.mark.parametrize("person", ["requester", "approver"])
def test_others_are_told_which_right_is_missing(as_user, request, run, person, name):
    response = turn(as_user(request.getfixturevalue(person)), run, name)
    assert response.status_code == 403
    assert "run or roll back a stage of this job" in words(response)
    assert status(run) == "running"


@pytest.mark.one_database
@EVERY_STEP
def test_for_an_outsider_it_is_not_there(as_user, outsider, run, name):
    assert turn(as_user(outsider), run, name).status_code == 404
    assert status(run) == "running"


@EVERY_STEP
def test_under_another_job_it_is_not_there(as_user, publisher, run, make_job, name):
    response = as_user(publisher).post(page(name, make_job("3.0"), run_id=run.pk))
    assert response.status_code == 404
    assert status(run) == "running"


def test_a_run_that_is_none(as_user, publisher, run, case):
    for name, number in product(NAMES, ["0", "01", "x", "-1", "1" * 23, "999999"]):
        with case(name, number=number):
            path = address(run, name).replace(f"/runs/{run.pk}/", f"/runs/{number}/")
            assert as_user(publisher).post(path).status_code == 404


@EVERY_STEP_FROM
def test_a_second_time_is_told_and_changes_nothing(as_user, publisher, run, name, was, became, verb):
    put(run, was)
    client = as_user(publisher)
    turn(client, run, name)
    response = turn(client, run, name, reason="healthz 503")
    assert "This run is no longer in the state this step begins from." in words(response)
    assert came_too_late(response, "healthz 503")
    assert status(run) == became
    assert told(run, verb).count() == 1


@EVERY_STEP_FROM
def test_two_clicks_are_one_step_and_no_conflict(as_user, publisher, run, name, was, became, verb):
    put(run, was)
    client = as_user(publisher)
    answers = [turn(client, run, name, reason="healthz 503") for _click in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert "no longer in the state" not in words(answers[1])
    assert told(run, verb).count() == 1


@EVERY_STEP_FROM
def test_what_somebody_else_did_is_told(as_user, publisher, ops, run, name, was, became, verb):
    put(run, was)
    turn(as_user(ops), run, name, reason="healthz 503")
    assert came_too_late(turn(as_user(publisher), run, name, reason="healthz 503"), "healthz 503")


@EVERY_STEP
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_after_its_end_it_is_told_and_changes_nothing(as_user, publisher, run, finish, name, headers):
    finish()
    response = as_user(publisher).post(address(run, name), headers=headers)
    assert response.status_code == 409
    said = words(response)
    assert "no longer in the state" in said
    assert f"What happened last: Pre-release , run {run.pk} succeeded" in said
    assert "So this was not done. See how it is now →" in said
    assert f'href="{page("stage", run.stage.job)}"' in response.content.decode()
    assert status(run) == "succeeded"


@pytest.mark.one_database
def test_a_bad_reason_changes_nothing_and_is_told(as_user, publisher, run, case):
    bad = [
        ("a\u202eb", "Remove the control or invisible characters."),
        ("a\0b", "Remove the control or invisible characters."),
        ("x" * 2001, "at most 2000 characters"),
    ]
    for (name, was, _, _), (reason, why) in product(STEPS, bad):
        with case(f"{name} while {was}", reason=reason):
            put(run, was)
            response = turn(as_user(publisher), run, name, reason=reason)
            assert why in words(response)
            assert status(run) == was


def test_a_bad_reason_for_a_cancel_stays_to_be_mended(as_user, publisher, run):
    response = turn(as_user(publisher), run, "cancel_run", reason="healthz 503" + "x" * 2000)
    assert 'value="healthz 503xxx' in response.content.decode()
    assert "Cancel Pre-release" in words(response)


@pytest.mark.one_database
def test_a_reason_is_text_and_no_markup(as_user, publisher, run):
    reason = "<script>alert(1)</script>"
    client = as_user(publisher)
    for name in NAMES:
        turn(client, run, name, reason=reason)
    response = client.get(page("job", run.stage.job))
    assert source(response).count(reason) == 3
    assert "<script>alert" not in response.content.decode()


def test_what_is_paused_begins_nothing_until_it_is_resumed(as_user, publisher, run):
    client = as_user(publisher)
    assert "Paused: nothing more begins until it is resumed" in words(turn(client, run, "pause_run"))
    begin(run)
    assert run.machine_runs.counts() == {"queued": 4}
    assert "Resumed." in words(turn(client, run, "resume_run"))
    begin(run)
    assert run.machine_runs.counts() == {"queued": 3, "running": 1}


class TestCancelling:
    def test_it_asks_once_more_and_says_what_it_would_end(self, as_user, publisher, run):
        begin(run)
        response = as_user(publisher).get(address(run, "cancel_run"))
        said = words(response)
        assert f"Cancel Pre-release, run {run.pk}?" in said
        assert "1 command that runs now would be ended on its machine." in said
        assert "1 running 3 waiting" in said
        assert "Do not cancel" in said
        assert status(run) == "running"
        assert run.machine_runs.counts() == {"queued": 3, "running": 1}

    def test_what_runs_is_being_ended_and_no_longer_steered(self, as_user, publisher, run):
        begin(run)
        said = words(turn(as_user(publisher), run, "cancel_run"))
        assert "Cancelled; 1 command is being ended" in said
        assert "3 cancelled" in said
        assert "Pause" not in said
        assert "Cancel the run" not in said
        assert status(run) == "running"  # until the end of the command was seen

    def test_what_was_cancelled_says_how_far_it_came(self, as_user, publisher, run):
        worker = begin(run)
        client = as_user(publisher)
        turn(client, run, "cancel_run")
        running = run.machine_runs.filter(status="running")
        MachineRun.objects.end(worker, [machine_run.pk for machine_run in running], "cancelled")
        run.advance()
        said = words(client.get(page("stage", run.stage.job)))
        assert "Pre-release was cancelled 1 of 4 machines touched, 3 not." in said
        assert "Retry the 1 cancelled midway" in said
        assert "Release the 3 not run" in said

    def test_of_a_rollback_each_step_says_that_it_is_one(self, as_user, publisher, run, finish, machines):
        finish()
        job, client = run.stage.job, as_user(publisher)
        stage = ReleaseStage.objects.of_kind(job, "pre-release")
        back = stage.roll_back(publisher, machines[:2], "it hurts", "back")
        assert "Rollback of Pre-release is running" in words(client.get(page("job", job)))
        assert f"Cancel Rollback of Pre-release, run {back.pk}?" in words(client.get(address(back, "cancel_run")))
        turn(client, back, "pause_run")
        said = words(client.get(page("job", job)))
        assert "Rollback of Pre-release is paused" in said
        assert "publisher paused Rollback of Pre-release" in said
        turn(client, back, "resume_run")
        worker = begin(back)
        turn(client, back, "cancel_run")
        said = words(client.get(page("job", job)))
        assert "publisher resumed Rollback of Pre-release" in said
        assert "publisher cancelled Rollback of Pre-release : 1 not begun, 1 running" in said
        running = back.machine_runs.filter(status="running")
        MachineRun.objects.end(worker, [machine_run.pk for machine_run in running], "cancelled")
        back.advance()
        said = words(client.get(page("stage", job)))
        assert "Rollback of Pre-release was cancelled 1 of 2 machines touched, 1 not." in said
        assert "Pre-release · Rollback" in words(client.get("/")).split("Ended lately")[1]

    @pytest.mark.parametrize("is_over", [True, False])
    def test_when_there_is_nothing_to_cancel_it_says_so(self, as_user, publisher, run, finish, is_over):
        if is_over:
            finish()
        else:
            begin(run)
            run.cancel(publisher)
        said = words(as_user(publisher).get(address(run, "cancel_run")))
        assert ("This run has ended" if is_over else "This run is being cancelled already.") in said
        assert "Why" not in said


@pytest.mark.one_database
class TestTheSteps:
    """Which of them the page of the stage offers."""

    def offered(self, client, run):
        shown = client.get(page("stage", run.stage.job)).content.decode()
        return {name for name in NAMES if address(run, name) in shown}

    def test_follow_the_run(self, as_user, publisher, run, finish):
        client = as_user(publisher)
        assert self.offered(client, run) == {"pause_run", "cancel_run"}
        run.pause(publisher)
        assert self.offered(client, run) == {"resume_run", "cancel_run"}
        run.resume(publisher)
        finish()
        assert self.offered(client, run) == set()

    @pytest.mark.parametrize("person", ["requester", "approver"])
    def test_are_not_for_others(self, as_user, request, run, person):
        assert self.offered(as_user(request.getfixturevalue(person)), run) == set()

    def test_are_sent_to_a_page_that_stays_open_only_when_they_change(self, as_user, publisher, run, finish):
        client = as_user(publisher)

        def steps(shown):
            live = page("stage_live", run.stage.job)
            swapped = client.get(live, {"controls": shown}, headers={"HX-Request": "true"}).content.decode()
            return {name for name in NAMES if address(run, name) in swapped} if 'id="controls"' in swapped else None

        assert steps("running") is None
        run.pause(publisher)
        assert steps("running") == {"resume_run", "cancel_run"}
        assert steps("paused") is None
        run.resume(publisher)
        finish()
        assert steps("running") == set()
        assert steps("") is None


class TestAnEarlierRun:
    """Of pay-1 and pay-2, which failed; a second run released pay-2 again."""

    @pytest.fixture
    def earlier(self, job, start, finish, machines):
        run = start(job, machines[:2], remark="by hand")
        finish("failed", on=["pay-2"])
        start(job, machines[1:2], key="again")
        finish()
        return run

    def test_is_shown_as_it_ended(self, as_user, approver, earlier):
        response = as_user(approver).get(address(earlier, "run"))
        said = words(response)
        assert "This is an earlier run of Pre-release, as it ended. Look at the newest one" in said
        assert f"run {earlier.pk} Failed" in said
        assert "1 succeeded 1 failed" in said
        assert "by hand" in said
        assert page("machine_run", earlier.stage.job, machine_run_id=earlier.machine_runs.last().pk) in source(response)

    def test_offers_nothing_to_do(self, as_user, publisher, earlier):
        shown = as_user(publisher).get(address(earlier, "run")).content.decode()
        for name in (*NAMES, "roll_back_stage", "stage_live"):
            where = {} if "stage" in name else {"run_id": earlier.pk}
            assert page(name, earlier.stage.job, **where) not in shown

    def test_is_found_from_the_timeline_and_from_home(self, as_user, publisher, earlier):
        client = as_user(publisher)
        for shown in (client.get(page("job", earlier.stage.job)), client.get("/")):
            assert f'href="{address(earlier, "run")}"' in shown.content.decode()

    def test_the_newest_one_is_on_the_page_of_its_stage(self, as_user, publisher, earlier):
        newest = earlier.stage.runs.last()
        assert as_user(publisher).get(address(newest, "run")).url == page("stage", earlier.stage.job)

    def test_it_asks_who_you_are_and_is_no_strangers_business(self, client, as_user, outsider, earlier, make_job):
        assert is_sent_to_login(client.get(address(earlier, "run")), address(earlier, "run"))
        assert as_user(outsider).get(address(earlier, "run")).status_code == 404
        assert client.post(address(earlier, "run")).status_code == 405
        assert client.get(page("run", make_job(), run_id=earlier.pk)).status_code == 404

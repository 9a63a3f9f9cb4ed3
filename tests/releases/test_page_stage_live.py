"""What a stage page swaps in while its run goes on."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from jobs.models import Membership
from jobs.rights import Role
from releases.models import LogBlock, MachineRun, Run, Worker
from releases.pictures import RunPicture
from releases.shared import Shared
from tests.conftest import make_member
from tests.freezes import freeze_now
from tests.pages import ids, is_sent_to_login, page, source, words
from tests.workers import begin, end, fall_silent, state


def live(client, job, kind="pre-release"):
    return client.get(page("stage_live", job, kind=kind))


def test_it_asks_who_you_are(client, job):
    assert is_sent_to_login(live(client, job), page("stage_live", job))


@pytest.mark.one_database
def test_for_an_outsider_it_is_not_there(as_user, outsider, job, start, machines):
    start(job, machines)
    assert live(as_user(outsider), job).status_code == 404


@pytest.mark.one_database
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_is_only_read(as_user, publisher, job, method):
    assert getattr(as_user(publisher), method)(page("stage_live", job)).status_code == 405


def test_without_a_run_there_is_nothing(as_user, publisher, job):
    assert live(as_user(publisher), job).status_code == 404


def test_it_is_a_part_of_a_page(as_user, publisher, job, start, machines):
    start(job, machines[:2])
    shown = live(as_user(publisher), job).content.decode()
    assert "<html" not in shown
    assert shown.count('id="live"') == 1


def test_a_page_without_scripts_says_that_it_stays_as_it_was(as_user, publisher, job, start, finish, machines):
    start(job, machines[:2])
    stays = "<noscript><small>Without scripts this page does not renew itself: load it again."
    assert stays in source(as_user(publisher).get(page("stage", job)))
    finish()
    assert stays not in source(as_user(publisher).get(page("stage", job)))


def test_only_where_something_went_wrong_a_poll_asks_for_last_words(as_user, publisher, job, start, machines, worker):
    start(job, machines[:2])
    client = as_user(publisher)
    for is_asked in (False, True):
        with CaptureQueriesContext(connection) as asked:
            live(client, job)
        assert any("releases_logblock" in query["sql"] for query in asked) == is_asked
        end(worker, begin(worker, 1), "failed")


def test_it_says_for_which_sites_no_worker_is_alive(as_user, publisher, job, start, machines):
    told, client = "No worker is alive for sh-1: what is there waits until one is. Tell ops.", as_user(publisher)
    start(job, machines[:2])
    assert told not in words(live(client, job))  # the page says that there is none at all
    elsewhere = Worker.objects.enlist(["bj-1"])
    assert told in words(live(client, job))
    here = Worker.objects.enlist(["sh-1"])
    assert told not in words(live(client, job))
    fall_silent(here)
    assert told in words(live(client, job))
    elsewhere.leave()
    Worker.objects.enlist([])
    assert told not in words(live(client, job))


def test_it_goes_on_asking_while_the_run_goes_on_and_no_longer(as_user, publisher, job, start, finish, machines):
    start(job, machines[:2])
    client = as_user(publisher)
    asked = f"{page('stage_live', job)}?controls=running&workers=0&stop=&freezes=0"
    assert f'hx-get="{asked}"' in live(client, job).content.decode()
    finish()
    response = live(client, job)
    assert page("stage_live", job) not in response.content.decode()
    assert "Go on" in words(response)


@pytest.mark.one_database
def test_once_it_has_ended_one_chooses_anew_while_machines_are_left(as_user, publisher, job, start, finish, machines):
    client = as_user(publisher)
    for some, may in ((machines[:5], True), (machines[5:], False)):
        start(job, some)
        finish()
        assert ("Choose machines again" in words(live(client, job))) == may
        assert ("Machines for pre-release" in words(client.get(page("stage", job)))) == may


@pytest.mark.one_database
@pytest.mark.parametrize(("machine_runs", "seconds"), [(4, 1), (999, 1), (1000, 2), (10_000, 11)])
def test_a_large_run_is_asked_for_less_often(
    as_user, publisher, job, start, machines, monkeypatch, machine_runs, seconds
):
    start(job, machines[:4])
    monkeypatch.setattr(
        RunPicture, "total", property(lambda picture: machine_runs, lambda picture, number: None), False
    )
    assert f'hx-trigger="every {seconds}s,' in live(as_user(publisher), job).content.decode()


def test_the_head_of_the_page_tells_the_job_anew(as_user, publisher, job, start, finish, machines):
    start(job, machines)
    client = as_user(publisher)
    finish()
    swapped = client.get(page("stage_live", job), headers={"HX-Request": "true"}).content.decode()
    head = re.search(r'<span id="job-status" hx-swap-oob="true">(.+?)</span>', swapped, re.DOTALL)[1]
    assert "Released" in head
    whole = client.get(page("stage", job)).content.decode()
    assert whole.count('id="job-status"') == 1
    assert "hx-swap-oob" not in whole


def test_the_page_tells_when_a_worker_has_died_or_come(as_user, publisher, job, start, machines, worker):
    start(job, machines)
    client = as_user(publisher)
    whole = client.get(page("stage", job))
    asked = re.search(r'hx-get="([^"]+/live/[^"]+)"', source(whole))[1]
    assert "1 worker alive" in words(whole)
    assert "alive" not in words(client.get(asked, headers={"HX-Request": "true"}))
    fall_silent(worker)
    told = client.get(asked, headers={"HX-Request": "true"})
    assert "No worker is alive since 2020-01-01" in words(told)
    assert words(told).endswith("No worker alive")
    for swapped in re.findall(r'id="([^"]+)" [^>]*hx-swap-oob', source(told)):
        assert source(whole).count(f'id="{swapped}"') == 1


def test_it_counts(as_user, publisher, job, start, finish, machines):
    start(job, machines[:4], batch_size=3)
    assert "ended 0 / 4" in words(live(as_user(publisher), job))
    finish("failed", on=["pay-1"])
    said = words(live(as_user(publisher), job))
    assert "2 succeeded 1 failed 1 not run" in said
    assert "What went wrong 1" in said


@pytest.fixture
def one_of_four(job, machines, start, worker):
    """A run that began 50 seconds ago, and of whose four machines one has ended."""
    run = start(job, machines[:4], batch_size="2", failure_budget="")
    Run.objects.filter(pk=run.pk).update(started_at=Now() - timedelta(seconds=50))
    end(worker, begin(worker)[:1])
    return run


def test_it_tells_about_how_long_it_still_takes(as_user, publisher, one_of_four):
    assert "left, about 3 min" in words(live(as_user(publisher), one_of_four.stage.job))


def test_but_not_before_anything_has_ended(as_user, publisher, job, start, machines, worker):
    start(job, machines[:4])
    begin(worker)
    assert "left, about" not in words(live(as_user(publisher), job))


@pytest.mark.parametrize("what", ["pause", "cancel"])
def test_nor_when_a_person_holds_it(as_user, publisher, one_of_four, what):
    getattr(one_of_four, what)(publisher)
    assert "left, about" not in words(live(as_user(publisher), one_of_four.stage.job))


def test_nor_since_the_databases_clock_was_set_back(as_user, publisher, one_of_four):
    Run.objects.filter(pk=one_of_four.pk).update(started_at=Now() + timedelta(hours=1))
    assert "left, about" not in words(live(as_user(publisher), one_of_four.stage.job))


def test_nor_while_it_is_frozen(as_user, publisher, ops, one_of_four):
    freeze_now(ops)
    assert "left, about" not in words(live(as_user(publisher), one_of_four.stage.job))


def test_nor_while_it_waits_for_a_machine_of_another_run(
    as_user, publisher, make_job, start, start_when_free, machines, worker
):
    start(make_job("1.0"), machines[:1])
    begin(worker)
    job = make_job("2.0")
    run = start_when_free(job, machines[:2])
    end(worker, begin(worker))
    assert run.machine_runs.counts() == {"succeeded": 1, "held": 1}
    assert "left, about" not in words(live(as_user(publisher), job))


def test_nor_once_it_has_ended(as_user, publisher, one_of_four, worker):
    end(worker, ids(one_of_four.machine_runs.all()))
    end(worker, begin(worker))
    assert state(one_of_four)[0] == "succeeded"
    assert "left, about" not in words(live(as_user(publisher), one_of_four.stage.job))


@pytest.mark.one_database
def test_it_tells_what_went_wrong_with_its_last_words(as_user, publisher, job, start, finish, machines):
    run = start(job, machines[:2])
    machine_run = run.machine_runs.get(machine__hostname="pay-2")
    LogBlock.objects.create(machine_run=machine_run, number=1, stream="err", text="first\n<b>no space left</b>\n")
    finish("failed", on=["pay-2"], exit_status=7)
    response = live(as_user(publisher), job)
    assert "Failed, exit 7 pay-2 <b>no space left</b>" in words(response)
    assert "<b>no space" not in response.content.decode()


def test_it_names_the_log_of_the_first_that_went_wrong(as_user, publisher, job, start, worker, machines):
    run = start(job, machines[:3], failure_budget="")
    client = as_user(publisher)
    running = begin(worker)
    assert "data-log-wrong" not in source(live(client, job))
    for machine_run_id in running[1:]:
        end(worker, [machine_run_id], "failed")
        log = page("machine_run", run.stage.job, machine_run_id=running[1])
        assert f'data-log-wrong="{log}"' in source(live(client, job))


def test_of_machines_that_wait_the_log_of_one_of_the_first_batch_is_shown(as_user, publisher, job, start, machines):
    run = start(job, [machines[2], machines[0]], batch_size="1")
    first = run.machine_runs.get(batch=1)
    log = page("machine_run", job, machine_run_id=first.pk)
    assert f'id="log-pane" hx-get="{log}"' in source(as_user(publisher).get(page("stage", job)))


@pytest.mark.one_database
def test_a_reason_is_text_and_no_markup(as_user, publisher, job, start, finish, machines):
    run = start(job, machines[:1])
    finish("failed")
    run.machine_runs.update(reason="<script>alert(1)</script> 100%")
    response = live(as_user(publisher), job)
    assert "<script>alert" not in response.content.decode()
    assert "<script>alert(1)</script> 100%" in words(response).replace("&lt;", "<") or "100%" in words(response)


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("person", "may"), [("publisher", True), ("ops", True), ("approver", False), ("requester", False)]
)
def test_only_who_may_is_offered_steps(as_user, request, job, start, finish, machines, person, may):
    start(job, machines[:2])
    client = as_user(request.getfixturevalue(person))
    assert ("Pause" in words(client.get(page("stage", job)))) == may
    finish("unknown", on=["pay-1"])
    said = words(live(client, job))
    assert ("Resolve" in said) == may
    assert ("Roll back 2 machines" in said) == may


def test_a_run_that_is_being_cancelled_offers_none(as_user, publisher, job, start, machines, worker):
    run = start(job, machines[:1])
    begin(worker)
    run.cancel(publisher)
    assert "Pause" not in words(as_user(publisher).get(page("stage", job)))


def test_what_began_later_than_now_is_shown_as_not_far_yet(as_user, publisher, job, make_job, machines, start, finish):
    """As after the database's clock was set back."""
    start(make_job("1.0"), machines[1:2])
    finish()
    MachineRun.objects.update(started_at=Now() - timedelta(minutes=1))
    run = start(job, machines[:1])
    run.machine_runs.update(status="running", started_at=Now() + timedelta(hours=1))
    shown = source(as_user(publisher).get(page("stage_live", job)))
    assert "pay-1: Running" in shown
    assert "fill-" not in shown


def test_how_long_it_takes_is_told_by_the_last_runs_of_its_task(
    as_user, publisher, job, make_job, machines, start, finish, monkeypatch
):
    """This one and the one before: not by all of years."""
    monkeypatch.setattr("releases.pictures.LIKE_THIS", 2)
    for version, minutes, machine in (("1.0", 600, machines[1]), ("1.1", 10, machines[2])):
        run = start(make_job(version), [machine])
        finish()
        run.machine_runs.update(started_at=F("ended_at") - timedelta(minutes=minutes))
    run = start(job, machines[:1])
    run.machine_runs.update(status="running", started_at=Now() - timedelta(minutes=5, seconds=30))
    assert "fill-5" in source(live(as_user(publisher), job))


@pytest.fixture
def poll(client, settings, monkeypatch, job, start, machines):
    """Asks as a person's page would, of a run whose answers are good for longer than a test takes."""
    for shared in ("releases.views.stage._live_answers", "releases.tidying._looks"):
        monkeypatch.setattr(shared, Shared())
    settings.LIVE_SHARED_SECONDS = 3600
    start(job, machines)

    def poll(user, controls="running", **headers):
        client.force_login(user)
        headers["HX-Request"] = "true"
        return client.get(page("stage_live", job) + f"?controls={controls}&workers=0&stop=&freezes=0", headers=headers)

    return poll


def test_who_may_do_the_same_and_asks_at_the_same_time_gets_the_same(poll, payment, publisher, finish):
    asked = poll(publisher)
    finish()
    colleague = make_member("colleague", payment, Role.PUBLISHER)
    assert source(poll(colleague)) == source(asked)
    assert "ended 6 / 6" in words(poll(make_member("other", payment, Role.REQUESTER), controls=""))


def test_who_may_no_longer_see_the_run_gets_nothing_of_it(poll, publisher, outsider):
    poll(publisher)
    assert poll(outsider).status_code == 404
    Membership.objects.filter(user=publisher).delete()
    assert poll(publisher).status_code == 404


def test_each_gets_it_in_their_language(poll, publisher):
    said = [words(poll(publisher, **{"Accept-Language": language})) for language in ("en", "zh-hans", "en")]
    assert "Machines" in said[0]
    assert "机器" in said[1]
    assert said[2] == said[0]


def test_buttons_that_are_new_are_nobody_elses(poll, payment, publisher):
    """They are sent with a token, which counts in the session of one person alone."""
    colleague = make_member("colleague", payment, Role.PUBLISHER)
    shown = [source(poll(who, controls="paused")) for who in (publisher, colleague)]
    tokens = [re.search('csrf.+?value="(.+?)"', html)[1] for html in shown]
    assert tokens[0] != tokens[1]


def test_one_of_those_who_watch_tidies_up_while_no_worker_is_alive(poll, publisher, outsider, monkeypatch):
    tidied = []
    monkeypatch.setattr("releases.tidying.tidy", lambda: tidied.append("up"))
    for who in (publisher, outsider, publisher):
        poll(who)
    assert tidied == ["up"]

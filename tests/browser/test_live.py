"""A page that can no longer be kept up to date says so, and recovers by itself."""

import re
import time

import pytest

from jobs.models import Freeze
from releases.models import Worker
from releases.views import machine_run, stage
from tests.freezes import freeze_now
from tests.waiting import wait_until
from tests.workers import fall_silent

CHANGES_OF_BODY = "new MutationObserver(() => changes++).observe(document.body, {attributes: true})"
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_lost_connection_is_told_until_it_is_back(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("sleep 500")
    start(job, machines)
    browser.expected = ["ERR_BLOCKED_BY_CLIENT", "htmx:"]
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("6 running", "#live .counts")
    browser.wait_for("Live, ", "[data-live]")
    browser.block("*/live/*", "*/log/*")
    browser.wait_for("Connection lost ", "[data-live]")
    wait_until(lambda: browser.count("[data-live-figures].stale"))
    assert "6 running" in browser.words("#live .counts")  # what was last known stays
    strength = "[...document.querySelectorAll('#controls .button')].map((it) => getComputedStyle(it).opacity)"
    assert browser.ask(strength) == ["0.5", "0.5"]
    browser.block()
    browser.wait_for("Live, ", "[data-live]")
    wait_until(lambda: not browser.count(".stale"))
    assert browser.ask(strength) == ["1", "1"]
    browser.press("Cancel the run")
    browser.wait_for("6 commands")


def test_a_lost_connection_does_not_come_and_go_while_only_the_log_answers(
    publisher_at, worker, job, machines, start, task_that
):
    browser = publisher_at
    task_that("sleep 500")
    start(job, machines)
    browser.expected = ["ERR_BLOCKED_BY_CLIENT", "htmx:"]
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_shown("#log-pane .lines")
    browser.block("*/live/*")
    browser.wait_for("Connection lost ", "[data-live]")
    browser.ask("(window.logs = 0) || document.addEventListener('htmx:afterOnLoad', () => logs++)")
    browser.ask(f"(window.changes = 0) || {CHANGES_OF_BODY}")
    wait_until(lambda: browser.ask("logs") > 2)
    assert browser.ask("changes") == 0
    browser.block()
    browser.wait_for("Live, ", "[data-live]")


def a_minute_passes(browser):
    """For the clock of the page, which then looks at it at least once."""
    browser.ask("(Date.now = ((now) => () => now() + 60_000)(Date.now)) && 1")
    browser.ask("setTimeout(() => document.body.dataset.looked = 'yes', 1500)")
    wait_until(lambda: browser.count("[data-looked]"))


def test_a_page_whose_polling_stopped_goes_grey(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("sleep 500")
    start(job, machines)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("Live, ", "[data-live]")
    browser.ask("((it) => it.replaceWith(it.cloneNode(true)))(document.querySelector('#content'))")
    a_minute_passes(browser)
    browser.wait_for("Connection lost ", "[data-live]")
    assert browser.count("[data-live-figures].stale") == 2


def test_the_page_of_a_run_that_ended_stays_as_it_is(publisher_at, job, machines, start, finish):
    browser = publisher_at
    start(job, machines)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("Live, ", "[data-live]")
    finish()
    browser.wait_shown("[data-live-ended]")
    a_minute_passes(browser)
    assert browser.count("[data-live-figures]") == 2
    assert not browser.count(".stale, .lost")


def test_a_worker_that_comes_and_dies_is_told(publisher_at, job, machines, start):
    browser = publisher_at
    start(job, machines)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("No worker has ever been alive", "#content > [role=status]")
    worker = Worker.objects.enlist([])
    browser.wait_for("1 worker alive", ".foot")
    assert browser.words("#content > [role=status]") == ""
    fall_silent(worker)
    browser.wait_for("No worker is alive since 2020", "#content > [role=status]")
    browser.wait_for("No worker alive", ".foot")


def test_a_freeze_that_is_ended_is_told_no_longer(publisher_at, job, machines, start, ops):
    browser = publisher_at
    start(job, machines)
    freeze = freeze_now(ops)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("Frozen from", "#freezes")
    freeze.end(ops, "sold out")
    wait_until(lambda: "Frozen" not in browser.text)
    Freeze.objects.stop_world(ops, "smoke")
    browser.wait_for("Everything is stopped since", "#stopped")
    assert browser.words("#freezes") == ""
    Freeze.objects.resume_world(ops, "only steam")
    wait_until(lambda: "stopped" not in browser.text)
    assert browser.words("#stopped") == ""


def test_how_a_run_goes_on_is_said_to_who_cannot_see_it(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("sleep 500")
    run = start(job, machines)
    spoken = "document.querySelector('body > [role=status]').textContent"
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("6 running", "#live .counts")
    assert browser.ask(spoken) == ""
    run.pause(run.started_by)
    wait_until(lambda: browser.ask(spoken).startswith("Paused: "))
    run.cancel(run.started_by)
    wait_until(lambda: browser.ask(spoken) == "Cancelled. Pre-release was cancelled")


def test_an_open_home_page_goes_along_with_what_is_released(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("fail 3 on pay-2", "sleep 500")
    run = start(job, machines[:2], failure_budget="")
    browser.open("/")
    browser.wait_for("1 failed", "#running")
    browser.wait_for("Live, ", "[data-live]")
    link = f"#running-{run.pk}"
    browser.ask("document.querySelector(arguments[0]).focus()", link)
    browser.ask("document.querySelector('#running').swapped = false")
    wait_until(lambda: browser.ask("document.querySelector('#running').swapped === undefined"))
    assert browser.ask("document.activeElement.matches(arguments[0])", link)
    assert "Stopped" not in browser.text
    browser.ask("document.querySelector('#all-jobs').focus()")
    run.cancel(run.started_by)
    browser.wait_for("Stopped", "#home")
    wait_until(lambda: browser.ask("document.activeElement.matches('#all-jobs')"))
    assert browser.words("#running").strip() == ""
    assert browser.words("#home tbody tr").split("\t")[:3] == ["Cancelled", str(job), "Pre-release"]


@pytest.mark.parametrize("link", ["#stage-release", "#live td a"])
def test_a_poll_leaves_the_focus_on_a_link(publisher_at, worker, job, machines, start, task_that, link):
    browser = publisher_at
    task_that("fail 3 on pay-2", "sleep 500")
    start(job, machines[:2])
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("Failed", "#live td")
    browser.ask("document.querySelector(arguments[0]).focus()", link)
    browser.ask("document.querySelector('#live').swapped = false")
    wait_until(lambda: browser.ask("document.querySelector('#live').swapped === undefined"))
    assert browser.ask("document.activeElement.matches(arguments[0])", link)


def test_what_is_selected_on_a_live_page_can_be_copied(publisher_at, worker, job, machines, start, task_that):
    """What is shown gets older meanwhile, and says so, though the log beside it goes on."""
    browser = publisher_at
    task_that("sleep 500")
    start(job, machines[:2])
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("2 running", "#live .counts")
    browser.wait_shown("#log-pane .lines")
    browser.ask("getSelection().selectAllChildren(document.querySelector('#live .counts')) || 1")
    browser.ask("document.querySelector('#live').swapped = false")
    wait_until(lambda: age(browser) >= 3)
    assert browser.ask("getSelection().toString()") == "2 running"
    browser.ask("getSelection().removeAllRanges() || 1")
    wait_until(lambda: browser.ask("document.querySelector('#live').swapped === undefined"))
    browser.wait_for("Live, 0 s ago", "[data-live]")


def test_who_selects_one_after_the_other_sees_what_is_new_in_between(
    publisher_at, worker, job, machines, start, task_that
):
    """Before it is so old that the connection seems to be lost."""
    browser = publisher_at
    task_that("sleep 500")
    start(job, machines[:2])
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("2 running", "#live .counts")
    select = "getSelection().selectAllChildren(document.querySelectorAll('#live h2, #live .counts')[++turn % 2])"
    browser.ask(f"(window.turn = 0) || setInterval(() => {select}, 100)")
    browser.ask("document.querySelector('#live').swapped = false")
    wait_until(lambda: age(browser) >= 3)
    browser.ask("((now) => { Date.now = () => now() + 18_000; })(Date.now)")
    wait_until(lambda: browser.ask("document.querySelector('#live').swapped === undefined"))


def age(browser):
    """How many seconds a page that is live says that it is old."""
    return int(re.search(r"Live, (\d+) s ago", browser.words("[data-live]"))[1])


ASKED = "performance.getEntriesByType('resource').filter((it) => it.name.includes('{}'))"
POLLS, LOG_POLLS = ASKED.format("/live/"), ASKED.format("/log/")


def take_long(monkeypatch, seconds, module, name):
    """Answers do of which this is a step."""
    step = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **named: time.sleep(seconds) or step(*args, **named))


OF_RUN, OF_LOG = (stage, "tidy_if_alone"), (machine_run, "_show")


def test_nobody_sees_a_page_that_asks_for_nothing(publisher_at, job, machines, start, finish, monkeypatch):
    """As most of those who watch a long run: with another tab before it."""
    browser = publisher_at
    start(job, machines)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("Live, ", "[data-live]")
    hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true})"
    told = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.ask(f"{hide} && {told}", True)
    wait_until(lambda: not browser.count(".htmx-request"))  # what was asked before is answered
    asked = browser.ask(f"{POLLS}.length")
    finish()
    a_minute_passes(browser)
    assert browser.ask(f"{POLLS}.length") == asked
    assert not browser.count(".lost, .stale")
    for step in (OF_RUN, OF_LOG):
        take_long(monkeypatch, 1.5, *step)
    browser.ask(f"(window.changes = 0) || {CHANGES_OF_BODY}")
    browser.ask(f"{hide} && {told}", False)
    browser.wait_shown("[data-live-ended]")
    assert browser.ask("changes") == 0  # nor is it shown as lost until it is answered


def test_while_answers_take_long_a_page_asks_less_often(publisher_at, job, machines, start, monkeypatch):
    browser = publisher_at
    start(job, machines)
    take_long(monkeypatch, 0.7, *OF_RUN)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    wait_until(lambda: browser.ask(f"{POLLS}.length") > 1)
    first, second = browser.ask(f"{POLLS}.slice(0, 2).map((it) => [it.startTime, it.responseEnd])")
    assert second[0] - first[1] > 2000


def test_a_log_that_is_answered_late_leaves_its_run_its_turn(
    publisher_at, worker, job, machines, start, task_that, monkeypatch
):
    browser = publisher_at
    task_that("sleep 500")
    start(job, machines[:1])
    take_long(monkeypatch, 3, *OF_LOG)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    wait_until(lambda: browser.ask(f"{LOG_POLLS}.length"))
    log_asked, log_came = browser.ask(f"[{LOG_POLLS}[0].startTime, {LOG_POLLS}[0].responseEnd]")
    asked_next = f"{POLLS}.map((it) => it.startTime).find((at) => at > {log_came}) ?? 0"
    wait_until(lambda: browser.ask(asked_next))
    assert browser.ask(asked_next) - log_came < 3 * (log_came - log_asked)  # for which the log rests


def test_a_clock_that_is_set_back_stops_no_page(publisher_at, job, machines, start, finish):
    browser = publisher_at
    start(job, machines)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    wait_until(lambda: browser.ask(f"{POLLS}.length") > 1)
    browser.ask("(Date.now = ((now) => () => now() - 3_600_000)(Date.now)) && 1")
    finish()
    browser.wait_shown("[data-live-ended]")


def test_whoever_is_logged_out_is_asked_to_log_in(publisher_at, worker, job, machines, start, publisher, task_that):
    browser = publisher_at
    task_that("sleep 500")
    start(job, machines)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("Live", "#live")
    publisher.end_sessions()
    browser.wait_shown("#id_username")
    assert browser.path == f"/login/?next=/jobs/{job.pk}/stages/pre-release/"


def test_whoever_has_been_here_too_long_is_told_why_to_log_in_again(publisher_at, job, machines, start, settings):
    browser = publisher_at
    start(job, machines)
    browser.expected = ["401"]
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("Live", "#live")
    settings.SESSION_AGE = 0
    browser.wait_for("Your session has ended")
    assert browser.path == f"/login/?next=/jobs/{job.pk}/stages/pre-release/&ended=age"

"""A publisher steers a run while it goes on: pause, resume, cancel, try again, wait for a machine."""

import pytest
from selenium.webdriver.common.keys import Keys

from releases.models import MachineRun, Run, Worker
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def open_stage(browser, job):
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.ask("window.notReloaded = true")


def is_swapped(browser):
    """Waits until the live part of the page is another one than now."""
    browser.ask("document.querySelector('#live > .card').classList.add('old')")
    wait_until(lambda: not browser.count("#live > .old"))
    return True


def test_pause_resume_and_cancel_by_click(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("sleep 500")
    run = start(job, machines, batch_size="1")
    open_stage(browser, job)
    browser.wait_for("1 running", "#live .counts")
    browser.press("Pause")
    browser.wait_for("Paused: nothing more begins until it is resumed", ".messages")
    browser.wait_for("Paused: nothing more begins until it is resumed; what runs goes on", "#live .note")
    browser.press("Resume")
    browser.wait_for("Resumed.", ".messages")
    assert not browser.count("#live .note")
    browser.press("Cancel the run…")
    browser.wait_for("1 command that runs now would be ended on its machine.")
    assert run.machine_runs.counts() == {"running": 1, "queued": 5}
    browser.type("#id_reason", "healthz 503")
    browser.press("Cancel the run")
    browser.wait_for("Pre-release was cancelled", ".note:not(.ok)")
    browser.wait_for("1 of 6 machines touched, 5 not.")
    assert run.machine_runs.counts() == {"cancelled": 6}


def test_the_steps_outlive_what_is_swapped_every_second(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("sleep 500")
    run = start(job, machines[:2])
    open_stage(browser, job)
    browser.wait_for("2 running", "#live .counts")
    browser.tab_to("form[action$='/pause/'] button")
    browser.ask("window.button = document.activeElement")
    for _ in range(2):
        assert is_swapped(browser)
        assert browser.ask("document.activeElement === window.button")
    run.pause(run.started_by)  # by somebody else: the steps change by themselves
    browser.wait_for("Resume", "#controls")
    browser.tab_to("form[action$='/resume/'] button")
    browser.keys(Keys.ENTER)
    browser.wait_for("Resumed.", ".messages")
    assert Run.objects.get().status == "running"
    open_stage(browser, job)
    run.cancel(run.started_by)
    wait_until(lambda: browser.words("#controls") == "")
    browser.wait_for("Pre-release was cancelled", "#live")
    browser.wait_for("Retry the 2 cancelled midway", "#live")
    assert browser.ask("window.notReloaded")


def test_the_focus_stays_when_the_steps_change_and_the_run_ends(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("sleep 500")
    run = start(job, machines[:2])
    run.pause(run.started_by)
    open_stage(browser, job)
    browser.wait_for("Live, ", "[data-live]")
    browser.tab_to("form[action$='/resume/'] button")
    run.resume(run.started_by)
    wait_until(lambda: browser.ask("document.activeElement.innerText") == "Pause")
    browser.tab_to("#controls a")
    run.pause(run.started_by)
    browser.wait_for("Resume", "#controls")
    wait_until(lambda: browser.ask("document.activeElement.innerText") == "Cancel the run…")
    run.cancel(run.started_by)
    browser.wait_shown("[data-live-ended]")
    wait_until(lambda: browser.ask("document.activeElement.innerText").startswith("Pre-release run "))
    assert browser.ask("document.activeElement.id") == "run-title"


def test_the_focus_comes_back_when_the_end_follows_long_after_the_cancel(publisher_at, job, machines, start):
    browser = publisher_at
    run, worker = start(job, machines[:1]), Worker.objects.enlist([])
    ids = list(run.machine_runs.values_list("pk", flat=True))
    MachineRun.objects.claim(worker, 1)
    MachineRun.objects.begin(worker, ids)
    open_stage(browser, job)
    browser.tab_to("#controls a")
    run.cancel(run.started_by)
    wait_until(lambda: browser.words("#controls") == "")
    for _ in range(2):
        assert is_swapped(browser)
        assert browser.ask("document.activeElement === document.body")
    MachineRun.objects.end(worker, ids, MachineRun.Status.CANCELLED)
    run.advance()
    browser.wait_shown("[data-live-ended]")
    wait_until(lambda: browser.ask("document.activeElement.id") == "run-title")


def test_what_failed_is_tried_again(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("fail 1 on pay-[24]")
    start(job, machines, failure_budget="")
    browser.width(400)
    open_stage(browser, job)
    browser.wait_for("Retry the 2 that failed")
    task_that()
    browser.click("a[href*='retry=failed']")
    browser.wait_for("2 selected", ".sum")
    browser.press("Check 2 machines")
    browser.wait_for("payment 2.0 goes to 2 machines")
    browser.press("Start pre-release on 2 machines")
    browser.wait_for("2 succeeded", "#live .counts")
    assert "Tries again: some of its machines were in run" in browser.text
    again = Run.objects.last()
    assert sorted(again.machine_runs.values_list("machine__hostname", flat=True)) == ["pay-2", "pay-4"]


def test_a_held_machine_starts_when_it_is_free(publisher_at, worker, make_job, machines, start, task_that):
    browser = publisher_at
    task_that("sleep 500 on pay-1")
    holder = start(make_job("1.0"), machines[:1])
    wait_until(holder.machine_runs.filter(status="running").exists)
    task_that()
    job = make_job("2.0")
    open_stage(browser, job)
    browser.press("Paste names")
    browser.type("[data-picker-paste-text]", "pay-2")
    browser.press("Add the 1 found")
    browser.click("tr[data-hostname=pay-1] small input")
    assert "2 selected" in browser.words(".sum")
    browser.press("Check 2 machines")
    browser.wait_for("Wait for the end of other runs: pay-1")
    browser.press("Start pre-release on 2 machines")
    browser.wait_for("1 held", "#live .counts")
    assert MachineRun.objects.in_job(job).filter(status="succeeded").count() <= 1
    holder.cancel(holder.started_by)
    browser.wait_for("2 succeeded", "#live .counts")

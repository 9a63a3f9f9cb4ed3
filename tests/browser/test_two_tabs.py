"""Two tabs of one browser, on jobs that share machines: whatever was opened last, a form runs what it shows."""

import pytest

from releases.models import MachineRun, Run
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def stage_of(job):
    return f"/jobs/{job.pk}/stages/pre-release/"


def test_the_job_that_a_tab_shows_is_the_one_that_runs(publisher_at, worker, make_job, machines, task_that):
    browser = publisher_at
    task_that("sleep 500")
    one, other = make_job("2.0", on=machines[:4]), make_job("3.0", on=machines[2:])
    first = browser.driver.current_window_handle
    browser.open(stage_of(one))
    with browser.new_tab() as second:
        browser.open(stage_of(other))
    browser.click("tr[data-hostname=pay-3] input")
    browser.press("Check 1 machine")
    browser.wait_for("payment 2.0 goes to 1 machine")
    browser.press("Start pre-release")
    browser.wait_for("Live", "#live")
    assert list(MachineRun.objects.values_list("run__stage__job", "machine__hostname")) == [(one.pk, "pay-3")]
    browser.to_tab(second)
    _start_what_the_other_tab_holds(browser, one, other)
    browser.to_tab(first)
    assert browser.path == stage_of(one)


def _start_what_the_other_tab_holds(browser, one, other):
    """Tells who holds it, and starts what is free instead."""
    browser.click("tr[data-hostname=pay-3] input")
    browser.click("tr[data-hostname=pay-4] input")
    browser.press("Check 2 machines")
    browser.wait_for(f"pay-3 is held by #{one.pk}.")
    assert not other.stages.filter(runs__isnull=False).exists()
    assert browser.value("tr[data-hostname=pay-4] input", "checked")
    browser.press("Check 1 machine")
    browser.wait_for("payment 3.0 goes to 1 machine")
    browser.press("Start pre-release")
    wait_until(lambda: list(other.stages.filter(runs__isnull=False).values_list("machines__hostname")) == [("pay-4",)])


def test_a_stage_that_moved_on_keeps_what_was_typed(publisher_at, worker, job, task_that):
    browser = publisher_at
    task_that()
    browser.expected = ["409 (Conflict)"]
    browser.open(stage_of(job))
    first = browser.driver.current_window_handle
    with browser.new_tab():
        browser.open(stage_of(job))
        browser.click("tr[data-hostname=pay-1] input")
        browser.press("Check 1 machine")
        browser.press("Start pre-release")
        browser.wait_for("Succeeded", "#live > .card")
    browser.to_tab(first)
    browser.click("tr[data-hostname=pay-2] input")
    browser.type("#id_remark", "Ticket 7, 重试")
    browser.press("Check 1 machine")
    browser.wait_for("This stage has moved on since the page was loaded. Nothing was started.")
    assert browser.value("#id_remark") == "Ticket 7, 重试"
    assert browser.value("tr[data-hostname=pay-2] input", "checked")
    assert Run.objects.count() == 1


def test_a_fresh_browser_shows_the_machines_at_once(browser, client, publisher, job, make_job, machines, task_that):
    task_that()
    other = make_job("3.0", on=machines[:2])
    browser.log_in(client, publisher)
    for shown, expected in ((job, machines), (other, machines[:2]), (job, machines)):
        browser.open(stage_of(shown))
        # Not innerText: a row whose turn to be drawn has not come has none yet
        names = browser.ask("[...document.querySelectorAll('tr[data-hostname] label')].map((it) => it.textContent)")
        assert [name.strip() for name in names] == [machine.hostname for machine in expected]

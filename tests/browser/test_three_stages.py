"""The main job as the publisher sees it: choose, check, start and watch, three times; then one machine back."""

import pytest

from releases.models import MachineRun
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def release(browser, worker, *hostnames):
    """Chooses, checks and starts on the stage page that is open, and watches it begin and end."""
    worker.at_once = 0
    for hostname in hostnames:
        browser.click(f"tr[data-hostname={hostname}] input")
    browser.press(f"Check {len(hostnames)} machine")
    browser.wait_for(f"payment 2.0 goes to {len(hostnames)} machine")
    for hostname in hostnames:
        assert hostname in browser.text
    browser.press("Start ")
    browser.wait_for("Live", "#live")
    browser.ask("window.notReloaded = true")
    worker.at_once = 300
    browser.wait_for("Succeeded", "#live > .card")
    assert browser.ask("window.notReloaded"), "The page was loaded again instead of being kept up to date."
    assert f"{len(hostnames)} succeeded" in browser.words("#live .counts")


def test_all_three_stages_and_one_machine_back(publisher_at, worker, job, task_that):
    browser = publisher_at
    task_that("say going out", "sleep 1")
    browser.open(f"/jobs/{job.pk}/")
    for stage, hostnames in (
        ("pre-release", ["pay-1"]),
        ("gray release", ["pay-2", "pay-3"]),
        ("release", ["pay-4", "pay-5", "pay-6"]),
    ):
        browser.press(f"Open {stage} stage")
        release(browser, worker, *hostnames)
        browser.press("Job page" if stage == "release" else "Go on")
    browser.wait_for("2.0 is out")
    assert "6 succeeded" in browser.words(".counts")
    _roll_back_one(browser, job)


def _roll_back_one(browser, job):
    browser.press("Roll back 6 machines")
    browser.press("Clear")
    browser.click("tr[data-hostname=pay-1] input")
    browser.type("#id_reason", "healthz 503")
    browser.press("Roll back 1 machine")
    back = MachineRun.objects.in_job(job).rolled_back()
    wait_until(lambda: list(back.values_list("machine__hostname", flat=True)) == ["pay-1"])
    browser.driver.refresh()
    browser.wait_for("1 rolled back", ".counts")
    assert "5 succeeded" in browser.words(".counts")

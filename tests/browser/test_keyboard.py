"""From the login to a started run and its log, without a mouse."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.conftest import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_from_login_to_a_running_machines_log(browser, worker, job, publisher, task_that):
    task_that("say hello", "sleep 500")
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_shown("#id_username")
    browser.keys(publisher.username, Keys.TAB, PASSWORD, Keys.ENTER)
    browser.wait_shown("[data-picker-search]")
    for hostname in ("pay-2", "pay-3"):
        browser.tab_to(f"tr[data-hostname={hostname}] input")
        browser.keys(Keys.SPACE)
    browser.tab_to("[data-picker-main]")
    browser.keys(Keys.ENTER)
    browser.wait_for("payment 2.0 goes to 2 machines")
    browser.tab_to("button[value=start]")
    browser.keys(Keys.ENTER)
    browser.wait_for("2 running", "#live .counts")
    browser.tab_to(".tile")
    browser.keys(Keys.ARROW_RIGHT)
    browser.keys(Keys.ENTER)
    browser.wait_for("pay-3", "#log-pane h2")
    browser.wait_for("hello", ".lines")
    assert browser.ask("document.activeElement.title").startswith("pay-3")  # polling does not take the focus

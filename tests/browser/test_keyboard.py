"""From the login to a started run and its log, without a mouse."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.browser import NARROW
from tests.conftest import PASSWORD, list_machines

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


def test_what_has_the_focus_does_not_lie_under_the_buttons_at_the_edge(publisher_at, job, release_task, rollback_task):
    """Who enlarges a page four times has as little room as this."""
    browser = publisher_at
    browser.width(NARROW, height=225)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_shown("[data-picker-search]")
    tops = "[document.activeElement, document.querySelector('.dock')].map((it) => it.getBoundingClientRect().top)"
    under = []
    browser.tab_to("[data-picker-search]")
    while not browser.ask("document.activeElement.matches('#id_remark')"):
        browser.keys(Keys.TAB)
        focused, dock = browser.ask(tops)
        if focused >= dock:
            under.append(browser.ask("document.activeElement.outerHTML"))
    assert under == []


def test_the_whole_name_of_a_small_tile_is_shown_when_the_focus_reaches_it(publisher_at, payment, make_job):
    browser, name = publisher_at, "getComputedStyle(document.activeElement, '::after').content"
    browser.width(NARROW)
    job = make_job(on=list_machines(payment, *(f"web-{n:03}" for n in range(60))))
    browser.open(f"/jobs/{job.pk}/")
    browser.tab_to(".tile")
    browser.keys(Keys.ARROW_RIGHT)
    assert browser.words(".tile:focus") == "001"
    assert browser.ask(name) == '"web-001: Waiting"'
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")


def test_the_menu_does_not_stay_over_what_has_the_focus(browser, client, requester):
    browser.log_in(client, requester)
    browser.width(NARROW)
    browser.open("/jobs/")
    browser.tab_to(".menu summary")
    browser.keys(Keys.ENTER)
    browser.tab_to(".menu form[action='/logout/'] button")
    browser.keys(Keys.TAB)
    assert browser.ask("document.activeElement.innerText") == "New job"
    top_most = "(({x, y}) => document.elementFromPoint(x + 5, y + 5))(document.activeElement.getBoundingClientRect())"
    assert browser.ask(f"document.activeElement === {top_most}")

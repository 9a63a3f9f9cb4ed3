"""The keys of every page: "/" to its search, "?" to the list of all keys, and how to turn them off."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.browser import NARROW, WIDE

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LIST = "#keys[open]"
OPENER = ".foot [data-keys]"


def has_focus(browser, css):
    return browser.ask("document.activeElement.matches(arguments[0])", css)


def is_taken(browser, key, css="body", **more):
    """Whether the page does something with this key, struck in the first `css`."""
    strike = "document.querySelector(arguments[0]).dispatchEvent(new KeyboardEvent('keydown', arguments[1]))"
    return not browser.ask(strike, css, {"key": key, "bubbles": True, "cancelable": True, **more})


def test_a_slash_leads_to_the_search(publisher_at, job, release_task, rollback_task):
    browser = publisher_at
    browser.open("/")
    browser.keys("/")
    assert has_focus(browser, "[role=search] input")
    browser.keys("a/b?")
    assert browser.value("[role=search] input") == "a/b?"  # who types is left alone
    assert browser.count(LIST) == 0
    browser.open("/jobs/?q=payment")
    browser.keys("/", "2.0")
    assert browser.value("main [type=search]") == "2.0"  # what stood there was selected
    assert is_taken(browser, "/")
    for with_it in ({"ctrlKey": True}, {"altKey": True}, {"metaKey": True}, {"isComposing": True}, {"keyCode": 229}):
        assert not is_taken(browser, "/", **with_it), with_it
        assert not is_taken(browser, "?", **with_it), with_it
    assert not is_taken(browser, "?", css="select")
    browser.width(NARROW)  # where the head has no search
    browser.open("/")
    assert not is_taken(browser, "/")
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_shown("[data-picker-search]")
    browser.tab_to("tbody input")  # a box is ticked, not typed in
    browser.keys("/")
    assert has_focus(browser, "[data-picker-search]")


def test_a_question_mark_opens_the_list_and_closes_it(publisher_at, job):
    browser = publisher_at
    browser.open(f"/jobs/{job.pk}/")
    browser.tab_to(".tile")
    browser.keys("?")
    browser.wait_for("Go from tile to tile", LIST)
    browser.keys("/")
    assert has_focus(browser, "#keys button")
    browser.keys("?")
    browser.wait_hidden(LIST)
    assert has_focus(browser, ".tile")
    browser.keys("?")
    browser.ask("document.querySelector('.tile').replaceWith(document.querySelector('.tile').cloneNode(true))")
    browser.keys(Keys.ESCAPE)  # the tile was swapped, as a poll does it
    browser.wait_shown(".tile:focus")
    browser.click(OPENER)
    browser.press("Close")
    browser.wait_hidden(LIST)
    assert has_focus(browser, OPENER)
    browser.click(".menu summary")
    browser.keys(Keys.TAB, "?")
    browser.wait_shown(LIST)
    browser.keys("?")
    browser.wait_shown(".menu a:focus")


def test_the_keys_can_be_turned_off(publisher_at):
    browser = publisher_at
    browser.open("/")
    browser.keys("?")
    browser.click(f"{LIST} input")
    browser.press("Close")
    for _page in range(2):
        browser.wait_hidden("[data-keys-hint]")
        assert not is_taken(browser, "/")
        assert not is_taken(browser, "?")
        assert browser.words(OPENER) == "all keys"
        browser.open("/jobs/")
    browser.width(NARROW)  # as a page enlarged four times is, too
    browser.click(OPENER)
    browser.click(f"{LIST} input")
    browser.keys("?")  # from the box, which nobody types in
    browser.wait_hidden(LIST)
    browser.width(WIDE)
    browser.open("/")
    assert browser.words(".foot .keys") == "/ search\n? all keys"
    browser.keys("/")
    assert has_focus(browser, "[role=search] input")


def test_neither_a_browser_that_keeps_nothing_nor_one_without_scripts_is_wrong(publisher_at):
    browser = publisher_at
    keeps_nothing = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": keeps_nothing})
    browser.open("/")
    browser.keys("?")
    browser.click(f"{LIST} input")
    browser.keys(Keys.ESCAPE)
    browser.wait_hidden("[data-keys-hint]")
    assert not is_taken(browser, "/")
    browser.scripts(on=False)
    browser.open("/")
    assert browser.count(OPENER) == 1
    browser.wait_hidden(".keys")

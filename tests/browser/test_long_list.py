"""Choosing out of thousands of machines: few rows are drawn, and what is chosen is kept apart from them."""

import pytest
from selenium.webdriver.common.keys import Keys

from jobs.models import Listing
from releases.models import MachineRun
from tests.conftest import mark_fresh, rows
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SITES = {"bj-1": range(1, 1001), "sh-1": range(1001, 2501), "sh-2": range(2501, 3001)}


@pytest.fixture
def stage(publisher_at, payment, make_job, start, task_that):
    """A stage page of 3,000 machines at three sites; web-0005 is held and web-2999 has moved."""
    task_that()
    listed = [one for site, numbers in SITES.items() for one in rows(*(f"web-{n:04}" for n in numbers), site=site)]
    Listing.objects.take(payment, listed)
    machines = list(payment.machines.filter(listings__gone_at=None).order_by("hostname"))
    start(make_job("1.9", on=machines[4:5]), machines[4:5])
    job = make_job("2.0", on=machines)
    payment.machines.filter(hostname="web-2999").update(address="10.9.9.9")
    mark_fresh(payment)
    publisher_at.job = job
    publisher_at.open(f"/jobs/{job.pk}/stages/pre-release/")
    return publisher_at


def drawn(browser):
    return browser.ask("[...document.querySelectorAll('tr[data-hostname]')].map((row) => row.dataset.hostname)")


def selected(browser):
    return browser.words("[data-picker-selected]")


def test_few_rows_are_drawn_and_groups_select_all_the_same(stage):
    assert len(drawn(stage)) == 300
    assert stage.count("tr.group input") == len(SITES)
    stage.click("tr.group input[aria-label=sh-1]")
    assert selected(stage) == "1500 selected"
    assert "sh-1 1500" in stage.words(".sum")
    stage.press("Show more: 700 are not shown")
    assert len(drawn(stage)) == 600
    assert stage.ask("document.activeElement.closest('tr').dataset.hostname") == "web-0301"
    stage.type("[data-picker-search]", "web-12")
    assert drawn(stage) == [f"web-{n}" for n in range(1200, 1300)]
    assert "1400 of them hidden by the search" in stage.words(".sum")
    stage.type("[data-picker-search]", "web-125")
    stage.click("tr[data-hostname='web-1250'] input")
    stage.click("tr[data-hostname='web-1259'] input", shift=True)
    assert selected(stage) == "1490 selected"
    stage.type("[data-picker-search]", "web-1")
    stage.press("Selected 1490")
    assert drawn(stage)[0] == "web-1001"
    assert "web-1251" not in drawn(stage)


def show_more_groups(browser, left):
    """Far below what is in view, where Chromium has no innerText for `press` to find."""
    button = "[data-picker-more-groups]"
    assert browser.ask(f"document.querySelector('{button}').textContent") == f"Show more groups: {left} are not shown"
    browser.click(button)


def test_groups_beyond_the_first_are_told_and_drawn_on_a_click(browser, client, requester, payment):
    """Every machine has a serial number of its own, and some a second one of the same."""
    listed = rows(*(f"web-{n:03}" for n in range(1, 721)))
    for n, row in enumerate(listed):
        row.labels["serial"] = f"s-{min(n, 699)}"
    Listing.objects.take(payment, listed)
    mark_fresh(payment)
    browser.log_in(client, requester)
    browser.open("/jobs/new/")
    assert not browser.count("[data-picker-more-groups]")
    browser.ask(
        "((select) => { select.value = 'label:serial'; select.dispatchEvent(new Event('input', { bubbles: true })) })"
        "(document.querySelector('[data-picker-group]'))"
    )
    assert len(drawn(browser)) == 300
    show_more_groups(browser, 400)
    assert len(drawn(browser)) == 600
    assert browser.ask("document.activeElement.getAttribute('aria-label')") == "s-300"
    show_more_groups(browser, 100)
    assert len(drawn(browser)) == 720
    assert not browser.count("[data-picker-more-groups]")
    browser.type("[data-picker-search]", "s-69")
    assert len(drawn(browser)) == 31
    browser.type("[data-picker-search]", "web")
    assert len(drawn(browser)) == 300
    browser.press("Select the 720 found")
    assert selected(browser) == "720 selected"


def test_what_was_chosen_outlives_a_check_an_error_and_the_way_back(stage):
    stage.type("[data-picker-search]", "sh-2")
    stage.press("Select the 499 found")
    stage.type("[data-picker-search]", "web-0005")
    stage.click("tr[data-hostname='web-0005'] label input")
    stage.type("[data-picker-search]", "web-2999")
    stage.click("tr[data-hostname='web-2999'] label input")
    assert selected(stage) == "501 selected"
    stage.type("#id_batch_size", "many")
    stage.press("Check 501 machines")
    stage.wait_shown("#id_batch_size ~ .errorlist")
    wait_until(lambda: selected(stage) == "501 selected")
    stage.type("#id_batch_size", "100")
    stage.press("Check 501 machines")
    stage.wait_for("payment 2.0 goes to 501 machines")
    stage.driver.back()
    wait_until(lambda: selected(stage) == "501 selected")
    stage.type("[data-picker-search]", "web-2600")
    stage.click("tr[data-hostname='web-2600'] input")
    stage.press("Check 500 machines")
    stage.type("#id_typed_count", "500")
    stage.press("Start pre-release on 500 machines")
    wait_until(lambda: MachineRun.objects.in_job(stage.job).count() == 500)
    started = set(MachineRun.objects.in_job(stage.job).values_list("machine__hostname", flat=True))
    assert started == {"web-0005", *(f"web-{n}" for n in range(2501, 3001))} - {"web-2600"}


def test_thousands_are_pasted_by_their_ranges(stage):
    stage.press("Paste names")
    stage.type("[data-picker-paste-text]", "web-[0001-2000] web-[0007-0009] web-9999")
    assert stage.words("[data-picker-paste-blocked]") == "1 blocked\nweb-0005 (held)"
    assert stage.words("[data-picker-paste-missing]") == "1 not in the list\nweb-9999"
    stage.press("Add the 1999 found")
    assert selected(stage) == "1999 selected"
    assert stage.words("[data-picker-main]") == "Check 1999 machines →"


def test_without_scripts_enter_in_a_field_submits_and_turns_no_page(stage):
    stage.scripts(on=False)
    stage.driver.refresh()
    stage.click("tr[data-hostname='web-0002'] input")
    stage.type("[name=batch_size]", "7")
    stage.keys(Keys.ENTER)
    stage.wait_for("payment 2.0 goes to 1 machine")


def test_without_scripts_one_turns_pages(stage):
    stage.scripts(on=False)
    stage.driver.refresh()
    stage.click("tr[data-hostname='web-0002'] input")
    stage.click("button[name=list][value='2']")
    stage.wait_for("101–200 of 3000")
    stage.click("tr[data-hostname='web-0150'] input")
    stage.click("[data-picker-main]")
    stage.wait_for("payment 2.0 goes to 2 machines")
    assert "web-0002, web-0150" in stage.text

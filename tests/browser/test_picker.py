"""Choosing machines: search, groups, ranges, pasted names, and the plain boxes that are there without JavaScript."""

from dataclasses import replace

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from jobs.models import Business, Job, Listing, Membership
from jobs.rights import Role
from tests.browser.browser import NARROW
from tests.conftest import list_machines, mark_fresh, rows
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def picker(publisher_at, payment, make_job, start, task_that):
    """A stage page of 30 machines at two sites, of which web-05 is held."""
    task_that()
    sites = {"sh-1": range(1, 21), "bj-1": range(21, 31)}
    Listing.objects.take(
        payment, [row for site, numbers in sites.items() for row in rows(*(f"web-{n:02}" for n in numbers), site=site)]
    )
    mark_fresh(payment)
    machines = list(payment.machines.filter(listings__gone_at=None).order_by("hostname"))
    start(make_job("1.9", on=machines), [machines[4]])
    publisher_at.open(f"/jobs/{make_job('2.0', on=machines).pk}/stages/pre-release/")
    return publisher_at


def hostnames(browser, which):
    """Those of the rows for which the JavaScript expression `which` is true."""
    rows = "[...document.querySelectorAll('tr[data-hostname]')]"
    return browser.ask(f"{rows}.filter((row) => {which}).map((row) => row.dataset.hostname)")


def chosen(browser):
    return hostnames(browser, "row.querySelector('input').checked")


def test_search_and_select_what_was_found(picker):
    assert picker.value("[data-picker-main]", "disabled")
    picker.type("[data-picker-search]", "ｗｅｂ－０")
    picker.press("Select the 8 found")
    assert chosen(picker) == [f"web-{n:02}" for n in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert "8 selected" in picker.words(".sum")
    assert picker.words("[data-picker-main]") == "Check 8 machines →"
    picker.type("[data-picker-search]", "bj-1")
    assert "8 of them hidden by the search" in picker.words(".sum")
    picker.press("Clear")
    assert chosen(picker) == []
    assert picker.words("[data-picker-main]") == "Check machines →"
    picker.type("[data-picker-search]", "nothing like that")
    assert "No machine is found." in picker.words(".sum")


def test_what_a_search_and_a_step_come_to_is_told_to_who_cannot_see_it(picker):
    picker.type("[data-picker-search]", "nothing like that")
    assert "No machine is found." in picker.texts(".sum [aria-live]")
    picker.type("[data-picker-search]", "web-0")
    assert "No machine is found." not in picker.texts(".sum [aria-live]")
    picker.press("Select the 8 found")
    observer = "new MutationObserver(() => said++).observe(document.querySelector(arguments[0]), {childList: true})"
    picker.ask(f"(window.said = 0) || {observer}", "[data-picker-selected]")
    picker.type("[data-picker-search]", "web")
    assert picker.ask("said") == 0  # as many are selected as before
    picker.tab_to("[data-picker-clear]")
    picker.keys(Keys.ENTER)
    assert picker.ask("document.activeElement.id") == "picked"  # the button is gone
    picker.press("Paste names")
    picker.type("[data-picker-paste-text]", "web-99 ")
    picker.ask(f"(window.said = 0) || {observer}", "[data-picker-paste-missing] code")
    picker.keys("  ")
    assert picker.ask("said") == 0  # what is missing is what it was


def group_box(browser, name):
    """The state of a group's box: none, some or all."""
    box = f"document.querySelector('tr.group input[aria-label={name}]')"
    return browser.ask(f"{box}.indeterminate ? 'some' : {box}.checked ? 'all' : 'none'")


def test_a_group_is_none_some_or_all(picker):
    assert group_box(picker, "bj-1") == "none"
    picker.click("tr[data-hostname=web-21] input")
    assert group_box(picker, "bj-1") == "some"
    picker.click("tr.group input[aria-label=bj-1]")
    assert group_box(picker, "bj-1") == "all"
    assert chosen(picker) == [f"web-{n}" for n in range(21, 31)]
    assert "bj-1 10" in picker.words(".sum")
    assert group_box(picker, "sh-1") == "none"
    picker.click("tr.group input[aria-label=bj-1]")
    assert chosen(picker) == []


def test_shift_selects_a_range_without_the_held(picker):
    picker.click("tr[data-hostname=web-03] input")
    picker.click("tr[data-hostname=web-07] input", shift=True)
    assert chosen(picker) == ["web-03", "web-04", "web-06", "web-07"]
    picker.click("tr[data-hostname=web-04] input", shift=True)
    assert chosen(picker) == ["web-03"]


def test_shift_selects_a_range_by_names_and_by_keys_too(picker):
    """A name that was clicked with it only got selected; Firefox does not tell it of the click that a key makes."""
    picker.ask("document.querySelector('tr[data-hostname=web-03]').scrollIntoView() || 1")
    picker.click("tr[data-hostname=web-03] label")
    picker.click("tr[data-hostname=web-06] label", shift=True)
    assert chosen(picker) == ["web-03", "web-04", "web-06"]
    assert picker.ask("getSelection().toString()") == ""
    hide = "document.addEventListener('click', (it) => Object.defineProperty(it, 'shiftKey', {value: false}), true)"
    picker.ask(f"{hide} || 1")
    picker.ask("document.querySelector('tr[data-hostname=web-08] input').focus() || 1")
    ActionChains(picker.driver).key_down(Keys.SHIFT).send_keys(Keys.SPACE).key_up(Keys.SHIFT).perform()
    assert chosen(picker) == ["web-03", "web-04", "web-06", "web-07", "web-08"]


def test_shift_that_led_back_to_a_box_selects_no_range(picker):
    """A screen reader clicks without a key or a mouse button that the page would be told of."""
    picker.click("tr[data-hostname=web-01] input")
    picker.ask("document.querySelector('tr[data-hostname=web-04] input').focus() || 1")
    ActionChains(picker.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    picker.ask("document.activeElement.click() || 1")
    assert chosen(picker) == ["web-01", "web-03"]


def test_pasted_names_are_found_blocked_or_unknown(picker):
    picker.press("Paste names")
    picker.type("[data-picker-paste-text]", "web-[04-05]，web-０6、10.0.0.20\nweb-99")
    assert picker.words("[data-picker-paste-blocked]") == "1 blocked\nweb-05 (held)"
    assert picker.words("[data-picker-paste-missing]") == "1 not in the list\nweb-99"
    picker.press("Add the 3 found")
    assert chosen(picker) == ["web-04", "web-06", "web-20"]


def test_names_are_pasted_with_the_quotes_of_a_csv_file_and_what_a_chat_puts_between(picker):
    picker.press("Paste names")
    picker.type("[data-picker-paste-text]", '"web-04","web-06"\n“web-08”，\'web-10\'\u200bweb-12')
    picker.press("Add the 5 found")
    assert chosen(picker) == ["web-04", "web-06", "web-08", "web-10", "web-12"]
    picker.wait_hidden("[data-picker-paste-missing]")


def test_a_pasted_name_that_several_machines_have_is_ambiguous(browser, client, requester, payment):
    Listing.objects.take(payment, rows("web.bj-1", "web.sh-2", "db.sh-3"))
    mark_fresh(payment)
    browser.log_in(client, requester)
    browser.open("/jobs/new/")
    browser.press("Paste names")
    browser.type("[data-picker-paste-text]", "web DB")
    assert browser.words("[data-picker-paste-ambiguous]") == "1 ambiguous\nweb (web.bj-1 / web.sh-2)"
    browser.press("Add the 1 found")
    assert chosen(browser) == ["db.sh-3"]


def test_a_pasted_name_is_first_a_whole_one_then_an_address_then_a_short_one(browser, client, requester, payment):
    listed = rows("web-1", "web-1.example.com", "db-2.example.com", "db-3.example.com", "db-3.example.org")
    addresses = ["10.0.0.1", "db-2", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
    Listing.objects.take(
        payment, [replace(row, address=address) for row, address in zip(listed, addresses, strict=True)]
    )
    mark_fresh(payment)
    browser.log_in(client, requester)
    browser.open("/jobs/new/")
    browser.press("Paste names")
    browser.type("[data-picker-paste-text]", "WEB-1 db-3")
    assert browser.words("[data-picker-paste-ambiguous]") == "1 ambiguous\ndb-3 (db-3.example.com / db-3.example.org)"
    browser.press("Add the 1 found")
    assert chosen(browser) == ["web-1"]
    browser.type("[data-picker-paste-text]", "db-2 web-1.example.com")
    browser.press("Add the 1 found")
    assert chosen(browser) == ["web-1", "web-1.example.com"]


def test_a_name_or_address_may_be_pasted_with_its_port(browser, client, requester, payment):
    """As the portal itself writes a machine's place, and logs and inventories do."""
    addresses = {
        "a": "10.0.0.5",
        "b": "10.0.0.6",
        "c": "10.0.0.6",
        "d": "2001:db8::5",
        "e": "2001:db8::6",
        "f": "10.0.0.9",
    }
    ports = {"c": 2222, "f": 2200}
    listed = [
        replace(row, address=addresses[row.hostname], port=ports.get(row.hostname, 22)) for row in rows(*addresses)
    ]
    Listing.objects.take(payment, listed)
    mark_fresh(payment)
    browser.log_in(client, requester)
    browser.open("/jobs/new/")
    browser.press("Paste names")
    browser.type("[data-picker-paste-text]", "10.0.0.5:22 10.0.0.6:2222 [2001:DB8::5]:22 [2001:db8::6] F:2200")
    browser.press("Add the 5 found")
    assert chosen(browser) == ["a", "c", "d", "e", "f"]
    browser.type("[data-picker-paste-text]", "10.0.0.5:2222 b:023 f:22 2001:db8::5:22 10.0.0.6")
    missing = "10.0.0.5:2222, b:023, f:22, 2001:db8::5:22"
    assert browser.words("[data-picker-paste-missing]") == f"4 not in the list\n{missing}"
    assert browser.words("[data-picker-paste-ambiguous]") == "1 ambiguous\n10.0.0.6 (b / c)"


def test_the_blocked_can_be_looked_at_alone(picker):
    picker.press("Blocked 1")
    assert hostnames(picker, "row.offsetParent") == ["web-05"]
    picker.wait_for("payment 1.9, publisher, since ", "tr[data-hostname=web-05]")  # once it is drawn
    assert picker.value("tr[data-hostname=web-05] input", "disabled")


def test_the_site_is_offered_once_though_it_is_a_label_too(picker):
    groups = picker.ask("[...document.querySelector('[data-picker-group]').options].map((it) => it.text)")
    assert groups == ["Group by site", "No groups"]


@pytest.mark.parametrize("label", ["constructor", "__proto__", "toString"])
def test_a_label_may_be_named_like_what_every_object_has(browser, client, requester, payment, label):
    listed = rows("web-1", "web-2", "web-3")
    listed[0].labels[label] = "blue"
    Listing.objects.take(payment, listed)
    mark_fresh(payment)
    browser.log_in(client, requester)
    browser.open("/jobs/new/")
    browser.choose("[data-picker-group]", f"Group by {label}")
    names = "[...document.querySelectorAll('tr.group [data-group-name]')].map((it) => it.textContent)"
    wait_until(lambda: browser.ask(names) == ["–", "blue"])
    browser.type("[data-picker-search]", f"{label}=blue")
    assert hostnames(browser, "true") == ["web-1"]


def test_a_long_version_leaves_a_phone_room_for_the_host_name(publisher_at, make_job, start, finish, machines, payment):
    start(make_job("1." + "0" * 60, on=machines), machines[:1])
    finish()
    publisher_at.width(NARROW)
    publisher_at.open(f"/jobs/{make_job('2.0').pk}/stages/pre-release/")
    assert publisher_at.value("tr[data-hostname=pay-1] label code", "offsetHeight") < 30


def test_it_works_without_scripts(picker):
    picker.scripts(on=False)
    picker.driver.refresh()
    assert not picker.count("tr.group")
    for hostname in ("web-01", "web-30"):
        picker.click(f"tr[data-hostname={hostname}] input")
    picker.click("[data-picker-main]")
    picker.wait_for("payment 2.0 goes to 2 machines")
    picker.click("button[value=start]")
    picker.wait_for("2 waiting", "#live .counts")


def test_what_was_ticked_before_the_scripts_came_stays_chosen(picker):
    waits = "addEventListener('DOMContentLoaded', (event) => window.late || event.stopImmediatePropagation(), true)"
    picker.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": waits})
    picker.driver.refresh()
    assert not picker.count("tr.group")
    picker.click("tr[data-hostname=web-30] input")
    picker.click("tr[data-hostname=web-05] label")
    picker.ask("(window.late = true) && document.dispatchEvent(new Event('DOMContentLoaded'))")
    assert chosen(picker) == ["web-30"]
    assert picker.words("[data-picker-main]") == "Check 1 machine →"


def test_from_twenty_machines_on_their_number_is_typed(picker):
    picker.type("[data-picker-search]", "sh-1")
    picker.press("Select the 19 found")
    picker.type("[name=batch_size]", "5")
    picker.click("[name=canary]")
    picker.type("[name=remark]", "before the weekend")
    for way in (picker.driver.forward, picker.driver.refresh):
        picker.press("Check 19 machines")
        picker.wait_for("payment 2.0 goes to 19 machines")
        if way == picker.driver.forward:
            picker.driver.back()
            picker.wait_shown("[data-picker-main]")
        way()
        picker.wait_hidden("#start")
        picker.wait_for("Check 19 machines", "[data-picker-main]")
        assert picker.value("[name=batch_size]") == "5"
        assert picker.value("[name=canary]", "checked")
        assert picker.value("[name=remark]") == "before the weekend"
    picker.press("Check 19 machines")
    picker.wait_for("payment 2.0 goes to 19 machines")
    assert not picker.count("#id_typed_count")
    picker.press("← Back to choosing")
    picker.wait_for("Check 19 machines")
    assert picker.value("[name=remark]") == "before the weekend"
    picker.type("[data-picker-search]", "web")
    picker.press("Select the 29 found")
    picker.press("Check 29 machines")
    picker.wait_for("Type the number of machines, 29, to start")
    assert picker.value("#id_typed_count") == ""
    picker.type("#id_typed_count", "30")
    picker.press("Start pre-release on 29 machines")
    picker.wait_for("29 machines are chosen; type that number.")
    picker.type("#id_typed_count", "29\n")
    picker.wait_for("29 waiting", "#live .counts")


def test_what_was_refused_is_still_there_after_reload_and_back(picker):
    """Where Chromium would ask whether to send it again, or have an error page."""
    picker.type("[data-picker-search]", "bj-1")
    picker.press("Select the 10 found")
    picker.type("[name=batch_size]", "many")
    picker.type("[name=remark]", "before the weekend")
    picker.press("Check 10 machines")
    picker.wait_for("Write a number such as 10")
    picker.driver.refresh()
    picker.wait_for("Check 10 machines", "[data-picker-main]")
    assert picker.value("[name=remark]") == "before the weekend"
    picker.open("/jobs/")
    picker.driver.back()
    picker.wait_for("Check 10 machines", "[data-picker-main]")
    assert picker.value("[name=batch_size]") == "many"


def test_boxes_that_are_emptied_for_who_comes_back_say_again_what_is_chosen(picker):
    """Safari keeps the page, and empties what has autocomplete="off" once it is shown again."""
    picker.press("Select the 29 found")
    picker.type("[data-picker-search]", "bj-1")
    reset = "document.querySelector('[data-picker]').form.reset()"
    picker.ask(f"dispatchEvent(new PageTransitionEvent('pageshow', {{persisted: true}})) && {reset}")
    wait_until(lambda: len(chosen(picker)) == 29)
    assert picker.words("[data-picker-main]") == "Check 29 machines →"


def test_a_job_form_without_machines_has_nothing_to_pick(browser, client, requester, payment):
    Listing.objects.take(payment, [])
    mark_fresh(payment)
    browser.log_in(client, requester)
    browser.open("/jobs/new/")
    assert "The config service gives no machines for Payment." in browser.text
    assert not browser.count("[data-picker]")


def test_another_business_is_chosen_with_everything_typed_kept(browser, client, requester, payment, orders):
    """More than an address could carry; its machines are the other's."""
    Membership.objects.create(user=requester, business=orders, role=Role.REQUESTER)
    list_machines(payment, "pay-1")
    list_machines(orders, "orders-1")
    typed = {"title": "支付", "version": "2.0", "remark": "很长的说明" * 200}
    typed |= {"plan_pre_release": "1", "plan_gray_release": "10 %"}
    browser.log_in(client, requester)
    browser.open("/jobs/new/?business=payment")
    for name, words in typed.items():
        browser.ask(f"document.getElementById('id_{name}').value = arguments[0]", words)
    browser.choose("#id_business", "Orders")
    wait_until(lambda: hostnames(browser, "true") == ["orders-1"])
    assert len(browser.path) < 100
    shown = {name: browser.ask(f"document.getElementById('id_{name}').value") for name in typed}
    assert shown == typed
    assert browser.ask("document.activeElement.id") == "id_business"
    browser.open("/jobs/new/?business=payment")
    assert browser.ask("document.getElementById('id_title').value") == ""


def test_who_goes_back_from_another_business_finds_the_one_that_the_list_is_of(
    browser, client, requester, payment, orders
):
    Membership.objects.create(user=requester, business=orders, role=Role.REQUESTER)
    list_machines(payment, "pay-1")
    list_machines(orders, "orders-1")
    browser.log_in(client, requester)
    browser.open("/jobs/new/?business=payment")
    browser.choose("#id_business", "Orders")
    wait_until(lambda: hostnames(browser, "true") == ["orders-1"])
    browser.driver.back()
    wait_until(lambda: hostnames(browser, "true") == ["pay-1"])
    business = "document.getElementById('id_business')"
    assert browser.ask(f"{business}.selectedOptions[0].text") == "Payment"
    # Safari keeps what led away, whatever autocomplete says.
    browser.ask(f"({business}.value = '{orders.pk}') && dispatchEvent(new Event('pageshow'))")
    assert browser.ask(f"{business}.selectedOptions[0].text") == "Payment"


def test_a_remark_goes_along_with_who_reloads_a_check_that_asks_for_it(publisher_at, job, machines, payment, task_that):
    """While the config service is down the check has the remark itself."""
    browser = publisher_at
    task_that()
    Business.objects.filter(pk=payment.pk).update(sync_error="It is down.")
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.type("#id_remark", "prod is down")
    browser.click("tr[data-hostname=pay-1] input")
    browser.press("Check 1 machine")
    browser.wait_for("Check before it starts")
    assert browser.value("textarea#id_remark") == "prod is down"
    browser.driver.refresh()  # which gets the form that led to it
    browser.wait_for("Check 1 machine", "[data-picker-main]")
    assert browser.value("#id_remark") == "prod is down"


def test_who_comes_back_to_an_edit_finds_what_somebody_else_saved_meanwhile(
    browser, client, requester, ops, make_job, machines
):
    job = make_job(on=machines[:3])
    browser.log_in(client, requester)
    browser.open(f"/jobs/{job.pk}/edit/")
    browser.click("tr[data-hostname=pay-4] input")
    wait_until(lambda: browser.ask("history.state?.machines?.machines"))
    browser.driver.refresh()
    wait_until(lambda: chosen(browser) == ["pay-1", "pay-2", "pay-3", "pay-4"])
    job.edit(ops, machines[4:])
    browser.open(f"/jobs/{job.pk}/")
    browser.driver.back()
    wait_until(lambda: chosen(browser) == ["pay-5", "pay-6"], patience=30)


def test_who_comes_back_to_a_form_that_made_a_job_is_told_so(browser, client, requester, payment):
    list_machines(payment, "pay-1", "pay-2")
    browser.expected = ["409 (Conflict)"]
    browser.log_in(client, requester)
    browser.open("/jobs/new/")
    browser.type("#id_title", "Checkout fix")
    browser.type("#id_version", "2.0")
    browser.click("tr[data-hostname=pay-1] input")
    browser.press("Ask for approval")
    browser.wait_for("payment 2.0", "h1")
    browser.driver.back()
    wait_until(lambda: browser.value("#id_title") == "Checkout fix")
    browser.type("#id_version", "2.1")
    browser.press("Ask for approval")
    browser.wait_for("This form already made #")
    assert browser.value("#id_version") == "2.1"
    assert chosen(browser) == ["pay-1"]
    assert Job.objects.count() == 1
    browser.press("Ask for approval")
    browser.wait_for("payment 2.1", "h1")

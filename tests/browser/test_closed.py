"""The admin and the page of a limit work under the policy that forbids inline scripts and styles, and fit."""

from datetime import timedelta

import pytest

from tests.browser.browser import NARROW, WIDE
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_admin_s_autocomplete_works(browser, client, ops, payment, requester):
    browser.log_in(client, ops)
    browser.open(f"/admin/jobs/business/{payment.pk}/change/")
    browser.click(".field-user .select2-selection")
    assert wait_until(lambda: "requester" in browser.texts(".select2-results__option"))


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_the_button_of_the_admin_s_actions_is_not_cut(browser, client, ops, payment, width):
    browser.log_in(client, ops)
    browser.width(width)
    browser.open("/admin/jobs/business/")
    right = "document.querySelector({!r}).getBoundingClientRect().right"
    assert browser.ask(f"{right.format('.actions .button')} < {right.format('.changelist-form-container')}")


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_was_typed_is_sent_again_from_the_page_of_a_limit(
    browser, client, settings, requester, make_job, width, scheme, monkeypatch
):
    settings.WRITES_PER_MINUTE = 1
    monkeypatch.setattr("deploy_portal.quota.WINDOW", timedelta(hours=1))  # a slow browser may take a minute
    job = make_job(approved=False)
    browser.expected = ["429 (Too Many Requests)"]
    browser.log_in(client, requester)
    client.post(f"/jobs/{job.pk}/withdraw/", {"reason": ""})
    browser.width(width)
    browser.scheme(scheme)
    browser.open(f"/jobs/{job.pk}/")
    browser.open(f"/jobs/{job.pk}/edit/")
    browser.type("#id_title", "another title")
    browser.click("main button[type=submit], main button.main")
    browser.wait_for("Nothing was changed")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    settings.WRITES_PER_MINUTE = 0
    browser.press("Send it again")
    browser.wait_for("another title")

"""Every page, in both languages, by day and by night, on a phone: nothing sticks out at its side."""

from dataclasses import replace

import pytest

from deploy_portal.templatetags.portal import STATUS_WORDS
from jobs.models import Business, Event, Listing
from releases.models import ReleaseStage
from tests.browser.browser import NARROW, WIDE
from tests.conftest import mark_fresh, rows
from tests.freezes import freeze_now
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LONG = "a-host-name-as-long-as-some-companies-make-them-001.pre-production.east-2.example.com"


def test_the_language_is_switched_where_one_is(publisher_at, job):
    browser = publisher_at
    browser.open(f"/jobs/{job.pk}/?page=1")
    browser.press("中文")
    browser.wait_for("工单")
    assert browser.path == f"/jobs/{job.pk}/?page=1"
    assert browser.ask("document.documentElement.lang") == "zh-hans"
    browser.press("English")
    browser.wait_for("Jobs")
    assert browser.path == f"/jobs/{job.pk}/?page=1"


@pytest.fixture
def paths(payment, orders, make_job, start, finish, publisher):
    """The path of every page, with jobs in every state, long words and many machines."""
    names = [LONG, *(f"pay-web-{n:03}" for n in range(1, 45))]
    Listing.objects.take(payment, [row for i in range(4) for row in rows(*names[i::4], site=f"site-{i}")])
    mark_fresh(payment)
    machines = list(payment.machines.filter(listings__gone_at=None).order_by("hostname"))
    waiting = make_job("1." + "0" * 40, on=machines, approved=False, title="long " * 30, remark="W" * 300)
    withdrawn = make_job("1.1", on=machines, approved=False)
    withdrawn.withdraw(waiting.requester, "no " * 100)
    released = make_job("1.2", on=machines[:3])
    start(released, machines[:3])
    finish()
    failed = make_job("2." + "1" * 40, on=machines)
    start(failed, machines[:30], batch_size=10, remark="R" * 200)
    finish("failed", on=[LONG, "pay-web-003"], exit_status=1)
    skipped = make_job("2.2", on=machines[40:])
    ReleaseStage.objects.of_kind(skipped, "pre-release").skip(publisher, "few")
    running = make_job("3.0", on=machines)
    start(running, machines[30:])
    run = running.stages.get(kind="pre-release").runs.get()
    run.pause(publisher, "a moment")
    one = failed.stages.get(kind="pre-release").runs.get().machine_runs.get(machine__hostname=LONG)
    jobs = [waiting, withdrawn, released, failed, skipped, running]
    stages = [(job, kind) for job in (released, failed, skipped, running) for kind in ("pre-release", "gray-release")]
    return [
        *["/", "/jobs/", "/jobs/new/?business=payment", "/jobs/4711/"],
        *(f"/jobs/{job.pk}/" for job in jobs),
        *(f"/jobs/{job.pk}/stages/{kind}/" for job, kind in stages),
        *(f"/jobs/{failed.pk}/{page}/" for page in ("rollback", "stages/pre-release/rollback")),
        f"/jobs/{failed.pk}/machine-runs/{one.pk}/",
        f"/jobs/{failed.pk}/stages/pre-release/?retry=failed",
        f"/jobs/{failed.pk}/excuse/",
        f"/jobs/{running.pk}/runs/{run.pk}/cancel/",
    ]


def too_wide(browser, width=NARROW):
    """How the page as it is fails, in words."""
    found = []
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        if (wide := browser.ask("document.documentElement.scrollWidth")) > width:
            found.append(f"{browser.path} is {wide} wide in {scheme}")
    return found


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_no_page_is_wider_than_a_phone(publisher_at, paths, language):
    browser = publisher_at
    browser.expected = ["404 (Not Found)"]
    browser.width(NARROW)
    browser.speak(language)
    found = []
    for path in paths:
        browser.open(path)
        assert browser.ask("document.documentElement.lang") == language
        found += too_wide(browser)
    assert found == []


def test_nor_is_one_widened_by_the_longest_words_that_there_can_be(publisher_at, payment, make_job, start, finish):
    longest = ".".join(letter * 60 for letter in "abcd")
    [row] = rows(longest, site="s" * 255)
    Listing.objects.take(payment, [replace(row, address=longest)])
    mark_fresh(payment)
    [machine] = payment.machines.filter(hostname=longest)
    for version in ("1" * 64, "2" * 64):
        job = make_job(version, on=[machine], title="https://" + "t" * 192)
        machine_run = start(job, [machine]).machine_runs.get()
        finish()
    of_job = [f"/jobs/{job.pk}/{of}" for of in ("", "stages/pre-release/", f"machine-runs/{machine_run.pk}/")]
    found = []
    for width in (WIDE, NARROW):
        publisher_at.width(width)
        for path in ("/", "/jobs/", "/machines/", f"/machines/{machine.pk}/", *of_job):
            publisher_at.open(path)
            found += too_wide(publisher_at, width)
    assert found == []


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_nor_are_the_pages_before_one_is_in(browser, client, publisher, job, orders, language):
    browser.expected = ["403 (Forbidden)", "429 (Too Many Requests)"]
    browser.width(NARROW)
    browser.speak(language)
    browser.open("/login/")
    found = []
    for _try in range(6):
        if browser.count("#id_username"):
            browser.type("#id_username", "who." + "x" * 100)
            browser.type("#id_password", "wrong")
            browser.ask("window.tried = true")
            browser.click("button.main")
            wait_until(lambda: browser.ask("!window.tried && document.readyState === 'complete'"))
        found += too_wide(browser)
    assert not browser.count("#id_username")  # locked out
    assert found == []


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_box_to_tick_stands_beside_its_words(browser, client, ops, width):
    browser.log_in(client, ops)
    browser.width(width)
    browser.open("/stop/")
    tops = browser.ask("[...document.querySelectorAll('.field.check > *')].map((it) => it.getBoundingClientRect().top)")
    assert abs(tops[0] - tops[1]) < 5


def test_whose_a_freeze_is_stands_in_one_line_on_a_phone(publisher_at, ops, payment):
    payment.name = "支付业务线"
    payment.save()
    freeze_now(ops, payment)
    publisher_at.width(NARROW)
    publisher_at.open("/")
    name = "document.querySelector('.note p b')"
    assert publisher_at.ask(f"{name}.offsetHeight < 1.5 * parseFloat(getComputedStyle({name}).lineHeight)")


def test_the_link_to_a_log_is_one_line_in_chinese(browser, client, ops, job, start, finish, machines):
    """Also where the reasons in a column before it want all the room."""
    start(job, machines, batch_size=1, failure_budget=1)
    finish("failed", on=["pay-1"])
    browser.width(1100)
    browser.log_in(client, ops)
    browser.speak("zh-hans")
    browser.open(f"/admin/releases/run/{job.stages.get(kind='pre-release').runs.get().pk}/change/")
    lines = browser.ask("[...document.querySelectorAll('.field-log a')].map((link) => link.getClientRects().length)")
    assert lines == [1] * 6


def test_a_word_of_the_events_is_one_line_in_chinese(browser, client, ops, job, start, machines):
    """Also on a phone."""
    start(job, machines)
    browser.width(NARROW)
    browser.log_in(client, ops)
    browser.speak("zh-hans")
    browser.open("/admin/jobs/event/")
    words = "document.querySelectorAll('.field-verb_and_state, .field-job_and_stage div')"
    select = "(it) => { const text = new Range(); text.selectNodeContents(it.firstChild); return text; }"
    lines = browser.ask(f"[...{words}].map({select}).map((text) => text.getClientRects().length)")
    assert set(lines) == {1}


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_events_fit_and_name_a_job_in_one_line(browser, client, ops, publisher, job, width):
    """Why was out of sight, and a job of three words took three lines."""
    because = "5xx rate went up to 3 % on pay-web-003 and pay-web-004, see the chat of those on call"
    job.record(Event.Verb.ROLLED_BACK, publisher, because, "released", "rolled_back", stage="gray-release")
    Event.objects.tell(ops, Event.Verb.ADDED, "user li.wei.the.second@a-long-name.example.com")
    browser.log_in(client, ops)
    browser.width(width)
    browser.open("/admin/jobs/event/")
    table = "document.querySelector('#changelist .results')"
    assert browser.ask(f"{table}.scrollWidth - {table}.clientWidth") == 0
    select = "(it) => { const text = new Range(); text.selectNodeContents(it.firstChild); return text; }"
    names = "[...document.querySelectorAll('.field-job_and_stage')].filter((it) => it.innerText.startsWith('#'))"
    assert set(browser.ask(f"{names}.map({select}).map((text) => text.getClientRects().length)")) == {1}


def test_every_state_has_its_icon_in_the_admin(browser, client, ops, job):
    for status in STATUS_WORDS:
        job.record(Event.Verb.CHANGED, ops, became=status)
    browser.log_in(client, ops)
    browser.open("/admin/jobs/event/")
    icon = "getComputedStyle(it, '::before').maskImage"
    found = browser.ask(
        f"[...document.querySelectorAll('.field-verb_and_state .status')].map((it) => [it.className, {icon}])"
    )
    assert {f"status {status}" for status in STATUS_WORDS} <= {name for name, _icon in found}
    assert [name for name, icon in found if icon == "none"] == []


def test_a_plain_no_is_not_red_in_the_admin(browser, client, ops, job, start, machines):
    run = start(job, machines)
    browser.log_in(client, ops)
    for page in ("", f"{run.pk}/change/"):
        browser.open(f"/admin/releases/run/{page}")
        filters = "[...document.querySelectorAll('img[src*=\"/icon-\"]')].map((it) => getComputedStyle(it).filter)"
        assert set(browser.ask(filters)) == {"grayscale(1)"}


def test_the_members_of_a_business_fit_on_a_phone(browser, client, ops, payment, publisher):
    browser.log_in(client, ops)
    browser.width(400)  # on a narrower one the table is scrolled, and not the page
    browser.open(f"/admin/jobs/business/{payment.pk}/change/")
    browser.wait_shown(".field-user .select2-container")
    inline = "document.querySelector('.inline-group fieldset.module')"
    assert browser.ask(f"{inline}.scrollWidth - {inline}.clientWidth") == 0


def test_the_filters_of_the_admin_are_as_high_as_they_need_on_a_phone(browser, client, ops, release_task):
    """Safari cut off what was higher than they are wide beside a list."""
    browser.log_in(client, ops)
    browser.width(NARROW)
    browser.open("/admin/releases/task/")
    browser.wait_for("By used for", "#changelist-filter")
    assert browser.ask("getComputedStyle(document.querySelector('#changelist-filter')).flexBasis") == "auto"


def test_of_many_businesses_the_filter_stays_short_and_shows_the_chosen_one(browser, client, ops):
    made = Business.objects.bulk_create(Business(name=f"Business {n:03}", slug=f"b-{n}") for n in range(300))
    browser.log_in(client, ops)
    browser.open(f"/admin/jobs/job/?business__id__exact={made[250].pk}")
    browser.wait_for("Business 250", "#changelist-filter")
    assert browser.ask("document.querySelector('#changelist-filter').offsetHeight") < 1200
    box = "document.querySelector('#changelist-filter ul').getBoundingClientRect()"
    chosen = "document.querySelector('#changelist-filter li.selected').getBoundingClientRect()"
    assert browser.ask(f"{box}.bottom - {chosen}.bottom") >= 0


def test_a_state_is_seen_in_the_colours_of_the_reader_and_in_print(publisher_at, job, machines, start, finish):
    """A page's own backgrounds are left out there, and an icon or a tile of a long list is nothing else."""
    start(job, machines)
    finish("failed", on=["pay-1"])
    browser = publisher_at
    features = [{"name": "forced-colors", "value": "active"}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    style = "getComputedStyle(document.querySelector(arguments[0]), arguments[1])"
    backgrounds = {browser.ask(f"{style}.backgroundColor", css, "") for css in ("body", "a.failed", "a.succeeded")}
    assert len(backgrounds) == 3
    icon = browser.ask(f"{style}.backgroundColor", ".counts .failed", "::before")
    assert icon == browser.ask(f"{style}.color", "body", "")
    for css, part in (("a.failed", ""), ("a.failed", "::before"), (".counts .failed", "::before")):
        assert browser.ask(f"{style}.getPropertyValue('-webkit-print-color-adjust')", css, part) == "exact"

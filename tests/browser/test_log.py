"""The log beside a run: it opens with a tile, grows by itself, follows its end, and is searched."""

from threading import Event

import pytest

from releases.models import LogBlock, MachineRun, Worker
from releases.views import machine_run as view
from tests.waiting import PATIENCE, wait_until
from tests.workers import begin, end

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

TALK = [f"say line {number}" for number in range(60)]


def open_run(browser, job):
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_shown("#log-pane .lines")


def lines(browser):
    return browser.ask("[...document.querySelectorAll('.lines code')].map((it) => it.textContent)")


def at_end(browser):
    pane = "document.querySelector('.lines')"
    return browser.ask(f"{pane}.scrollTop + {pane}.clientHeight >= {pane}.scrollHeight - 4")


def test_it_grows_and_follows_to_its_end(publisher_at, publisher, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that(*TALK, "sleep 500")
    run = start(job, machines[:2])
    machine_run = run.machine_runs.get(machine=machines[0])
    open_run(browser, job)
    browser.ask("window.notReloaded = true")
    wait_until(lambda: lines(browser)[-1:] == ["line 59"])
    wait_until(lambda: at_end(browser))
    write(machine_run, 100, "out", "the end\n")
    wait_until(lambda: lines(browser)[-1] == "the end")
    wait_until(lambda: at_end(browser))
    assert len(lines(browser)) == 61
    browser.ask("document.querySelector('.lines').scrollTop = 0")
    wait_until(lambda: not browser.value("[data-log-follow]", "checked"))
    run.cancel(publisher)
    browser.wait_hidden("[data-log-follow]")
    assert browser.ask("window.notReloaded")


def test_a_tile_opens_its_log_and_stays_marked(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that("say hello", "sleep 500")
    start(job, machines[:2])
    open_run(browser, job)
    assert browser.words("#log-pane h2") == "pay-1"
    tile = f"#tile-{machines[1].pk}"
    browser.click(tile)
    browser.wait_for("pay-2", "#log-pane h2")
    assert browser.ask("document.querySelector('body > [role=status]').textContent").startswith("pay-2: ")
    wait_until(lambda: lines(browser) == ["hello"])
    browser.wait_for("2 running", "#live .counts")
    shown = "[...document.querySelectorAll('.tile[aria-current]')].map((it) => '#' + it.id)"
    wait_until(lambda: browser.ask(shown) == [tile])


def test_of_two_logs_the_one_asked_for_last_is_shown_though_the_other_comes_later(
    publisher_at, job, machines, start, monkeypatch
):
    browser = publisher_at
    browser.expected = ["htmx:"]  # it tells of what is called off as of an error
    start(job, machines)
    open_run(browser, job)
    show, go_on, shown = view._show, Event(), Event()

    def late(request, machine_run, *args, **context):
        response = show(request, machine_run, *args, **context)
        if machine_run.machine == machines[1]:
            go_on.wait(PATIENCE)
            shown.set()
        return response

    monkeypatch.setattr(view, "_show", late)
    for machine in machines[1:3]:
        browser.click(f"#tile-{machine.pk}")
    browser.wait_for("pay-3", "#log-pane h2")
    go_on.set()
    assert shown.wait(PATIENCE)
    browser.ask("document.querySelector('#live').swapped = false")
    wait_until(lambda: browser.ask("document.querySelector('#live').swapped === undefined"))
    assert browser.words("#log-pane h2") == "pay-3"


def test_what_only_a_script_does_is_not_offered_without(publisher_at, job, machines, start, finish):
    browser = publisher_at
    machine_run = start(job, machines[:1]).machine_runs.get()
    browser.scripts(on=False)
    browser.open(f"/jobs/{job.pk}/machine-runs/{machine_run.pk}/")
    browser.wait_shown("[data-log-wrap]")
    browser.wait_hidden(".log .tools input[type=search], .log .tools button")
    assert "Without scripts this page does not renew itself" in browser.text
    finish()
    browser.driver.refresh()
    assert "Without scripts" not in browser.text


def test_a_tile_leads_to_its_log_where_htmx_did_not_come(publisher_at, job, machines, start, finish):
    browser = publisher_at
    machine_run = start(job, machines[:1]).machine_runs.get()
    finish()
    browser.expected = ["ERR_BLOCKED_BY_CLIENT"]
    browser.block("*/htmx*")
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.click(f"#tile-{machines[0].pk}")
    wait_until(lambda: browser.path == f"/jobs/{job.pk}/machine-runs/{machine_run.pk}/")


def test_it_goes_on_after_the_connection_was_lost(publisher_at, job, machines, start):
    browser = publisher_at
    machine_run = start(job, machines[:1]).machine_runs.get()
    write(machine_run, 1, "out", "before\n")
    browser.expected = ["ERR_BLOCKED_BY_CLIENT", "htmx:"]
    open_run(browser, job)
    wait_until(lambda: lines(browser) == ["before"])
    browser.ask("(window.failed = 0) || document.addEventListener('htmx:sendError', () => failed++)")
    browser.block("*/log/*")
    wait_until(lambda: browser.ask("failed"))
    write(machine_run, 2, "out", "after\n")
    browser.block()
    wait_until(lambda: lines(browser) == ["before", "after"])


def test_a_log_that_cannot_be_had_is_told_also_where_the_run_has_ended(publisher_at, job, machines, start, finish):
    browser = publisher_at
    start(job, machines[:2])
    finish()
    browser.expected = ["ERR_BLOCKED_BY_CLIENT", "htmx:"]
    open_run(browser, job)
    browser.block("*/machine-runs/*")
    for _ in range(2):
        browser.click(f"#tile-{machines[1].pk}")
        browser.wait_for("This log could not be loaded.", "#log-pane > [role=alert]")
        assert browser.words("#log-pane h2") == "pay-1"
    assert browser.count("#log-pane > [role=alert]") == 1
    browser.block()
    browser.click(f"#tile-{machines[1].pk}")
    browser.wait_for("pay-2", "#log-pane h2")
    assert not browser.count("#log-pane > [role=alert]")


def test_what_goes_wrong_is_shown_until_somebody_opens_a_log(publisher_at, job, machines, start):
    browser = publisher_at
    start(job, machines[:4], failure_budget="")
    worker = Worker.objects.enlist([])
    running = begin(worker)
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.wait_for("pay-1", "#log-pane h2")
    write(MachineRun.objects.get(pk=running[2]), 1, "err", "no space left\n")
    end(worker, running[2:3], "failed")
    browser.wait_for("pay-3", "#log-pane h2")
    wait_until(lambda: lines(browser) == ["no space left"])
    end(worker, running[1:2], "failed")
    browser.wait_for("2 failed", "#live .counts")
    assert browser.words("#log-pane h2") == "pay-3"  # the first stays
    browser.click(f"#tile-{machines[3].pk}")
    browser.wait_for("pay-4", "#log-pane h2")
    write(MachineRun.objects.get(pk=running[3]), 1, "out", "copying\n")
    wait_until(lambda: lines(browser) == ["copying"])
    end(worker, running[:1], "failed")
    browser.wait_for("3 failed", "#live .counts")
    assert browser.words("#log-pane h2") == "pay-4"


def test_one_that_is_asked_for_at_every_poll_and_cannot_be_had_is_told_once(publisher_at, job, machines, start):
    """Without moving a page that somebody reads."""
    browser = publisher_at
    browser.expected = ["ERR_BLOCKED_BY_CLIENT", "htmx:"]
    start(job, machines[:2], failure_budget="")
    worker = Worker.objects.enlist([])
    running = begin(worker)
    open_run(browser, job)
    browser.block(f"*/machine-runs/{running[1]}/*")
    browser.ask("(window.scrolls = 0) || (Element.prototype.scrollIntoView = () => scrolls++)")
    end(worker, running[1:], "failed")
    browser.wait_for("This log could not be loaded.", "#log-pane > [role=alert]")
    browser.ask("(window.observer = new MutationObserver(() => changes++)) && (window.changes = 0)")
    browser.ask("observer.observe(document.getElementById('log-pane'), {childList: true})")
    browser.ask("observer.observe(document.body, {attributes: true})")  # nor is it the portal that does not answer
    browser.ask("(window.failed = 0) || document.addEventListener('htmx:sendError', () => failed++)")
    wait_until(lambda: browser.ask("failed") > 2)
    assert browser.ask("[changes, scrolls]") == [0, 0]
    assert browser.words("#log-pane h2") == "pay-1"


def test_search_and_first_error(publisher_at, worker, job, machines, start, task_that):
    browser = publisher_at
    task_that(*TALK, "complain ERROR: healthz 503", "say <b>line</b> 5", "fail 3 on pay-2")
    start(job, machines[:3])
    wait_until(lambda: job.stages.get(kind="pre-release").runs.get().status == "failed")
    open_run(browser, job)
    assert browser.words("#log-pane h2") == "pay-2"  # what went wrong is what one wants to read
    browser.click("[data-log-error]")
    assert "ERROR: healthz 503" in browser.words(".lines .err")
    browser.type("[data-log-search]", "LINE 5")
    wait_until(lambda: browser.words("[data-log-count]") == "1 of 11")
    browser.click("[data-log-up]")
    assert browser.words("[data-log-count]") == "11 of 11"
    assert browser.ask("document.querySelector('mark.here').textContent") == "line 5"
    browser.type("[data-log-search]", "no such words")
    wait_until(lambda: browser.words("[data-log-count]") == "not found")
    assert "<b>line</b> 5" in lines(browser)


def test_search_goes_on_behind_a_mark_and_in_what_comes_later(publisher_at, job, machines, start):
    browser = publisher_at
    machine_run = start(job, machines[:1]).machine_runs.get()
    write(machine_run, 1, "out", "line 4\nline 5\n")
    write(machine_run, 2, "mark", "… 5 bytes left out here …")
    write(machine_run, 3, "err", "no LINE 50\n")
    browser.open(f"/jobs/{job.pk}/machine-runs/{machine_run.pk}/")
    browser.type("[data-log-search]", "line 5")
    wait_until(lambda: browser.words("[data-log-count]") == "1 of 2")
    observer = "new MutationObserver(() => said++).observe(document.querySelector(arguments[0]), {childList: true})"
    browser.ask(f"(window.said = 0) || {observer}", "[data-log-count]")
    write(machine_run, 4, "out", "line 51\nline 6\n")
    wait_until(lambda: browser.words("[data-log-count]") == "1 of 3")
    write(machine_run, 5, "out", "nothing of it\n")
    wait_until(lambda: lines(browser)[-1] == "nothing of it")
    assert browser.ask("said") == 1  # not again when another line came
    browser.click("[data-log-up]")
    assert browser.ask("document.querySelector('mark.here').parentElement.textContent") == "line 51"


def test_a_long_log_is_printed_whole(publisher_at, job, machines, start, finish):
    browser = publisher_at
    machine_run = start(job, machines[:1]).machine_runs.get()
    write(machine_run, 1, "out", "a line\n" * 200)
    finish()
    browser.open(f"/jobs/{job.pk}/machine-runs/{machine_run.pk}/")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.ask("[lines.scrollHeight - lines.clientHeight, lines.clientHeight > 200 * 18]") == [0, True]


def test_its_own_page_asks_how_it_ended_once_that_is_unknown(publisher_at, job, machines, start):
    browser = publisher_at
    machine_run = start(job, machines[:1]).machine_runs.get()
    worker = Worker.objects.enlist([])
    begin(worker)
    browser.open(f"/jobs/{job.pk}/machine-runs/{machine_run.pk}/")
    browser.wait_for("running", "#side")
    end(worker, [machine_run.pk], "unknown")
    browser.wait_for("How did it end?", "#side")
    browser.wait_for("Unknown", "h1 .pill")
    browser.click("#id_status_1")
    browser.type("#id_reason", "its disk is full")
    browser.press("Resolve")
    browser.wait_for("Resolved; the machine is free again.")
    machine_run.refresh_from_db()
    assert (machine_run.status, machine_run.reason) == ("failed", "its disk is full")


def write(machine_run, number, stream, text):
    LogBlock.objects.create(machine_run=machine_run, number=number, stream=stream, text=text)

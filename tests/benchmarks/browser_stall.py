"""How long the browser's main thread is blocked by the pages of a stage, while many machines are released:

    .venv/bin/python -m tests.benchmarks.browser_stall [--machines 200] [--rounds 3] [--lines 5000]

Chromium goes through the stage as the publisher: choosing, checking, and watching the run to its end. Portal and
machines are those of `manage.py demo`, at their usual pace; with `--lines`, each machine says so many. Prints, for
each page, the longest task that its main thread was told of ("longtask": of 50 ms or more), and how many there were.
All parts share the cores: read the least.
"""

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks.release import ask_for_job, demo_with, enter
from tests.browser.browser import WIDE, Browser, start
from tests.waiting import wait_until

PATIENCE = 300
WATCH = """
window.stalls = [];
new PerformanceObserver((list) => stalls.push(...list.getEntries().map((entry) => Math.round(entry.duration))))
  .observe({ type: "longtask", buffered: true });
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        enter(Path(folder).resolve())
        with demo_with(options.machines, Path(folder).resolve()).running(port=0) as demo:
            if options.lines:
                _have_them_say(options.lines)
            for number in range(options.rounds):
                job, _chosen = ask_for_job(demo, f"1.{number}", options.machines)
                _tell(options.machines, _watch(demo, job, options.machines))


def _have_them_say(lines):
    from releases.models import Task

    script = f"for part in $(seq 50); do seq {lines // 50}; sleep 0.1; done"
    Task.objects.get(business__slug="payment", action="release").revise(script, None)


def _watch(demo, job, machines):
    """The stalls of each page, in ms."""
    driver = start()
    try:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        browser = Browser(driver, demo.facts["address"].rstrip("/"))
        browser.width(WIDE)
        _log_in(browser, demo.facts["users"]["publisher"])
        return dict(_go_through(browser, job, machines))
    finally:
        driver.quit()


def _log_in(browser, account):
    browser.open("/login/")
    browser.type("#id_username", account["username"])
    browser.type("#id_password", account["password"])
    browser.click("button.main")
    browser.wait_shown(".menu")


def _go_through(browser, job, machines):
    browser.open(f"/jobs/{job.pk}/stages/pre-release/")
    browser.press(f"Select the {machines} found")
    browser.wait_for(f"Check {machines} machines")
    yield "choosing", browser.ask("stalls")
    browser.press(f"Check {machines} machines")
    browser.type("#id_typed_count", str(machines))
    yield "checking", browser.ask("stalls")
    browser.press("Start ")
    browser.wait_for("Live", "#live")
    wait_until(lambda: "Succeeded" in browser.words("#live > .card"), PATIENCE, every=0.5)
    yield "running", browser.ask("stalls")


def _tell(machines, stalls):
    print(f"{machines} machines: ", end="")
    print(
        "; ".join(f"{page}: {max(found, default=0)} ms at most, {len(found)} stalls" for page, found in stalls.items())
    )


if __name__ == "__main__":
    main()

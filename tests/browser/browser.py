"""Chromium by selenium, in the words of the tests: every look waits for what the page is about to show."""

import contextlib
import shutil

from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.waiting import wait_until

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # The dot of a page that is live breathes: without a graphics card that is a tenth of a core for each that is open.
    "--force-prefers-reduced-motion",
]
WIDE, NARROW = 1280, 320  # the narrowest that a page is to be read on: a small phone, or 1280 enlarged four times


def missing():
    """What of Chromium and its driver is not on PATH, as words; empty when both are."""
    wanted = {"chromium": _chromium(), "chromedriver": shutil.which("chromedriver")}
    return ", ".join(name for name, path in wanted.items() if not path)


def start():
    options = webdriver.ChromeOptions()
    options.binary_location = _chromium()
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def _chromium():
    """Where it is; best without the window around a page, which takes as much again as all pages."""
    # The one on PATH is a script of Debian's: its driver ends that, and the browser behind it went on for ever.
    names = ["/usr/lib/chromium/chromium-headless-shell", "chromium-headless-shell"]
    names += ["chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One window on the portal at `address`. `expected`: parts of console errors that a test is about."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        self.expected = []

    def forget(self):
        """Makes it as new: one window, and nothing of what was seen before."""
        old = self.driver.window_handles
        self.driver.switch_to.new_window("tab")  # what was emulated goes with the others
        new = self.driver.current_window_handle
        for window in old:  # not by `close`, which gives up after twenty seconds on a busy host
            self.driver.execute_cdp_cmd("Target.closeTarget", {"targetId": window})
        wait_until(lambda: self.driver.window_handles == [new])
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        everything = {"origin": self.address, "storageTypes": "all"}
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
        self.driver.get_log("browser")

    # ---- Where it is and how it looks ----
    def open(self, path):
        self.driver.get(self.address + path)

    @property
    def path(self):
        return self.driver.current_url.removeprefix(self.address)

    def log_in(self, client, user):
        """By the cookie of a session; the login page itself is the keyboard test's."""
        client.force_login(user)
        self.set_cookie("sessionid", client.cookies["sessionid"].value)

    def speak(self, language):
        self.set_cookie("django_language", language)

    def set_cookie(self, name, value):
        self.driver.execute_cdp_cmd("Network.setCookie", {"name": name, "value": value, "url": self.address})

    def width(self, pixels, height=900):
        size = {"width": pixels, "height": height, "deviceScaleFactor": 1, "mobile": pixels < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def scheme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def scripts(self, on):
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not on})

    def block(self, *patterns):
        """Lets no request to these addresses through."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": list(patterns)})

    @contextlib.contextmanager
    def new_tab(self):
        first = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        yield self.driver.current_window_handle
        self.driver.switch_to.window(first)

    def to_tab(self, handle):
        self.driver.switch_to.window(handle)

    # ---- What it shows ----
    def ask(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    @property
    def text(self):
        return self.ask("document.body.innerText")

    def words(self, css):
        return self.ask("document.querySelector(arguments[0])?.innerText ?? ''", css)

    def wait_for(self, words, css="body"):
        self._soon(lambda: words in self.words(css))

    def wait_shown(self, css):
        self._shown(css)

    def wait_hidden(self, css):
        self._soon(lambda: not self._displayed(css))

    def count(self, css):
        return self.ask("document.querySelectorAll(arguments[0]).length", css)

    def texts(self, css):
        return self.ask("[...document.querySelectorAll(arguments[0])].map((it) => it.innerText)", css)

    def value(self, css, name="value"):
        """The property `name` of the first, once it is shown: a page may swap an element while it is held here."""
        self._shown(css)
        return self._soon(lambda: [self.ask("document.querySelector(arguments[0])[arguments[1]]", css, name)])[0]

    def _shown(self, css):
        return self._soon(lambda: self._displayed(css))[0]

    def _displayed(self, css):
        """Asked in one go: Selenium's is_displayed, once for each element, costs the browser three times that."""
        is_shown = "it.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && it.offsetWidth"
        return self.ask(f"[...document.querySelectorAll(arguments[0])].filter((it) => {is_shown})", css)

    def _soon(self, look):
        """Waits until `look` finds something, whatever is swapped or loaded anew while it looks."""

        def tried():
            with contextlib.suppress(StaleElementReferenceException, JavascriptException):
                return look()

        return wait_until(tried)

    # ---- What is done with it ----
    def click(self, css, shift=False):
        """Clicks on the first that is shown; tries again when the page has just swapped it."""
        wait_until(lambda: self._click(lambda: self._shown(css), shift) is None)

    def _click(self, find, shift=False):
        try:
            element = find()
            if shift:
                ActionChains(self.driver).key_down(Keys.SHIFT).click(element).key_up(Keys.SHIFT).perform()
            else:
                element.click()
        except WebDriverException as error:
            return error
        return None

    def press(self, words):
        """Clicks on the button or link that says `words`."""
        find = "[...document.querySelectorAll('a, button')].find((it) => it.innerText.startsWith(arguments[0]))"
        wait_until(lambda: self._click(lambda: self._soon(lambda: self.ask(find, words))) is None)

    def type(self, css, words):
        def typed():
            field = self._shown(css)
            field.clear()
            field.send_keys(words)
            return True

        self._soon(typed)

    def choose(self, css, words):
        """Picks the choice that begins with `words`, as one types it in a closed list."""
        self._soon(lambda: [self._shown(css).send_keys(words)])

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, css, most=60):
        """Presses Tab until the focus is on `css`."""
        for _ in range(most):
            if self.ask("document.activeElement.matches(arguments[0])", css):
                return
            self.keys(Keys.TAB)
        raise AssertionError(f"{most} tabs do not lead to {css}")

    # ---- What went wrong unseen ----
    def complaints(self):
        """Errors that the console tells since the last look, CSP violations among them."""
        errors = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [error for error in errors if not any(words in error for words in self.expected)]

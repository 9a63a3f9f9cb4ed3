"""Attacks on a session, over real HTTP: each succeeds against stock Django, which proves that it bites; none here."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread

import pytest
import requests
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from deploy_portal import models
from deploy_portal.models import User
from tests.conftest import PASSWORD, make_user
from tests.deploy_portal import session_pages
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = 3600
BROWSERS_TAKE = 4096
NEW_KEY = "the key of the next year, which is long and random enough"
STOCK_MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def serving():
    """The address of a threaded HTTP server with the settings of this moment."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    server.set_app(WSGIHandler())
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def portal(settings):
    settings.ROOT_URLCONF = "tests.deploy_portal.session_pages"
    with serving() as address:
        yield address


@pytest.fixture
def stock(settings, monkeypatch):
    """Django as it comes, with the same session engine: its middleware, its login and logout, its user's hash."""
    monkeypatch.setattr(User, "_get_session_auth_hash", AbstractBaseUser._get_session_auth_hash)
    settings.MIDDLEWARE = STOCK_MIDDLEWARE
    settings.SESSION_COOKIE_AGE = settings.SESSION_AGE
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    settings.ROOT_URLCONF = session_pages.stock
    user_logged_in.disconnect(models.begin_session)
    user_logged_out.disconnect(models.end_sessions)
    try:
        with serving() as address:
            yield address
    finally:
        user_logged_in.connect(models.begin_session)
        user_logged_out.connect(models.end_sessions)


@pytest.fixture(params=["stock", "portal"])
def attacked(request):
    """(the address of the server, whether the attack is to succeed there)."""
    return request.getfixturevalue(request.param), request.param == "stock"


@pytest.fixture(autouse=True)
def person(transactional_db):
    session_pages.ENTERED.clear()
    session_pages.LEAVE.clear()
    return make_user("person")


@pytest.fixture
def later(monkeypatch):
    """Moves the clock of the server on by so many seconds."""
    real, gone = time.time, [0]
    monkeypatch.setattr(time, "time", lambda: real() + gone[0])

    def move(seconds):
        gone[0] += seconds

    return move


class Visitor:
    """Sends all the cookies it ever got, as a thief does; `cookies` are those of somebody else."""

    def __init__(self, address, cookies=()):
        self.address, self.cookies = address, dict(cookies)

    def send(self, method, path, data=None, **headers):
        answer = requests.request(
            method,
            self.address + path,
            data=data,
            headers=headers,
            cookies=self.cookies,
            allow_redirects=False,
            timeout=PATIENCE,
        )
        self.cookies |= answer.cookies.get_dict()
        return answer

    def get(self, path, **headers):
        return self.send("GET", path, **headers)

    def post(self, path, **data):
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', self.get("/login/").text)
        token = token[1] if token else self.cookies["csrftoken"]
        return self.send("POST", path, data | {"csrfmiddlewaretoken": token})

    def log_in(self):
        assert self.post("/login/", username="person", password=PASSWORD).status_code == 302
        assert self.is_in
        return self

    def log_out(self):
        assert self.post("/logout/").status_code in (200, 302)
        return self

    @property
    def is_in(self):
        return self.get("/who/").text == "person"

    def stolen(self):
        return Visitor(self.address, self.cookies)


def test_a_cookie_that_was_captured_is_replayed_after_the_logout(attacked):
    address, succeeds = attacked
    victim = Visitor(address).log_in()
    thief = victim.stolen()
    victim.log_out()
    assert thief.is_in is succeeds


def test_logging_out_leaves_the_other_browsers_in(attacked):
    address, succeeds = attacked
    first, second = Visitor(address).log_in(), Visitor(address).log_in()
    first.log_out()
    assert second.is_in is succeeds


def test_an_answer_that_comes_after_the_logout_logs_in_again(attacked):
    address, succeeds = attacked
    victim = Visitor(address).log_in()
    slow_tab = victim.stolen()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(slow_tab.get, "/slow/")
        assert session_pages.ENTERED.wait(PATIENCE)
        victim.log_out()
        session_pages.LEAVE.set()
        assert answer.result().text == "at last"
    # The browser has one jar: what came last is in it.
    victim.cookies |= slow_tab.cookies
    assert victim.is_in is succeeds


def test_a_session_that_is_kept_busy_lives_for_ever(attacked, later, settings):
    address, succeeds = attacked
    assert settings.SESSION_AGE == 12 * HOUR
    thief = Visitor(address).log_in().stolen()
    for _ in range(12):
        assert thief.is_in
        thief.get("/fill/?bytes=10")  # signed anew, an hour later than the last
        later(HOUR)
    assert thief.is_in is succeeds


def test_a_cookie_that_the_browser_would_have_dropped_is_still_taken(attacked, later, settings):
    settings.SESSION_IDLE = 60
    address, succeeds = attacked
    victim = Visitor(address).log_in()
    victim.get("/expire-soon/")
    later(61)
    assert victim.stolen().is_in is succeeds


def test_a_change_is_said_to_be_kept_in_a_cookie_that_browsers_drop(attacked):
    address, succeeds = attacked
    answer = Visitor(address).log_in().get("/fill/?bytes=6000")
    too_long = any(len(cookie.value) > BROWSERS_TAKE for cookie in answer.cookies)
    assert (answer.text == "kept" and too_long) is succeeds
    assert answer.status_code == (200 if succeeds else 503)


def test_a_cookie_can_be_set_by_a_sister_host_or_over_plain_http(attacked, settings):
    """What only the browser can refuse: it does for a name that begins with __Host-, with the flags that this wants."""
    address, succeeds = attacked
    if not succeeds:  # as in production, which tests/deploy_portal/test_settings.py shows
        settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
        settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    answer = Visitor(address).post("/login/", username="person", password=PASSWORD)
    # Joined by requests; each begins with its name.
    sent = re.split(r", (?=[\w-]+=)", answer.headers["Set-Cookie"])
    assert len(sent) == 2
    for cookie in sent:
        name, flags = cookie.partition("=")[0], cookie.lower()
        bound = name.startswith("__Host-") and "; secure" in flags and "; path=/" in flags and "domain=" not in flags
        assert bound is not succeeds
        assert "; samesite=lax" in flags


def test_signing_out_elsewhere_leaves_the_browser_in_which_it_is_done(portal):
    victim = Visitor(portal).log_in()
    thief = victim.stolen()
    assert victim.post("/account/sign-out/").status_code == 302
    assert victim.is_in
    assert not thief.is_in


def test_a_new_password_ends_a_captured_cookie(portal):
    victim = Visitor(portal).log_in()
    thief = victim.stolen()
    new = {"new_password1": "another horse battery", "new_password2": "another horse battery"}
    assert victim.post("/account/password/", old_password=PASSWORD, **new).status_code == 302
    assert (victim.is_in, thief.is_in) == (True, False)


def test_a_cookie_from_before_the_ages_is_refused(portal, settings, client, person):
    client.force_login(person)
    session, name = client.session, settings.SESSION_COOKIE_NAME
    assert Visitor(portal, {name: session.session_key}).is_in
    del session["started"]
    session.save()
    assert not Visitor(portal, {name: session.session_key}).is_in


class TestKeyRotation:
    def rotate(self, settings):
        settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], NEW_KEY

    def test_a_session_moves_to_the_new_key_and_the_old_cookie_ends_with_the_old_one(self, portal, settings):
        victim = Visitor(portal).log_in()
        old = victim.stolen()
        self.rotate(settings)
        assert victim.is_in
        assert victim.cookies["sessionid"] != old.cookies["sessionid"]
        assert old.stolen().is_in
        settings.SECRET_KEY_FALLBACKS = []
        assert victim.is_in
        assert not old.is_in

    def test_a_cookie_of_the_old_key_is_worthless_after_the_logout(self, portal, settings):
        victim = Visitor(portal).log_in()
        old = victim.stolen()
        self.rotate(settings)
        victim.log_out()
        assert not old.is_in

    def test_an_epoch_in_the_public_hash_alone_would_log_everybody_out(self, portal, settings, monkeypatch):
        plain = AbstractBaseUser._get_session_auth_hash
        monkeypatch.setattr(User, "_get_session_auth_hash", plain)
        monkeypatch.setattr(User, "get_session_auth_hash", lambda user: f"{plain(user)}:{user.session_epoch}")
        victim = Visitor(portal).log_in()
        self.rotate(settings)
        assert not victim.is_in


def typed(visitor):
    return {"csrfmiddlewaretoken": visitor.cookies["csrftoken"], "title": "much"}


class TestEnd:
    """A session that is over, here: the login page says why, and leads back."""

    @pytest.fixture
    def ended(self, portal, later):
        visitor = Visitor(portal).log_in()
        later(12 * HOUR)
        return visitor

    def test_a_page_leads_to_the_login_and_says_why(self, ended):
        answer = ended.get("/jobs/?status=waiting")
        assert answer.status_code == 302
        assert answer.headers["Location"] == "/login/?next=/jobs/%3Fstatus%3Dwaiting&ended=age"
        page = ended.get(answer.headers["Location"])
        assert "Your session has ended" in page.text
        assert 'value="/jobs/?status=waiting"' in page.text

    def test_it_is_told_once_as_the_cookie_goes(self, ended):
        assert 'sessionid=""; expires=Thu, 01 Jan 1970' in ended.get("/jobs/").headers["Set-Cookie"]

    def test_what_was_sent_is_told_to_be_lost(self, ended):
        answer = ended.send("POST", "/jobs/new/", typed(ended))
        assert answer.headers["Location"] == "/login/?next=/jobs/new/&ended=unsent"
        assert "Your last step was not done." in ended.get(answer.headers["Location"]).text

    def test_so_is_what_is_sent_after_signing_out_elsewhere(self, portal):
        visitor = Visitor(portal).log_in()
        visitor.stolen().log_out()
        answer = visitor.send("POST", "/jobs/new/", typed(visitor))
        assert answer.headers["Location"] == "/login/?next=/jobs/new/&ended=unsent"
        assert "Your last step was not done." in visitor.get(answer.headers["Location"]).text

    def test_and_where_that_took_the_cookie_away(self, portal):
        visitor = Visitor(portal).log_in()
        visitor.log_out()
        answer = visitor.send("POST", "/jobs/new/", typed(visitor))
        assert answer.headers["Location"] == "/login/?next=/jobs/new/&ended=unsent"

    def test_who_was_never_logged_in_is_not_told_of_an_end(self, portal):
        visitor = Visitor(portal)
        assert visitor.get("/jobs/new/").headers["Location"] == "/login/?next=/jobs/new/"
        visitor.get("/login/?next=/jobs/new/")
        switch = {
            "csrfmiddlewaretoken": visitor.cookies["csrftoken"],
            "language": "en",
            "next": "/login/?next=/jobs/new/",
        }
        assert visitor.send("POST", "/i18n/setlang/", switch).headers["Location"] == "/login/?next=/jobs/new/"

    def test_the_admin_too(self, ended, person):
        User.objects.filter(pk=person.pk).update(is_staff=True, is_superuser=True)
        assert ended.get("/admin/jobs/job/").headers["Location"].startswith("/admin/login/?next=/admin/jobs/job/")

    def test_a_poll_loads_the_whole_page_again_which_then_says_why(self, ended):
        answer = ended.get("/jobs/", **{"HX-Request": "true"})
        assert (answer.status_code, answer.headers["HX-Refresh"], answer.text) == (401, "true", "")
        assert "Set-Cookie" not in answer.headers
        assert ended.get("/jobs/").headers["Location"].endswith("&ended=age")

    def test_what_leads_elsewhere_leads_there(self, ended):
        switch = {"csrfmiddlewaretoken": ended.cookies["csrftoken"], "language": "en", "next": "/login/"}
        assert ended.send("POST", "/i18n/setlang/", switch).headers["Location"] == "/login/"

    def test_pages_that_need_no_login_are_shown(self, ended):
        assert ended.get("/login/").status_code == 200
        assert ended.get("/health/").status_code == 200

    def test_one_second_before_it_is_not_over(self, portal, later):
        visitor = Visitor(portal).log_in()
        later(12 * HOUR - 60)
        assert visitor.is_in


class TestIdle:
    @pytest.fixture
    def visitor(self, portal, settings):
        settings.SESSION_IDLE = 600
        return Visitor(portal).log_in()

    def test_who_goes_on_stays(self, visitor, later):
        for _ in range(5):
            later(400)
            assert visitor.is_in

    def test_a_page_that_is_only_left_open_does_not_keep_the_session(self, visitor, later):
        for _ in range(2):
            later(250)
            assert visitor.get("/who/", **{"HX-Request": "true"}).text == "person"
        later(250)
        assert not visitor.is_in

    def test_activity_does_not_stretch_the_age(self, visitor, later):
        for _ in range(12 * 6):
            later(599)
            visitor.is_in  # noqa: B018
        later(100)
        assert not visitor.is_in

    def test_not_every_page_sends_a_cookie(self, visitor):
        assert "Set-Cookie" not in visitor.get("/who/").headers

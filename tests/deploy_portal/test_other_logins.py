"""LDAP and OIDC by environment variables: off, on, and what cannot be meant. OIDC itself: test_oidc_login.py."""

import importlib
import sys
from threading import BoundedSemaphore, Event
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
from axes.models import AccessAttempt
from django.core.exceptions import ImproperlyConfigured

from deploy_portal import other_logins
from deploy_portal.models import User
from tests.conftest import PASSWORD, make_user
from tests.pages import words
from tests.waiting import PATIENCE

LDAP = {"LDAP_SERVER": "ldaps://ldap.example", "LDAP_SEARCH_BASE": "ou=people,dc=example", "LDAP_CA_FILE": __file__}
ENDPOINTS = [f"OIDC_{name}_ENDPOINT" for name in ("AUTHORIZATION", "TOKEN", "USER", "JWKS")]
OIDC = {"OIDC_CLIENT_ID": "portal", "OIDC_CLIENT_SECRET": "secret", "OIDC_ISSUER": "https://login.example"}
OIDC |= {name: f"https://login.example/{name.lower()}" for name in ENDPOINTS}


@pytest.fixture
def setting(monkeypatch):
    """Sets environment variables."""
    return lambda **variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


@pytest.fixture
def ldap_packages(monkeypatch):
    """Stand-ins for python-ldap, which needs a C library to be built, and for django-auth-ldap."""
    ldap, package = ModuleType("ldap"), ModuleType("django_auth_ldap")
    for name in (
        "OPT_NETWORK_TIMEOUT",
        "OPT_TIMEOUT",
        "OPT_REFERRALS",
        "OPT_X_KEEPALIVE_IDLE",
        "OPT_X_KEEPALIVE_INTERVAL",
        "OPT_X_KEEPALIVE_PROBES",
        "OPT_X_TLS_REQUIRE_CERT",
        "OPT_X_TLS_CACERTFILE",
    ):
        setattr(ldap, name, name)
    ldap.SCOPE_SUBTREE = "SCOPE_SUBTREE"
    ldap.OPT_X_TLS_DEMAND, ldap.OPT_X_TLS_NEWCTX = "DEMAND", "NEWCTX"
    ldap.TIMEOUT, ldap.BUSY = type("TIMEOUT", (Exception,), {}), type("BUSY", (Exception,), {})
    ldapobject = ModuleType("ldap.ldapobject")
    ldapobject.SimpleLDAPObject = LibrarysConnection
    config, backend = ModuleType("django_auth_ldap.config"), ModuleType("django_auth_ldap.backend")
    config.LDAPSearch = lambda *args: SimpleNamespace(args=args)
    backend.LDAPBackend = LibrarysBackend
    for module in (ldap, ldapobject, package, config, backend):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "deploy_portal.ldap_login", raising=False)


class LibrarysBackend:
    """What django-auth-ldap's does with a directory that takes any case and one password."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        if password != PASSWORD:
            return None
        user, is_new = self.get_or_build_user(username, None)
        if is_new:
            user.save()
        return user

    def get_user(self, pk):
        return User.objects.filter(pk=pk).first()


class LibrarysConnection:
    """What python-ldap's does with a directory that answers when it is let, as it may never be."""

    def __init__(self, uri, bytes_mode=None):
        self.answers = Event()

    def simple_bind_s(self, name, password):
        self.answers.wait(PATIENCE)
        if password != PASSWORD:
            raise ValueError("a wrong password")
        return name

    def search_s(self, *args):
        return self.simple_bind_s(args, PASSWORD)

    def start_tls_s(self):
        return self.simple_bind_s("", PASSWORD)


def refused(read, *args):
    with pytest.raises(ImproperlyConfigured) as caught:
        read(*args)
    return str(caught.value)


def test_both_are_off_unless_told(monkeypatch):
    for name in LDAP | OIDC:
        monkeypatch.delenv(name, raising=False)
    assert other_logins.ldap() == other_logins.oidc(False) == {}
    assert other_logins.backends({}) == []


class TestWithoutThePackage:
    @pytest.fixture(autouse=True)
    def missing(self, monkeypatch):
        for name in ("django_auth_ldap", "django_auth_ldap.config", "mozilla_django_oidc"):
            monkeypatch.setitem(sys.modules, name, None)

    def test_ldap_names_what_to_install(self, setting):
        setting(**LDAP)
        assert "LDAP_SERVER needs a package: pip install 'django-auth-ldap>=5.4,<6'" in refused(other_logins.ldap)

    def test_oidc_names_what_to_install(self, setting):
        setting(**OIDC)
        assert "OIDC_CLIENT_ID needs a package: pip install 'mozilla-django-oidc>=5,<6'" in refused(
            other_logins.oidc, False
        )


@pytest.mark.usefixtures("ldap_packages")
class TestLdap:
    def test_is_set_up_safely(self, setting, monkeypatch):
        setting(**LDAP, LDAP_BIND_DN="cn=portal", LDAP_BIND_PASSWORD="secret")
        monkeypatch.delenv("LDAP_CA_FILE")
        monkeypatch.setattr("os.access", lambda *args: True)  # Debian's file is not everywhere
        made = other_logins.ldap()
        assert made["AUTH_LDAP_SERVER_URI"] == "ldaps://ldap.example"
        assert made["AUTH_LDAP_CONNECTION_OPTIONS"]["OPT_X_TLS_REQUIRE_CERT"] == "DEMAND"
        assert made["AUTH_LDAP_CONNECTION_OPTIONS"]["OPT_X_TLS_CACERTFILE"] == "/etc/ssl/certs/ca-certificates.crt"
        assert made["AUTH_LDAP_CONNECTION_OPTIONS"]["OPT_X_KEEPALIVE_IDLE"] == 10
        assert list(made["AUTH_LDAP_CONNECTION_OPTIONS"])[-1] == "NEWCTX"
        assert (made["AUTH_LDAP_BIND_DN"], made["AUTH_LDAP_BIND_PASSWORD"]) == ("cn=portal", "secret")
        assert made["AUTH_LDAP_USER_SEARCH"].args == ("ou=people,dc=example", "SCOPE_SUBTREE", "(uid=%(user)s)")
        assert made["AUTH_LDAP_START_TLS"] is False  # it speaks TLS from the first byte
        assert made["AUTH_LDAP_NO_NEW_USERS"] is True
        # Else each login saves the whole row as it was read: who is made inactive meanwhile is active again.
        assert made["AUTH_LDAP_ALWAYS_UPDATE_USER"] is False
        assert other_logins.backends(made) == ["deploy_portal.ldap_login.LdapBackend"]

    def test_a_plain_address_speaks_tls_unless_it_is_allowed_not_to(self, setting):
        setting(**LDAP | {"LDAP_SERVER": "ldap://ldap.example"})
        assert other_logins.ldap()["AUTH_LDAP_START_TLS"] is True
        setting(LDAP_SERVER="ldap://one.example ldap://two.example")
        assert other_logins.ldap()["AUTH_LDAP_START_TLS"] is True
        setting(LDAP_ALLOW_PLAINTEXT="1")
        assert other_logins.ldap()["AUTH_LDAP_START_TLS"] is False

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("LDAP_SERVER", "ldap.example"),
            ("LDAP_SERVER", "https://ldap.example"),
            ("LDAP_SERVER", "ldap"),
            ("LDAP_SERVER", "ldaps://one.example ldap://two.example"),
            ("LDAP_SERVER", "ldap://one.example,ldaps://two.example"),
            ("LDAP_SEARCH_BASE", ""),
            ("LDAP_USER_FILTER", "(uid=*)"),
            ("LDAP_USER_FILTER", "(&(uid=%(user)s)(description=50%))"),
            ("LDAP_USER_FILTER", "(&(uid=%(user)s)(cn=%(name)s))"),
            ("LDAP_CA_FILE", "/no/such/file"),
            ("LDAP_ALLOW_PLAINTEXT", "maybe"),
            ("LDAP_CREATE_USERS", "some"),
        ],
    )
    def test_what_cannot_be_meant_is_an_error_that_names_its_variable(self, setting, name, value):
        setting(**LDAP | {name: value})
        assert name in refused(other_logins.ldap)

    def test_who_is_made_inactive_is_out_at_once(self, db):
        backend = importlib.import_module("deploy_portal.ldap_login").LdapBackend()
        person = make_user("person")
        assert backend.get_user(person.pk) == person
        User.objects.update(is_active=False)
        assert backend.get_user(person.pk) is None
        assert backend.get_user(0) is None

    def test_a_name_is_taken_only_as_the_portal_writes_it(self, db, case):
        """Each other case would have tries of its own before it is locked."""
        backend = importlib.import_module("deploy_portal.ldap_login").LdapBackend()
        people = [make_user("wang.fang"), make_user("Li.Na"), make_user("li.na"), make_user("Zhao.Yun")]
        assert [backend.authenticate(None, person.username, PASSWORD) for person in people] == people
        for name in ("Wang.fang", "WANG.FANG", "LI.NA", "zhao.yun", "New", "", None):
            with case(name):
                assert backend.authenticate(None, name, PASSWORD) is None
        assert backend.authenticate(None, "wang.fang", "wrong") is None
        assert User.objects.count() == 4

    def test_a_name_in_letters_that_the_portal_takes_for_others_is_refused(self, db, case):
        """Its account would be another than that of the name in plain letters, or the same one."""
        backend = importlib.import_module("deploy_portal.ldap_login").LdapBackend()
        make_user("wang.fang")
        for name in ("ｗang.fang", "ｎew", "a\u030a", "wang fang", "wang  fang", "new\u200b", "n\nw", "a/b"):
            with case(name):
                assert backend.authenticate(None, name, PASSWORD) is None
        assert User.objects.count() == 1

    def test_a_name_may_be_of_any_letters_that_the_portal_takes(self, db, case):
        backend = importlib.import_module("deploy_portal.ldap_login").LdapBackend()
        for name in ("zoë", "王芳", "wang.fang@example.com", "wang_fang+1-2"):
            with case(name):
                assert backend.authenticate(None, name, PASSWORD).username == name

    def test_who_is_new_gets_an_account_with_a_name_in_small_letters(self, db):
        backend = importlib.import_module("deploy_portal.ldap_login").LdapBackend()
        new = backend.authenticate(None, "new", PASSWORD)
        assert (new.username, new.pk) == ("new", User.objects.get().pk)

    def test_who_is_inactive_is_told_as_little_as_whoever_has_the_wrong_password(self, db, client, settings):
        settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS, "deploy_portal.ldap_login.LdapBackend"]
        person = make_user("person", is_active=False)
        person.set_unusable_password()
        person.save()
        pages = [client.post("/login/", {"username": "person", "password": word}) for word in ("wrong", PASSWORD)]
        assert all(words(page).count("Please enter a correct") == 1 for page in pages)
        assert AccessAttempt.objects.get().failures_since_start == 2

    def test_an_answer_that_is_none_is_a_refusal(self, db, monkeypatch, case, caplog):
        """Such as a DN that is not UTF-8, or that the certificates cannot be read."""
        for error in (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a DN"), ValueError("option error")):
            with case(type(error).__name__):
                backend = importlib.import_module("deploy_portal.ldap_login").LdapBackend()
                monkeypatch.setattr(LibrarysBackend, "authenticate", Mock(side_effect=error))
                assert backend.authenticate(None, "person", PASSWORD) is None
                assert f"A login by the directory was refused: {error}" in caplog.messages

    def test_two_first_logins_of_one_person_at_once_make_one_account(self, transactional_db):
        backend = importlib.import_module("deploy_portal.ldap_login").LdapBackend()
        build = backend.get_or_build_user

        def late(*args):
            built = build(*args)
            make_user("new")
            return built

        backend.get_or_build_user = late
        assert backend.authenticate(None, "new", PASSWORD) is None
        assert User.objects.get().username == "new"

    def test_a_directory_that_stands_still_is_given_up(self, db, monkeypatch, case):
        """Each thread that waits for it serves nobody else, and python-ldap itself may wait for ever."""
        login = importlib.import_module("deploy_portal.ldap_login")
        monkeypatch.setattr(login, "LIMIT", 0.05)
        for question in ("start_tls_s", "simple_bind_s", "search_s"):
            with case(question):
                connection = login.LdapBackend().ldap.initialize("ldap://ldap.example", bytes_mode=False)
                args = [] if question == "start_tls_s" else ["name", PASSWORD]
                with pytest.raises(sys.modules["ldap"].TIMEOUT):
                    getattr(connection, question)(*args)
                connection.answers.set()

    def test_what_a_directory_answers_is_what_it_said(self):
        login = importlib.import_module("deploy_portal.ldap_login")
        connection = login.Connection("ldap://ldap.example")
        connection.answers.set()
        assert connection.simple_bind_s("name", PASSWORD) == "name"
        assert connection.search_s("base", 2, "(uid=name)", None) == ("base", 2, "(uid=name)", None)
        with pytest.raises(ValueError, match="a wrong password"):
            connection.simple_bind_s("name", "wrong")

    def test_only_so_many_wait_for_a_directory_that_stands_still(self, monkeypatch):
        login = importlib.import_module("deploy_portal.ldap_login")
        monkeypatch.setattr(login, "LIMIT", 0.05)
        monkeypatch.setattr(login, "WAIT", 0.05)
        monkeypatch.setattr(login, "ROOM", BoundedSemaphore(1))
        still, other = login.Connection("ldap://ldap.example"), login.Connection("ldap://ldap.example")
        other.answers.set()
        with pytest.raises(sys.modules["ldap"].TIMEOUT):
            still.simple_bind_s("name", PASSWORD)
        with pytest.raises(sys.modules["ldap"].BUSY):
            other.simple_bind_s("name", PASSWORD)
        still.answers.set()
        monkeypatch.setattr(login, "WAIT", PATIENCE)
        assert other.simple_bind_s("name", PASSWORD) == "name"


class TestOidc:
    def test_is_set_up_safely(self, setting):
        setting(**OIDC)
        made = other_logins.oidc(False)
        assert made["OIDC_USE_PKCE"] is True
        assert made["OIDC_CREATE_USER"] is False
        assert made["OIDC_RP_SIGN_ALGO"] == "RS256"
        assert other_logins.backends(made) == ["deploy_portal.oidc_login.OidcBackend"]

    def test_the_secret_may_come_from_a_file(self, setting, tmp_path):
        (tmp_path / "secret").write_text("from a file\n")
        setting(**OIDC | {"OIDC_CLIENT_SECRET": "", "OIDC_CLIENT_SECRET_FILE": str(tmp_path / "secret")})
        assert other_logins.oidc(False)["OIDC_RP_CLIENT_SECRET"] == "from a file"

    @pytest.mark.parametrize("name", ["OIDC_CLIENT_SECRET", "OIDC_ISSUER", *ENDPOINTS])
    def test_what_is_missing_is_named(self, setting, name):
        setting(**OIDC | {name: ""})
        assert name in refused(other_logins.oidc, False)

    @pytest.mark.parametrize(
        ("name", "value"), [("OIDC_SIGN_ALGORITHM", "none"), ("OIDC_SIGN_ALGORITHM", "HS256")], ids=str
    )
    def test_a_signature_that_proves_nothing_is_refused(self, setting, name, value):
        setting(**OIDC | {name: value})
        assert name in refused(other_logins.oidc, False)

    @pytest.mark.parametrize("name", ENDPOINTS)
    @pytest.mark.parametrize("value", ["http://login.example/x", "login.example", "javascript:alert(1)"])
    def test_an_address_without_tls_is_refused(self, setting, name, value):
        setting(**OIDC | {name: value})
        assert name in refused(other_logins.oidc, False)

"""Logins by a directory, with the real libraries; where they are not installed, test_other_logins.py has stand-ins."""

import importlib
import socket
import sys
import time

import pytest
from requests.certs import where

from deploy_portal import other_logins
from deploy_portal.models import User
from tests.conftest import PASSWORD, make_user
from tests.directory import BIND, DN, EXTENDED, HANGS, REFERRAL, SEARCH, SEARCH_DONE, Directory, message, result, tlv

pytest.importorskip("django_auth_ldap", reason="needs django-auth-ldap")


@pytest.fixture
def directory():
    with Directory(PASSWORD) as directory:
        yield directory


@pytest.fixture
def log_in(db, directory, settings, monkeypatch):
    """Asks the directory, and gives who it is or None."""
    monkeypatch.delitem(sys.modules, "deploy_portal.ldap_login", raising=False)
    login = importlib.import_module("deploy_portal.ldap_login")
    make_user("wang.fang")

    def log_in(name="wang.fang", password=PASSWORD, scheme="ldap", before=(), **variables):
        variables = {"LDAP_ALLOW_PLAINTEXT": "1"} | variables
        variables |= {
            "LDAP_CA_FILE": where(),
            "LDAP_SERVER": ",".join(f"{scheme}://{address}" for address in [*before, directory.address]),
            "LDAP_SEARCH_BASE": "dc=example",
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        for setting, value in other_logins.ldap().items():
            setattr(settings, setting, value)
        return login.LdapBackend().authenticate(None, name, password)

    return log_in


@pytest.fixture
def swallower():
    """The address of a host that swallows packets: its queue of connections is full, and nobody takes any."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        yield f"127.0.0.1:{full.getsockname()[1]}"


def test_a_password_is_the_directorys(log_in, directory):
    assert log_in().username == "wang.fang"
    assert log_in(password="wrong") is None
    assert len(directory.binds) == 4


def test_an_empty_password_is_not_even_sent(log_in, directory):
    """A directory may take it for a question by nobody, and say yes."""
    assert log_in(password="") is None
    assert directory.binds == []


def test_who_is_not_one_entry_is_refused(log_in, directory, case):
    for entries in ([], [DN, b"uid=wang.fang,ou=other,dc=example"], [DN] * 5000):
        with case(len(entries)):
            directory.entries = entries
            assert log_in() is None


def test_nobody_is_looked_for_elsewhere(log_in, directory):
    with Directory(PASSWORD) as elsewhere:
        away = tlv(0xA3, tlv(4, f"ldap://{elsewhere.address}/".encode()))
        sent_on = result(SEARCH_DONE, REFERRAL, away)
        directory.says = lambda number, operation: message(number, sent_on) if operation == SEARCH else None
        assert log_in() is None
        assert elsewhere.binds == []


def test_a_new_person_gets_an_account_that_only_the_directory_lets_in(log_in):
    assert log_in("new") is None
    new = log_in("new", LDAP_CREATE_USERS="1")
    assert new == User.objects.get(username="new")
    assert not new.has_usable_password()


def test_a_login_leaves_the_row_as_it_is(log_in, monkeypatch):
    login = sys.modules["deploy_portal.ldap_login"]
    build = login.LdapBackend.get_or_build_user

    def late(*args):
        built = build(*args)
        User.objects.update(is_active=False)
        return built

    monkeypatch.setattr(login.LdapBackend, "get_or_build_user", late)
    log_in()
    assert not User.objects.get().is_active


def test_what_is_no_utf8_is_refused(log_in, directory):
    directory.entries = [b"uid=\xff\xfe,dc=example"]
    assert log_in() is None


@pytest.mark.parametrize("hangs_in", ["TLS", "STARTTLS", "a bind", "a search"])
def test_a_directory_that_hangs_holds_nobody_up(log_in, directory, monkeypatch, hangs_in):
    """Midway in an answer, of which half has come; in TLS, where the other side says nothing."""
    half = {"a bind": BIND, "a search": SEARCH, "STARTTLS": EXTENDED}.get(hangs_in)
    directory.says = lambda number, operation: b"\x30\x84\x00\x00\x10\x00" if operation == half else None
    scheme, is_plain = ("ldaps" if hangs_in == "TLS" else "ldap"), ("0" if "TLS" in hangs_in else "1")
    monkeypatch.setattr(sys.modules["deploy_portal.ldap_login"], "LIMIT", 1)
    began = time.monotonic()
    assert log_in(scheme=scheme, LDAP_ALLOW_PLAINTEXT=is_plain) is None
    assert time.monotonic() - began < HANGS / 2


def test_directories_whose_hosts_swallow_packets_are_passed_by(log_in, swallower, monkeypatch):
    monkeypatch.setattr(other_logins, "SECONDS", 1)
    monkeypatch.setattr(sys.modules["deploy_portal.ldap_login"], "LIMIT", 2)
    assert log_in(before=[swallower] * 2).username == "wang.fang"

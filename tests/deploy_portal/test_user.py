import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.urls import reverse

from deploy_portal.models import User
from tests.conftest import PASSWORD, make_user

HOME = "/"


@pytest.fixture
def person(db):
    return make_user("person")


@pytest.fixture
def log_in(client):
    def log_in(user):
        response = client.post(reverse("login"), {"username": user.username, "password": PASSWORD})
        assert response.status_code == 302
        return client

    return log_in


def is_in(client):
    return client.get(HOME).status_code == 200


def with_cookie(client_class, value):
    """A browser that sends a captured session cookie."""
    other = client_class()
    other.cookies["sessionid"] = value
    return other


@pytest.mark.parametrize("way_out", ["/logout/", "/admin/logout/"])
def test_a_cookie_that_was_captured_before_the_logout_is_worthless(log_in, ops, way_out):
    client = log_in(ops)
    captured = client.cookies["sessionid"].value
    thief = with_cookie(type(client), captured)
    assert is_in(thief)
    assert client.post(way_out).status_code in (200, 302)
    assert not is_in(client)
    assert not is_in(with_cookie(type(client), captured))


def test_logging_out_ends_the_sessions_of_all_browsers_but_of_nobody_else(log_in, client, person):
    other = make_user("other")
    client_of_other = type(client)()
    client_of_other.force_login(other)
    second_browser = type(client)()
    second_browser.force_login(person)
    log_in(person).post(reverse("logout"))
    assert not is_in(second_browser)
    assert is_in(client_of_other)


def test_one_can_log_in_again_after_the_logout(log_in, person):
    log_in(person).post(reverse("logout"))
    assert is_in(log_in(person))


def test_a_session_outlives_a_change_of_the_secret_key(log_in, person, settings):
    client = log_in(person)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key of the next year, which is long and random enough"
    assert is_in(client)
    settings.SECRET_KEY_FALLBACKS = []
    assert is_in(client), "the session was not moved to the new key"


def test_a_captured_cookie_of_an_old_key_is_worthless_after_the_logout(log_in, person, settings):
    client = log_in(person)
    captured = client.cookies["sessionid"].value
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key of the next year, which is long and random enough"
    client.post(reverse("logout"))
    assert not is_in(with_cookie(type(client), captured))


def test_a_session_ends_with_the_key_that_it_was_signed_by(log_in, person, settings):
    client = log_in(person)
    settings.SECRET_KEY = "another key altogether, which is long and random enough"
    assert not is_in(client)


def test_a_new_password_ends_the_sessions(log_in, person):
    client = log_in(person)
    person.set_password("another horse battery")
    person.save()
    assert not is_in(client)


def test_the_epoch_is_part_of_what_a_session_is_checked_by(person):
    before = person.get_session_auth_hash()
    person.end_sessions()
    person.refresh_from_db()
    assert person.session_epoch == 1
    assert person.get_session_auth_hash() != before


def test_django_still_asks_the_private_method_for_old_keys_too(person, settings):
    """Pins what `User._get_session_auth_hash` rests on: were it no longer asked, logging out would end nothing."""
    assert "_get_session_auth_hash" in vars(AbstractBaseUser)
    settings.SECRET_KEY_FALLBACKS = ["an old key"]
    assert person.get_session_auth_hash() == person._get_session_auth_hash()
    assert list(person.get_session_auth_fallback_hash()) == [person._get_session_auth_hash("an old key")]


def test_ending_sessions_twice_at_once_counts_twice(person):
    stale = User.objects.get(pk=person.pk)
    person.end_sessions()
    stale.end_sessions()
    person.refresh_from_db()
    assert person.session_epoch == 2


@pytest.mark.parametrize(("superuser", "active", "is_ops"), [(1, 1, True), (1, 0, False), (0, 1, False)])
def test_ops_are_the_active_superusers(superuser, active, is_ops):
    assert User(is_superuser=bool(superuser), is_active=bool(active)).is_ops is is_ops

"""Logins by an OpenID Connect provider, which is a double that the portal talks to over real HTTP."""

from itertools import product

import pytest
from axes.models import AccessAttempt
from django.test import Client
from django.urls import include, path

from deploy_portal import other_logins, urls
from deploy_portal.models import User
from tests.conftest import PASSWORD, make_user
from tests.oidc_provider import CLIENT, Provider, key_of
from tests.pages import words
from tests.waiting import PATIENCE

CALLBACK = "/login/oidc/callback/"
REFUSED = "/login/?refused=1"


class Addresses:
    """A URLconf may be any object that has `urlpatterns`."""

    urlpatterns = [*urls.urlpatterns, path("login/oidc/", include("deploy_portal.oidc_login"))]


@pytest.fixture
def provider():
    with Provider() as provider:
        yield provider


@pytest.fixture(autouse=True)
def portal(provider, settings, monkeypatch, db):
    """The portal as it is with the provider's variables set."""
    for name, value in provider.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(other_logins, "SECONDS", PATIENCE)
    settings.OTHER_LOGINS = other_logins.oidc(allow_http=True)
    for name, value in settings.OTHER_LOGINS.items():
        setattr(settings, name, value)
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        *other_logins.backends(settings.OTHER_LOGINS),
    ]
    settings.ROOT_URLCONF = Addresses


@pytest.fixture
def person(db):
    user = make_user("person")
    user.set_unusable_password()
    user.save()
    return user


def log_in(client, provider, page="/jobs/"):
    sent = client.get("/login/oidc/", {"next": page})
    assert sent.status_code == 302
    assert sent.url.startswith(f"{provider.url}/authorize?")
    return client.get(CALLBACK, provider.let_in(sent.url))


def is_in(client):
    return client.get("/account/").status_code == 200


def test_the_login_page_has_the_way_there(client):
    page = client.get("/login/?next=/jobs/%3Fstatus=waiting%26business=payment").content.decode()
    assert 'href="/login/oidc/?next=%2Fjobs%2F%3Fstatus%3Dwaiting%26business%3Dpayment"' in page


def test_a_person_whom_the_portal_knows_gets_in_and_to_their_page(client, provider, person):
    assert log_in(client, provider).url == "/jobs/"
    assert is_in(client)
    assert client.session["started"]
    assert provider.asked["code_challenge_method"] == "S256"


def test_nobody_is_sent_elsewhere_after_it(client, provider, person):
    assert log_in(client, provider, "//evil.example/").url == "/"


@pytest.mark.parametrize(("sent", "page"), [("/jobs/7/approve/", "/jobs/7/"), ("/login/code/", "/")])
def test_a_login_leads_to_the_page_that_has_the_button(client, provider, person, sent, page):
    assert log_in(client, provider, sent).url == page


def test_a_second_factor_of_the_portal_is_asked_for_all_the_same(client, provider, person):
    app = person.offer_second_factor()
    app.confirmed = True
    app.save()
    assert log_in(client, provider).url == "/login/code/?next=%2Fjobs%2F"
    assert not is_in(client)
    assert client.get("/login/code/").status_code == 200


class TestUnknown:
    def test_is_refused_unless_told(self, client, provider):
        response = log_in(client, provider)
        assert response.url == REFUSED
        assert "the portal does not know you" in words(client.get(response.url))
        assert not User.objects.exists()

    def test_may_get_an_account_that_may_nothing(self, client, provider, settings):
        settings.OIDC_CREATE_USER = True
        log_in(client, provider)
        user = User.objects.get()
        assert user.username == "person"
        assert not (user.is_staff or user.is_superuser or user.has_usable_password() or user.membership_set.exists())
        assert is_in(client)


@pytest.mark.parametrize("name", ["", None, 7, ["person"], "a b", "\0", "x" * 151, "<script>", {"a": "b"}])
def test_a_name_that_cannot_be_one_is_refused(client, provider, settings, name):
    settings.OIDC_CREATE_USER = True
    provider.claims = {"preferred_username": name}
    assert log_in(client, provider).url == REFUSED
    assert not User.objects.exists()


@pytest.mark.parametrize("name", ["ｗang.fang", "ﬀ", "ª"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_name_in_letters_that_the_portal_takes_for_others_is_refused(client, provider, settings, name, is_known):
    """Its account would be that of the name in plain letters."""
    settings.OIDC_CREATE_USER = True
    if is_known:
        make_user(name)
    provider.claims = {"preferred_username": name}
    assert log_in(client, provider).url == REFUSED
    assert User.objects.count() == is_known
    assert not is_in(client)


@pytest.mark.parametrize("creates", [True, False])
def test_a_name_that_the_portal_has_in_other_letters_is_nobody_new(client, provider, settings, person, caplog, creates):
    """Some providers give a name in whatever case it was typed in: one person with two accounts could agree to oneself.

    Nor is it the one that is known: to others these are two people.
    """
    settings.OIDC_CREATE_USER = creates
    provider.claims = {"preferred_username": "Person"}
    assert log_in(client, provider).url == REFUSED
    assert User.objects.get() == person
    assert ("The portal has this name in other letters: Person" in caplog.text) is creates


def test_of_names_in_several_letters_the_very_one_counts(client, provider, person):
    other = make_user("Person")
    provider.claims = {"preferred_username": "Person"}
    log_in(client, provider)
    assert client.session["_auth_user_id"] == str(other.pk)


@pytest.mark.parametrize(("verified", "lets_in"), [(True, True), (False, False), ("true", False), (None, False)])
def test_an_address_is_a_name_only_when_it_was_verified(client, provider, settings, verified, lets_in):
    settings.OIDC_USERNAME_CLAIM = "email"
    make_user("person@example.com")
    provider.claims = {"email": "person@example.com", "email_verified": verified}
    log_in(client, provider)
    assert is_in(client) is lets_in


class TestRefused:
    @pytest.mark.one_database
    @pytest.mark.parametrize(
        "token",
        [
            {"iss": "https://evil.example"},
            {"aud": f"another {CLIENT}"},
            {"aud": []},
            {"aud": None},
            {"aud": ["another", CLIENT], "azp": "another"},
            {"azp": "another"},
            {"azp": None},
            {"exp": 1},
            {"exp": None},
            {"exp": ...},
            {"nonce": "another"},
            {"sub": "43"},
        ],
        ids=str,
    )
    def test_a_token_that_is_not_for_this_login(self, client, provider, person, token):
        provider.token = token
        assert log_in(client, provider).url == REFUSED
        assert not is_in(client)

    def test_a_token_that_somebody_else_signed(self, client, provider, person):
        provider.key = key_of("somebody else")
        assert log_in(client, provider).url == REFUSED

    @pytest.mark.parametrize("asked", [{}, {"azp": CLIENT}], ids=str)
    def test_a_token_for_several_that_the_portal_is_one_of_is_taken(self, client, provider, person, asked):
        provider.token = {"aud": ["another", CLIENT]} | asked
        log_in(client, provider)
        assert is_in(client)

    @pytest.mark.one_database
    def test_an_answer_that_is_none(self, client, provider, person, case):
        answers = [(500, b""), (200, b""), (200, b"<html>"), (200, []), (200, {}), (200, None), (200, b"[" * 100_000)]
        for endpoint, answer in product(["/token", "/jwks", "/user"], answers):
            with case(endpoint, answer=answer):
                provider.answers = {endpoint: answer}
                assert log_in(client, provider).url == REFUSED
                assert not is_in(client)

    def test_a_provider_that_is_away(self, client, provider, person, settings):
        settings.OIDC_OP_TOKEN_ENDPOINT = "http://127.0.0.1:9/token"
        assert log_in(client, provider).url == REFUSED

    def test_a_person_who_was_made_inactive(self, client, provider, person):
        User.objects.update(is_active=False)
        assert log_in(client, provider).url == REFUSED

    def test_one_who_is_made_inactive_meanwhile_is_out_at_once(self, client, provider, person):
        log_in(client, provider)
        assert is_in(client)
        User.objects.update(is_active=False)
        assert not is_in(client)

    def test_a_callback_of_another_browser(self, client, provider, person):
        back = provider.let_in(Client().get("/login/oidc/").url)
        assert client.get(CALLBACK, back).url == REFUSED
        client.get("/login/oidc/")
        assert client.get(CALLBACK, back).status_code == 400
        assert not is_in(client)

    def test_a_callback_that_is_sent_twice(self, client, provider, person):
        back = provider.let_in(client.get("/login/oidc/").url)
        client.get(CALLBACK, back)
        client.post("/logout/")
        assert client.get(CALLBACK, back).url == REFUSED

    @pytest.mark.parametrize("query", [{}, {"code": "x"}, {"state": "x"}, {"error": "access_denied"}])
    def test_a_callback_that_lacks_something(self, client, query):
        assert client.get(CALLBACK, query).url == REFUSED

    def test_a_link_with_an_error_logs_nobody_out(self, client, person):
        client.force_login(person)
        client.get(CALLBACK, {"error": "x"})
        assert is_in(client)

    def test_refused_tries_lock_out_nobody_who_shares_the_address(self, client, provider):
        for _ in range(6):
            assert log_in(client, provider).url == REFUSED
        assert not AccessAttempt.objects.exists()
        make_user("person")
        assert log_in(client, provider).url == "/jobs/"


def test_the_way_there_many_times_keeps_the_cookie_small(client, provider):
    for _ in range(10):
        assert client.get("/login/oidc/", {"next": "/jobs/"}).status_code == 302
    assert len(client.session["oidc_states"]) == 3


def test_who_has_a_password_logs_in_by_it_and_wrong_ones_still_count(client, provider):
    make_user("local")
    wrong = client.post("/login/?code=x&state=y", {"username": "local", "password": "wrong"})
    assert "4 tries left" in words(wrong)
    assert client.post("/login/", {"username": "local", "password": PASSWORD}).url == "/"

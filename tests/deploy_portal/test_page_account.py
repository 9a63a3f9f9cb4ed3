"""The account page, the change of a password, and signing out elsewhere."""

import pytest
from axes.models import AccessAttempt
from django.test import Client
from django.urls import reverse

from deploy_portal.forms import ChangePasswordForm
from deploy_portal.models import User
from jobs.models import Event, Membership
from tests.conftest import PASSWORD, make_user
from tests.pages import is_sent_to_login, words

NEW = "another horse battery"
PAGES = ["account", "change_password", "second_factor"]


@pytest.fixture
def person(db):
    return make_user("person", first_name="Li", last_name="Wei")


@pytest.fixture
def elsewhere(person):
    """Another browser in which the person is logged in."""
    client = Client()
    client.force_login(person)
    assert client.get("/account/").status_code == 200
    return client


def is_in(client):
    return client.get("/account/").status_code == 200


class TestAccount:
    def test_tells_a_person_who_they_are_and_what_they_may(self, as_user, requester, orders):
        Membership.objects.create(user=requester, business=orders, role="publisher")
        Membership.objects.create(user=requester, business=orders, role="approver")
        shown = words(as_user(requester).get("/account/"))
        assert "requester" in shown
        assert "Orders Approver, Publisher Payment Requester" in shown
        assert "Second factor Off" in shown

    def test_tells_ops_that_they_are(self, as_user, ops):
        assert "All businesses Ops" in words(as_user(ops).get("/account/"))

    def test_tells_who_has_no_role_what_to_do(self, as_user, person):
        shown = words(as_user(person).get("/account/"))
        assert "You have no role yet. Ask ops for one." in shown
        assert "person · Li Wei" in shown

    def test_a_strange_name_is_inert(self, as_user, db):
        shown = as_user(make_user("odd", first_name="<b>\u202e", last_name="x")).get("/account/").content.decode()
        assert "&lt;b&gt;⟨U+202E⟩ x" in shown

    @pytest.mark.parametrize("name", PAGES)
    def test_is_not_for_the_anonymous(self, client, db, name):
        assert is_sent_to_login(client.get(reverse(name)), reverse(name))

    def test_every_page_leads_there(self, as_user, person):
        assert 'href="/account/"' in as_user(person).get("/").content.decode()


class TestSignOutElsewhere:
    def test_ends_all_sessions_but_this_one(self, as_user, person, elsewhere):
        client = as_user(person)
        response = client.post("/account/sign-out/", follow=True)
        assert "All your other sessions have ended." in words(response)
        assert is_in(client)
        assert not is_in(elsewhere)
        assert (Event.objects.get().verb, Event.objects.get().actor) == ("signed_out", person)

    def test_twice_is_no_harm(self, as_user, person):
        client = as_user(person)
        assert [client.post("/account/sign-out/").url for _ in range(2)] == ["/account/"] * 2
        assert is_in(client)

    def test_leaves_other_people_in(self, as_user, person):
        other = Client()
        other.force_login(make_user("other"))
        as_user(person).post("/account/sign-out/")
        assert is_in(other)

    def test_does_not_make_the_session_last_longer(self, as_user, person):
        client = as_user(person)
        started = client.session["started"]
        client.post("/account/sign-out/")
        assert client.session["started"] == started

    def test_from_another_site_it_is_refused(self, person, elsewhere):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(person)
        assert strict.post("/account/sign-out/").status_code == 403
        assert is_in(elsewhere)

    def test_who_comes_back_from_the_login_finds_the_button(self, client, person):
        fields = {"username": "person", "password": PASSWORD, "next": "/account/sign-out/"}
        assert client.post("/login/", fields).url == "/account/"


class TestPassword:
    @pytest.fixture
    def change(self, as_user, person):
        client = as_user(person)

        def change(old=PASSWORD, new=NEW, again=None):
            fields = {"old_password": old, "new_password1": new, "new_password2": again or new}
            return client.post("/account/password/", fields, follow=True)

        return change

    def test_is_changed_and_ends_all_other_sessions(self, change, client, person, elsewhere):
        assert "Your password is changed." in words(change())
        assert is_in(client)
        assert not is_in(elsewhere)
        person.refresh_from_db()
        assert person.check_password(NEW)
        event = Event.objects.get()
        assert (event.actor, event.subject, event.detail) == (person, "user person", {"fields": ["password"]})

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"old": "wrong"}, "Your old password was entered incorrectly."),
            ({"old": ""}, "This field is required."),
            ({"again": "something else"}, "The two password fields didn’t match."),
            ({"new": "short"}, "This password is too short."),
            ({"new": "password123"}, "This password is too common."),
            ({"new": "9182736450918"}, "This password is entirely numeric."),
        ],
    )
    def test_is_not_changed_by_what_is_not_right(self, change, person, elsewhere, fields, why):
        assert why in words(change(**fields))
        person.refresh_from_db()
        assert person.check_password(PASSWORD)
        assert is_in(elsewhere)

    def test_is_refused_in_the_language_of_the_reader(self, change, client):
        client.cookies["django_language"] = "zh-hans"
        assert "密码长度太短。密码必须包含至少 10 个字符。" in words(change(new="short"))

    def test_the_old_one_cannot_be_guessed_here(self, change, client, person):
        for _ in range(5):
            response = change(old="wrong")
        assert response.status_code == 429
        assert change().status_code == 429
        person.refresh_from_db()
        assert person.check_password(PASSWORD)

    def test_what_was_typed_is_in_no_record_of_the_failed_try(self, change):
        change(old="a secret of mine", new="a new secret of mine")
        kept = AccessAttempt.objects.get()
        assert "secret of mine" not in f"{kept.post_data}{kept.get_data}"

    def test_what_ops_change_at_the_same_moment_is_not_undone(self, change, person, monkeypatch):
        is_valid = ChangePasswordForm.is_valid

        def is_valid_before_the_change(form):
            found = is_valid(form)
            User.objects.update(is_active=False)
            return found

        monkeypatch.setattr(ChangePasswordForm, "is_valid", is_valid_before_the_change)
        change()
        person.refresh_from_db()
        assert (person.is_active, person.check_password(NEW)) == (False, True)

    def test_who_has_none_here_is_told(self, as_user, person):
        person.set_unusable_password()
        person.save()
        client = as_user(person)
        assert "Change password" not in words(client.get("/account/"))
        for send in (client.get, client.post):
            assert "Your password is not kept here." in words(send("/account/password/", follow=True))

    def test_no_copy_of_the_page_is_kept(self, as_user, person):
        assert "no-store" in as_user(person).get("/account/password/")["Cache-Control"]


def test_a_person_who_is_deactivated_is_out_at_once(elsewhere, person):
    person.is_active = False
    person.save()
    assert not is_in(elsewhere)

"""Second factors: set up, asked for at the login, used up, throttled, required, removed, reset."""

import time
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from deploy_portal.models import User
from jobs.models import Event
from tests.conftest import PASSWORD, make_user
from tests.pages import words
from tests.parallel import at_once

pytestmark = pytest.mark.usefixtures("contexts")

PAGE = "/account/second-factor/"
CODE_PAGE = "/login/code/"
WRONG = "This code is wrong, was used before, or came too soon after a wrong one."


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Stands still, so that no code runs out between two lines; `clock(seconds)` moves it on."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


@pytest.fixture
def person(db):
    return make_user("person")


@pytest.fixture
def backup_codes(person):
    """Gives the person a second factor."""
    codes = person.confirm_second_factor(code_of(person.offer_second_factor()))
    TOTPDevice.objects.update(last_t=-1)  # as if that had been long ago
    return codes


@pytest.fixture
def at_code_page(client, person, backup_codes):
    """A browser whose person has shown the password."""
    client.post("/login/", {"username": "person", "password": PASSWORD})
    return client


def code_of(device):
    """What the app shows now."""
    totp = TOTP(device.bin_key)
    totp.time = time.time()
    return f"{totp.token():06}"


def app_code(user):
    return code_of(TOTPDevice.objects.get(user=user))


def give(client, code, **fields):
    return client.post(CODE_PAGE, {"code": code, **fields})


def is_in(client):
    return client.get("/account/").status_code == 200


def forget_throttle():
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)


class TestSetUp:
    def test_the_page_shows_the_secret_as_a_picture_and_as_text(self, as_user, person):
        response = as_user(person).get(PAGE)
        device = TOTPDevice.objects.get(user=person)
        assert "<svg" in response.text
        assert "style=" not in response.text
        assert f"secret={device.config_url.partition('secret=')[2][:32]}" in device.config_url
        assert device.config_url.partition("secret=")[2][:32] in words(response)
        assert "no-store" in response["Cache-Control"]

    def test_looking_twice_shows_the_same_secret_and_turns_nothing_on(self, as_user, person):
        client = as_user(person)
        assert client.get(PAGE).context["secret"] == client.get(PAGE).context["secret"]
        assert person.second_factor is None

    def test_a_code_turns_it_on_and_ends_all_other_sessions(self, as_user, person):
        elsewhere = Client()
        elsewhere.force_login(person)
        client = as_user(person)
        client.get(PAGE)
        response = client.post(PAGE, {"code": app_code(person)})
        assert len(response.context["codes"]) == 10
        assert response.context["codes"][0] in words(response)
        assert person.second_factor
        assert is_in(client)
        assert not is_in(elsewhere)
        event = Event.objects.get(job=None)
        assert (event.actor, event.verb, event.subject) == (person, "changed", "user person")
        assert event.detail == {"added": ["second factor"]}
        assert event.origin == "page from 127.0.0.1"

    def test_the_backup_codes_are_not_in_the_database(self, person, backup_codes):
        kept = set(StaticToken.objects.values_list("token", flat=True))
        assert len(kept) == 10
        assert not kept & {code.replace("-", "") for code in backup_codes}

    @pytest.mark.parametrize("code", ["000000", "", "abc", "12345", "1" * 41, "<script>", "\0", "１２３４５６"])
    def test_a_wrong_code_turns_nothing_on(self, as_user, person, code):
        client = as_user(person)
        client.get(PAGE)
        response = client.post(PAGE, {"code": code})
        assert response.status_code == 200
        assert response.context["form"].errors["code"]
        assert person.second_factor is None

    def test_of_two_confirmations_at_once_one_counts(self, transactional_db):
        person = make_user("person")
        code = code_of(person.offer_second_factor())
        answers = at_once(*[lambda: User.objects.get(pk=person.pk).confirm_second_factor(code)] * 4)
        assert sum(isinstance(answer, list) for answer in answers) == 1
        assert StaticToken.objects.count() == 10

    def test_one_that_is_only_offered_lets_nobody_in_and_takes_no_others_place(self, person):
        assert not person.use_code(code_of(person.offer_second_factor()))
        TOTPDevice.objects.all().delete()
        assert person.confirm_second_factor(code_of(person.offer_second_factor()))
        assert person.confirm_second_factor(code_of(person.offer_second_factor())) is None

    def test_two_that_were_offered_at_once_are_no_error(self, as_user, person):
        for _ in range(2):
            TOTPDevice.objects.create(user=person, name="app", confirmed=False)
        client = as_user(person)
        client.get(PAGE)
        client.post(PAGE, {"code": code_of(TOTPDevice.objects.order_by("pk").first())})
        assert TOTPDevice.objects.get(user=person).confirmed


class TestLogIn:
    def test_who_has_none_needs_no_code(self, client, person):
        assert client.post("/login/", {"username": "person", "password": PASSWORD}).url == "/"
        assert is_in(client)

    def test_the_password_alone_lets_nobody_in(self, client, person, backup_codes):
        response = client.post("/login/?next=/jobs/", {"username": "person", "password": PASSWORD, "next": "/jobs/"})
        assert response.url == "/login/code/?next=%2Fjobs%2F"
        assert not is_in(client)
        person.refresh_from_db()
        assert person.last_login is None

    def test_the_code_of_the_app_lets_in_and_leads_on(self, at_code_page, person):
        assert give(at_code_page, app_code(person), next="/jobs/").url == "/jobs/"
        assert is_in(at_code_page)
        assert at_code_page.session["started"]

    def test_nobody_is_sent_elsewhere_after_it(self, at_code_page, person):
        assert give(at_code_page, app_code(person), next="//evil.example/").url == "/"

    def test_nor_to_a_step_but_to_the_page_that_has_its_button(self, at_code_page, person):
        assert give(at_code_page, app_code(person), next="/jobs/7/approve/?hand=made").url == "/jobs/7/"

    @pytest.mark.parametrize("shape", [str, str.upper, lambda code: code.replace("-", " ")])
    def test_a_backup_code_lets_in_once(self, at_code_page, backup_codes, shape):
        assert give(at_code_page, shape(backup_codes[3])).url == "/"
        again = Client()
        again.post("/login/", {"username": "person", "password": PASSWORD})
        assert WRONG in words(give(again, backup_codes[3]))
        assert not is_in(again)

    def test_a_code_of_the_app_is_taken_once(self, at_code_page, person):
        code = app_code(person)
        give(at_code_page, code)
        again = Client()
        again.post("/login/", {"username": "person", "password": PASSWORD})
        assert WRONG in words(give(again, code))
        assert not is_in(again)

    def test_of_one_code_sent_four_times_at_once_one_is_taken(self, transactional_db):
        person = make_user("person")
        person.confirm_second_factor(code_of(person.offer_second_factor()))
        TOTPDevice.objects.update(last_t=-1)
        code = app_code(person)
        answers = at_once(*[lambda: User.objects.get(pk=person.pk).use_code(code)] * 4)
        assert sorted(map(bool, answers)) == [False, False, False, True]

    def test_a_wrong_code_says_so_and_how_many_tries_are_left(self, at_code_page):
        shown = words(give(at_code_page, "000000"))
        assert WRONG in shown
        assert "4 tries left" in shown

    def test_after_a_wrong_code_the_right_one_must_wait(self, at_code_page, person, settings):
        settings.OTP_TOTP_THROTTLE_FACTOR = 3600  # a second would be over when the host is slow
        give(at_code_page, "000000")
        assert WRONG in words(give(at_code_page, app_code(person)))
        forget_throttle()
        assert give(at_code_page, app_code(person)).url == "/"

    def test_nobody_waits_for_the_time_by_which_the_webs_clock_was_set_back(self, at_code_page, person):
        """While it is ahead, what every app shows is wrong."""
        give(at_code_page, "000000")
        TOTPDevice.objects.update(throttling_failure_timestamp=timezone.now() + timedelta(hours=8))
        assert give(at_code_page, app_code(person)).url == "/"

    def test_wrong_codes_count_as_wrong_passwords_do(self, at_code_page, person):
        for _ in range(5):
            response = give(at_code_page, "000000")
        assert response.status_code == 429
        forget_throttle()
        assert give(at_code_page, app_code(person)).status_code == 429
        assert Client().post("/login/", {"username": "person", "password": PASSWORD}).status_code == 429

    def test_starting_again_with_the_password_gives_no_tries_back(self, at_code_page):
        for _ in range(5):
            at_code_page.post("/login/", {"username": "person", "password": PASSWORD})
            response = give(at_code_page, "000000")
        assert response.status_code == 429

    def test_the_code_is_in_no_record_of_the_failed_try(self, at_code_page):
        give(at_code_page, "123456")
        assert "123456" not in AccessAttempt.objects.get().post_data

    @pytest.mark.parametrize("code", ["", " ", "-", "\0", "x" * 5000, "<script>", "用户", "' OR 1=1 --"])
    def test_a_strange_code_is_a_wrong_one(self, at_code_page, code):
        response = give(at_code_page, code)
        assert response.status_code == 200
        assert not is_in(at_code_page)

    def test_five_minutes_later_the_password_is_asked_for_again(self, at_code_page, person, clock):
        clock(300)
        response = give(at_code_page, app_code(person), next="/jobs/")
        assert response.url == "/login/?next=%2Fjobs%2F&ended=age"
        assert "Your session has ended" in words(at_code_page.get(response.url))
        assert not is_in(at_code_page)

    @pytest.mark.parametrize("change", ["password", "epoch", "inactive"])
    def test_what_happens_between_the_steps_counts(self, at_code_page, person, change):
        if change == "password":
            person.set_password("another horse battery")
            person.save()
        elif change == "epoch":
            person.end_sessions()
        else:
            User.objects.update(is_active=False)
        assert give(at_code_page, app_code(person)).url == "/login/?next=&ended=age"
        assert not is_in(at_code_page)

    def test_without_the_first_step_there_is_no_second(self, client, db):
        assert client.get(CODE_PAGE).url == "/login/?next=&ended=age"

    def test_another_persons_code_does_not_help(self, at_code_page):
        other = make_user("other")
        other.confirm_second_factor(code_of(other.offer_second_factor()))
        TOTPDevice.objects.filter(user=other).update(last_t=-1)
        assert WRONG in words(give(at_code_page, app_code(other)))

    def test_a_session_from_before_it_was_set_up_is_over(self, client, person):
        client.force_login(person)
        person.confirm_second_factor(code_of(person.offer_second_factor()))
        assert not is_in(client)


class TestKeep:
    @pytest.fixture
    def inside(self, at_code_page, person, backup_codes):
        give(at_code_page, backup_codes[0])
        return at_code_page

    def test_shows_how_many_backup_codes_are_left_and_no_secret(self, inside, person):
        response = inside.get(PAGE)
        assert "9 backup codes are left." in words(response)
        assert "<svg" not in response.text

    def test_new_backup_codes_take_the_place_of_the_old(self, inside, person, backup_codes):
        response = inside.post(PAGE, {"code": app_code(person), "step": "codes"})
        new = response.context["codes"]
        assert Event.objects.order_by("-number").first().detail == {"fields": ["backup codes"]}
        assert not set(new) & set(backup_codes)
        assert not person.use_code(backup_codes[1])
        StaticToken.objects.first().device.throttle_reset()
        assert person.use_code(new[1])

    def test_it_is_removed_with_a_code(self, inside, person):
        response = inside.post(PAGE, {"code": app_code(person), "step": "remove"}, follow=True)
        assert Event.objects.order_by("-number").first().detail == {"deleted": ["second factor"]}
        assert "Your second factor is removed." in words(response)
        assert (person.second_factor, StaticToken.objects.count()) == (None, 0)
        assert is_in(inside)

    @pytest.mark.parametrize("step", ["codes", "remove", "", "else"])
    def test_nothing_is_changed_without_a_code(self, inside, person, backup_codes, step):
        assert WRONG in words(inside.post(PAGE, {"code": "000000", "step": step}))
        assert person.second_factor
        assert person.use_code(backup_codes[1])

    def test_codes_cannot_be_guessed_here(self, inside):
        for _ in range(5):
            response = inside.post(PAGE, {"code": "000000", "step": "remove"})
        assert response.status_code == 429


class TestRequired:
    @pytest.fixture(autouse=True)
    def required(self, settings):
        settings.REQUIRE_SECOND_FACTOR = ["publisher", "ops"]

    @pytest.mark.parametrize("who", ["publisher", "ops"])
    @pytest.mark.parametrize("path", ["/", "/jobs/", "/admin/", "/admin/jobs/job/", "/jobs/new/?business=payment"])
    def test_who_lacks_it_is_led_to_where_it_is_set_up(self, request, as_user, who, path):
        response = as_user(request.getfixturevalue(who)).get(path)
        assert (response.status_code, response.url) == (302, PAGE)

    def test_nothing_can_be_posted_either(self, as_user, publisher, job):
        response = as_user(publisher).post(reverse("new_job"), {"business": "payment", "title": "x"})
        assert response.url == PAGE

    @pytest.mark.parametrize("who", ["requester", "approver", "outsider"])
    def test_only_those_roles_are_meant(self, request, as_user, who):
        expected = PAGE if who == "outsider" else None  # who is a publisher of another business
        assert getattr(as_user(request.getfixturevalue(who)).get("/"), "url", None) == expected

    def test_staff_who_are_not_ops_are_in_the_admin_too(self, as_user, db):
        assert as_user(make_user("staff", is_staff=True)).get("/admin/").url == PAGE

    @pytest.mark.parametrize("path", ["/account/", PAGE, "/account/password/", "/health/"])
    def test_what_is_needed_for_it_is_there(self, as_user, publisher, path):
        assert as_user(publisher).get(path).status_code == 200

    def test_one_can_always_log_out(self, as_user, publisher):
        assert as_user(publisher).post("/logout/").url == "/login/"

    def test_setting_it_up_opens_the_portal(self, as_user, publisher):
        client = as_user(publisher)
        assert "Your roles need a second factor." in words(client.get(PAGE))
        client.post(PAGE, {"code": app_code(publisher)})
        assert client.get("/jobs/").status_code == 200

    def test_who_logged_in_by_a_code_is_not_asked_again(self, client, publisher):
        codes = publisher.confirm_second_factor(code_of(publisher.offer_second_factor()))
        client.post("/login/", {"username": "publisher", "password": PASSWORD})
        give(client, codes[0])
        assert client.get("/jobs/").status_code == 200

    def test_removing_it_closes_the_portal(self, as_user, publisher):
        client = as_user(publisher)
        client.get(PAGE)
        codes = client.post(PAGE, {"code": app_code(publisher)}).context["codes"]
        client.post(PAGE, {"code": codes[0], "step": "remove"})
        assert client.get("/jobs/").url == PAGE

    def test_a_role_that_is_given_counts_from_the_next_request(self, as_user, requester, payment):
        client = as_user(requester)
        assert client.get("/jobs/").status_code == 200
        requester.membership_set.create(business=payment, role="publisher")
        assert client.get("/jobs/").url == PAGE

    def test_a_database_that_is_away_is_a_503(self, as_user, publisher, monkeypatch):
        client = as_user(publisher)

        def away(*args, **kwargs):
            raise OperationalError("server closed the connection unexpectedly")

        with monkeypatch.context() as patch:
            patch.setattr("django.db.backends.utils.CursorWrapper.execute", away)
            assert client.get("/jobs/").status_code == 503

    def test_it_costs_who_has_one_no_query(self, as_user, publisher, django_assert_num_queries, settings):
        client = as_user(publisher)
        client.get(PAGE)
        client.post(PAGE, {"code": app_code(publisher)})
        with connection.execute_wrapper(self.none_asks_for_roles):
            assert client.get("/account/second-factor/").status_code == 200

    @staticmethod
    def none_asks_for_roles(execute, sql, params, many, context):
        assert "jobs_membership" not in sql
        return execute(sql, params, many, context)


class TestReset:
    @pytest.fixture
    def reset(self, as_user, ops):
        def reset(*people):
            fields = {"action": "reset_second_factor", "_selected_action": [user.pk for user in people]}
            return as_user(ops).post("/admin/deploy_portal/user/", fields, follow=True)

        return reset

    def test_ops_reset_it_which_is_written_down(self, reset, person, backup_codes, ops):
        inside = Client()
        inside.force_login(person)
        assert "1 second factor was reset." in words(reset(person, ops))
        assert person.second_factor is None
        assert not is_in(inside)
        event = Event.objects.order_by("-number").first()
        assert (event.actor, event.subject, event.detail) == (ops, "user person", {"deleted": ["second factor"]})

    def test_nobody_else_does(self, as_user, person, backup_codes):
        staff = make_user("staff", is_staff=True)
        fields = {"action": "reset_second_factor", "_selected_action": [person.pk]}
        assert as_user(staff).post("/admin/deploy_portal/user/", fields).status_code == 403
        assert person.second_factor

    @pytest.mark.parametrize("path", ["otp_totp/totpdevice", "otp_static/staticdevice"])
    def test_the_admin_shows_no_secret(self, as_user, ops, path):
        assert as_user(ops).get(f"/admin/{path}/").status_code == 404


def test_a_command_as_somebody_needs_no_code(make_job, approver, settings):
    from io import StringIO

    from django.core.management import call_command

    settings.REQUIRE_SECOND_FACTOR = ["approver"]
    job = make_job(approved=False)
    call_command("approve_job", job.pk, "--as", approver.username, stdout=StringIO())
    assert job.events.filter(verb="approved", actor=approver).exists()

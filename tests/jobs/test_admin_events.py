import csv
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from deploy_portal.admin_parts import ReadOnly, Told
from deploy_portal.models import User
from jobs.models import Business, Event
from tests.chains import faults
from tests.conftest import make_user
from tests.forms import based_on
from tests.parallel import at_once, waits_for_a_lock
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("contexts")]

EVENTS = "/admin/jobs/event/"


@pytest.fixture
def page(as_user, ops):
    """The test client, logged in as ops."""
    return as_user(ops)


def found(page, **query):
    return set(page.get(EVENTS, query).context["cl"].result_list)


def exported(page, *events, **query):
    """The rows of the exported file: of these events, or of all that the query finds."""
    return list(csv.DictReader(io.StringIO(exported_text(page, *events, **query), newline="")))


def exported_text(page, *events, **query):
    chosen = {"action": "export", "_selected_action": [event.pk for event in events] or [Event.objects.first().pk]}
    chosen |= {} if events else {"select_across": "1"}
    response = page.post(EVENTS, chosen, query_params=query)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    text = response.getvalue().decode()
    assert text.startswith("\ufeff")
    return text.removeprefix("\ufeff")


class TestSearch:
    @pytest.fixture
    def skipped(self, make_job, publisher):
        """One event that is to be found, beside those of two jobs."""
        make_job("1.0", on=None, title="Other")
        return make_job("2.0", title="Payment 2.0").record(
            Event.Verb.SKIPPED, publisher, "No need today", stage="gray-release", hostnames=["pay-77"]
        )

    @pytest.mark.parametrize("query", ["publisher", "skipped", "need today", "no need", "PAY-77"])
    def test_finds_an_event_by_what_it_says(self, page, skipped, query):
        assert found(page, q=query) == {skipped}

    def test_finds_events_by_job(self, page, skipped):
        for query in [f"#{skipped.job_id}", str(skipped.job_id), "Payment 2.0"]:
            assert skipped in found(page, q=query)
            assert {event.job_id for event in found(page, q=query)} == {skipped.job_id}

    @pytest.mark.parametrize("query", ["Pay-5", "10.0.0.5"])
    def test_finds_events_by_machine_also_where_none_is_named(self, page, make_job, machines, query):
        make_job("1.0", on=machines[:3])
        second = make_job("2.0", on=machines[3:])
        assert found(page, q=query) == set(second.events.all())

    def test_finds_events_by_where_they_came_from(self, page, client, skipped):
        page.post(reverse("admin:jobs_business_add"), {})
        assert found(page, q="192.0.2.1") == set()
        client.post(reverse("withdraw_job", args=[skipped.job_id]), {"reason": "x"}, REMOTE_ADDR="192.0.2.1")
        assert {event.verb for event in found(page, q="192.0.2.1")} == {"withdrawn"}

    def test_filters_by_verb_business_person_and_day(self, page, skipped, publisher, payment):
        assert found(page, verb="skipped") == {skipped}
        assert found(page, actor__id__exact=publisher.pk) == {skipped}
        assert skipped in found(page, job__business__id__exact=payment.pk)
        assert found(page, at__year="2020") == set()

    @pytest.mark.parametrize("wrong", ["'", "%", "\\", "发布", "9" * 40, '"', "-1", "a" * 3000])
    def test_hostile_words_are_no_error(self, page, skipped, wrong):
        assert found(page, q=wrong) <= set(Event.objects.all())


def test_tells_states_and_stages_in_words(page, job, publisher):
    event = job.record(Event.Verb.SKIPPED, publisher, "x", "in_progress", "rolled_back", stage="gray-release")
    for address in [EVENTS, f"{EVENTS}{event.pk}/change/"]:
        text = page.get(address).text
        assert "Gray release" in text
        assert "Rolled back" in text
    assert "In progress" in text
    assert event.digest in text


def test_names_the_portal_when_nobody_acted(page, job):
    event = job.record(Event.Verb.LOST, None, run=1)
    assert "the portal" in page.get(f"{EVENTS}{event.pk}/change/").text


def test_shows_text_of_people_inert(page, job, publisher):
    event = job.record(Event.Verb.SKIPPED, publisher, "<b>\u202e\x1b[31m", hosts="\u202e")
    for address in [EVENTS, f"{EVENTS}{event.pk}/change/"]:
        text = page.get(address).text
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "<b>⟨" not in text


@pytest.mark.parametrize("address", ["add/", "{}/delete/"])
def test_nobody_adds_or_deletes_one(page, job, address):
    assert page.post(EVENTS + address.format(job.events.first().pk), {"post": "yes"}).status_code == 403
    assert job.events.count() == 2


class TestExport:
    def test_has_all_that_the_filter_finds(self, page, make_job, publisher):
        job = make_job()
        job.record(Event.Verb.SKIPPED, publisher, "Not needed", "waiting", "skipped", stage="pre-release")
        [row] = exported(page, verb="skipped")
        assert (row["job"], row["who"], row["what"]) == (str(job.pk), "publisher", "skipped")
        assert (row["stage"], row["from"], row["to"], row["why"]) == ("Pre-release", "Waiting", "Skipped", "Not needed")
        assert row["hash"] == job.events.first().digest

    def test_has_the_chosen_ones(self, page, job):
        assert len(exported(page, job.events.first())) == 1

    def test_has_more_than_are_read_at_once(self, page, job, publisher, monkeypatch):
        monkeypatch.setattr("jobs.export.ROWS_AT_ONCE", 3)
        for number in range(10):
            job.record(Event.Verb.SKIPPED, publisher, f"{number}")
        assert sorted(int(row["why"]) for row in exported(page, verb="skipped")) == list(range(10))

    def test_is_an_event(self, page, ops, job):
        exported(page, verb="asked")
        told = Event.objects.get(job=None)
        assert (told.verb, told.subject, told.actor) == ("exported", "events", ops)
        assert told.origin == "admin from 127.0.0.1"
        assert told.detail == {"events": 1, "filter": "verb=asked"}

    @pytest.mark.one_database
    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "  =", "＝", "\n=", "\r="])
    def test_no_cell_is_a_formula(self, page, job, publisher, start):
        job.record(Event.Verb.SKIPPED, publisher, f"{start}cmd|' /C calc'!A0")
        [row] = exported(page, verb="skipped")
        assert row["why"][0] in "'␍"

    def test_cells_keep_what_they_say(self, page, job, publisher):
        said = '发布, "quoted"; 🚀\nnext line'
        job.record(Event.Verb.SKIPPED, publisher, said)
        assert [row["why"] for row in exported(page, verb="skipped")] == [said]

    def test_no_cell_ends_within(self, page, job, publisher):
        """LibreOffice takes a ; or a tab for the end of one as well: the next began with what a person wrote."""
        job.record(Event.Verb.SKIPPED, publisher, "done;=1+1\t=2")
        assert '","done;=1+1\t=2","' in exported_text(page, verb="skipped")

    def test_control_characters_are_shown(self, page, job, publisher):
        job.record(Event.Verb.SKIPPED, publisher, "\x1b[31m\u202e")
        assert [row["why"] for row in exported(page, verb="skipped")] == ["␛[31m⟨U+202E⟩"]

    @pytest.mark.parametrize("person", ["requester", "publisher", "approver"])
    def test_is_for_ops(self, request, as_user, job, person):
        chosen = {"action": "export", "_selected_action": [job.events.first().pk]}
        assert as_user(request.getfixturevalue(person)).post(EVENTS, chosen).status_code in {302, 403}
        assert not Event.objects.filter(verb="exported").exists()


class TestTold:
    """What ops do in the admin."""

    def told(self):
        assert faults() == {}
        return list(Event.objects.filter(job=None).order_by("number").values_list("verb", "subject", "detail"))

    def test_every_form_that_changes_something_tells_it(self):
        assert [a for a in admin.site._registry.values() if not isinstance(a, Told | ReadOnly)] == []

    def test_a_person_added_changed_and_given_another_password(self, page):
        passwords = {"password1": "Tr0ub4dor&3x", "password2": "Tr0ub4dor&3x", "usable_password": "true"}
        page.post("/admin/deploy_portal/user/add/", {"username": "li.wei", **passwords})
        li = User.objects.get(username="li.wei")
        form = {"username": "li.wei", "is_superuser": "on"}
        path = f"/admin/deploy_portal/user/{li.pk}/change/"
        page.post(path, form | based_on(page, path))
        page.post(f"/admin/deploy_portal/user/{li.pk}/password/", passwords)
        added, changed, password = self.told()
        assert added == ("added", "user li.wei", {})
        assert changed == ("changed", "user li.wei", {"fields": ["Active", "Superuser status"]})
        assert password[:2] == ("changed", "user li.wei")
        assert "Tr0ub4dor" not in str(list(Event.objects.values()))
        assert "pbkdf2" not in str(list(Event.objects.values()))

    def test_a_role_given_and_taken_in_the_form_of_a_business(self, page, payment, requester):
        form = {"name": "Payment", "slug": "payment", "source": "file", "source_options": '{"path": "{business}.json"}'}
        form |= {"soak_minutes": "5", "approvers_needed": 1, "membership_set-TOTAL_FORMS": 1}
        row = {"membership_set-0-user": requester.pk, "membership_set-0-business": payment.pk}
        given = row | {"membership_set-INITIAL_FORMS": 0, "membership_set-0-role": "approver"}
        path = f"/admin/jobs/business/{payment.pk}/change/"
        page.post(path, form | based_on(page, path) | given)
        [told] = self.told()
        assert told[:2] == ("changed", "business Payment")
        assert "Soak time" in told[2]["fields"]
        assert told[2]["added"] == ["membership requester: Approver, Payment"]

    def test_a_membership_deleted_alone_or_with_others(self, page, requester, publisher):
        [first], [second] = requester.membership_set.all(), publisher.membership_set.all()
        page.post(f"/admin/jobs/membership/{first.pk}/delete/", {"post": "yes"})
        chosen = {"action": "delete_selected", "_selected_action": [second.pk], "post": "yes"}
        page.post("/admin/jobs/membership/", chosen)
        assert self.told() == [
            ("deleted", "membership requester: Requester, Payment", {}),
            ("deleted", "membership publisher: Publisher, Payment", {}),
        ]

    @pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock for all")
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(
        ("path", "action"), [("jobs/membership", "delete_selected"), ("axes/accessattempt", "unlock")]
    )
    def test_what_two_delete_at_the_same_moment_once(self, page, requester, path, action):
        attempt = AccessAttempt.objects.create(username="requester", ip_address="10.0.0.9", failures_since_start=5)
        pk = {"unlock": attempt.pk}.get(action, requester.membership_set.get().pk)
        chosen, other, deleting = {"action": action, "_selected_action": [pk], "post": "yes"}, Client(), []
        other.force_login(User.objects.get(username="ops"))

        def as_another_does(execute, sql, *rest):
            if sql.startswith("DELETE") and not deleting:
                deleting.append(pool.submit(at_once, lambda: other.post(f"/admin/{path}/", chosen)))
                wait_until(lambda: deleting[0].done() or waits_for_a_lock())
            return execute(sql, *rest)

        with ThreadPoolExecutor(1) as pool, connection.execute_wrapper(as_another_does):
            answers = [page.post(f"/admin/{path}/", chosen)]
        answers += deleting[0].result()
        assert [answer.status_code for answer in answers] == [302, 302]
        assert len(self.told()) == 1

    def test_a_role_changed_in_the_form_of_a_business(self, page, payment, requester):
        path, [member] = f"/admin/jobs/business/{payment.pk}/change/", requester.membership_set.all()
        form = {"name": "Payment", "slug": "payment", "source": "file", "source_options": '{"path": "{business}.json"}'}
        form |= {"soak_minutes": 0, "approvers_needed": 1}
        form |= {"membership_set-TOTAL_FORMS": 1, "membership_set-INITIAL_FORMS": 1, "membership_set-0-id": member.pk}
        form |= {"membership_set-0-user": requester.pk, "membership_set-0-business": payment.pk}
        page.post(path, form | {"membership_set-0-role": "approver"} | based_on(page, path))
        [told] = self.told()
        assert told[2]["changed"] == ["membership requester: Approver, Payment (Role)"]

    def test_nothing_is_deleted_with_others_without_its_event(self, page, requester, monkeypatch):
        def refuse(*_args, **_what):
            raise OperationalError("database is locked")

        monkeypatch.setattr(type(Event.objects), "tell", refuse)
        chosen = {"action": "delete_selected", "_selected_action": [requester.membership_set.get().pk], "post": "yes"}
        assert page.post("/admin/jobs/membership/", chosen).status_code == 503
        assert requester.membership_set.exists()

    def test_a_task_with_a_new_text(self, page, release_task):
        path = f"/admin/releases/task/{release_task.pk}/change/"
        form = {"name": "deploy", "action": "release", "timeout": 600, "script": "echo secret-7", "in_use": "on"}
        form |= {"versions-TOTAL_FORMS": 0, "versions-INITIAL_FORMS": 0}
        page.post(path, form | based_on(page, path))
        [told] = self.told()
        assert told == ("changed", "task deploy · v2", {"fields": ["Script"]})

    def test_a_form_that_changes_nothing_is_no_event(self, page):
        li = make_user("li.wei")
        page.post(f"/admin/deploy_portal/user/{li.pk}/change/", {"username": "li.wei", "is_active": "on"})
        assert self.told() == []

    def test_a_refused_form_is_no_event(self, page):
        assert page.post("/admin/deploy_portal/user/add/", {"username": ""}).status_code == 200
        assert self.told() == []

    def test_the_end_of_all_sessions_of_some(self, page, requester, publisher):
        chosen = {"action": "end_sessions", "_selected_action": [requester.pk, publisher.pk]}
        page.post("/admin/deploy_portal/user/", chosen)
        assert {told[:2] for told in self.told()} == {
            ("signed_out", "user requester"),
            ("signed_out", "user publisher"),
        }

    def test_what_an_action_says_in_words(self, rf, ops, payment):
        request = rf.post("/")
        request.user = ops
        admin.site._registry[Business].log_change(request, payment, "Did something.")
        assert self.told() == [("changed", "business Payment", {"did": "Did something."})]

    def test_asking_a_config_service_now(self, page, payment):
        page.post("/admin/jobs/business/", {"action": "ask_now", "_selected_action": [payment.pk]})
        assert self.told() == [("asked_again", "business Payment", {})]

    def test_a_login_that_is_unlocked(self, page, client, requester):
        client.logout()
        client.post(reverse("login"), {"username": "requester", "password": "wrong"})
        client.force_login(User.objects.get(username="ops"))
        chosen = {"action": "unlock", "_selected_action": [AccessAttempt.objects.get().pk]}
        client.post("/admin/axes/accessattempt/", chosen)
        [told] = self.told()
        assert told[0] == "unlocked"
        assert told[1] == "requester from 127.0.0.1"

    def test_in_the_same_words_whatever_language_the_person_reads(self, page, requester):
        page.post(reverse("set_language"), {"language": "zh-hans"})
        [membership] = requester.membership_set.all()
        page.post(f"/admin/jobs/membership/{membership.pk}/delete/", {"post": "yes"})
        assert self.told() == [("deleted", "membership requester: Requester, Payment", {})]

"""The form of a job: asking for one, and changing one that has not begun."""

import json
import re
from datetime import timedelta
from functools import partial

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from deploy_portal.settings import CONFIG_SERVICE_MAX_AGE
from deploy_portal.templatetags.portal import clock
from jobs.models import Business, Event, Job, Machine, Membership
from jobs.rights import Role
from tests.conftest import list_machines, make_business, make_user, mark_fresh
from tests.pages import checked, ids, is_sent_to_login, offered, page, source, without_nones, words
from tests.parallel import at_once

NEW = reverse("new_job")


def fields(business, machines, /, **changed):
    return without_nones(
        {
            "title": "Checkout fix",
            "business": business.pk,
            "version": "2.14.3",
            "machines": ids(machines),
            "remark": "because of #77",
        }
        | changed
    )


@pytest.fixture(autouse=True)
def _lists_are_old_after_a_minute(settings):
    settings.CONFIG_SERVICE_MAX_AGE = CONFIG_SERVICE_MAX_AGE


def list_is(config_files, business, *hostnames):
    """Makes the business's config file list these, and its list in the portal older than a minute."""
    rows = [{"hostname": name, "address": f"10.9.0.{n}"} for n, name in enumerate(hostnames, 1)]
    (config_files / f"{business.slug}.json").write_text(json.dumps({"machines": rows}))
    make_old(business)


def make_old(business):
    Business.objects.filter(pk=business.pk).update(
        asked_at=Now() - timedelta(seconds=61), synced_at=Now() - timedelta(hours=3)
    )


@pytest.mark.django_db(transaction=True)
def test_one_button_pressed_many_times_at_once_asks_for_one_job(requester, payment, machines):
    clients = [Client() for _ in range(5)]
    for client in clients:
        client.force_login(requester)
    answers = at_once(*[partial(client.post, NEW, fields(payment, machines[:2])) for client in clients])
    assert {answer.url for answer in answers} == {page("job", Job.objects.get())}


class TestLikeAnother:
    @pytest.fixture
    def like(self, job):
        """The address of a form for one more job like `job`."""

        def like(number=job.pk):
            return f"{NEW}?business={job.business_id}&like={number}"

        return like

    def test_it_begins_with_the_same_machines_and_plan_and_asks_what_and_why(
        self, as_user, requester, make_job, machines, like
    ):
        job = make_job("2.0.77", on=machines[:3], title="Old title", remark="old words", plan_gray_release="2")
        shown = as_user(requester).get(like(job.pk))
        assert checked(shown) == {machine.pk for machine in machines[:3]}
        assert re.search(r'<textarea name="plan_gray_release"[^>]*>\s*2</textarea>', source(shown))
        assert not re.search("2.0.77|Old title|old words", source(shown))

    def test_a_machine_that_is_gone_is_not_taken_over(self, as_user, requester, job, payment, machines, like):
        payment.listings.filter(machine=machines[0]).update(gone_at=Now())
        assert checked(as_user(requester).get(like())) == {machine.pk for machine in machines[1:]}

    def test_what_is_sent_counts(self, as_user, requester, job, payment, machines, like):
        as_user(requester).post(like(), fields(payment, machines[:1]))
        assert list(Job.objects.exclude(pk=job.pk).get().machines.all()) == machines[:1]

    def test_its_link_is_for_who_may_ask(self, as_user, requester, approver, job, like):
        link = like().replace("&", "&amp;")
        assert link in as_user(requester).get(page("job", job)).content.decode()
        assert link not in as_user(approver).get(page("job", job)).content.decode()

    @pytest.mark.parametrize("number", ["0", "01", "-1", "x", "9" * 23, "99"])
    def test_there_must_be_one(self, as_user, requester, like, number):
        assert as_user(requester).get(like(number)).status_code == 404

    def test_it_must_be_seen(self, as_user, ops, requester, make_job, like):
        hidden = make_job("2.0", business=make_business("wallet"), approved=False)
        assert as_user(ops).get(like(hidden.pk)).status_code == 200
        assert as_user(requester).get(like(hidden.pk)).status_code == 404

    def test_what_was_typed_is_not_lost_with_it(self, as_user, requester, make_job, payment, machines, like):
        hidden = make_job("2.0", business=make_business("wallet"), approved=False)
        as_user(requester).post(like(hidden.pk), fields(payment, machines[:1]))
        assert list(Job.objects.latest("pk").machines.all()) == machines[:1]


class TestNew:
    @pytest.mark.parametrize(
        "changed", [{"version": "2.14.4"}, {"remark": "because of #78"}, {"machines": []}, {"plan_pre_release": "1"}]
    )
    def test_what_differs_is_another_job(self, as_user, requester, payment, machines, changed):
        if "machines" in changed:
            changed = {"machines": ids(machines[1:3])}
        client = as_user(requester)
        for more in ({}, {}, changed):
            client.post(NEW, fields(payment, machines[:2], **more))
        assert Job.objects.count() == 2

    def test_the_same_later_or_by_somebody_else_or_after_it_was_withdrawn_is_another_one(
        self, as_user, requester, ops, payment, machines
    ):
        data = fields(payment, machines[:2])
        as_user(requester).post(NEW, data)
        Job.objects.update(created_at=Now() - timedelta(seconds=61))
        as_user(requester).post(NEW, data)
        as_user(ops).post(NEW, data)
        Job.objects.get(requester=ops).withdraw(ops, "not now")
        as_user(ops).post(NEW, data)
        assert Job.objects.count() == 4

    def test_a_requester_asks_for_a_job(self, as_user, requester, payment, machines):
        response = as_user(requester).post(NEW, fields(payment, machines[:2]))
        job = Job.objects.get()
        assert response.url == page("job", job)
        assert (job.title, job.version, job.remark) == ("Checkout fix", "2.14.3", "because of #77")
        assert (job.requester, job.status) == (requester, Job.Status.WAITING)
        assert list(job.machines.all()) == machines[:2]
        assert job.events.get().verb == Event.Verb.ASKED

    @pytest.mark.parametrize("person", ["publisher", "ops"])
    def test_so_can(self, as_user, request, person, payment, machines):
        as_user(request.getfixturevalue(person)).post(NEW, fields(payment, machines))
        assert Job.objects.get().requester.username == person

    def test_where_no_approval_is_needed_none_is_asked_for(self, as_user, requester, payment, make_job):
        job, client = make_job(), as_user(requester)
        for needed, buttons in [
            (1, ["Ask for approval", "Save and ask for approval again"]),
            (0, ["Create the job", "Save"]),
        ]:
            Business.objects.update(approvers_needed=needed)
            for address, button in zip([NEW, page("edit_job", job)], buttons, strict=True):
                response = client.get(address)
                assert re.search(rf">\s*{button}\s*</button>", source(response))
                assert ("until it is approved" in words(response)) == bool(needed)

    def test_who_asks_is_not_named_among_those_who_can_approve(self, as_user, requester, approver, payment, make_job):
        Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
        for address in (NEW, page("edit_job", make_job())):
            assert "Needs 1 approval, not your own: approver." in words(as_user(requester).get(address))

    def test_it_asks_who_you_are(self, client, db):
        assert is_sent_to_login(client.get(NEW), NEW)

    def test_an_approver_is_told_which_right_is_missing(self, as_user, approver, payment, machines):
        client = as_user(approver)
        for response in (client.get(NEW), client.post(NEW, fields(payment, machines))):
            assert response.status_code == 403
            assert "create a job" in words(response)
        assert not Job.objects.exists()

    @pytest.mark.parametrize("named_by", ["pk", "slug"])
    def test_another_business_is_not_there(self, as_user, outsider, payment, machines, named_by):
        business = getattr(payment, named_by)
        client = as_user(outsider)
        assert client.get(NEW, {"business": business}).status_code == 404
        assert client.post(NEW, fields(payment, machines, business=business)).status_code == 404
        assert not Job.objects.exists()

    @pytest.mark.parametrize("business", ["\0", "9" * 40, "-1", "中", "٣", "'; --"])
    def test_a_business_that_cannot_be_is_not_there(self, as_user, requester, payment, machines, business):
        client = as_user(requester)
        assert client.get(NEW, {"business": business}).status_code == 404
        assert client.post(NEW, fields(payment, machines, business=business)).status_code == 404

    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    def test_other_methods_are_refused(self, as_user, requester, method):
        assert getattr(as_user(requester), method)(NEW).status_code == 405

    def test_it_offers_the_live_machines_of_the_chosen_business(self, as_user, ops, payment, machines, orders):
        others = list_machines(orders, "ord-1", "ord-2")
        client = as_user(ops)
        assert offered(client.get(NEW, {"business": "payment"})) == set(ids(machines))
        assert offered(client.get(NEW, {"business": "orders"})) == set(ids(others))

    def test_a_machine_that_left_the_list_is_not_offered(self, as_user, requester, payment, machines):
        list_machines(payment, "pay-1", "pay-2")
        assert offered(as_user(requester).get(NEW)) == set(ids(machines[:2]))

    def test_an_empty_post_is_told_what_it_lacks(self, as_user, requester, machines):
        response = as_user(requester).post(NEW, {})
        assert response.status_code == 200
        assert "Choose at least one machine." in words(response)
        assert '<div class="body" role="alert"><ul class="errorlist" id="id_machines_error">' in source(response)
        assert "This field is required." in words(response)


class TestTheSameFormAgain:
    """What a person sees who comes back to a form by the browser and sends it once more."""

    def key_in(self, response):
        return re.search(r'name="key" value="([^"]+)"', response.content.decode())[1]

    @pytest.fixture
    def sent(self, as_user, requester, payment, machines):
        """The client of a requester who has asked for a job long ago, and what their form sent."""
        client = as_user(requester)
        data = fields(payment, machines[:2], key=self.key_in(client.get(NEW)))
        client.post(NEW, data)
        Job.objects.update(created_at=Now() - timedelta(hours=1))
        return client, data

    def test_with_the_same_in_it_leads_to_the_job_that_it_made(self, sent):
        client, data = sent
        assert client.post(NEW, data).url == page("job", Job.objects.get())

    def test_another_form_with_the_same_in_it_asks_for_another_job(self, as_user, requester, payment, machines):
        client = as_user(requester)
        forms = [fields(payment, machines[:2], key=self.key_in(client.get(NEW))) for _ in range(2)]
        assert client.post(NEW, forms[0]).url != client.post(NEW, forms[1]).url

    def test_with_something_else_in_it_says_so_and_keeps_what_was_typed(self, sent, machines):
        client, data = sent
        response = client.post(NEW, data | {"version": "2.14.4", "machines": ids(machines[1:2])})
        job = Job.objects.get()
        assert response.status_code == 409
        assert f"This form already made {job}. Open job" in words(response)
        assert page("job", job) in source(response)
        assert 'value="2.14.4"' in source(response)
        assert "because of #77" in words(response)
        assert checked(response) == {machines[1].pk}

    def test_sent_once_more_it_asks_for_another_job(self, sent):
        client, data = sent
        data["version"] = "2.14.4"
        data["key"] = self.key_in(client.post(NEW, data))
        assert client.post(NEW, data).url == page("job", Job.objects.get(version="2.14.4"))
        assert client.post(NEW, data).status_code == 302
        assert Job.objects.count() == 2

    def test_after_its_job_was_withdrawn_asks_first_as_well(self, sent, requester):
        client, data = sent
        Job.objects.get().withdraw(requester, "not now")
        assert client.post(NEW, data).status_code == 409

    def test_it_is_the_same_form_until_its_mistakes_are_mended(self, sent):
        client, data = sent
        data["key"] = self.key_in(client.get(NEW))
        assert self.key_in(client.post(NEW, data | {"version": "a;b"})) == data["key"]
        assert self.key_in(client.post(NEW, data | {"list": "1"})) == data["key"]

    def test_a_key_of_somebody_else_is_as_good_as_any(self, sent, as_user, ops):
        _client, data = sent
        assert as_user(ops).post(NEW, data).status_code == 302
        assert Job.objects.count() == 2

    @pytest.mark.parametrize("key", ["x", "\0", "1" * 5000, "<b>"])
    def test_a_key_that_cannot_be_is_refused_and_a_new_one_given(self, sent, key):
        client, data = sent
        response = client.post(NEW, data | {"key": key})
        assert "The form was not complete; please try again." in words(response)
        assert client.post(NEW, data | {"version": "3.0", "key": self.key_in(response)}).status_code == 302


BAD_TITLES = ["", "   ", None, "x" * 201, "x" * 256]
BAD_TITLES += ["a\0b", "a\x07b", "a\u202eb", "a\u2028b", "a\u200bb", "\ufeffa", "a\nb"]
BAD_VERSIONS = ["", None, "../../x", "-rf", "{{7*7}}", "a;b", "$(id)", "a b", ".hidden", "1/2", "二", "1" * 65]
BAD_VERSIONS += ["1\n2", "1\0"]
NO_IDS = ["pay-1", "-1", "0", "01", "1.0", "9" * 40, "٣", "1; DROP TABLE jobs_job", "$(reboot)"]
NO_IDS += ["<b>bold</b>", "1\0"]
BAD_MACHINES = [
    *((value, "Choose at least one machine.") for value in ([], [""])),
    *(([value], "This is not a machine's id") for value in NO_IDS),
    (["9" * 18], "Some of these are not machines of this business."),
    (range(10**9, 10**9 + 1000), "Some of these are not machines of this business."),
    (range(10**9, 10**9 + 10_000), "Some of these are not machines of this business."),
]


class TestBadInput:
    def refused(self, as_user, requester, data):
        """Posts `data`, which must be refused; returns the page."""
        response = as_user(requester).post(NEW, data)
        assert response.status_code == 200
        assert not Job.objects.exists()
        assert "Nothing was saved." in words(response)
        return response

    @pytest.mark.one_database
    def test_a_bad_title(self, as_user, requester, payment, machines, case):
        for title in BAD_TITLES:
            with case(title=title):
                response = self.refused(as_user, requester, fields(payment, machines[:1], title=title))
                assert "2.14.3" in source(response)
                assert "because of #77" in words(response)
                assert checked(response) == {machines[0].pk}

    @pytest.mark.one_database
    def test_a_bad_version(self, as_user, requester, payment, machines, case):
        for version in BAD_VERSIONS:
            with case(version=version):
                response = self.refused(as_user, requester, fields(payment, machines[:1], version=version))
                assert 'value="Checkout fix"' in source(response)
                assert f'value="{version or ""}"' in source(response) or not version
                assert checked(response) == {machines[0].pk}

    @pytest.mark.one_database
    def test_a_bad_remark(self, as_user, requester, payment, machines, case):
        for remark in ["x" * 2001, "a\0b", "a\x1b[2Jb", "a\u202eb", "a\u2066b"]:
            with case(remark=remark):
                response = self.refused(as_user, requester, fields(payment, machines[:1], remark=remark))
                assert 'value="Checkout fix"' in source(response)

    def test_bad_machines(self, as_user, requester, payment, machines, case):
        for value, why in BAD_MACHINES:
            with case(machines=value):
                response = self.refused(as_user, requester, fields(payment, [], machines=list(value)))
                assert why in words(response)
                assert 'value="Checkout fix"' in source(response)
                assert "<b>bold" not in response.content.decode()

    def test_a_machine_named_twice(self, as_user, requester, payment, machines):
        twice = [machines[0].pk, machines[0].pk]
        response = self.refused(as_user, requester, fields(payment, [], machines=twice))
        assert "Some machines were named twice." in words(response)
        assert checked(response) == {machines[0].pk}

    def test_a_machine_of_another_business_is_not_named(self, as_user, requester, payment, machines, orders):
        foreign = list_machines(orders, "ord-secret")
        response = self.refused(as_user, requester, fields(payment, [machines[0], *foreign]))
        assert "Some of these are not machines of this business." in words(response)
        assert "ord-secret" not in source(response)
        assert checked(response) == {machines[0].pk}

    def test_a_gone_machine_is_named(self, as_user, requester, payment, machines):
        list_machines(payment, *(f"pay-{n}" for n in range(1, 6)))
        response = self.refused(as_user, requester, fields(payment, [machines[0], machines[5]]))
        assert "pay-6 is no longer a live machine of this business." in words(response)
        assert checked(response) == {machines[0].pk}

    def test_machines_of_one_business_for_another(self, as_user, ops, payment, machines, orders):
        list_machines(orders, "ord-1")
        response = self.refused(as_user, ops, fields(orders, machines))
        assert "is no longer a live machine of this business" in words(response)

    def test_a_short_name_that_is_the_number_of_another_business_offers_none_of_its_machines(
        self, as_user, ops, payment, machines
    ):
        other = make_business("a")
        Business.objects.filter(pk=other.pk).update(slug=payment.pk)
        listed = list_machines(other, "a-1")
        response = as_user(ops).post(NEW, fields(payment, listed))
        assert "a-1 is no longer a live machine of this business." in words(response)
        assert not Job.objects.exists()

    def test_markup_is_kept_as_text(self, as_user, requester, payment, machines):
        response = self.refused(
            as_user, requester, fields(payment, [], title='"><script>alert(1)</script>', remark="</textarea><b>x</b>")
        )
        assert "<script>alert" not in response.content.decode()
        assert "<b>x</b>" not in response.content.decode()


class TestGoodInput:
    @pytest.mark.parametrize(
        "title",
        [
            "支付修复",
            "Release 🚀",
            "family 👨‍👩‍👧",
            "shaking 🫨 face",
            "<script>alert(1)</script>",
            "{{ 7*7 }}",
            "x" * 200,
        ],
    )
    def test_a_title_of_any_words(self, as_user, requester, payment, machines, title):
        response = as_user(requester).post(NEW, fields(payment, machines[:1], title=title), follow=True)
        assert Job.objects.get().title == title
        assert title in source(response)
        assert "<script>alert" not in response.content.decode()

    def test_a_remark_of_several_lines(self, as_user, requester, payment, machines):
        as_user(requester).post(NEW, fields(payment, machines[:1], remark="一\r\n\ttwo 🎉"))
        assert Job.objects.get().remark == "一\n\ttwo 🎉"

    def test_a_job_of_a_thousand_machines(self, as_user, requester, payment, db):
        fleet = list_machines(payment, *(f"web-{n:04}" for n in range(1000)))
        as_user(requester).post(NEW, fields(payment, fleet))
        assert Job.objects.get().machines.count() == 1000


class TestConfigService:
    def test_a_list_older_than_a_minute_is_asked_for_again(self, as_user, requester, config_files, payment, machines):
        list_is(config_files, payment, *(f"pay-{n}" for n in range(1, 8)))
        response = as_user(requester).get(NEW)
        assert Machine.objects.get(hostname="pay-7").pk in offered(response)

    def test_a_fresh_list_is_not_asked_for_again(self, as_user, requester, config_files, payment, machines):
        list_is(config_files, payment, *(f"pay-{n}" for n in range(1, 8)))
        mark_fresh(payment)
        assert offered(as_user(requester).get(NEW)) == set(ids(machines))

    def test_the_machines_of_a_post_are_asked_for_as_well(self, as_user, requester, config_files, payment, machines):
        list_is(config_files, payment, *(f"pay-{n}" for n in range(1, 6)))
        response = as_user(requester).post(NEW, fields(payment, machines))
        assert "pay-6 is no longer a live machine of this business." in words(response)

    def test_without_an_answer_the_last_list_stays_with_its_age_and_the_reason(
        self, as_user, requester, payment, machines
    ):
        make_old(payment)
        response = as_user(requester).get(NEW)
        assert offered(response) == set(ids(machines))
        payment.refresh_from_db()
        assert f"This list is 3\xa0hours old, from {clock(payment.synced_at)}." in response.content.decode()
        assert "There is no file payment.json in CONFIG_FILES_DIR." in words(response)

    def test_a_list_that_was_not_taken_is_not_called_silence(self, as_user, requester, config_files, payment, machines):
        list_is(config_files, payment, "pay-1")
        response = as_user(requester).get(NEW)
        assert offered(response) == set(ids(machines))
        assert "5 of 6 machines are suddenly missing from the answer; it was not taken." in words(response)
        assert "did not answer" not in words(response)

    def test_a_business_without_any_list_yet_says_why(self, as_user, requester, payment):
        response = as_user(requester).get(NEW)
        assert "The config service gives no machines for Payment." in words(response)
        assert "There is no file payment.json in CONFIG_FILES_DIR." in words(response)


class TestEdit:
    def change(self, client, job, machines, /, **changed):
        return client.post(
            page("edit_job", job), fields(job.business, machines, **{"revision": job.revision} | changed), follow=True
        )

    def test_what_was_asked_for_is_filled_in(self, as_user, requester, make_job, machines):
        job = make_job(on=machines[:3], title="Before", remark="old words")
        response = as_user(requester).get(page("edit_job", job))
        assert checked(response) == set(ids(machines[:3]))
        assert 'value="Before"' in source(response)
        assert "old words" in words(response)

    def test_an_edit_voids_the_approval(self, as_user, requester, job, machines):
        response = self.change(as_user(requester), job, machines[:2], title="After")
        job.refresh_from_db()
        assert (job.title, job.version) == ("After", "2.14.3")
        assert list(job.machines.all()) == machines[:2]
        assert (job.status, job.approved_by, job.approved_at) == (Job.Status.WAITING, "", None)
        assert job.events.first().verb == Event.Verb.EDITED
        assert "Saved. It needs approval again." in words(response)

    def test_it_asks_who_you_are(self, client, job):
        assert is_sent_to_login(client.get(page("edit_job", job)), page("edit_job", job))

    @pytest.mark.one_database
    @pytest.mark.parametrize("person", ["publisher", "approver", "colleague"])
    def test_others_are_told_which_right_is_missing(self, as_user, request, job, machines, payment, person):
        colleague = make_user("colleague")
        Membership.objects.create(user=colleague, business=payment, role=Role.REQUESTER)
        client = as_user(colleague if person == "colleague" else request.getfixturevalue(person))
        for response in (client.get(page("edit_job", job)), self.change(client, job, machines, title="Mine")):
            assert response.status_code == 403
            assert "edit or withdraw this job" in words(response)
        job.refresh_from_db()
        assert job.title == "Payment 2.0"

    def test_ops_may(self, as_user, ops, job, machines):
        self.change(as_user(ops), job, machines, title="By ops")
        job.refresh_from_db()
        assert job.title == "By ops"
        assert job.requester.username == "requester"

    def test_for_an_outsider_it_is_not_there(self, as_user, outsider, job, machines):
        client = as_user(outsider)
        assert client.get(page("edit_job", job)).status_code == 404
        assert self.change(client, job, machines).status_code == 404

    @pytest.mark.one_database
    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    def test_other_methods_are_refused(self, as_user, requester, job, method):
        assert getattr(as_user(requester), method)(page("edit_job", job)).status_code == 405

    def test_a_job_stays_in_its_business(self, as_user, ops, job, machines, orders):
        self.change(as_user(ops), job, machines, business=orders.pk)
        job.refresh_from_db()
        assert job.business.slug == "payment"

    @pytest.mark.one_database
    @pytest.mark.parametrize("bad", [{"title": ""}, {"version": "a;b"}, {"machines": []}, {"remark": "a\u202eb"}])
    def test_bad_input_changes_nothing_and_stays_typed(self, as_user, requester, job, machines, bad):
        response = self.change(as_user(requester), job, machines[:2], **{"title": "After"} | bad)
        assert "Nothing was saved." in words(response)
        job.refresh_from_db()
        assert (job.title, job.revision, job.status) == ("Payment 2.0", 1, Job.Status.APPROVED)
        assert 'value="After"' in source(response) or "title" in bad

    def test_an_empty_post_changes_nothing(self, as_user, requester, job):
        response = as_user(requester).post(page("edit_job", job), {})
        assert "Nothing was saved." in words(response)
        job.refresh_from_db()
        assert job.revision == 1

    def test_of_two_who_edit_the_second_is_told_and_loses_nothing(self, as_user, ops, requester, job, machines):
        late = fields(job.business, machines[:1], title="Late", revision=job.revision)
        self.change(as_user(ops), job, machines, title="First")
        response = as_user(requester).post(page("edit_job", job), late)
        assert "changed meanwhile" in words(response)
        assert 'value="Late"' in source(response)
        job.refresh_from_db()
        assert (job.title, job.machines.count()) == ("First", 6)
        self.change(as_user(requester), job, machines[:1], title="Late")
        job.refresh_from_db()
        assert job.title == "Late"

    def test_saving_twice_saves_once(self, as_user, requester, job, machines):
        data = fields(job.business, machines, revision=job.revision)
        client = as_user(requester)
        client.post(page("edit_job", job), data)
        response = client.post(page("edit_job", job), data, follow=True)
        assert response.redirect_chain == [(page("job", job), 302)]
        assert "Saved. It needs approval again." in words(response)
        assert job.events.filter(verb=Event.Verb.EDITED).count() == 1

    def test_saving_once_more_after_it_was_sent_back_is_told(self, as_user, requester, approver, job, machines):
        data = fields(job.business, machines, revision=job.revision)
        client = as_user(requester)
        client.post(page("edit_job", job), data)
        Job.objects.get(pk=job.pk).send_back(approver, "not on a Friday")
        assert "changed meanwhile" in words(client.post(page("edit_job", job), data))

    @pytest.mark.parametrize("changed", [{"title": "Other"}, {"machines": None}, {"revision": 7}, {"revision": None}])
    def test_saving_something_else_from_an_old_page_is_told(self, as_user, requester, job, machines, changed):
        data = fields(job.business, machines, revision=job.revision)
        client = as_user(requester)
        client.post(page("edit_job", job), data)
        response = client.post(page("edit_job", job), without_nones(data | {"machines": ids(machines[:2])} | changed))
        assert "Nothing was saved." in words(response)
        assert job.events.filter(verb=Event.Verb.EDITED).count() == 1

    def test_turning_a_page_of_the_list_hides_no_edit_of_somebody_else(
        self, as_user, ops, requester, payment, make_job
    ):
        machines = list_machines(payment, *(f"pay-{number}" for number in range(1, 102)))
        job = make_job(on=machines)
        self.change(as_user(ops), job, machines, title="First")
        response = as_user(requester).post(
            page("edit_job", job), fields(payment, machines, title="Late", revision=1, list=2)
        )
        shown = re.search(r'name="revision" value="(\d+)"', source(response))[1]
        response = as_user(requester).post(
            page("edit_job", job), fields(payment, machines, title="Late", revision=shown)
        )
        assert "changed meanwhile" in words(response)
        assert "What happened last: ops changed the job to 2.14.3 on 101 machines" in words(response)
        job.refresh_from_db()
        assert job.title == "First"

    def test_a_new_job_has_no_history_to_be_told_of(self, as_user, requester, payment, machines):
        response = as_user(requester).post(NEW, fields(payment, machines, revision="x"))
        assert response.status_code == 200
        assert "What happened last" not in words(response)

    def test_once_a_stage_has_begun_it_is_too_late(self, as_user, requester, job, machines, start):
        start(job, machines[:1])
        client = as_user(requester)
        response = client.get(page("edit_job", job), follow=True)
        assert "A job that has begun or was withdrawn is no longer edited." in words(response)
        response = self.change(client, job, machines[:1], title="After")
        assert response.status_code == 409
        assert "no longer in the state this step begins from" in words(response)
        assert 'value="After"' in source(response)
        job.refresh_from_db()
        assert (job.title, job.machines.count()) == ("Payment 2.0", 6)


@pytest.mark.django_db(transaction=True)
def test_an_edit_sent_many_times_at_once_is_saved_once_and_never_in_conflict_with_itself(requester, job, machines):
    clients = [Client() for _ in range(4)]
    for client in clients:
        client.force_login(requester)
    data = fields(job.business, machines[:2], revision=job.revision)
    answers = at_once(*[partial(client.post, page("edit_job", job), data) for client in clients])
    assert [answer.status_code for answer in answers] == [302] * 4
    assert job.events.filter(verb=Event.Verb.EDITED).count() == 1


class TestMachinesThatChanged:
    """An edit is for where the machines are now: said before, and told to who approves."""

    @pytest.fixture
    def changed(self, job, payment, machines):
        """pay-6 is gone, and pay-1 has moved."""
        list_machines(payment, *(f"pay-{number}" for number in range(1, 6)))
        Machine.objects.filter(hostname="pay-1").update(address="10.9.9.9")
        return job

    def test_it_is_said_before(self, as_user, requester, changed):
        said = words(as_user(requester).get(page("edit_job", changed)))
        assert "Machines have changed since they were chosen." in said
        assert "pay-1 was chosen at 10.0.0.1:22 sh-1 and is at 10.9.9.9:22 sh-1 now." in said
        assert "pay-6 is gone from the config service." in said

    def test_and_told_to_who_approves(self, as_user, requester, approver, changed, machines):
        data = fields(changed.business, machines[:5], revision=changed.revision, title="A typo less")
        assert as_user(requester).post(page("edit_job", changed), data).status_code == 302
        said = words(as_user(approver).get(page("job", changed)))
        assert "Chosen where it is now: pay-1 (10.0.0.1:22 sh-1 → 10.9.9.9:22 sh-1)" in said
        assert "No longer in it: pay-6" in said

    def test_what_was_added_is_told_too(self, as_user, requester, make_job, machines):
        job = make_job("3.0", on=machines[:2])
        as_user(requester).post(page("edit_job", job), fields(job.business, machines[1:3], revision=job.revision))
        event = job.events.first()
        assert (event.detail["added"], event.detail["dropped"]) == (["pay-3"], ["pay-1"])

    def test_what_did_not_change_is_not(self, as_user, requester, job, machines):
        client = as_user(requester)
        assert "Machines have changed" not in words(client.get(page("edit_job", job)))
        client.post(page("edit_job", job), fields(job.business, machines, revision=job.revision, title="Other"))
        assert job.events.first().detail.keys() == {"version", "machines", "fields"}

    def test_who_sent_it_back_sees_what_is_different_now(self, as_user, requester, approver, job, machines):
        job.send_back(approver, "more in gray")
        data = fields(job.business, machines, title=job.title, version=job.version, plan_gray_release="2")
        as_user(requester).post(page("edit_job", job), data | {"revision": job.revision, "remark": "as you said"})
        assert "needs approval again Changed: planned for gray release, remark" in words(
            as_user(approver).get(page("job", job))
        )

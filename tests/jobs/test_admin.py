import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from jobs.admin import BusinessAdmin
from jobs.models import Business, Event, Job, Machine, Membership, Sync
from jobs.rights import Role
from tests.conftest import list_machines, make_business, make_member, make_task, make_user
from tests.forms import based_on
from tests.freezes import freeze_now
from tests.pages import words
from tests.parallel import at_once, waits_for_a_lock
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("contexts")]

LATE = "Somebody changed this meanwhile. Copy what you typed, open the page again and take both up."
BUSINESSES = "/admin/jobs/business/"
MACHINES = "/admin/jobs/machine/"


@pytest.fixture
def page(as_user, ops):
    """The test client, logged in as ops."""
    return as_user(ops)


def change(business):
    return f"{BUSINESSES}{business.pk}/change/"


def fields(business, *memberships, **changed):
    """What the change form of `business` posts; each membership is (id or "", user, role)."""
    form = {
        "name": business.name,
        "slug": business.slug,
        "soak_minutes": getattr(business, "soak_minutes", 0),
        "approvers_needed": getattr(business, "approvers_needed", 1),
        "source": business.source,
        "source_options": json.dumps(business.source_options),
        "membership_set-TOTAL_FORMS": len(memberships),
        "membership_set-INITIAL_FORMS": len([pk for pk, *_ in memberships if pk]),
    }
    for index, (pk, user, role) in enumerate(memberships):
        row = {"id": pk, "business": business.pk or "", "user": user.pk, "role": role}
        form |= {f"membership_set-{index}-{name}": value for name, value in row.items()}
    return form | changed


def save(page, business, *memberships, follow=False, **changed):
    """Opens the page of `business`, and saves it with these changes."""
    began = based_on(page, change(business))
    return page.post(change(business), fields(business, *memberships) | began | changed, follow=follow)


def errors(response, name):
    return response.context["adminform"].form.errors.get(name, [])


def ask(page, *businesses, language="en"):
    chosen = {"action": "ask_now", "_selected_action": [business.pk for business in businesses]}
    return page.post(BUSINESSES, chosen, follow=True, HTTP_ACCEPT_LANGUAGE=language).text


def write_list(config_files, business, *hostnames):
    rows = [{"hostname": name, "address": f"10.1.0.{number}"} for number, name in enumerate(hostnames, 1)]
    (config_files / f"{business.slug}.json").write_text(json.dumps(rows))


def test_adds_a_business_with_members(page, requester):
    new = SimpleNamespace(pk=None, name="Search", slug="search", source="file", source_options={"path": "search.json"})
    response = page.post(f"{BUSINESSES}add/", fields(new, ("", requester, Role.APPROVER)))
    assert response.status_code == 302
    business = Business.objects.get(slug="search")
    assert business.source_options == {"path": "search.json"}
    assert Membership.objects.filter(user=requester, business=business, role=Role.APPROVER).exists()


@pytest.mark.one_database
@pytest.mark.parametrize("path", ["../payment", "/etc/ssh/key", "pay.pub", "pay ment", "-----BEGIN KEY", "$(id)"])
def test_a_business_names_its_ssh_key_and_no_path(page, payment, path):
    assert errors(save(page, payment, ssh_key=path), "ssh_key")
    save(page, payment, ssh_key="payment_1")
    assert Business.objects.get(pk=payment.pk).ssh_key == "payment_1"


@pytest.mark.parametrize("name", ["Pay\u202ement", "\x1b[31mPayment", "Pay\u200bment"])
def test_a_business_has_no_name_that_looks_like_another(page, payment, name):
    assert errors(save(page, payment, name=name), "name") == ["Remove the control or invisible characters."]
    save(page, payment, name="支付")
    assert Business.objects.get(pk=payment.pk).name == "支付"


def test_offers_the_sources_of_the_settings(page, payment):
    text = page.get(change(payment)).text
    assert '<option value="http_json">' in text
    assert '<option value="file" selected>' in text
    response = save(page, payment, source="telepathy")
    assert errors(response, "source")


def test_shows_options_indented(page, payment):
    assert "{\n  &quot;path&quot;: &quot;{business}.json&quot;\n}" in page.get(change(payment)).text


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ('{"path": ', "Enter a valid JSON."),
        ("[" * 100_000, "Enter a valid JSON."),
        ("[1]", "Write a JSON object"),
        ("null", "Write a JSON object"),
        ('{"path": "a.json", "colour": "red"}', "colour"),
        ('{"path": "a\\u0000.json"}', "Enter a valid JSON."),
        ('{"path": "a\\ud800.json"}', "Enter a valid JSON."),
        ("{}", "path"),
        ('{"path": "../../etc/passwd.csv"}', "outside CONFIG_FILES_DIR"),
        ('{"path": "{business}/../../x.json"}', "outside CONFIG_FILES_DIR"),
    ],
)
def test_says_at_the_field_what_is_wrong_with_the_options_and_keeps_them(page, payment, typed, says):
    response = save(page, payment, source_options=typed)
    assert response.status_code == 200
    assert says in " ".join(errors(response, "source_options"))
    kept = response.context["adminform"].form["source_options"].value()
    assert "".join(kept.split()) == "".join(typed.split())
    payment.refresh_from_db()
    assert payment.source_options == {"path": "{business}.json"}


def test_the_state_of_the_last_answer_is_shown_and_no_field(page, payment, machines):
    Business.objects.filter(pk=payment.pk).update(sync_error="The service is down.", refused_rows=3)
    text = page.get(change(payment)).text
    assert "The service is down." in text
    assert f'<a href="{MACHINES}?businesses__id__exact={payment.pk}&amp;listed=live">6</a>' in text
    save(page, payment, sync_error="", refused_rows="0", synced_at="")
    payment.refresh_from_db()
    assert (payment.sync_error, payment.refused_rows) == ("The service is down.", 3)


def test_the_short_name_stays_once_there_are_jobs(page, payment, orders, make_job):
    save(page, payment, slug="pay")
    payment.refresh_from_db()
    assert payment.slug == "pay"
    make_job()
    save(page, payment, slug="other")
    payment.refresh_from_db()
    assert payment.slug == "pay"


def test_takes_a_role_away(page, payment, requester):
    membership = requester.membership_set.get()
    save(page, payment, (membership.pk, requester, Role.REQUESTER), **{"membership_set-0-DELETE": "on"})
    assert not requester.membership_set.exists()


def test_refuses_a_role_given_twice(page, payment, requester):
    rows = [(requester.membership_set.get().pk, requester, Role.REQUESTER), ("", requester, Role.REQUESTER)]
    assert save(page, payment, *rows).status_code == 200
    assert requester.membership_set.count() == 1


def test_refuses_a_role_changed_to_one_that_another_row_gives(page, payment, requester):
    other = Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    rows = [(requester.membership_set.first().pk, requester, Role.APPROVER), (other.pk, requester, Role.APPROVER)]
    assert "Please correct the duplicate data" in save(page, payment, *rows).text
    assert set(requester.membership_set.values_list("role", flat=True)) == {Role.REQUESTER, Role.APPROVER}


def test_what_was_opened_before_undoes_nothing_that_another_did_meanwhile(page, payment):
    form = fields(payment, soak_minutes=7) | based_on(page, change(payment))
    Business.objects.filter(pk=payment.pk).update(approvers_needed=2)
    response = page.post(change(payment), form)
    assert errors(response, "__all__") == [LATE]
    assert response.context["adminform"].form["soak_minutes"].value() == "7"
    payment.refresh_from_db()
    assert (payment.approvers_needed, payment.soak_minutes) == (2, 0)


def test_a_role_that_another_changed_meanwhile_stays_as_it_is_now(page, payment, requester):
    member = requester.membership_set.get()
    form = fields(payment, (member.pk, requester, Role.REQUESTER), soak_minutes=7) | based_on(page, change(payment))
    requester.membership_set.update(role=Role.APPROVER)
    assert LATE in page.post(change(payment), form).text
    own_page = f"/admin/jobs/membership/{member.pk}/change/"
    own_form = {"user": requester.pk, "business": payment.pk, "role": Role.PUBLISHER} | based_on(page, own_page)
    assert page.post(own_page, own_form).status_code == 302
    assert LATE in page.post(own_page, own_form | {"role": Role.REQUESTER}).text
    assert requester.membership_set.get().role == Role.PUBLISHER


def test_says_that_a_membership_of_the_page_is_gone_unless_it_was_to_go(page, payment, requester, publisher):
    members = payment.membership_set.order_by("pk")
    rows = [(member.pk, member.user, member.role) for member in members]
    form = fields(payment, *rows, soak_minutes=7) | based_on(page, change(payment))
    members[0].delete()
    assert "A membership of this list is gone; open the page again." in page.post(change(payment), form).text
    assert page.post(change(payment), form | {"membership_set-0-DELETE": "on"}).status_code == 302
    payment.refresh_from_db()
    assert (payment.soak_minutes, payment.membership_set.count()) == (7, 1)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["the same number", "its role here", "its role there", "takes it away too"])
def test_of_two_at_the_same_moment_the_second_finds_what_the_first_has_done(ops, payment, requester, monkeypatch, way):
    """The second had read what the first was about to change: one was lost, came back, or broke the page."""
    first, second = Client(), Client()
    for client in (first, second):
        client.force_login(ops)
    member = requester.membership_set.get()
    here, there = change(payment), f"/admin/jobs/membership/{member.pk}/"
    began, began_there = based_on(first, here), based_on(first, f"{there}change/")
    rows = [(member.pk, requester, Role.REQUESTER)]
    others_role = {"user": requester.pk, "business": payment.pk, "role": Role.APPROVER} | began_there
    ways = {
        "the same number": (here, fields(payment, *rows, approvers_needed=3) | began),
        "its role here": (here, fields(payment, (member.pk, requester, Role.APPROVER)) | began),
        "its role there": (f"{there}change/", others_role),
        "takes it away too": (f"{there}delete/", {"post": "yes"}),
    }
    real, answers = BusinessAdmin.tell, []

    def tell(admin, *args, **detail):
        real(admin, *args, **detail)
        if not answers:
            answers.append(pool.submit(at_once, partial(second.post, *ways[way])))
            wait_until(lambda: answers[0].done() or waits_for_a_lock())

    monkeypatch.setattr(BusinessAdmin, "tell", tell)
    done = {"approvers_needed": 2} if way == "the same number" else {"membership_set-0-DELETE": "on"}
    with ThreadPoolExecutor(1) as pool:
        assert first.post(here, fields(payment, *rows) | began | done).status_code == 302
        [answer] = answers[0].result(PATIENCE)
    assert answer.status_code < 500
    payment.refresh_from_db()
    left = (payment.approvers_needed, payment.membership_set.count(), Event.objects.count())
    assert left == ((2, 1, 1) if way == "the same number" else (1, 0, 1))


def test_what_the_config_service_answers_while_a_form_is_saved_stays(page, payment, monkeypatch):
    def answered(business, **options):
        """As if the answer came between the reading of the row and its saving."""
        Business.objects.filter(pk=business.pk).update(sync_error="The service is down.", refused_rows=3)
        plain(business, **options)

    plain = Business.save
    monkeypatch.setattr(Business, "save", answered)
    assert save(page, payment, soak_minutes=7).status_code == 302
    payment.refresh_from_db()
    assert (payment.soak_minutes, payment.sync_error, payment.refused_rows) == (7, "The service is down.", 3)


def test_staff_who_may_only_look_see_nothing_of_what_a_form_is_based_on(as_user, payment, requester):
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=["view_business", "view_membership"]))
    text = as_user(staff).get(change(payment)).text
    assert "requester" in text
    assert "ased on" not in text
    assert "based_on" not in text


def test_staff_who_may_only_take_a_role_away_do_so(as_user, payment, requester):
    staff = make_user("staff", is_staff=True)
    may = ["change_business", "view_membership", "delete_membership"]
    staff.user_permissions.set(Permission.objects.filter(codename__in=may))
    row = (requester.membership_set.get().pk, requester, Role.REQUESTER)
    answer = save(as_user(staff), payment, row, **{"membership_set-0-role": Role.APPROVER})
    assert (answer.status_code, requester.membership_set.get().role) == (302, Role.REQUESTER)
    # Of a row that they cannot change the page sends no more than this.
    sent = {"membership_set-0-user": "", "membership_set-0-role": "", "membership_set-0-DELETE": "on"}
    save(as_user(staff), payment, row, **sent)
    assert not requester.membership_set.exists()


def test_deletes_a_business_only_while_it_is_unused(page, payment, orders, machines, make_job):
    list_machines(orders, "ord-1")
    unused = make_business("mistake")
    make_job()
    payment.listings.all().delete()
    why = "A business that has had machines or jobs is not deleted: history names it."
    for business in [payment, orders]:
        assert page.post(f"{BUSINESSES}{business.pk}/delete/", {"post": "yes"}).status_code == 403
        assert why in words(page.get(change(business)))
    assert why not in words(page.get(change(unused))) + words(page.get(f"{BUSINESSES}add/"))
    together = {"action": "delete_selected", "_selected_action": [unused.pk], "post": "yes"}
    page.post(BUSINESSES, together)
    assert Business.objects.filter(pk=unused.pk).exists()
    assert page.post(f"{BUSINESSES}{unused.pk}/delete/", {"post": "yes"}).status_code == 302
    assert set(Business.objects.values_list("slug", flat=True)) == {"payment", "orders"}


def test_deletes_a_business_whose_config_service_never_gave_a_machine(page):
    mistake = make_business("mistake")
    Sync.objects.create(business=mistake, error="There is no such host.")
    delete = f"{BUSINESSES}{mistake.pk}/delete/"
    assert "Are you sure you want to delete" in page.get(delete).text
    assert page.post(delete, {"post": "yes"}).status_code == 302
    assert not Business.objects.exists()
    assert not Sync.objects.exists()


def test_says_what_is_in_the_way_of_deleting_a_business(page):
    mistake = make_business("mistake")
    make_task("deploy-mistake", business=mistake)
    delete = f"{BUSINESSES}{mistake.pk}/delete/"
    for response in [page.get(delete), page.post(delete, {"post": "yes"})]:
        told = words(response)
        assert "would require deleting the following protected related objects: Task: deploy-mistake · v1" in told
        assert "your account doesn't have permission" not in told
    assert Business.objects.filter(pk=mistake.pk).exists()


def test_says_when_there_are_fewer_approvers_than_a_job_needs(page, payment, ops):
    first, second = (make_member(name, payment, Role.APPROVER) for name in ("first", "second"))
    Membership.objects.create(user=ops, business=payment, role=Role.APPROVER)  # does not count
    too_few = "Payment has fewer approvers than a job of it needs."
    assert too_few not in save(page, payment, approvers_needed=2, follow=True).text
    assert '<span class="status succeeded">2; a job needs 2</span>' in page.get(change(payment)).text
    second.membership_set.all().delete()
    payment.refresh_from_db()
    assert too_few in save(page, payment, soak_minutes=7, follow=True).text
    assert '<span class="status failed">1; a job needs 2</span>' in page.get(change(payment)).text


def test_shows_what_a_config_service_answered(page, payment, machines):
    list_machines(payment, "pay-1")
    gone = [f"pay-{number}" for number in range(2, 7)]
    moved = [{"hostname": "pay-1", "was": "10.0.0.1:22", "now": "10.0.0.9:22"}]
    refused = [{"row": 3, "name": "-oProxy", "reason": "It begins with a hyphen."}]
    taken = Sync.objects.create(business=payment, added=["pay-7"], gone=gone, moved=moved, refused=refused)
    failed = Sync.objects.create(business=payment, error="The service is down.")
    text = page.get("/admin/jobs/sync/").text
    assert (text.count('"status succeeded">Taken<'), text.count('"status failed">Not taken<')) == (1, 1)
    told = words(page.get(f"/admin/jobs/sync/{taken.pk}/change/"))
    for said in ["new pay-7", *(f"gone {name}" for name in gone), "moved pay-1 10.0.0.1:22 → 10.0.0.9:22"]:
        assert said in told
    assert "refused 3 -oProxy It begins with a hyphen." in told
    shown = page.get(f"/admin/jobs/sync/{failed.pk}/change/").text
    assert '<div class="readonly">The service is down.</div>' in shown


def test_a_page_has_a_dash_for_what_there_is_not(page, ops, payment, config_files):
    write_list(config_files, payment, "pay-1")
    payment.sync_machines()
    shown = {
        change(payment): "why the last answer was not taken",
        f"/admin/jobs/sync/{Sync.objects.get().pk}/change/": "why it was not taken",
        f"/admin/jobs/freeze/{freeze_now(ops).pk}/change/": "ended early",
    }
    for where, label in shown.items():
        assert re.search(rf"(?i){label}: - ", words(page.get(where)))


def test_a_list_tells_only_of_machines_that_are_live(page, payment, orders, machines):
    list_machines(orders, "pay-1", "pay-2")
    list_machines(payment, "pay-1")
    assert f'?businesses__id__exact={payment.pk}&amp;listed=live">1</a>' in page.get(BUSINESSES).text
    assert [page.get(MACHINES, {"q": name}).text.count(">Orders, Payment<") for name in ("pay-1", "pay-2")] == [1, 0]
    assert '<span class="status gone">Gone</span>' in page.get(MACHINES, {"q": "pay-3"}).text


def test_a_job_tells_which_of_its_approvals_are_void(page, job, requester, machines):
    shown = f"/admin/jobs/job/{job.pk}/change/"
    assert "approver approved" in words(page.get(shown))
    job.edit(requester, machines[:1])
    assert "approver void" in words(page.get(shown))


def test_asks_the_config_service_now(page, config_files, payment, orders):
    write_list(config_files, payment, "pay-1", "pay-2", "-oProxyCommand=x")
    text = ask(page, payment, orders)
    assert "Payment: 2 machines; 2 new, 0 gone, 0 moved, refused rows: 1." in text
    assert "Orders: " in text
    assert 'class="error"' in text
    assert Machine.objects.live_in(payment).count() == 2
    orders.refresh_from_db()
    assert orders.sync_error
    assert orders.asked_at


def test_keeps_the_last_good_list_when_the_source_fails(page, payment, machines):
    assert 'class="error"' in ask(page, payment)
    assert Machine.objects.live_in(payment).count() == 6
    assert "Not taken" in page.get(BUSINESSES).text


def test_says_in_chinese_what_the_config_service_answered(page, config_files, payment, orders):
    write_list(config_files, payment, "pay-1")
    text = ask(page, payment, orders, language="zh-hans")
    assert "Payment：1 台；新增 1 台，下线 0 台，有变化 0 台，拒收 0 行。" in text
    assert "Orders：" in text


def test_asks_for_a_few_businesses_at_a_time(page, db):
    text = ask(page, *(make_business(f"b{number}") for number in range(6)))
    assert "Choose up to 5 businesses" in text
    assert not Business.objects.exclude(asked_at=None).exists()


def test_finds_users_for_the_membership_by_name(page, requester):
    found = page.get(
        reverse("admin:autocomplete"),
        {"term": "reque", "app_label": "jobs", "model_name": "membership", "field_name": "user"},
    )
    assert [person["text"] for person in found.json()["results"]] == ["requester"]


def test_lists_what_one_person_may_do(page, requester, publisher):
    text = page.get("/admin/jobs/membership/", {"q": "requester"}).text
    assert "1 membership" in text


def hostnames(response):
    return [machine.hostname for machine in response.context["cl"].result_list]


def test_finds_machines_by_name_address_business_site_and_whether_they_are_live(page, payment, orders, machines):
    list_machines(orders, "ord-1", site="bj-1")
    list_machines(payment, "pay-1", "pay-2")
    assert hostnames(page.get(MACHINES, {"q": "pay-2"})) == ["pay-2"]
    assert hostnames(page.get(MACHINES, {"q": "10.0.0.6"})) == ["pay-6"]
    assert hostnames(page.get(MACHINES, {"site": "bj-1"})) == ["ord-1"]
    assert hostnames(page.get(MACHINES, {"businesses__id__exact": payment.pk, "listed": "live"})) == ["pay-1", "pay-2"]
    assert len(hostnames(page.get(MACHINES, {"businesses__id__exact": payment.pk, "listed": "gone"}))) == 4
    assert len(hostnames(page.get(MACHINES, {"listed": "live"}))) == 3


def test_a_machine_that_left_one_business_is_gone_there_and_live_in_the_other(page, payment, orders, machines):
    list_machines(orders, "pay-1")
    list_machines(payment, *(f"pay-{number}" for number in range(2, 7)))
    assert hostnames(page.get(MACHINES, {"businesses__id__exact": payment.pk, "listed": "gone"})) == ["pay-1"]
    assert hostnames(page.get(MACHINES, {"listed": "gone"})) == []


@pytest.mark.parametrize("wrong", ["x", "-1", "9" * 40, "1 or 1"])
def test_a_malformed_filter_is_no_error_of_the_server(page, machines, wrong):
    for query in [{"businesses__id__exact": wrong, "listed": "live"}, {"listed": wrong}, {"p": wrong}]:
        assert page.get(MACHINES, query).status_code in {200, 302}


def test_shows_a_machine_with_its_labels_and_where_it_is_listed(page, machines):
    text = page.get(f"{MACHINES}{machines[0].pk}/change/").text
    assert '<div class="pair"><span>site</span> sh-1</div>' in text
    assert "First seen" in text
    assert "<input type" not in text.split('id="machine_form"')[1].replace('<input type="hidden"', "")


def test_shows_a_detail_within_a_detail_in_words(page, job, ops):
    event = job.record(
        Event.Verb.WITHDRAWN, ops, freeze={"from": "22:00\u202e"}, machines={"names": ["pay-1", "pay-2"]}
    )
    text = page.get(reverse("admin:jobs_event_change", args=[event.pk])).text
    assert "<span>freeze</span> from 22:00" in text
    assert "<span>machines</span> names pay-1, pay-2<" in text
    assert "\u202e" not in text


def test_finds_jobs_by_number(page, make_job):
    jobs = [make_job(f"1.{number}") for number in range(3)]
    for query in [f"#{jobs[1].pk}", str(jobs[1].pk)]:
        response = page.get("/admin/jobs/job/", {"q": query})
        assert jobs[1] in response.context["cl"].result_list


def test_leads_from_a_job_to_its_page_machines_and_events(page, job, machines):
    text = page.get(f"/admin/jobs/job/{job.pk}/change/").text
    assert f'href="/jobs/{job.pk}/"' in text
    assert len(hostnames(page.get(MACHINES, {"jobs__id__exact": job.pk}))) == 6
    assert page.get("/admin/jobs/event/", {"job__id__exact": job.pk}).context["cl"].result_count == 2
    assert f"?job__id__exact={job.pk}" in text


def test_there_is_no_action_on_what_is_only_shown(rf, ops):
    request = rf.get("/")
    request.user = ops
    for model in [Machine, Job]:
        assert admin.site._registry[model].get_actions(request) == {}


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("changed", "answer"),
    [({}, 302), ({"name": ""}, 200), ({"soak_minutes": 7}, 302), ({"membership_set-0-role": Role.APPROVER}, 302)],
    ids=["nothing", "a mistake", "a number", "a role"],
)
def test_more_members_need_no_more_queries(page, changed, answer):
    asked = []
    for size in (1, 2, 10):  # the very first event asks for one thing more
        business = make_business(f"business-{size}")
        for number in range(size):
            make_member(f"{business}-{number}", business, Role.REQUESTER)
        rows = [(member.pk, member.user, member.role) for member in business.membership_set.order_by("pk")]
        form = fields(business, *rows) | based_on(page, change(business)) | {"membership_set-TOTAL_FORMS": size}
        with CaptureQueriesContext(connection) as queries:
            answers = [page.get(change(business)), page.post(change(business), form | changed)]
        assert [one.status_code for one in answers] == [200, answer]
        asked.append(len(queries))
    assert asked[1] == asked[2]

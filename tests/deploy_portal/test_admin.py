import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import label_for_field
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.models import Permission
from django.db import OperationalError, connection
from django.db.models import Model
from django.forms import ModelForm
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation

from deploy_portal.admin import OPS, UserAdmin
from deploy_portal.clock import database_now
from deploy_portal.models import User
from jobs.models import Business, Event, Freeze, Job, Machine, Membership, Sync
from releases.admin import TaskForm
from releases.models import MachineRun, ReleaseStage, Run, Task, Worker
from tests.conftest import PASSWORD, list_machines, make_user
from tests.forms import based_on
from tests.freezes import HOUR, freeze_now
from tests.pages import words
from tests.parallel import at_once, waits_for_a_lock
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.django_db

IN_CHINESE = {"accept-language": "zh-hans"}

MODELS = [User, AccessAttempt, Business, Membership, Machine, Job, Event, Freeze, Sync]
MODELS += [Task, ReleaseStage, Run, MachineRun, Worker]
ADDABLE = [User, Business, Membership, Freeze, Task]
SHOWN_ONLY = [model for model in MODELS if model not in ADDABLE]


CHINESE = re.compile("[\u4e00-\u9fff]")


def address(model, page, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def everything(job, machines, start, finish):
    """A row of every model in the admin."""
    start(job, machines)
    finish("failed", on=["pay-2"])
    Sync.objects.create(business=job.business, listed=6, added_count=6)
    freeze_now(job.requester)
    AccessAttempt.objects.create(username="requester", ip_address="10.0.0.9", failures_since_start=5)


def test_registers_what_ops_need_and_nothing_else():
    assert set(admin.site._registry) == set(MODELS)


def test_sends_the_anonymous_to_the_login_page(client):
    response = client.get("/admin/jobs/job/", follow=True)
    assert response.redirect_chain[-1] == ("/login/?next=/admin/jobs/job/", 302)


def test_leads_back_from_the_login_page_and_away_from_foreign_hosts(client, ops):
    answer = {"username": "ops", "password": PASSWORD}
    assert client.post("/login/?next=/admin/jobs/job/", answer).url == "/admin/jobs/job/"
    client.logout()
    login = client.get("/admin/login/?next=//evil.example.com/").url
    assert client.post(login, answer).url == "/"


@pytest.mark.one_database
@pytest.mark.parametrize("person", ["requester", "publisher", "approver", "outsider"])
@pytest.mark.parametrize("path", ["/admin/", "/admin/jobs/business/", "/admin/releases/task/add/"])
def test_refuses_everybody_but_ops(request, as_user, person, path):
    client = as_user(request.getfixturevalue(person))
    assert client.get(path, follow=True).status_code == 403
    assert client.post(path, {}, follow=True).status_code == 403


def test_shows_staff_who_are_not_ops_only_what_they_were_permitted(as_user):
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_business"))
    client = as_user(staff)
    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/login/").url == "/admin/"
    assert client.get(address(Business, "changelist")).status_code == 200
    assert client.get(address(Business, "add")).status_code == 403
    assert client.get(address(Task, "changelist")).status_code == 403


def test_staff_who_may_only_look_see_every_page_without_a_form(as_user, everything):
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = as_user(staff)
    for model in MODELS:
        response = client.get(address(model, "change", model.objects.first().pk))
        assert response.status_code == 200, model
        assert 'name="_save"' not in response.text, model


def test_staff_who_may_only_look_change_nothing_of_what_ops_could(as_user, everything, ops, requester, case):
    """Neither by a page nor by an action; what is here now could be changed, ended or deleted."""
    Business.objects.create(name="Unused", slug="unused", source="file")
    freeze_now(ops, starts_at=database_now() + HOUR)
    requester.offer_second_factor().user.totpdevice_set.update(confirmed=True)
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    answers = {"post": "yes", "end_now": "sold out", "name": "other", "username": "other", "reason": "other"}
    for model in MODELS:
        with case(model.__name__):
            client, rows = as_user(staff), list(model.objects.order_by("pk").values())
            assert client.get(address(model, "changelist")).status_code == 200
            pages = [address(model, page, row["id"]) for page in ("change", "delete") for row in (rows[0], rows[-1])]
            for page in [address(model, "add"), *pages]:
                # To where it is said that there is no such person, of those who may enter the admin.
                answer = client.post(page, answers)
                assert answer.status_code == 403 or answer.url == "/admin/", page
            for action in ("end_sessions", "reset_second_factor", "unlock", "ask_now", "delete_selected"):
                chosen = {"action": action, "_selected_action": [row["id"] for row in rows]}
                client.post(address(model, "changelist"), chosen | answers)
            assert list(model.objects.order_by("pk").values()) == rows
            assert requester.second_factor
            assert not Event.objects.filter(actor=staff).exists()


def test_the_admin_changes_no_password_past_the_portals_page(as_user, ops):
    client = as_user(ops)
    answer = {"old_password": PASSWORD, "new_password1": "a-new-Passw0rd", "new_password2": "a-new-Passw0rd"}
    for response in (client.get("/admin/password_change/"), client.post("/admin/password_change/", answer)):
        assert response.url == "/account/password/"
    assert User.objects.get(pk=ops.pk).password == ops.password


def test_what_staff_may_do_is_told_in_the_readers_language(as_user, ops):
    client, where = as_user(ops), address(User, "change", ops.pk)
    assert "job | can add</option>" in client.get(where).text
    said = client.get(where, HTTP_ACCEPT_LANGUAGE="zh-hans").text
    assert "工单 | " in said
    assert "Can add" not in said


def test_staff_are_given_only_what_a_page_of_the_admin_asks_for(as_user, ops):
    said = as_user(ops).get(address(User, "change", ops.pk)).text
    offered = {option.split(" | ")[-2] for option in re.findall("<option[^>]*>([^<]* can [a-z]+)</option>", said)}
    on_a_page_of_others = {"leave", "listing", "task version"}
    assert offered == {str(model._meta.verbose_name) for model in MODELS} | on_a_page_of_others


@pytest.fixture
def helpdesk(as_user):
    """Staff who were given everything that one can do with people, but are not ops."""
    staff = make_user("helpdesk", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__endswith="_user"))
    return as_user(staff)


def test_staff_make_nobody_ops(helpdesk, requester):
    page = address(User, "change", requester.pk)
    assert 'name="username"' in helpdesk.get(page).text
    told = {"username": "requester", "email": "a@example.com", "is_active": "on"}
    more = {"is_superuser": "on", "is_staff": "on", "user_permissions": [Permission.objects.first().pk]}
    assert helpdesk.post(page, told | more | based_on(helpdesk, page)).status_code == 302
    requester.refresh_from_db()
    assert (requester.email, requester.is_superuser, requester.is_staff) == ("a@example.com", False, False)
    assert not requester.user_permissions.exists()


@pytest.mark.parametrize("page", ["change", "password"])
@pytest.mark.parametrize("gives", [["is_superuser", "is_staff"], ["is_superuser"], ["is_staff"]])
def test_staff_do_not_touch_who_may_enter_the_admin_or_is_ops(helpdesk, page, gives):
    theirs = make_user("theirs", **dict.fromkeys(gives, True))
    where = f"/admin/deploy_portal/user/{theirs.pk}/{page}/"
    answer = helpdesk.post(where, {"password1": "a-new-Passw0rd", "password2": "a-new-Passw0rd", "username": "mine"})
    assert answer.status_code in {302, 404}
    assert User.objects.get(pk=theirs.pk).password == theirs.password
    assert User.objects.get(pk=theirs.pk).username == "theirs"


@pytest.mark.parametrize("action", ["end_sessions", "reset_second_factor"])
def test_staff_end_no_session_of_ops(helpdesk, ops, action):
    helpdesk.post(address(User, "changelist"), {"action": action, "_selected_action": [ops.pk]})
    assert User.objects.get(pk=ops.pk).session_epoch == ops.session_epoch


NONSENSE = [{"q": "\0"}, {"id__in": "x"}, {"site": "\0"}]
YEARS = ["99999", "0", "9" * 30]
NONSENSE += [{f"{name}__year": year} for name in ("at", "created_at", "started_at") for year in YEARS]
NONSENSE += [{f"{name}__exact": "\0"} for name in ("verb", "status", "role", "kind", "action")]
NONSENSE += [{f"{name}__contains": "x"} for name in ("labels", "detail", "source_options")]


def test_a_list_that_is_asked_for_nonsense_is_no_error_of_the_server(as_user, ops, everything, case):
    for model in MODELS:
        with case(model.__name__):
            client = as_user(ops)
            for query in NONSENSE:
                assert client.get(address(model, "changelist"), query).status_code in {200, 302, 400}, query


def test_a_search_of_a_thousand_words_looks_for_the_first_few_and_says_so(as_user, ops, everything, case):
    for model in MODELS:
        with case(model.__name__):
            client, told = as_user(ops), "Only the first 20 words were looked for."
            assert told not in words(client.get(address(model, "changelist"), {"q": "pay-2 " * 20}))
            response = client.get(address(model, "changelist"), {"q": "pay-2 # it's " * 1000})
            assert (response.status_code, told in words(response)) == (200, True)


def test_an_action_on_what_is_no_row_is_refused(as_user, ops, everything, case):
    actions = {User: "end_sessions", Business: "ask_now", Event: "export", AccessAttempt: "unlock"}
    for (model, action), pk in product(actions.items(), ["x", "\0", "1,2", "9" * 30]):
        with case(model.__name__, pk=pk):
            answer = as_user(ops).post(address(model, "changelist"), {"action": action, "_selected_action": [pk]})
            assert answer.status_code == 400


def test_what_an_address_fills_in_is_no_error_of_the_server(as_user, ops):
    client = as_user(ops)
    for model in ADDABLE:
        nonsense = {"starts_at": "x", "weekdays": "x", "business": "x", "user": "x", "name": "\0"}
        assert client.get(address(model, "add"), nonsense).status_code == 200
    term = {"app_label": "jobs", "model_name": "membership", "field_name": "user", "term": "\0"}
    assert client.get("/admin/autocomplete/", term).status_code == 200


def test_shows_the_list_and_the_page_of_each_model(as_user, ops, everything, case):
    for model in MODELS:
        with case(model.__name__):
            client = as_user(ops)
            assert client.get(address(model, "changelist")).status_code == 200
            assert client.get(address(model, "changelist"), {"q": "#1 pay"}).status_code == 200
            assert client.get(address(model, "change", model.objects.first().pk)).status_code == 200
            assert client.get(address(model, "history", model.objects.first().pk)).status_code == 200


@pytest.mark.parametrize("model", ADDABLE)
def test_shows_the_page_to_add_a_row(as_user, ops, model):
    assert as_user(ops).get(address(model, "add")).status_code == 200


def test_what_another_saved_at_the_same_moment_is_no_error_of_the_server(as_user, ops, payment, requester, monkeypatch):
    passwords = {"usable_password": "true", "password1": "a long password", "password2": "a long password"}
    source = {"source": "file", "source_options": '{"path": "a.json"}', "soak_minutes": 0, "approvers_needed": 1}
    members = {"membership_set-TOTAL_FORMS": 0, "membership_set-INITIAL_FORMS": 0}
    script = {"action": "release", "timeout": 60, "script": "echo"}
    forms = {
        User: {"username": "new"} | passwords,
        Business: {"name": "New", "slug": "new"} | source | members,
        Membership: {"user": requester.pk, "business": payment.pk, "role": "approver"},
        Task: {"name": "new", "business": payment.pk} | script,
    }
    client = as_user(ops)
    for model, form in forms.items():
        assert client.post(address(model, "add"), form).status_code == 302
    events, rows = Event.objects.count(), [model.objects.count() for model in forms]
    # Each looked before the other had saved
    monkeypatch.setattr(ModelForm, "validate_unique", lambda form: None)
    monkeypatch.setattr(Model, "validate_constraints", lambda row, exclude=None: None)
    monkeypatch.setattr(AdminUserCreationForm, "clean_username", lambda form: form.cleaned_data["username"])
    monkeypatch.setattr(TaskForm, "_refuse_used_name", lambda form: None)
    for model, form in forms.items():
        response = client.post(address(model, "add"), form, follow=True)
        assert response.redirect_chain == [(address(model, "changelist"), 302)]
        assert "Not saved: somebody saved the same just now. Look for it in this list." in response.text
    assert (Event.objects.count(), [model.objects.count() for model in forms]) == (events, rows)


@pytest.mark.one_database
def test_refuses_to_add_what_is_only_shown(as_user, ops, everything, case):
    for model in SHOWN_ONLY:
        with case(model.__name__):
            client = as_user(ops)
            assert client.get(address(model, "add")).status_code == 403
            assert client.post(address(model, "add"), {}).status_code == 403


def test_refuses_to_change_what_is_only_shown(as_user, ops, everything, case):
    fields = {"status": "released", "title": "Other", "reason": "Other", "hostname": "other", "name": "other"}
    for model in SHOWN_ONLY:
        with case(model.__name__):
            before = list(model.objects.values())
            assert as_user(ops).post(address(model, "change", before[0]["id"]), fields).status_code == 403
            assert list(model.objects.values()) == before
            assert not LogEntry.objects.exists()


def test_refuses_to_delete_history_and_what_it_names(as_user, ops, everything, case):
    for model in [*SHOWN_ONLY, Task, User]:
        with case(model.__name__):
            client, rows = as_user(ops), model.objects.count()
            pk = model.objects.first().pk
            assert client.get(address(model, "delete", pk)).status_code == 403
            assert client.post(address(model, "delete", pk), {"post": "yes"}).status_code == 403
            together = {"action": "delete_selected", "_selected_action": pk, "post": "yes"}
            assert client.post(address(model, "changelist"), together).status_code in {200, 302, 403}
            assert model.objects.count() == rows


def test_asks_as_often_for_eight_rows_as_for_one(as_user, ops, make_job, start, finish, machines):
    client = as_user(ops)

    def work(number):
        start(make_job(f"1.{number}"), machines[:2])
        finish("failed" if number % 2 else "succeeded", on=["pay-1"])
        person = make_user(f"person-{number}")
        business = Business.objects.create(name=f"B{number}", slug=f"b{number}", source="file")
        list_machines(business, f"b{number}-1")
        Membership.objects.create(user=person, business=business, role="requester")
        Task.objects.create(name=f"task-{number}", action="release", business=business).revise("echo", person)
        Sync.objects.create(business=business, listed=1, added_count=1)
        Worker.objects.enlist([f"site-{number}"])
        freeze_now(person, business=business)
        AccessAttempt.objects.create(username=f"person-{number}", ip_address="10.0.0.9", failures_since_start=1)

    def queries(model):
        with CaptureQueriesContext(connection) as asked:
            assert client.get(address(model, "changelist")).status_code == 200
        return len(asked)

    work(0)
    for model in MODELS:
        queries(model)  # what is remembered from now on
    few = {model: queries(model) for model in MODELS}
    for number in range(1, 8):
        work(number)
    assert [model for model in MODELS if queries(model) > few[model]] == []


@pytest.mark.one_database
def test_no_page_has_an_inline_style_or_script(as_user, ops, everything):
    client = as_user(ops)
    pages = [address(model, "changelist") for model in MODELS] + [address(model, "add") for model in ADDABLE]
    pages += [address(model, "change", model.objects.first().pk) for model in MODELS]
    for page in ["/admin/", *pages]:
        text = client.get(page).text
        assert "style=" not in text, page
        assert "<style" not in text, page
        assert "<script>" not in text, page
        assert "deploy_portal/admin.css" in text, page


def test_logging_out_of_the_admin_ends_the_session_like_the_portal_does(as_user, ops):
    client = as_user(ops)
    copy = client.cookies["sessionid"].value
    assert client.post("/admin/logout/").url == "/login/"
    client.cookies["sessionid"] = copy
    assert client.get("/admin/").status_code == 302


def test_ends_all_sessions_of_the_people_chosen(as_user, ops, requester, client):
    as_user(requester)
    assert client.get("/jobs/").status_code == 200
    admin_client = type(client)()
    admin_client.force_login(ops)
    chosen = {"action": "end_sessions", "_selected_action": requester.pk}
    response = admin_client.post(address(User, "changelist"), chosen, follow=True)
    assert "All sessions of 1 person ended." in response.text
    assert client.get("/jobs/").status_code == 302
    assert admin_client.get("/admin/").status_code == 200


def test_whoever_was_inactive_has_to_log_in_anew(as_user, ops, requester, client):
    as_user(requester)
    admin_client, page = type(client)(), address(User, "change", requester.pk)
    admin_client.force_login(ops)
    copy = client.cookies["sessionid"].value
    for active in ({}, {"is_active": "on"}):
        answer = admin_client.post(page, {"username": "requester"} | active | based_on(admin_client, page))
        assert answer.status_code == 302
        client.cookies["sessionid"] = copy
        assert client.get("/jobs/").status_code == 302
    requester.refresh_from_db()
    assert (requester.is_active, requester.session_epoch) == (True, 1)


NO_OPS_LEFT = "There would be no ops left: make somebody else ops first."


@pytest.mark.parametrize("lacks", ["is_active", "is_superuser", "is_staff"])
def test_the_last_ops_stay_ops(as_user, ops, requester, lacks):
    """Whoever lacks one of the three is no ops that are left; nor do they lose what they have not got."""
    other = make_user("other", is_staff=True, is_superuser=True)
    User.objects.filter(pk=other.pk).update(**{lacks: False})
    given = {"is_active": "on", "is_superuser": "on", "is_staff": "on"}
    given.pop(lacks)
    client = as_user(ops)
    assert NO_OPS_LEFT in save(client, ops, given).text
    assert save(client, other, {}).status_code == save(client, requester, {}).status_code == 302
    assert save(client, ops, {"is_active": "on", "is_superuser": "on", "is_staff": "on", "email": "a@example.com"}).url
    make_user("third", is_staff=True, is_superuser=True)
    assert save(client, ops, given).status_code == 302


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_that_from_each_other_at_the_same_moment_one_stays(ops, monkeypatch):
    other = make_user("other", is_staff=True, is_superuser=True)
    posts = []
    for user, of in ((ops, other), (other, ops)):
        client, page = Client(), address(User, "change", of.pk)
        client.force_login(user)
        posts.append(partial(client.post, page, {"username": of.username, "is_active": "on"} | based_on(client, page)))
    real, answers = UserAdmin.save_model, []

    def save_model(admin, *args):
        if not answers:
            answers.append(pool.submit(at_once, posts[1]))
            wait_until(lambda: answers[0].done() or waits_for_a_lock())
        real(admin, *args)

    monkeypatch.setattr(UserAdmin, "save_model", save_model)
    with ThreadPoolExecutor(1) as pool:
        assert posts[0]().status_code == 302
        [answer] = answers[0].result(PATIENCE)
    assert NO_OPS_LEFT in answer.text
    assert User.objects.get(**OPS) == ops


def save(client, user, given):
    page = address(User, "change", user.pk)
    return client.post(page, {"username": user.username} | given | based_on(client, page))


def test_the_session_epoch_is_no_field(as_user, ops, requester):
    client, page = as_user(ops), address(User, "change", requester.pk)
    assert "session_epoch" not in client.get(page).text
    told = {"username": "requester", "is_active": "on", "email": "a@example.com", "session_epoch": "7"}
    client.post(page, told | based_on(client, page))
    requester.refresh_from_db()
    assert (requester.email, requester.session_epoch) == ("a@example.com", 0)


LATE = "Somebody changed this meanwhile. Copy what you typed, open the page again and take both up."


@pytest.fixture
def opened(as_user, ops, requester):
    """The page of a person, and what a browser that has it open would post."""
    page = address(User, "change", requester.pk)
    return page, {"username": "requester", "is_active": "on"} | based_on(as_user(ops), page)


def test_what_was_opened_before_undoes_nothing_that_another_did_meanwhile(client, opened, requester):
    page, form = opened
    User.objects.filter(pk=requester.pk).update(is_active=False)
    response = client.post(page, form | {"email": "a@example.com"})
    assert LATE in response.text
    assert 'value="a@example.com"' in response.text
    assert LATE in client.post(page, form | {"based_on": "", "email": "a@example.com"}).text
    requester.refresh_from_db()
    assert (requester.email, requester.is_active) == ("", False)


def test_what_the_form_does_not_save_may_change_meanwhile(client, opened, requester):
    page, form = opened
    requester.set_password("another Passw0rd")
    requester.save()
    requester.end_sessions()
    client.force_login(requester)  # writes the last login
    client.force_login(User.objects.get(username="ops"))
    assert client.post(page, form | {"email": "a@example.com"}).status_code == 302


def test_the_same_form_sent_twice_is_saved_once_and_refused_never(client, opened):
    page, form = opened
    assert [client.post(page, form | {"email": "a@example.com"}).status_code for _time in range(2)] == [302, 302]
    assert LogEntry.objects.exclude(change_message="[]").count() == 1


def test_adds_a_user_who_can_log_in(as_user, ops):
    client = as_user(ops)
    fields = {
        "username": "new",
        "usable_password": "true",
        "password1": "a long password",
        "password2": "a long password",
    }
    client.post(address(User, "add"), fields)
    assert User.objects.get(username="new").check_password("a long password")


NEW_PASSWORD = {"usable_password": "true", "password1": "a long password", "password2": "a long password"}
SETS = [(NEW_PASSWORD | {"set-password": "1"}, "set_password")]
SETS += [({"usable_password": "false", "unset-password": "1"}, "set_unusable_password")]


@pytest.mark.parametrize("where", ["add/", "1/password/"])
def test_nothing_is_said_in_english_to_a_chinese_reader_who_makes_a_user_or_sets_a_password(as_user, ops, where):
    where = f"/admin/deploy_portal/user/{where.replace('1', str(ops.pk))}"
    for response in (as_user(ops).get(where, headers=IN_CHINESE), as_user(ops).post(where, headers=IN_CHINESE)):
        assert response.status_code == 200
        assert re.findall(r"[A-Z][a-z]+ [a-z]+", words(response)) == ["English ops"]


@pytest.mark.parametrize(("form", "step"), SETS, ids=["set", "disabled"])
def test_a_password_that_ops_set_undoes_nothing_that_another_did_meanwhile(
    as_user, ops, requester, monkeypatch, form, step
):
    changes = {"is_active": False, "session_epoch": 7, "email": "a@example.com"}
    usual = getattr(User, step)

    def meanwhile(user, *args):
        User.objects.filter(pk=user.pk).update(**changes)
        usual(user, *args)

    monkeypatch.setattr(User, step, meanwhile)
    assert as_user(ops).post(f"/admin/deploy_portal/user/{requester.pk}/password/", form).status_code == 302
    now = User.objects.get(pk=requester.pk)
    assert {name: getattr(now, name) for name in changes} == changes
    assert (now.check_password("a long password"), now.has_usable_password()) == (form is SETS[0][0],) * 2


@pytest.mark.parametrize("form", [form for form, _step in SETS], ids=["set", "disabled"])
def test_a_password_that_ops_set_ends_the_sessions_of_its_person(as_user, ops, requester, form):
    client, theirs = as_user(ops), Client()
    theirs.force_login(requester)
    assert theirs.get("/").status_code == 200
    assert client.post(f"/admin/deploy_portal/user/{requester.pk}/password/", form).status_code == 302
    assert theirs.get("/").status_code == 302
    assert client.get("/").status_code == 200


def test_a_password_that_ops_set_is_not_set_without_its_event(as_user, ops, requester, monkeypatch):
    def refuse(*_args, **_what):
        raise OperationalError("database is locked")

    monkeypatch.setattr(type(Event.objects), "tell", refuse)
    assert as_user(ops).post(f"/admin/deploy_portal/user/{requester.pk}/password/", NEW_PASSWORD).status_code == 503
    assert User.objects.get(pk=requester.pk).password == requester.password


def test_unlocks_a_person_who_failed_to_log_in_too_often(client, as_user, ops, requester):
    for _try in range(5):
        client.post("/login/", {"username": "requester", "password": "wrong"})
    right = {"username": "requester", "password": PASSWORD}
    assert client.post("/login/", right).status_code == 429
    admin_client = as_user(ops)
    attempt = AccessAttempt.objects.get(username="requester")
    other = AccessAttempt.objects.create(username="other", ip_address="10.0.0.9", failures_since_start=4)
    AccessAttempt.objects.create(username="third", ip_address="10.0.0.9", failures_since_start=5)
    text = admin_client.get(address(AccessAttempt, "changelist")).text
    assert (text.count("icon-yes"), text.count("icon-no")) == (2, 1)
    chosen = {"action": "unlock", "_selected_action": attempt.pk}
    assert (
        "May try again: requester" in admin_client.post(address(AccessAttempt, "changelist"), chosen, follow=True).text
    )
    admin_client.logout()
    assert client.post("/login/", right).status_code == 302
    assert other in AccessAttempt.objects.all()


def test_staff_who_may_forget_failed_logins_unlock(as_user):
    attempt = AccessAttempt.objects.create(username="requester", ip_address="10.0.0.9", failures_since_start=5)
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=["view_accessattempt", "delete_accessattempt"]))
    chosen = {"action": "unlock", "_selected_action": attempt.pk}
    as_user(staff).post(address(AccessAttempt, "changelist"), chosen)
    assert not AccessAttempt.objects.exists()


@pytest.mark.parametrize("model", MODELS)
def test_every_row_and_column_is_named_in_chinese(model):
    shown = admin.site.get_model_admin(model)
    with translation.override("zh-hans"):
        words = {str(label_for_field(name, model, shown)) for name in shown.list_display}
        words |= {str(model._meta.verbose_name), str(model._meta.verbose_name_plural)}
        assert not {word for word in words if not CHINESE.search(word)} - {"worker"}


def test_a_login_that_failed_is_named_by_who_and_where(as_user, ops):
    attempt = AccessAttempt.objects.create(username="requester", ip_address="10.0.0.9", failures_since_start=5)
    assert "requester · 10.0.0.9" in as_user(ops).get(address(AccessAttempt, "change", attempt.pk)).text


def test_what_somebody_typed_who_failed_to_log_in_is_shown_and_not_obeyed(as_user, ops):
    hostile = {"username": "sp\u202eo", "user_agent": "Fire\u202efox", "path_info": "/lo\u202egin/"}
    attempt = AccessAttempt.objects.create(**hostile, ip_address="10.0.0.9", failures_since_start=5)
    client = as_user(ops)
    chosen = {"action": "unlock", "_selected_action": attempt.pk}
    pages = [client.get(address(AccessAttempt, "changelist")), client.get(address(AccessAttempt, "change", attempt.pk))]
    pages.append(client.post(address(AccessAttempt, "changelist"), chosen, follow=True))
    pages += [client.get(address(Event, "changelist")), client.get(address(Event, "change", Event.objects.get().pk))]
    for page in pages:
        assert "sp⟨U+202E⟩o" in page.text
        assert "\u202e" not in page.text
    assert "Fire⟨U+202E⟩fox" in pages[1].text
    assert "/lo⟨U+202E⟩gin/" in pages[1].text
    assert "May try again: sp⟨U+202E⟩o" in pages[2].text


@pytest.mark.parametrize("field", ["first_name", "last_name"])
def test_a_person_has_no_name_that_looks_like_another(client, opened, field):
    page, form = opened
    assert "Remove the control or invisible characters." in client.post(page, form | {field: "Li\u202eWei"}).text
    assert client.post(page, form | {field: "李伟"}).status_code == 302

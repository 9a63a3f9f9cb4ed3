"""Ops keep freezes in the admin: what has begun is history, which can be ended but neither changed nor deleted."""

import re
from datetime import date, timedelta

import pytest
from django.utils import timezone

from jobs.models import Event, Freeze, Leave
from tests.forms import Page, based_on
from tests.freezes import HOUR, freeze_now, occurrence_of
from tests.pages import words

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("contexts")]

LIST = "/admin/jobs/freeze/"
BEGINS, ENDS = (str(date.today() + timedelta(days=days)) for days in (30, 33))
NO_LEAVES = {"leaves-TOTAL_FORMS": 0, "leaves-INITIAL_FORMS": 0}
WEEKLY = {"kind": "weekly", "reason": "weekend", "weekdays": ["16"], "from_time": "18:00", "hours": "62"}
ONCE = {"kind": "once", "reason": "sale", "starts_at_0": BEGINS, "starts_at_1": "18:00"} | {
    "ends_at_0": ENDS,
    "ends_at_1": "08:00",
}


@pytest.fixture
def admin(as_user, ops):
    return as_user(ops)


@pytest.fixture
def later(ops):
    """A freeze that has not begun."""
    freeze = freeze_now(ops)
    Freeze.objects.update(starts_at=freeze.starts_at + 2 * HOUR, ends_at=freeze.ends_at + 2 * HOUR)
    return Freeze.objects.get()


def add(admin, fields, **changed):
    fields = {name: value for name, value in (fields | changed).items() if value is not None}
    return admin.post(f"{LIST}add/", fields)


def change(freeze):
    return f"{LIST}{freeze.pk}/change/"


def told():
    """Of the events that no job has: what was done to what."""
    return list(Event.objects.filter(job=None).order_by("pk").values_list("verb", "subject"))


def errors(response):
    return response.context["adminform"].form.errors


def test_adds_a_weekly_one(admin, ops, payment):
    assert add(admin, WEEKLY, business=payment.pk, weekdays=["16", "16", "32"]).status_code == 302
    freeze = Freeze.objects.get()
    assert (freeze.weekdays, freeze.hours, freeze.made_by, freeze.business) == (48, 62, ops, payment)
    assert told() == [("added", "freeze weekend")]


def test_adds_one_that_comes_once(admin):
    assert add(admin, ONCE).status_code == 302
    freeze = Freeze.objects.get()
    assert (f"{freeze.starts_at:%Y-%m-%d %H:%M}", freeze.business) == (f"{BEGINS} 18:00", None)


SENSELESS = [
    (WEEKLY | {"reason": ""}, "reason", "required"),
    (WEEKLY | {"reason": "a\u202eb"}, "reason", "control or invisible"),
    (WEEKLY | {"kind": "stop"}, "kind", "valid choice"),
    (WEEKLY | {"kind": ""}, "kind", "required"),
    (WEEKLY | {"weekdays": []}, "weekdays", "needed"),
    (WEEKLY | {"weekdays": ["3"]}, "weekdays", "valid choice"),
    (WEEKLY | {"weekdays": ["x"]}, "weekdays", "valid choice"),
    (WEEKLY | {"from_time": ""}, "from_time", "needed"),
    (WEEKLY | {"from_time": "25:00"}, "from_time", "valid time"),
    (WEEKLY | {"hours": "0"}, "hours", "0.25"),
    (WEEKLY | {"hours": "168"}, "hours", "reach into the next"),
    (WEEKLY | {"hours": "NaN"}, "hours", "number"),
    (WEEKLY | {"hours": "1e9"}, "hours", "digits"),
    (WEEKLY | {"weekdays": ["1", "8"], "hours": "96"}, "hours", "reach into the next"),
    (WEEKLY | {"ends_at_0": ENDS, "ends_at_1": "08:00"}, "ends_at", "Leave this empty"),
    (ONCE | {"weekdays": ["1"]}, "weekdays", "Leave this empty"),
    (ONCE | {"hours": "2"}, "hours", "Leave this empty"),
    (ONCE | {"starts_at_0": "", "starts_at_1": ""}, "starts_at", "needed"),
    (ONCE | {"ends_at_0": BEGINS, "ends_at_1": "18:00"}, "ends_at", "end after it begins"),
    (ONCE | {"starts_at_0": "2020-01-01", "ends_at_0": "2020-01-02"}, "ends_at", "passed already"),
    (ONCE | {"ends_at_0": "9999-12-31", "ends_at_1": "23:59"}, "ends_at", "within five years"),
    (ONCE | {"starts_at_0": "0001-01-01", "starts_at_1": "00:00"}, "ends_at", "within five years"),
    (ONCE | {"business": "77"}, "business", "valid choice"),
]


@pytest.mark.one_database
def test_refuses_in_words_what_makes_no_sense(as_user, ops, settings, case):
    settings.TIME_ZONE = "Pacific/Kiritimati"  # 14 hours ahead
    for fields, name, said in SENSELESS:
        with case(name, fields=fields):
            response = add(as_user(ops), fields)
            assert list(errors(response)) == [name]
            assert said in str(errors(response)[name])
            assert not Freeze.objects.exists()


def test_one_that_has_not_begun_can_be_changed_and_deleted(admin, later):
    bigger = ONCE | {"reason": "bigger sale"} | NO_LEAVES | based_on(admin, change(later))
    assert admin.post(change(later), bigger).status_code == 302
    assert Freeze.objects.get().reason == "bigger sale"
    assert admin.post(f"{LIST}{later.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Freeze.objects.exists()
    assert told() == [("changed", "freeze bigger sale"), ("deleted", "freeze bigger sale")]


def test_one_that_has_begun_can_only_be_ended(admin, ops, payment):
    freeze = freeze_now(ops)
    assert admin.post(f"{LIST}{freeze.pk}/delete/", {"post": "yes"}).status_code == 403
    assert errors(admin.post(change(freeze), ONCE | NO_LEAVES))["end_now"]
    response = admin.post(change(freeze), ONCE | {"end_now": "sold out"} | NO_LEAVES)
    assert response.status_code == 302
    freeze.refresh_from_db()
    assert (freeze.reason, freeze.ended_by, freeze.end_reason) == ("the great sale", ops, "sold out")
    assert ("ended", "freeze the great sale") in told()


@pytest.mark.parametrize("reason", ["", "\x1b[2J", "x" * 201])
def test_it_is_not_ended_without_a_reason(admin, ops, reason):
    freeze = freeze_now(ops)
    assert errors(admin.post(change(freeze), {"end_now": reason} | NO_LEAVES))["end_now"]
    assert Freeze.objects.in_force()


def test_a_mistake_in_what_was_changed_is_told_and_nothing_typed_is_lost(admin, later):
    wrong = {"kind": "weekly", "reason": "weekend", "weekdays": ["16"], "hours": "999"} | NO_LEAVES
    response = admin.post(change(later), wrong | based_on(admin, change(later)))
    assert set(errors(response)) == {"from_time", "hours"}
    assert response.context["adminform"].form["hours"].value() == "999"
    assert "kind" in errors(admin.post(change(later), NO_LEAVES))


def test_what_was_opened_before_undoes_nothing_that_another_did_meanwhile(admin, later, payment):
    form = ONCE | {"reason": "bigger sale"} | NO_LEAVES | based_on(admin, change(later))
    Freeze.objects.update(business=payment)
    assert "Somebody changed this meanwhile." in str(errors(admin.post(change(later), form)))
    later.refresh_from_db()
    assert (later.business, later.reason) == (payment, "the great sale")


def test_what_is_over_or_a_stop_is_only_shown(admin, ops, later):
    over, stop = freeze_now(ops), Freeze.objects.stop_world(ops, "smoke")
    Freeze.objects.filter(pk=over.pk).update(ends_at=over.starts_at + HOUR / 2)
    later.end(ops, "never mind")
    for freeze in (over, stop, later):
        assert admin.get(change(freeze)).status_code == 200
        assert admin.post(change(freeze), {"end_now": "x"} | NO_LEAVES).status_code == 403
    assert Freeze.objects.stop() == stop


def test_several_are_never_deleted_at_once(admin, later):
    admin.post(LIST, {"action": "delete_selected", "_selected_action": [later.pk], "post": "yes"})
    assert Freeze.objects.exists()


def test_one_with_leave_given_ahead_stays(admin, later, approver, job):
    Leave.objects.give(job, approver, occurrence_of(later), "urgent")
    assert admin.post(f"{LIST}{later.pk}/delete/", {"post": "yes"}).status_code in (200, 403)
    assert Freeze.objects.exists()
    assert "urgent" in words(admin.get(change(later)))


def test_leave_that_was_given_is_not_taken_by_the_form_of_its_freeze(admin, later, approver, job):
    leave = Leave.objects.give(job, approver, occurrence_of(later), "urgent")
    row = {"id": leave.pk, "freeze": later.pk, "reason": "other", "DELETE": "on"}
    rows = {f"leaves-0-{name}": value for name, value in row.items()} | {"leaves-INITIAL_FORMS": 1}
    form = ONCE | {"reason": "bigger sale", "leaves-TOTAL_FORMS": 1} | rows | based_on(admin, change(later))
    assert admin.post(change(later), form).status_code == 302
    assert list(Leave.objects.values_list("reason", "freeze__reason")) == [("urgent", "bigger sale")]


def test_saving_what_stands_already_is_no_event(admin):
    days = [(date.today() + timedelta(days=days)).weekday() for days in (3, 4)]
    bits = sorted((str(1 << day) for day in days), key=int)
    add(admin, WEEKLY, weekdays=bits, hours="2")
    [freeze] = Freeze.objects.all()
    [form] = [one for one in Page(LIST, admin.get(change(freeze)).text).forms if "_save" in one.names]
    sent = {name: [value for other, value in form.fields if other == name] for name, _value in form.fields}
    assert sent["weekdays"] == bits
    assert admin.post(change(freeze), sent).status_code == 302
    assert told() == [("added", "freeze weekend")]


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_new_reason_alone_leaves_the_times_as_they_were_to_the_second(admin, later, language):
    times = {"starts_at": later.starts_at.replace(second=30), "ends_at": later.ends_at.replace(second=59)}
    Freeze.objects.update(**times)
    in_language = {"headers": {"accept-language": language}}
    forms = Page(LIST, admin.get(change(later), **in_language).text).forms
    [form] = [one for one in forms if "_save" in one.names]
    assert admin.post(change(later), dict(form.filled({"reason": "bigger sale"})), **in_language).status_code == 302
    assert Freeze.objects.values("reason", *times).get() == {"reason": "bigger sale"} | times


def test_the_list_tells_who_ended_one_and_of_no_next_time(admin, ops):
    now = timezone.localtime()
    always = {"kind": "weekly", "weekdays": 127, "from_time": (now - HOUR).time(), "hours": 2}
    weekly = Freeze.objects.create(reason="the great sale", made_by=ops, **always)
    assert re.search(r"the great sale All Every week Yes \w{3} [0-9-]{10} [0-9:]{5} ops", words(admin.get(LIST)))
    weekly.end(ops, "sold out")
    assert re.search(r"the great sale All Every week No - ops .*[0-9:]{5}, ops", words(admin.get(LIST)))


def test_the_list_tells_what_is_in_force_and_what_comes_next(admin, ops, later):
    freeze_now(ops, reason="an audit")
    Freeze.objects.stop_world(ops, "smoke")
    add(admin, WEEKLY)
    said = words(admin.get(LIST))
    assert said.count("Yes") >= 2
    assert re.search(r"weekend All Every week (Yes|No) Fri [0-9-]{10} 18:00 ops", said)
    in_force = words(admin.get(LIST, {"in_force": "yes"}))
    assert ("an audit" in in_force, "the great sale" in in_force) == (True, False)
    assert "the great sale" in words(admin.get(LIST, {"in_force": "no"}))
    assert "the great sale" not in words(admin.get(LIST, {"q": "audit"}))


@pytest.mark.parametrize("query", ["?in_force=maybe", "?business__id__exact=x", "?q=%00", "?kind=never"])
def test_a_malformed_query_shows_a_list(admin, later, query):
    assert admin.get(LIST + query, follow=True).status_code == 200


@pytest.mark.parametrize("person", ["requester", "approver", "publisher"])
def test_it_is_for_ops(as_user, request, person):
    assert as_user(request.getfixturevalue(person)).post(f"{LIST}add/", WEEKLY, follow=True).status_code == 403
    assert not Freeze.objects.exists()

"""How often one may write and try to log in."""

from datetime import timedelta

import pytest
from django.db.models import Value
from django.db.models.functions import Now
from django.test import Client
from django.urls import NoReverseMatch, reverse

from deploy_portal.clock import database_now
from deploy_portal.limits import LOGINS, NEVER_LIMITED
from deploy_portal.models import Quota, User
from jobs.models import Event, Job
from tests.forms import Page
from tests.pages import page, words
from tests.parallel import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def limits(settings):
    settings.WRITES_PER_MINUTE = settings.LOGINS_PER_MINUTE = 2


def a_minute_later():
    Quota.objects.update(since=Now() - timedelta(minutes=1))


def withdraw(client, job, reason="not needed"):
    return client.post(page("withdraw_job", job), {"revision": job.revision, "reason": reason})


def use_up(client, job):
    for _ in range(2):
        assert client.post(page("withdraw_job", job), {"reason": ""}).status_code < 429


def test_too_many_writes_are_told_when_to_come_back_and_change_nothing(as_user, requester, make_job):
    job = make_job(approved=False)
    client = as_user(requester)
    use_up(client, job)
    response = withdraw(client, job)
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert "Nothing was changed. Wait" in words(response)
    assert Job.objects.get(pk=job.pk).status == Job.Status.WAITING


def test_what_was_typed_is_sent_again_from_that_page(as_user, requester, make_job):
    job = make_job(approved=False)
    client = as_user(requester)
    use_up(client, job)
    typed = 'because "of" <b>this</b>\nand that'
    refused = withdraw(client, job, typed)
    [form] = [form for form in Page("/", refused.text).forms if form.action == page("withdraw_job", job)]
    assert dict(form.fields) == {"revision": str(job.revision), "reason": typed}
    a_minute_later()
    assert client.post(form.action, dict(form.fields)).status_code == 302
    assert Job.objects.get(pk=job.pk).status == Job.Status.WITHDRAWN


@pytest.mark.parametrize(
    ("name", "secret"),
    [("change_password", "old_password"), ("change_password", "new_password1"), ("second_factor", "code")],
)
def test_a_password_or_a_code_is_not_kept_for_it(as_user, requester, make_job, name, secret):
    client = as_user(requester)
    use_up(client, make_job(approved=False))
    refused = client.post(reverse(name), {secret: "my secret"})
    assert refused.status_code == 429
    assert "my secret" not in refused.text


def test_each_person_has_a_limit_of_their_own(as_user, requester, ops, make_job):
    job = make_job(approved=False)
    use_up(as_user(requester), job)
    assert withdraw(as_user(ops), job).status_code == 302


@pytest.mark.one_database
def test_reading_and_live_parts_are_never_limited(as_user, publisher, job, start, machines):
    start(job, machines)
    client = as_user(publisher)
    use_up(client, job)
    for _ in range(5):
        assert client.get(page("job", job)).status_code == 200
        assert client.get(page("stage_live", job), headers={"HX-Request": "true"}).status_code == 200


def test_an_emergency_is_never_limited(as_user, publisher, job, start, machines):
    run = start(job, machines)
    client = as_user(publisher)
    use_up(client, job)
    assert client.post(page("pause_run", job, run_id=run.pk)).status_code == 302
    assert client.post(page("cancel_run", job, run_id=run.pk), {"reason": "now"}).status_code == 302
    assert client.post(page("roll_back_stage", job), {}).status_code != 429
    assert client.post(page("roll_back_job", job), {}).status_code != 429
    assert client.post(reverse("logout")).status_code == 302


def test_ops_stop_everything_and_leave_without_a_limit(as_user, ops, job):
    client = as_user(ops)
    use_up(client, job)
    assert client.post(reverse("stop_world"), {"reason": "fire", "confirmed": "on"}).status_code == 302
    for name in ("set_language", "sign_out_elsewhere", "admin:logout"):
        assert client.post(reverse(name)).status_code != 429


def test_who_signs_out_elsewhere_again_and_again_is_told_of_once_a_minute(as_user, requester):
    """Whoever had a login could fill the events, of which none can be deleted, as fast as the portal answers."""
    client, told = as_user(requester), Event.objects.filter(verb="signed_out")
    for number in (1, 2):
        for _ in range(3):
            assert client.post(reverse("sign_out_elsewhere")).status_code == 302
        assert (told.count(), User.objects.get(pk=requester.pk).session_epoch) == (number, 3 * number)
        a_minute_later()


def test_what_is_never_limited_exists():
    stages = {"kind": "pre-release"}
    for name in NEVER_LIMITED:
        arguments = [{}, {"job_id": 1}, {"job_id": 1, "run_id": 1}, {"job_id": 1} | stages]
        assert any(_is_address(name, where) for where in arguments), name


def _is_address(name, where):
    try:
        return bool(reverse(name, kwargs=where))
    except NoReverseMatch:
        return False


def test_logins_are_limited_by_address_whatever_the_name():
    for number in range(2):
        tried = Client().post("/login/", {"username": f"name-{number}", "password": "wrong"})
        assert tried.status_code == 200
    refused = Client().post("/login/", {"username": "another", "password": "my secret"})
    assert refused.status_code == 429
    assert "my secret" not in refused.text
    assert Client().get("/login/").status_code == 200
    elsewhere = Client(REMOTE_ADDR="10.9.9.9")
    assert elsewhere.post("/login/", {"username": "another", "password": "wrong"}).status_code == 200


@pytest.mark.parametrize("name", sorted(LOGINS))
def test_each_page_of_a_login_is_limited(name):
    answers = [Client().post(reverse(name), {"code": "123456"}) for _ in range(3)]
    assert [answer.status_code == 429 for answer in answers] == [False, False, True]
    assert "123456" not in answers[-1].text


def test_zero_is_no_limit(settings, as_user, requester, make_job):
    settings.WRITES_PER_MINUTE = settings.LOGINS_PER_MINUTE = 0
    client = as_user(requester)
    job = make_job(approved=False)
    for _ in range(4):
        use_up(client, job)
    assert not Quota.objects.exists()


def test_a_used_quota_is_full_again_after_a_minute_and_old_ones_are_forgotten():
    assert [Quota.objects.take("one", 2) > 0 for _ in range(4)] == [False, False, True, True]
    a_minute_later()
    assert Quota.objects.take("one", 2) == 0
    assert Quota.objects.get(who="one").used == 1
    Quota.objects.update(since=Now() - timedelta(days=2))
    Quota.objects.take("two", 2)
    assert list(Quota.objects.values_list("who", flat=True)) == ["two"]


def test_a_used_quota_is_full_again_in_the_very_moment_in_which_its_minute_is_over(monkeypatch):
    Quota.objects.take("one", 1)
    now = Value(database_now())
    monkeypatch.setattr("deploy_portal.quota.Now", lambda: now)
    Quota.objects.update(since=now - timedelta(minutes=1))
    assert Quota.objects.take("one", 1) == 0


def test_what_was_left_of_a_minute_that_is_over_is_not_used():
    Quota.objects.take("one", 2)
    a_minute_later()
    assert [Quota.objects.take("one", 2) > 0 for _ in range(3)] == [False, False, True]


def test_who_was_refused_at_the_end_of_a_minute_is_not_let_in_thereby(monkeypatch):
    [Quota.objects.take("one", 2) for _ in range(2)]
    monkeypatch.setattr("deploy_portal.quota.database_now", lambda: database_now() + timedelta(minutes=2))
    assert Quota.objects.take("one", 2) == 1


def test_nobody_waits_for_the_time_by_which_the_databases_clock_was_set_back():
    assert [Quota.objects.take("one", 2) > 0 for _ in range(3)] == [False, False, True]
    Quota.objects.update(since=Now() + timedelta(hours=1))
    assert [Quota.objects.take("one", 2) > 0 for _ in range(3)] == [False, False, True]


@pytest.mark.django_db(transaction=True)
def test_those_who_come_at_once_do_not_get_more():
    taken = at_once(*[lambda: Quota.objects.take("one", 3)] * 8)
    assert sorted(seconds > 0 for seconds in taken) == [False] * 3 + [True] * 5

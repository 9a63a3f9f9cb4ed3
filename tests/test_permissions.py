"""Every address x every method it takes x everybody: what the answer is."""

import itertools

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from jobs.models import Job, Notice
from tests.pages import page

pytestmark = pytest.mark.one_database

PEOPLE = ["anonymous", "requester", "publisher", "approver", "ops", "outsider"]
METHODS = ["get", "head", "post", "put", "patch", "delete"]
LOGIN = "login"

# The posts are empty but for what is below; 400 and 409 are the answers to those who may.
TABLE = {
    #                                  anonymous  requester  publisher  approver  ops  another business
    ("home", "get"):                    [LOGIN, 200, 200, 200, 200, 200],
    ("running", "get"):                 [LOGIN, 200, 200, 200, 200, 200],
    ("jobs", "get"):                    [LOGIN, 200, 200, 200, 200, 200],
    ("machines", "get"):                [LOGIN, 200, 200, 200, 200, 200],
    ("machine", "get"):                 [LOGIN, 200, 200, 200, 200, 404],
    ("new_job", "get"):                 [LOGIN, 200, 200, 403, 200, 404],
    ("new_job", "post"):                [LOGIN, 200, 200, 403, 200, 404],
    ("job", "get"):                     [LOGIN, 200, 200, 200, 200, 404],
    ("edit_job", "get"):                [LOGIN, 200, 403, 403, 200, 404],
    ("edit_job", "post"):               [LOGIN, 200, 403, 403, 200, 404],
    ("withdraw_job", "post"):           [LOGIN, 302, 403, 403, 409, 404],
    ("approve_job", "post"):            [LOGIN, 403, 403, 302, 403, 404],
    ("send_back_job", "post"):          [LOGIN, 403, 403, 302, 403, 404],
    ("give_leave", "get"):              [LOGIN, 403, 403, 200, 403, 404],
    ("give_leave", "post"):             [LOGIN, 403, 403, 200, 403, 404],
    ("stop_world", "get"):              [LOGIN, 403, 403, 403, 200, 403],
    ("stop_world", "post"):             [LOGIN, 403, 403, 403, 200, 403],
    ("resume_world", "post"):           [LOGIN, 403, 403, 403, 409, 403],
    ("acknowledge", "post"):            [LOGIN, 404, 404, 302, 404, 404],
    ("stage", "get"):                   [LOGIN, 200, 200, 200, 200, 404],
    ("stage", "post"):                  [LOGIN, 403, 409, 403, 409, 404],
    ("stage_live", "get"):              [LOGIN, 200, 200, 200, 200, 404],
    ("skip_stage", "post"):             [LOGIN, 403, 302, 403, 409, 404],
    ("roll_back_stage", "get"):         [LOGIN, 403, 200, 403, 200, 404],
    ("roll_back_stage", "post"):        [LOGIN, 403, 409, 403, 409, 404],
    ("roll_back_job", "get"):           [LOGIN, 403, 200, 403, 200, 404],
    ("roll_back_job", "post"):          [LOGIN, 403, 409, 403, 409, 404],
    ("excuse_machines", "get"):         [LOGIN, 403, 200, 403, 200, 404],
    ("excuse_machines", "post"):        [LOGIN, 403, 200, 403, 200, 404],
    ("run", "get"):                     [LOGIN, 302, 302, 302, 302, 404],
    ("pause_run", "post"):              [LOGIN, 403, 409, 403, 409, 404],
    ("resume_run", "post"):             [LOGIN, 403, 409, 403, 409, 404],
    ("cancel_run", "get"):              [LOGIN, 403, 200, 403, 200, 404],
    ("cancel_run", "post"):             [LOGIN, 403, 409, 403, 409, 404],
    ("machine_run", "get"):             [LOGIN, 200, 200, 200, 200, 404],
    ("machine_run_log", "get"):         [LOGIN, 200, 200, 200, 200, 404],
    ("machine_run_download", "get"):    [LOGIN, 200, 200, 200, 200, 404],
    ("resolve_machine_run", "post"):    [LOGIN, 403, 200, 403, 200, 404],
    ("login", "get"):                   [200, 302, 302, 302, 302, 302],
    ("login", "post"):                  [200, 302, 302, 302, 302, 302],
    ("login", "put"):                   [200, 302, 302, 302, 302, 302],
    ("login_code", "get"):              [LOGIN, 302, 302, 302, 302, 302],
    ("login_code", "post"):             [LOGIN, 302, 302, 302, 302, 302],
    ("login_code", "put"):              [LOGIN, 302, 302, 302, 302, 302],
    ("login_code", "patch"):            [LOGIN, 302, 302, 302, 302, 302],
    ("login_code", "delete"):           [LOGIN, 302, 302, 302, 302, 302],
    ("account", "get"):                 [LOGIN, 200, 200, 200, 200, 200],
    ("change_password", "get"):         [LOGIN, 200, 200, 200, 200, 200],
    ("change_password", "post"):        [LOGIN, 200, 200, 200, 200, 200],
    ("second_factor", "get"):           [LOGIN, 200, 200, 200, 200, 200],
    ("second_factor", "post"):          [LOGIN, 200, 200, 200, 200, 200],
    ("sign_out_elsewhere", "post"):     [LOGIN, 302, 302, 302, 302, 302],
    ("logout", "post"):                 [302, 302, 302, 302, 302, 302],
    ("health", "get"):                  [200, 200, 200, 200, 200, 200],
    # Django's own: anything but a post changes nothing and leads back.
    ("set_language", "get"):            [302, 302, 302, 302, 302, 302],
    ("set_language", "post"):           [302, 302, 302, 302, 302, 302],
    ("set_language", "put"):            [302, 302, 302, 302, 302, 302],
    ("set_language", "patch"):          [302, 302, 302, 302, 302, 302],
    ("set_language", "delete"):         [302, 302, 302, 302, 302, 302],
}  # fmt: skip
NAMES = sorted({name for name, _ in TABLE})
NOT_OF_A_JOB = {"home", "jobs", "machines", "new_job", "login", "login_code", "logout", "health", "set_language"}
NOT_OF_A_JOB |= {"account", "change_password", "second_factor", "sign_out_elsewhere"}
NOT_OF_A_JOB |= {"running", "stop_world", "resume_world"}


@pytest.fixture
def world(make_job, start, finish, machines, approver, publisher, ops, outsider):
    """Addresses by name: of a job that waits, of one that is approved, of one that has run."""
    waiting, approved, run = make_job(approved=False), make_job(), make_job()
    machine_run = start(run, machines[:1]).machine_runs.get()
    finish("unknown")
    addresses = {name: reverse(name) for name in NOT_OF_A_JOB} | {"new_job": reverse("new_job") + "?business=payment"}
    addresses |= {
        name: page(name, waiting)
        for name in ("job", "edit_job", "withdraw_job", "approve_job", "send_back_job", "give_leave")
    }
    addresses |= {name: page(name, approved) for name in ("stage", "skip_stage")}
    for name in ("stage_live", "roll_back_stage", "roll_back_job", "excuse_machines"):
        addresses[name] = page(name, run)
    for name in ("pause_run", "resume_run", "cancel_run"):
        addresses[name] = page(name, run, run_id=machine_run.run_id)
    for name in ("machine_run", "machine_run_log", "machine_run_download", "resolve_machine_run"):
        addresses[name] = page(name, run, machine_run_id=machine_run.pk)
    addresses["run"] = page("run", run, run_id=machine_run.run_id)
    notice = Notice.objects.create(job=run, to=approver, by=ops, reason="shop is down")
    addresses["acknowledge"] = reverse("acknowledge", args=[notice.pk])
    addresses["machine"] = reverse("machine", args=[machines[0].pk])
    return addresses


def answer(request, world, name, method, person):
    """What `person` gets: a status, or LOGIN."""
    client = Client()
    if person != "anonymous":
        client.force_login(request.getfixturevalue(person))
    data = {} if name == "resolve_machine_run" else {"revision": Job.objects.first().revision, "reason": "why not"}
    response = getattr(client, method)(world[name], data if method == "post" else None)
    is_sent = getattr(response, "url", "").startswith(reverse("login"))
    return LOGIN if is_sent and name != "logout" else response.status_code


def test_who_gets_which_answer(request, world, case):
    for (name, method), answers in TABLE.items():
        with case(f"{method} {name}"):
            assert [answer(request, world, name, method, person) for person in PEOPLE] == answers


def test_a_head_is_answered_as_a_get_is(request, world, case):
    for name, answers in ((name, answers) for (name, method), answers in TABLE.items() if method == "get"):
        with case(name):
            assert [answer(request, world, name, "head", person) for person in PEOPLE] == answers


def test_no_other_method_is_taken(request, world, case):
    for name, method in itertools.product(NAMES, METHODS):
        if (name, "get" if method == "head" else method) not in TABLE:
            with case(f"{method} {name}"):
                assert answer(request, world, name, method, "anonymous" if name == "login" else "ops") == 405


def test_every_address_of_ours_has_its_row():
    ours = {pattern.name for pattern in addresses_in(get_resolver()) if pattern.name}
    assert ours == set(NAMES)


def addresses_in(resolver):
    for pattern in resolver.url_patterns:
        if getattr(pattern, "app_name", None) == "admin":
            continue
        if hasattr(pattern, "url_patterns"):
            yield from addresses_in(pattern)
        else:
            yield pattern

"""Who may do what: the table of the specification, row by row, over the pages that do it."""

from itertools import product

import pytest
from django.urls import reverse

from jobs.access import get_job
from jobs.models import Business, Job, Membership
from jobs.rights import GRANTED, GRANTED_TO_OPS, Right, Role
from tests.cases import each
from tests.conftest import make_user

pytestmark = pytest.mark.one_database

PEOPLE = ["anonymous", "requester", "publisher", "approver", "ops", "outsider"]
KEPT = ["jobs/job", "jobs/event", "releases/run", "releases/machinerun", "releases/logblock"]
YES, LOGIN, FORBIDDEN, HIDDEN = "yes", "login", "403", "404"

#                anonymous  requester  publisher  approver   ops        another business
TABLE = {
    "see a job": [LOGIN, YES, YES, YES, YES, HIDDEN],
    "read its log": [LOGIN, YES, YES, YES, YES, HIDDEN],
    "create a job": [LOGIN, YES, YES, FORBIDDEN, YES, HIDDEN],
    "edit a job": [LOGIN, YES, FORBIDDEN, FORBIDDEN, YES, HIDDEN],
    "withdraw a job": [LOGIN, YES, FORBIDDEN, FORBIDDEN, YES, HIDDEN],
    "approve a job": [LOGIN, FORBIDDEN, FORBIDDEN, YES, FORBIDDEN, HIDDEN],
    "look at a stage": [LOGIN, YES, YES, YES, YES, HIDDEN],
    "run a stage": [LOGIN, FORBIDDEN, YES, FORBIDDEN, YES, HIDDEN],
    "skip a stage": [LOGIN, FORBIDDEN, YES, FORBIDDEN, YES, HIDDEN],
    "roll back a stage": [LOGIN, FORBIDDEN, YES, FORBIDDEN, YES, HIDDEN],
    "roll back a job": [LOGIN, FORBIDDEN, YES, FORBIDDEN, YES, HIDDEN],
    "resolve a machine": [LOGIN, FORBIDDEN, YES, FORBIDDEN, YES, HIDDEN],
}
CELLS = [
    (action, person, answer)
    for action, answers in TABLE.items()
    for person, answer in zip(PEOPLE, answers, strict=True)
]


@pytest.fixture
def world(request, job, approver, publisher, ops, outsider, start, finish):
    """An approved job, one machine run of it, and everybody."""
    run = start(job, job.machines.filter(hostname="pay-1"))
    finish("unknown")
    Job.objects.filter(pk=job.pk).update(status=Job.Status.APPROVED)
    return {"job": job, "machine_run": run.machine_runs.get()}


ACTIONS = {
    "see a job": ("get", "job", {}),
    "read its log": ("get", "machine_run", {}),
    "create a job": ("get", "new_job", {"business": "payment"}),
    "edit a job": ("get", "edit_job", {}),
    "withdraw a job": ("post", "withdraw_job", {"reason": "not needed"}),
    "approve a job": ("post", "approve_job", {"revision": 1}),
    "look at a stage": ("get", "stage", {}),
    "run a stage": ("post", "stage", {"step": "check"}),
    "skip a stage": ("post", "skip_stage", {"reason": "in a hurry"}),
    "roll back a stage": ("get", "roll_back_stage", {}),
    "roll back a job": ("get", "roll_back_job", {}),
    "resolve a machine": ("post", "resolve_machine_run", {"status": "failed", "reason": "looked"}),
}


def act(client, action, job, machine_run):
    method, page, data = ACTIONS[action]
    where = {"job_id": job.pk}
    if "machine_run" in page:
        where["machine_run_id"] = machine_run.pk
    elif "stage" in page:
        where["kind"] = "pre-release"
    return getattr(client, method)(reverse(page, kwargs={} if page == "new_job" else where), data)


def test_who_may_do_what(client, request, world, case):
    for action, person, answer in CELLS:
        with case(f"{action}, {person}: {answer}"):
            if person != "anonymous":
                client.force_login(request.getfixturevalue(person))
            response = act(client, action, **world)
            if answer == LOGIN:
                assert response.status_code == 302
                assert response.url.startswith(reverse("login"))
            elif answer == YES:
                assert response.status_code in (200, 302, 409)
                assert not getattr(response, "url", "").startswith(reverse("login"))
            else:
                assert response.status_code == int(answer)


@pytest.mark.parametrize("person", ["requester", "publisher", "approver", "outsider"])
def test_the_admin_is_for_ops(client, request, world, person):
    client.force_login(request.getfixturevalue(person))
    assert client.get("/admin/").status_code == 302


def test_ops_see_the_admin(client, ops):
    client.force_login(ops)
    assert client.get("/admin/").status_code == 200


@each("what, how", list(product(KEPT, ["delete", "change"])))
def test_not_even_ops_delete_or_change_what_happened(client, ops, world, what, how):
    client.force_login(ops)
    row = {
        "jobs/job": world["job"],
        "jobs/event": world["job"].events.first(),
        "releases/run": world["machine_run"].run,
    }
    pk = row.get(what, world["machine_run"]).pk
    assert client.post(f"/admin/{what}/{pk}/{how}/", {"post": "yes"}).status_code in (403, 404)
    assert Job.objects.filter(pk=world["job"].pk).exists()


@pytest.mark.parametrize("person", ["requester", "approver", "publisher", "ops"])
def test_a_job_that_was_looked_up_tells_what_its_reader_may_do(request, job, person):
    user = request.getfixturevalue(person)
    assert get_job(user, job.pk).rights == job.rights_of(user)


def test_a_requester_edits_only_their_own_job_and_only_while_a_requester(job, payment):
    other = make_user("other")
    Membership.objects.create(user=other, business=payment, role=Role.REQUESTER)
    assert job.rights_of(other) == {Right.VIEW, Right.CREATE}
    assert Right.EDIT in job.rights_of(job.requester)
    job.requester.membership_set.update(role=Role.APPROVER)
    assert job.rights_of(job.requester) == {Right.VIEW}


def test_nobody_approves_their_own_job_in_whatever_roles(make_job, payment, requester):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    assert Right.APPROVE not in make_job(approved=False).rights_of(requester)


def test_a_person_of_several_roles_has_the_rights_of_all(payment, requester):
    Membership.objects.create(user=requester, business=payment, role=Role.PUBLISHER)
    assert payment.rights_of(requester) == GRANTED[Role.REQUESTER] | GRANTED[Role.PUBLISHER]


def test_a_role_that_was_taken_away_counts_from_the_next_request(client, job, publisher):
    client.force_login(publisher)
    page = reverse("job", args=[job.pk])
    assert client.get(page).status_code == 200
    Membership.objects.filter(user=publisher).delete()
    assert client.get(page).status_code == 404


def test_a_person_who_was_deactivated_is_out_from_the_next_request(client, job, publisher):
    client.force_login(publisher)
    publisher.is_active = False
    publisher.save()
    assert client.get(reverse("job", args=[job.pk])).status_code == 302


@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize("role", Role)
def test_businesses_are_found_by_what_a_role_grants(payment, orders, role, right):
    user = make_user("someone")
    Membership.objects.create(user=user, business=payment, role=role)
    assert list(Business.objects.where(user, right)) == ([payment] if right in GRANTED[role] else [])


@pytest.mark.parametrize("right", Right)
def test_ops_are_found_in_all_businesses_or_in_none(payment, orders, ops, right):
    expected = [orders, payment] if right in GRANTED_TO_OPS else []
    assert list(Business.objects.where(ops, right)) == expected


def test_those_who_may_approve_are_named_once_and_only_while_active(payment, approver):
    Membership.objects.create(user=approver, business=payment, role=Role.PUBLISHER)
    gone = make_user("gone", is_active=False)
    Membership.objects.create(user=gone, business=payment, role=Role.APPROVER)
    assert list(payment.members_with(Right.APPROVE)) == [approver]


def test_a_requester_who_approves_too_approves_the_jobs_of_others_only(make_job, payment, requester, approver):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    Membership.objects.create(user=approver, business=payment, role=Role.REQUESTER)
    own, other = make_job(approved=False), Job(business=payment, title="Another", version="2.1")
    other.ask(approver, own.machines.all())
    assert Right.APPROVE not in own.rights_of(requester)
    assert Right.APPROVE in other.rights_of(requester)
    assert Right.APPROVE not in other.rights_of(approver)


def test_only_ops_break_the_glass(job, ops, requester, publisher, approver):
    people = [person for person in (ops, requester, publisher, approver) if Right.BREAK_GLASS in job.rights_of(person)]
    assert people == [ops]


def test_a_publisher_edits_and_withdraws_a_job_of_their_own(as_user, publisher, approver, payment, machines):
    job = Job(business=payment, title="Payment 3.0", version="3.0")
    job.ask(publisher, machines)
    job.send_back(approver, "which ticket?")
    client = as_user(publisher)
    assert client.get(reverse("edit_job", args=[job.pk])).status_code == 200
    assert client.post(reverse("withdraw_job", args=[job.pk]), {"reason": "not needed"}).status_code == 302
    job.refresh_from_db()
    assert job.status == Job.Status.WITHDRAWN

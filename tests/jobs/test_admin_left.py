"""What goes on of a person who may do less from now on is told to ops who see to that."""

import re
from html import unescape

import pytest

from jobs.models import Job, Membership
from jobs.rights import Role
from tests.conftest import list_machines
from tests.forms import based_on

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("contexts")]

MEMBERSHIPS = "/admin/jobs/membership/"


@pytest.fixture
def page(as_user, ops):
    """The test client, logged in as ops."""
    return as_user(ops)


@pytest.fixture
def world(make_job, machines, publisher, requester, orders, start, finish):
    """Of the requester three jobs are open and two are not, of the publisher one run goes on and one has ended."""
    start(make_job("1.0"), machines[:1])
    finish()
    start(make_job("2.0"), machines[1:2])
    make_job("3.0", approved=False)
    make_job("4.0", approved=False).withdraw(requester, "no need")
    other = Job(business=orders, title="Other", version="1.0")
    other.ask(publisher, list_machines(orders, "ord-1"))


def make_inactive(page, person):
    path = f"/admin/deploy_portal/user/{person.pk}/change/"
    return page.post(path, {"username": person.username} | based_on(page, path), follow=True)


def warnings(response):
    return [str(message) for message in response.context["messages"] if message.level_tag == "warning"]


def test_of_whom_is_made_inactive(page, world, requester, publisher):
    """Each number leads to the list of just these, of whatever business."""
    [of_requester], [of_publisher] = (warnings(make_inactive(page, person)) for person in (requester, publisher))
    assert told(of_requester) == "Open jobs that requester asked for: 3. Runs of theirs that go on: 0."
    assert told(of_publisher) == "Open jobs that publisher asked for: 1. Runs of theirs that go on: 1."
    assert listed(page, of_requester) == [3, 0]
    assert listed(page, of_publisher) == [1, 1]


def told(warning):
    return re.sub("<[^>]*>", "", warning)


def listed(page, warning):
    """How many rows the lists have that the numbers lead to."""
    return [page.get(unescape(url)).context["cl"].result_count for url in re.findall('href="([^"]+)"', warning)]


def test_nothing_of_whom_nothing_is_left(page, world, approver, payment):
    assert warnings(make_inactive(page, approver)) == []
    membership = approver.membership_set.get()
    deleted = page.post(f"{MEMBERSHIPS}{membership.pk}/delete/", {"post": "yes"}, follow=True)
    assert warnings(deleted) == []


@pytest.mark.parametrize("change", [{"role": Role.APPROVER}, {"user": "requester"}], ids=["of role", "of person"])
@pytest.mark.parametrize("way", ["alone", "in the form of the business"])
def test_of_who_gets_another_role_or_loses_it_to_somebody_else(page, world, publisher, requester, payment, way, change):
    change = {"user": requester.pk} if "user" in change else change
    membership = publisher.membership_set.get(business=payment)
    row = {"user": publisher.pk, "role": membership.role} | change
    if way == "alone":
        path = f"{MEMBERSHIPS}{membership.pk}/change/"
        response = page.post(path, {"business": payment.pk} | row | based_on(page, path), follow=True)
    else:
        response = change_rows(page, payment, {membership.pk: change})
    [warning] = warnings(response)
    assert told(warning) == "Open jobs that publisher asked for: 0. Runs of theirs that go on: 1."


def test_not_of_who_keeps_theirs(page, world, publisher, payment):
    path = f"{MEMBERSHIPS}{publisher.membership_set.get().pk}/change/"
    same = {"user": publisher.pk, "business": payment.pk, "role": Role.PUBLISHER}
    assert warnings(page.post(path, same | based_on(page, path), follow=True)) == []


@pytest.mark.parametrize("way", ["alone", "with others", "in the form of the business"])
def test_of_who_loses_a_role_in_that_business(page, world, publisher, payment, orders, way):
    Membership.objects.create(user=publisher, business=payment, role=Role.APPROVER)
    roles = list(publisher.membership_set.order_by("pk"))
    if way == "alone":
        response = page.post(f"{MEMBERSHIPS}{roles[0].pk}/delete/", {"post": "yes"}, follow=True)
    elif way == "with others":
        chosen = {"action": "delete_selected", "_selected_action": [role.pk for role in roles], "post": "yes"}
        response = page.post(MEMBERSHIPS, chosen, follow=True)
    else:
        response = change_rows(page, payment, {role.pk: {"DELETE": "on"} for role in roles})
    [warning] = warnings(response)
    assert told(warning) == "Open jobs that publisher asked for: 0. Runs of theirs that go on: 1."
    assert listed(page, warning) == [0, 1]


def change_rows(page, business, changes):
    """Saves the form of the business with these changes to its memberships, by their ids."""
    path, memberships = f"/admin/jobs/business/{business.pk}/change/", business.membership_set.order_by("pk")
    form = {"name": business.name, "slug": business.slug, "source": "file", "approvers_needed": 0, "soak_minutes": 0}
    form |= {"source_options": '{"path": "{business}.json"}'}
    form |= {f"membership_set-{which}_FORMS": len(memberships) for which in ("TOTAL", "INITIAL")}
    for index, membership in enumerate(memberships):
        row = {"id": membership.pk, "user": membership.user_id, "role": membership.role}
        row |= changes.get(membership.pk, {})
        form |= {f"membership_set-{index}-{name}": value for name, value in row.items()}
    return page.post(path, based_on(page, path) | form, follow=True)

"""A machine that left a business and that another one lists since: where it is now, and its labels, are that one's."""

import re
from dataclasses import replace

import pytest
from django.db.models.functions import Now
from django.urls import reverse

from jobs.models import Listing, Machine
from jobs.rights import Role
from tests.commands import say_json
from tests.conftest import list_machines, make_member, mark_fresh, rows
from tests.pages import page, words

pytestmark = pytest.mark.one_database
THEIRS = ["10.66.6.6", "zz-6", "their-rack"]


@pytest.fixture
def left(job, payment, orders, machines):
    """The job, whose pay-1 payment no longer lists, and orders has put elsewhere."""
    list_machines(payment, *(machine.hostname for machine in machines[1:]))
    [row] = rows("pay-1")
    Listing.objects.take(orders, [replace(row, address="10.66.6.6", site="zz-6", labels={"rack": "their-rack"})])
    mark_fresh(orders)
    return job


def shown(client, address):
    response = client.get(address)
    assert response.status_code == 200
    return [words for words in THEIRS if words in response.text]


def machine_page(machine):
    return reverse("machine", args=[machine.pk])


@pytest.mark.parametrize("name", ["job", "stage", "excuse_machines", "edit_job", "machine"])
def test_no_page_of_the_first_one_tells_it(
    as_user, publisher, requester, payment, left, make_job, machines, start, finish, name
):
    if name != "edit_job":
        start(left, machines[1:2])
        finish()
    client = as_user(requester if name == "edit_job" else publisher)
    address = machine_page(machines[0]) if name == "machine" else page(name, left)
    assert shown(client, address) == []
    assert "pay-1" in client.get(address).text


def test_where_it_was_when_it_was_chosen_is_told(as_user, publisher, left):
    assert "10.0.0.1" in as_user(publisher).get(page("stage", left)).text


def test_a_run_tells_where_it_was_then(as_user, publisher, job, machines, start, finish):
    start(job, machines[:2])
    finish()
    Machine.objects.filter(hostname="pay-1").update(site="zz-6")
    assert "sh-1 2 of 2" in words(as_user(publisher).get(page("stage", job)))


def test_its_tile_stays_where_it_was(as_user, publisher, left):
    said = words(as_user(publisher).get(page("job", left))).split("sh-1 0 of 6")[1]
    assert sorted(names := re.findall(r"pay-\d", said)[:6]) == names


def test_the_machine_page_says_why(as_user, publisher, left, machines):
    said = words(as_user(publisher).get(machine_page(machines[0])))
    assert "Another business has listed it since." in said


def test_nor_does_a_command(ops, left):
    def site(business):
        return say_json("machine_status", "--as", "ops", business, "pay-1")["machines"][0]["site"]

    assert (site("payment"), site("orders")) == ("", "zz-6")


def test_who_sees_the_other_business_sees_all(as_user, orders, ops, left, machines):
    for user in (ops, make_member("other", orders, Role.REQUESTER)):
        assert shown(as_user(user), machine_page(machines[0])) == THEIRS


def test_so_it_stays_once_the_other_one_has_lost_it_too(as_user, publisher, orders, left, machines):
    orders.listings.update(gone_at=Now())
    assert shown(as_user(publisher), machine_page(machines[0])) == []


def test_while_nobody_else_lists_it_all_is_told(as_user, publisher, payment, job, machines):
    list_machines(payment, *(machine.hostname for machine in machines[1:]))
    assert "10.0.0.1:22 · sh-1" in words(as_user(publisher).get(machine_page(machines[0])))


def test_what_both_list_is_told_to_both(as_user, publisher, orders, machines):
    list_machines(orders, "pay-1")
    Machine.objects.filter(hostname="pay-1").update(labels={"rack": "their-rack"})
    assert shown(as_user(publisher), machine_page(machines[0])) == ["their-rack"]

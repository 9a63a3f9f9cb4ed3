"""Rows as the JSON lists that a database writes of their columns."""

import json

import pytest

from jobs.columns import Columns
from jobs.models import Machine
from tests.conftest import list_machines

# What ends a JSON string, a line or a script, and what is outside of the basic plane.
HOSTILE = ['"', "\\", "</script>", "\n", "\x01", "\u2028", "🚀", "", "null"]


@pytest.fixture
def hosts(payment):
    return list_machines(payment, "web-2", "web-3", "web-1")


def test_the_columns_are_lists_in_the_order_of_the_queryset(hosts, django_assert_num_queries):
    with django_assert_num_queries(1):
        columns = Columns.of(Machine.objects.order_by("-hostname"), "pk", "hostname", "port")
    assert columns["hostname"] == ["web-3", "web-2", "web-1"]
    assert list(columns.rows("hostname", "port")) == [("web-3", 22), ("web-2", 22), ("web-1", 22)]
    assert json.loads(columns.texts["pk"]) == columns["pk"]


def test_a_queryset_without_an_order_gives_rows_that_belong_together(hosts):
    columns = Columns.of(Machine.objects.order_by(), "pk", "hostname")
    assert set(columns.rows("pk", "hostname")) == {(machine.pk, machine.hostname) for machine in hosts}


@pytest.mark.django_db
def test_no_rows_are_empty_lists():
    assert Columns.of(Machine.objects.all(), "pk")["pk"] == []
    assert Columns.of(Machine.objects.none(), "pk")["pk"] == []
    assert list(Columns.of_rows([], "pk", "hostname").rows("pk", "hostname")) == []


def test_rows_that_are_there_already_become_the_same(hosts):
    rows = list(Machine.objects.order_by("pk").values_list("pk", "hostname"))
    columns = Columns.of_rows(rows, "pk", "hostname")
    assert list(columns.rows("pk", "hostname")) == rows
    assert columns.texts.keys() == {"pk", "hostname"}


@pytest.mark.parametrize("site", HOSTILE)
def test_every_text_comes_back_as_it_was(hosts, site):
    Machine.objects.filter(pk=hosts[0].pk).update(site=site)
    assert Columns.of(Machine.objects.order_by("pk"), "site")["site"][0] == site


def test_what_is_not_there_is_none(hosts, payment):
    list_machines(payment, "web-1")
    columns = Columns.of(payment.listings.order_by("machine__hostname"), "machine__hostname", "gone_at")
    assert [gone is None for gone in columns["gone_at"]] == [True, False, False]

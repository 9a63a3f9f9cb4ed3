"""A list of machines as pages send it: the first rows as a table, everything as data."""

import json
from itertools import accumulate

import pytest

from jobs.columns import Columns
from jobs.fields import in_short
from jobs.machine_list import ROWS_PER_PAGE, Lean, MachineList, Mark, Note, Row, lean
from jobs.models import Listing, Machine
from tests.conftest import list_machines, rows

HELD = Note("held", "Held", "by somebody", blocks=True, other="when_free", other_words="start when free")


@pytest.fixture
def listed(payment):
    """The columns of so many machines of payment."""

    def listed(number=250):
        list_machines(payment, *(f"web-{n:03}" for n in range(number)))
        return lean(Machine.objects.live_in(payment))

    return listed


def data_of(machine_list):
    return json.loads(machine_list.data)


def shown(machine_list):
    return [row.hostname for row in machine_list.rows]


def test_a_lean_row_has_what_a_page_shows_and_labels_as_text(payment, django_assert_num_queries):
    Listing.objects.take(payment, [*rows("web-2"), *rows("web-1", site="bj-1")])
    with django_assert_num_queries(1):
        columns = lean(Machine.objects.live_in(payment))
    first, second = sorted(Lean(*row) for row in columns.rows(*Lean._fields[:-1]))
    machine = Machine.objects.get(hostname="web-1")
    assert (first.pk, first.hostname, first.address, first.port, first.site) == (
        machine.pk,
        "web-1",
        "10.0.0.1",
        22,
        "bj-1",
    )
    assert json.loads(first.label_text) == {"site": "bj-1"}
    assert second.hostname == "web-2"


class TestTable:
    def test_a_short_list_is_one_page_and_carries_nothing(self, listed):
        machines = listed(ROWS_PER_PAGE)
        one = MachineList(machines, {"machines": set(machines["pk"])})
        assert len(one.rows) == len(one) == ROWS_PER_PAGE
        assert not one.page.has_other_pages()
        assert one.carried == {}

    @pytest.mark.parametrize(
        ("asked", "first"),
        [(None, 0), ("1", 0), ("2", 100), ("3", 200), ("4", 200), ("0", 200), ("x", 0), ("", 0), ("9" * 30, 200)],
    )
    def test_the_page_asked_for_or_the_nearest_is_shown(self, listed, asked, first):
        one = MachineList(listed(), {"machines": set()}, asked_page=asked)
        assert shown(one)[0] == f"web-{first:03}"

    def test_rows_are_by_site_and_name_unless_they_came_in_order(self, payment):
        given = [*rows("web-2", site="b"), *rows("web-3", site="a"), *rows("web-1", site="b")]
        Listing.objects.take(payment, given)
        machines = lean(Machine.objects.live_in(payment))
        assert shown(MachineList(machines, {})) == ["web-3", "web-1", "web-2"]
        in_order = Columns.of_rows(list(reversed(list(machines.rows(*Lean._fields[:-1])))), *Lean._fields[:-1])
        as_they_came = MachineList(in_order, {}, is_sorted=True)
        assert shown(as_they_came) == in_order["hostname"]
        assert data_of(as_they_came)["sorted"]

    def test_what_is_chosen_on_other_pages_is_carried(self, listed):
        machines = listed()
        chosen = {machines["pk"][n] for n in (0, 1, 2, 150, 249)}
        one = MachineList(machines, {"machines": chosen}, asked_page="2")
        assert [row.hostname for row in one.rows if row.chosen] == ["web-150"]
        assert one.carried == {"machines": in_short(chosen - {machines["pk"][150]})}

    def test_what_can_not_be_chosen_any_more_is_not_carried(self, listed):
        machines = listed()
        held, free = machines["pk"][200:202]
        chosen = {"machines": {held, free, 10**9}, "when_free": {held, free}, "moved": {held}}
        one = MachineList(machines, chosen, notes={held: HELD})
        assert one.carried == {"machines": str(free), "when_free": str(held)}

    def test_a_row_tells_what_is_there_and_what_is_noted(self, listed):
        machines = listed(4)
        first, second, third, fourth = machines["pk"]
        chosen = {"machines": {second}, "when_free": {first}}
        marks = {"planned": Mark("Planned %(n)s", {first, third}, "planned"), "wrong": Mark("Wrong %(n)s", {fourth})}
        one = MachineList(machines, chosen, versions={first: "1.9", second: None}, notes={first: HELD}, marks=marks)
        assert one.rows == [
            Row(first, "web-000", "10.0.0.000", "sh-1", "1.9", HELD, False, True),
            Row(second, "web-001", "10.0.0.001", "sh-1", "", Note(), True, False),
            Row(third, "web-002", "10.0.0.002", "sh-1", "", Note(words="planned"), False, False),
            Row(fourth, "web-003", "10.0.0.003", "sh-1", "", Note(), False, False),
        ]


class TestData:
    def test_it_holds_every_machine_by_columns(self, listed):
        machines = listed()
        data = data_of(MachineList(machines, {"machines": set()}))
        assert list(accumulate(data["ids"])) == machines["pk"]
        assert data["hostnames"] == [f"web-{n:03}" for n in range(250)]
        assert data["addresses"][7] == "10.0.0.007"
        assert data["sites"] == ["sh-1"] * 250
        assert data["labels"][0] == '{"site": "sh-1"}'

    def test_what_is_told_of_many_is_sent_once(self, listed):
        machines = listed(4)
        ids = machines["pk"]
        versions, notes = {ids[2]: "", ids[3]: "2.0"}, dict.fromkeys(ids[1:3], HELD)
        data = data_of(MachineList(machines, {"machines": set()}, versions=versions, notes=notes))
        assert data["notes"] == [[list(HELD), f"{ids[1]}-{ids[2]}"]]
        assert data["versions"] == [["2.0", str(ids[3])]]

    def test_what_is_chosen_and_what_is_marked_are_ranges(self, listed):
        machines = listed(9)
        ids = machines["pk"]
        marks = {"planned": Mark("Planned %(n)s", set(ids[:4]), "planned"), "blocked": Mark("Blocked %(n)s", set())}
        one = MachineList(machines, {"machines": set(ids), "moved": set()}, marks=marks)
        assert data_of(one)["chosen"] == {"machines": f"{ids[0]}-{ids[-1]}", "moved": ""}
        assert data_of(one)["marks"] == {"planned": [f"{ids[0]}-{ids[3]}", "planned"], "blocked": ["", ""]}
        assert one.chips == [("planned", "Planned 4")]

    def test_an_empty_list_is_data_too(self, payment):
        for machines in (
            lean(Machine.objects.none()),
            lean(payment.machines.all()),
            Columns.of_rows([], *Lean._fields),
        ):
            one = MachineList(machines, {"machines": set()})
            assert not one
            assert data_of(one)["ids"] == data_of(one)["hostnames"] == []
            assert one.rows == []

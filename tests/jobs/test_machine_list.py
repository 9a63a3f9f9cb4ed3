"""A list of machines as pages send it: the first rows as a table, everything as data."""

import json

import pytest

from jobs.fields import in_short
from jobs.machine_list import ROWS_PER_PAGE, Lean, MachineList, Note, lean
from jobs.models import Listing, Machine
from tests.conftest import list_machines, rows

HELD = Note("held", "Held", "by somebody", blocks=True, other="when_free", other_words="start when free")


@pytest.fixture
def listed(payment):
    """A lean list of so many machines of payment."""

    def listed(number=250):
        list_machines(payment, *(f"web-{n:03}" for n in range(number)))
        return [Lean(*row) for row in lean(Machine.objects.live_in(payment))]

    return listed


def shown(machine_list):
    return [row.machine.hostname for row in machine_list.rows]


def test_a_lean_row_has_what_a_page_shows_and_labels_as_text(payment, django_assert_num_queries):
    Listing.objects.take(payment, [*rows("web-2"), *rows("web-1", site="bj-1")])
    with django_assert_num_queries(1):
        first, second = [Lean(*row) for row in lean(Machine.objects.live_in(payment))]
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
        one = MachineList(machines, {"machines": {machine.pk for machine in machines}})
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

    def test_what_is_chosen_on_other_pages_is_carried(self, listed):
        machines = listed()
        chosen = {machines[n].pk for n in (0, 1, 2, 150, 249)}
        one = MachineList(machines, {"machines": chosen}, asked_page="2")
        assert [row.machine.hostname for row in one.rows if row.chosen] == ["web-150"]
        assert one.carried == {"machines": in_short(chosen - {machines[150].pk})}

    def test_what_can_not_be_chosen_any_more_is_not_carried(self, listed):
        machines = listed()
        held, free = machines[200], machines[201]
        chosen = {"machines": {held.pk, free.pk, 10**9}, "when_free": {held.pk, free.pk}, "moved": {held.pk}}
        one = MachineList(machines, chosen, notes={held.pk: HELD})
        assert one.carried == {"machines": str(free.pk), "when_free": str(held.pk)}

    def test_a_row_tells_what_is_there_and_what_is_noted(self, listed):
        machines = listed(2)
        first, second = machines
        chosen = {"machines": {second.pk}, "when_free": {first.pk}}
        one = MachineList(machines, chosen, versions={first.pk: "1.9", second.pk: None}, notes={first.pk: HELD})
        assert one.rows == [(first, "1.9", HELD, False, True), (second, "", Note(), True, False)]


class TestData:
    def test_it_holds_every_machine_by_columns(self, listed):
        machines = listed()
        data = json.loads(json.dumps(MachineList(machines, {"machines": set()}).data))
        ids = [sum(data["ids"][: n + 1]) for n in range(len(machines))]
        assert ids == [machine.pk for machine in machines]
        assert data["hostnames"] == [machine.hostname for machine in machines]
        assert data["addresses"][7] == "10.0.0.007"
        assert data["sites"] == [["sh-1"], [[0, 250]]]
        assert data["labels"][0] == ['{"site": "sh-1"}']

    def test_what_is_told_of_many_is_sent_once(self, listed):
        machines = listed(4)
        notes = {machine.pk: HELD for machine in machines[1:3]}
        data = MachineList(machines, {"machines": set()}, versions={machines[3].pk: "2.0"}, notes=notes).data
        assert data["notes"] == [[(), HELD], [(0, 1), (1, 2), (0, 1)]]
        assert data["versions"] == [["", "2.0"], [(0, 3), (1, 1)]]

    def test_what_is_chosen_and_what_is_marked_are_ranges(self, listed):
        machines = listed(9)
        ids = [machine.pk for machine in machines]
        marks = {"planned": ("Planned %(n)s", set(ids[:4])), "blocked": ("Blocked %(n)s", set())}
        one = MachineList(machines, {"machines": set(ids), "moved": set()}, marks=marks)
        assert one.data["chosen"] == {"machines": f"{ids[0]}-{ids[-1]}", "moved": ""}
        assert one.data["marks"] == {"planned": f"{ids[0]}-{ids[3]}", "blocked": ""}
        assert one.chips == [("planned", "Planned 4")]

    def test_an_empty_list_is_data_too(self):
        one = MachineList([], {"machines": set()})
        assert not one
        assert one.data["ids"] == []
        assert one.rows == []

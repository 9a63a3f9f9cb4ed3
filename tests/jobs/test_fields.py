import pytest
from django.core.exceptions import ValidationError

from jobs.fields import MOST, LinesField, MachinesField, in_short
from jobs.models import Listing, Machine
from tests.conftest import list_machines, rows

NOT_OFFERED = ["Some of these machines cannot be chosen here."]


@pytest.fixture
def field(payment, machines):
    return MachinesField(queryset=Machine.objects.live_in(payment))


def names(machines):
    return [str(machine) for machine in machines]


def error_of(field, value):
    with pytest.raises(ValidationError) as caught:
        field.clean(value)
    return caught.value


def test_chosen_machines_come_in_the_order_in_which_they_were_chosen(field, machines):
    chosen = [machines[2], machines[0]]
    assert names(field.clean([str(machine.pk) for machine in chosen])) == names(chosen)


@pytest.mark.parametrize("value", [None, [], "", [""], ["", ""]])
def test_an_empty_choice_is_an_error_and_never_all(field, value):
    assert error_of(field, value).code == "required"


@pytest.mark.parametrize("value", [None, [], "", [""], ["", ""]])
def test_an_empty_choice_that_is_allowed_is_none(payment, machines, value):
    assert MachinesField(queryset=Machine.objects.live_in(payment), required=False).clean(value) == []


def test_only_those_that_are_set_can_be_chosen_and_none_where_none_is(field, machines):
    field.only = {machines[0].pk}
    assert names(field.clean([machines[0].pk])) == ["pay-1"]
    assert error_of(field, [machines[1].pk]).messages == NOT_OFFERED
    field.only = set()
    assert error_of(field, [machines[0].pk]).messages == NOT_OFFERED


@pytest.mark.parametrize(
    "item",
    [
        "",
        "x",
        "-1",
        "0",
        "01",
        "1.0",
        "1e3",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "٣",
        "9" * 40,
        "1 OR 1=1",
        "'; DROP TABLE x;--",
        "$(id)",
        "1-",
        "-",
        "1-2-3",
        "9-3",
        "1,,2",
        ",",
        "1, 2",
        "1-0",
        "1-" + "9" * 19,
    ],
)
def test_what_is_no_id_is_refused_with_what_was_typed(field, machines, item):
    error = error_of(field, [str(machines[0].pk), item])
    assert error.code == "malformed"
    assert any(word in error.messages[0] for word in item[:40].split(","))


def test_a_machine_that_is_named_twice_is_refused(field, machines):
    assert error_of(field, [machines[0].pk, machines[0].pk]).code == "twice"


def test_a_machine_of_another_business_is_refused(field, machines, orders):
    [foreign] = list_machines(orders, "ord-1")
    assert error_of(field, [machines[0].pk, foreign.pk]).messages == NOT_OFFERED


def test_a_machine_that_is_gone_is_refused(field, payment, machines):
    Listing.objects.take(payment, rows(*(machine.hostname for machine in machines[1:])))
    assert error_of(field, [machines[0].pk]).messages == NOT_OFFERED


def test_an_id_that_does_not_exist_is_refused(field):
    assert error_of(field, ["999999999999999999"]).messages == NOT_OFFERED


def test_the_form_says_in_its_own_words_why_not(field, machines):
    field.why_not = lambda ids: [f"{pk} is on holiday" for pk in ids]
    assert error_of(field, ["7777", machines[0].pk]).messages == ["7777 is on holiday"]


@pytest.mark.parametrize("number", [1, 1000, 10_000])
def test_however_many_are_named_it_is_one_query(field, number, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert error_of(field, [str(pk) for pk in range(1_000_000, 1_000_000 + number)])


def test_ten_thousand_machines_can_be_chosen(field, payment, django_assert_num_queries):
    row = rows("x")[0]
    many = [type(row)(f"pay-{n}", f"10.1.{n // 250}.{n % 250 + 1}", 22, "", {}, "") for n in range(10_000)]
    Listing.objects.take(payment, many)
    ids = list(Machine.objects.live_in(payment).values_list("pk", flat=True))
    with django_assert_num_queries(1):
        assert len(field.clean([str(pk) for pk in ids])) == 10_000


def test_one_value_may_name_machines_by_ranges(field, machines, django_assert_num_queries):
    first, *_, last = [machine.pk for machine in machines]
    with django_assert_num_queries(1):
        assert names(field.clean([f"{first}-{last - 2},{last}"])) == names(machines[:4] + machines[5:])
    assert names(field.clean([f"{first}-{first + 1}", str(last)])) == names([*machines[:2], machines[5]])


def test_a_range_that_holds_a_foreign_machine_is_refused(field, machines, orders):
    [foreign] = list_machines(orders, "ord-1")
    assert error_of(field, [f"{machines[0].pk}-{foreign.pk}"]).messages == NOT_OFFERED


def test_ranges_that_overlap_name_a_machine_twice(field, machines):
    pk = machines[0].pk
    assert error_of(field, [f"{pk}-{pk + 2},{pk + 1}"]).code == "twice"


@pytest.mark.parametrize(
    "value", [[f"1-{MOST + 1}"], ["1-999999999999999999"], [f"1-{MOST}", "60000"], [f"1-{MOST},60000-60001"]]
)
def test_a_choice_is_bounded_before_it_is_written_out(field, value, settings, django_assert_num_queries):
    settings.CONFIG_SERVICE_MAX_MACHINES = 10
    with django_assert_num_queries(0):
        assert error_of(field, value).code == "too_many"


def test_what_is_named_again_counts_again_before_it_is_shown(field, settings):
    settings.CONFIG_SERVICE_MAX_MACHINES = 10
    half = range(1, MOST // 2 + 1)
    assert field.prepare_value([in_short(half)] * 3 + [f"{MOST + 1}"]) == set(half)


def test_as_many_can_be_chosen_and_shown_again_as_a_list_may_have(field, settings):
    settings.CONFIG_SERVICE_MAX_MACHINES = 200_000
    assert error_of(field, ["1000001-1200000"]).messages == NOT_OFFERED
    assert field.prepare_value(["1000001-1200000"]) == set(range(1_000_001, 1_200_001))
    assert error_of(field, ["1000001-1200001"]).code == "too_many"
    assert field.prepare_value(["1000001-1200001"]) == set()


def test_what_a_form_shows_as_chosen_leaves_out_what_is_no_id(field, machines):
    assert field.prepare_value(["3", "x", "5-7,-1", 9, "1-999999999999"]) == {3, 5, 6, 7, 9}
    assert field.prepare_value({3, 4}) == {3, 4}
    assert field.prepare_value(None) == set()


def test_of_a_flood_of_junk_no_more_is_read_than_could_be_chosen(field, settings):
    settings.CONFIG_SERVICE_MAX_MACHINES = 1
    assert field.prepare_value([",".join(["3", *"x" * (MOST - 2), "4", "5"])]) == {3, 4}


@pytest.mark.parametrize(
    ("ids", "value"),
    [
        ([], ""),
        ([7], "7"),
        ([1, 2], "1-2"),
        ([9, 1, 3, 2, 8, 5], "1-3,5,8-9"),
        ([1, 3, 3], "1,3"),
        (range(1, 10_001), "1-10000"),
    ],
)
def test_ids_in_short(field, ids, value):
    assert in_short(ids) == value
    assert field.prepare_value([value]) == set(ids)


def test_a_line_end_is_one_character_though_browsers_send_two():
    text = "\n".join(["x" * 9] * 4)
    assert LinesField(max_length=39).clean(text.replace("\n", "\r\n")) == text
    with pytest.raises(ValidationError):
        LinesField(max_length=38).clean(text)

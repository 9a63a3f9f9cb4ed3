import pytest
from django.core.exceptions import ValidationError

from jobs.shares import share, share_of
from releases.batches import batches


@pytest.mark.parametrize("value", ["1", "10", "999999", "1%", "1 %", "100 %", "100%", "１０", "1０ ％", "１０　％"])
def test_a_number_of_machines_or_a_share_of_them_is_taken(value):
    assert share(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "0 %",
        "101 %",
        "-1",
        "+1",
        "1.5",
        "1e3",
        " 1",
        "1 ",
        "1  %",
        "%",
        "% 5",
        "5 percent",
        "1\n",
        "1000000",
        "01",
    ],
)
def test_what_is_neither_is_refused(value):
    with pytest.raises(ValidationError) as refused:
        share(value)
    assert refused.value.code == "share"


def test_digits_of_other_scripts_are_refused():
    with pytest.raises(ValidationError):
        share("٣")


@pytest.mark.parametrize(
    ("total", "value", "machines"),
    [
        (200, "", None),
        (200, None, None),
        (200, "10", 10),
        (6, "10", 10),
        (200, "5 %", 10),
        (200, "１０", 10),
        (200, "５％", 10),
        (201, "5%", 11),
        (6, "1%", 1),
        (6, "34 %", 3),
        (6, "100 %", 6),
        (0, "5 %", 1),
        (5000, "100%", 5000),
    ],
)
def test_a_share_is_so_many_machines_of_a_total_and_at_least_one(total, value, machines):
    assert share_of(total, value) == machines


@pytest.mark.parametrize(
    ("total", "size", "canary", "sizes"),
    [
        (6, None, False, [6]),
        (6, 4, False, [4, 2]),
        (6, 100, False, [6]),
        (1, None, False, [1]),
        (6, None, True, [1, 5]),
        (6, 2, True, [1, 2, 2, 1]),
        (6, 1, True, [1] * 6),
        (2, 100, True, [1, 1]),
        (1, None, True, [1]),
    ],
)
def test_the_sizes_of_the_batches(total, size, canary, sizes):
    assert batches(total, size, canary) == sizes


@pytest.mark.parametrize("canary", [False, True])
def test_no_machine_is_in_no_batch_or_in_two(canary):
    for total in range(1, 40):
        for size in (None, *range(1, 45)):
            sizes = batches(total, size, canary)
            assert sum(sizes) == total
            assert min(sizes) >= 1
            assert max(sizes) <= (size or total)

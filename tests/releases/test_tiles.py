"""Machines as tiles, in groups."""

from types import SimpleNamespace

import pytest
from django.template.loader import render_to_string

from releases import tiles
from releases.tiles import Tile, labels_to_group_by, size_of


def tile(number, name=None, site="sh-1", **labels):
    return Tile(number, name or f"pay-{number}", site, "waiting", None, labels=labels)


def read(groups):
    return [(group.name, [tile.machine_id for tile in group.tiles]) for group in groups]


def test_without_a_site_they_are_a_group_too():
    some = [tile(1, site=""), tile(2), tile(3)]
    assert read(tiles.by_site(some)) == [("No site", [1]), ("sh-1", [2, 3])]


def test_a_label_groups_by_its_values_and_who_has_none_comes_last():
    some = [tile(1, rack="r2"), tile(2), tile(3, rack="r1"), tile(4, rack="r2"), tile(5, rack="")]
    assert read(tiles.by_label(some, "rack")) == [("r1", [3]), ("r2", [1, 4]), ("Without rack", [2, 5])]


class TestLabelsToGroupBy:
    def test_those_by_which_some_are_together(self):
        racks = ["r1", "r1", "r2"]
        some = [tile(n, rack=rack, owner="li.na", serial=f"s{n}") for n, rack in enumerate(racks)]
        assert labels_to_group_by(some) == ["rack"]

    def test_those_without_it_are_a_group_as_well(self):
        assert labels_to_group_by([tile(1, gpu="yes"), tile(2, gpu="yes"), tile(3), tile(4)]) == ["gpu"]
        assert labels_to_group_by([tile(1, serial="s1"), tile(2, serial="s2"), tile(3)]) == []

    def test_none_that_is_there_anyway(self):
        some = [tile(n, name, stage=stage) for n, (name, stage) in enumerate([("a", "x"), ("b", "x"), ("c", "y")])]
        for one, other in zip(some, ["sh-1", "sh-1", "bj-1"], strict=True):
            one.labels["site"] = other
        assert labels_to_group_by(some) == []

    @pytest.mark.parametrize(("number", "names"), [(100, ["rack"]), (101, [])])
    def test_none_that_makes_more_groups_than_can_be_looked_at(self, number, names):
        assert labels_to_group_by([tile(n, rack=f"r{n % number}") for n in range(2 * number)]) == names

    def test_of_no_machine_there_is_none(self):
        assert labels_to_group_by([]) == []


@pytest.mark.parametrize(
    ("number", "size"),
    [(1, "t-40"), (40, "t-40"), (41, "t-300"), (300, "t-300"), (301, "t-1000"), (1000, "t-1000"), (1001, "t-5000")],
)
def test_the_more_there_are_the_smaller_they_are(number, size):
    assert size_of(tiles.by_site([tile(n) for n in range(number)])) == size


def test_where_two_of_a_group_would_read_alike_they_say_their_names():
    some = [tile(n, f"{name}-{n}") for n in range(25) for name in ("web", "api")]
    assert size_of(tiles.by_site(some)) == "t-300 whole"
    for one in some:
        one.site = one.hostname[:3]
    assert size_of(tiles.by_site(some)) == "t-300"


@pytest.mark.parametrize(("number", "sentences"), [(300, 0), (301, 1), (1001, 2)])
def test_squares_without_a_name_are_explained(number, sentences):
    groups = tiles.by_site([tile(n) for n in range(number)])
    job = SimpleNamespace(pk=1)
    text = render_to_string("releases/_tiles.html", {"job": job, "groups": groups, "tile_size": size_of(groups)})
    told = ["One square is one machine.", "Hollow: waiting."]
    assert [words in text for words in told] == [True] * sentences + [False] * (2 - sentences)

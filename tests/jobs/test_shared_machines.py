"""A machine that several businesses list: where one of them alone would move it, and how all of them do."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.db import connection

from jobs.config_service import SourceError
from jobs.config_service.rows import Refused
from jobs.models import Listing, Machine
from jobs.models.machine import ListingQuerySet
from tests.conftest import list_machines, make_business, rows
from tests.parallel import at_once, waits_for_a_lock
from tests.waiting import PATIENCE, wait_until

NAMES = [f"m-{number}" for number in range(1, 6)]


@pytest.fixture
def answer(monkeypatch):
    """Makes the config service of a business answer with these rows, and takes it."""

    def answer(business, given, refused=(), **options):
        monkeypatch.setattr("jobs.config_service.read", lambda business, progress=None: (list(given), list(refused)))
        return business.sync_machines(**options)

    return answer


@pytest.fixture
def shared(payment, orders):
    """Five machines that payment and orders list, m-1 to m-5, at sh-1."""
    list_machines(payment, *NAMES)
    return list_machines(orders, *NAMES)


def live(business):
    return sorted(Machine.objects.live_in(business).values_list("hostname", flat=True))


def sites():
    return set(Machine.objects.values_list("site", flat=True))


@pytest.mark.parametrize("changed", [{"site": "nowhere"}, {"port": 2222}])
def test_no_business_moves_a_machine_that_another_one_lists(answer, payment, orders, changed):
    [machine] = list_machines(orders, "shared-1")
    sync = answer(payment, [*rows("shared-1", **changed), *rows("pay-2")])
    why = (
        "Other businesses list it at 10.0.0.1:22 sh-1. It moves once their sources say the same: correct this one, or "
        "ask theirs by sync_machines orders"
    )
    assert sync.refused_in_words == [(1, "shared-1", why)]
    assert Machine.objects.values_list("address", "port", "site").get(pk=machine.pk) == ("10.0.0.1", 22, "sh-1")
    assert live(payment) == ["pay-2"]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_of_two_who_give_a_new_machine_another_place_at_once_one_lists_it(payment, orders, monkeypatch):
    """Neither saw the other's row: both listed it, at the place of who came last."""
    given = {payment.pk: rows("new-1"), orders.pk: rows("new-1", port=2222)}
    monkeypatch.setattr("jobs.config_service.read", lambda business, progress=None: (given[business.pk], []))
    real, others = ListingQuerySet.take, []

    def take(self, *args):
        real(self, *args)
        if not others:
            others.append(pool.submit(at_once, orders.sync_machines))
            wait_until(lambda: others[0].done() or waits_for_a_lock())

    monkeypatch.setattr(ListingQuerySet, "take", take)
    with ThreadPoolExecutor(1) as pool:
        payment.sync_machines()
        [sync] = others[0].result(PATIENCE)
    assert (sync.refused_count, live(payment), live(orders)) == (1, ["new-1"], [])
    assert Machine.objects.get(hostname="new-1").port == 22


def test_a_machine_that_may_not_move_stays_listed_where_it_is(answer, payment, shared):
    for _ in range(3):
        sync = answer(payment, [*rows("m-1", port=2222), *rows(*NAMES[1:])])
        assert (sync.listed, sync.gone, sync.moved, sync.refused_count) == (5, [], [], 1)
    assert live(payment) == NAMES
    assert not Machine.objects.filter(port=2222).exists()


def test_nothing_is_suddenly_missing_where_all_may_not_move(answer, payment, shared):
    assert answer(payment, rows(*NAMES, site="sh-2")).refused_count == 5
    assert (live(payment), sites()) == (NAMES, {"sh-1"})


def test_a_machine_that_is_really_missing_is_gone_all_the_same(answer, payment, shared):
    assert answer(payment, rows(*NAMES[:4], site="sh-2")).gone == ["m-5"]
    with pytest.raises(SourceError, match="3 of 4 machines are suddenly missing"):
        answer(payment, rows("m-1", site="sh-2"))


def test_machines_move_once_the_sources_of_both_businesses_say_so(answer, payment, orders, shared):
    moved = rows(*NAMES, site="sh-2")
    answer(payment, moved)
    sync = answer(orders, moved)
    assert (len(sync.moved), sync.refused, sites()) == (5, [], {"sh-2"})
    sync = answer(payment, moved)
    assert (sync.moved, sync.refused, live(payment)) == ([], [], NAMES)
    assert not Listing.objects.filter(refused_place__isnull=False).exists()


def test_machines_move_once_the_sources_of_all_businesses_say_so(answer, payment, orders, shared):
    stock = make_business("stock")
    list_machines(stock, *NAMES)
    moved = rows(*NAMES, site="sh-2")
    assert answer(payment, moved).refused[0]["reason"].endswith("sync_machines orders stock")
    assert answer(orders, moved).refused[0]["reason"].endswith("sync_machines stock")
    answer(stock, moved)
    assert sites() == {"sh-2"}


def test_businesses_that_name_different_places_move_nothing(answer, payment, orders, shared):
    for _ in range(2):
        answer(payment, rows(*NAMES, site="sh-2"))
        answer(orders, rows(*NAMES, site="sh-3"))
    assert sites() == {"sh-1"}


@pytest.mark.parametrize("later", [rows(*NAMES), rows(*NAMES, site="sh-3"), []])
def test_only_the_last_answer_of_the_other_business_counts(answer, payment, orders, shared, later):
    answer(payment, rows(*NAMES, site="sh-2"))
    answer(payment, later, accept_loss=True)
    list_machines(payment, *NAMES)
    answer(orders, rows(*NAMES, site="sh-2"))
    assert sites() == {"sh-1"}


def test_a_business_that_gives_them_no_longer_has_no_say(answer, payment, orders, shared):
    moved = rows(*NAMES, site="sh-2")
    assert answer(payment, moved).refused_count == 5
    answer(orders, [], accept_loss=True)
    assert answer(payment, moved).refused_count == 0
    assert sites() == {"sh-2"}


def test_nor_has_it_beside_one_that_still_gives_them(answer, payment, orders, shared):
    stock = make_business("stock")
    list_machines(stock, *NAMES)
    answer(stock, [], accept_loss=True)
    for business in (payment, orders):
        answer(business, rows(*NAMES, site="sh-2"))
    assert sites() == {"sh-2"}


def test_labels_are_those_of_the_last_answer(answer, payment, orders, shared):
    for business, rack in ((payment, "r1"), (orders, "r2"), (payment, "r3")):
        answer(business, [replace(row, labels={"rack": rack}) for row in rows(*NAMES)])
        assert {machine.labels["rack"] for machine in Machine.objects.all()} == {rack}


def test_a_dry_run_says_nothing_for_its_business(answer, payment, orders, shared):
    answer(payment, rows(*NAMES, site="sh-2"), dry_run=True)
    answer(orders, rows(*NAMES, site="sh-2"))
    assert sites() == {"sh-1"}


def test_a_machine_does_not_stay_where_another_one_is_by_now(answer, payment, shared):
    [swapped] = rows("new-1")
    sync = answer(payment, [swapped, *rows("m-1", port=2222), *rows(*NAMES[1:])])
    assert (sync.added, sync.gone) == (["new-1"], ["m-1"])


def test_a_refused_row_keeps_its_number_in_the_answer(answer, payment, shared):
    bad = [Refused(1, "bad;1", "why"), Refused(3, "bad;2", "why")]
    sync = answer(payment, [*rows("m-2"), *rows("m-3", port=2222), *rows("m-1", "m-4", "m-5")], bad)
    assert [(row["row"], row["name"]) for row in sync.refused] == [(1, "bad;1"), (3, "bad;2"), (4, "m-3")]

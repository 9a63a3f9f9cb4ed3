import dataclasses
import json
import time
from datetime import timedelta
from threading import Barrier, Thread

import pytest
from django.db import InternalError, connection
from django.test.utils import CaptureQueriesContext

from deploy_portal.clock import database_now
from jobs import config_service
from jobs.config_service import SourceError
from jobs.models import Business, Listing, Machine, Sync
from tests.conftest import list_machines, make_business, rows
from tests.databases import only_read

ASKED = []


class CountingSource:
    """A source that counts how often it is asked, and fails when told to."""

    fails = False

    def __init__(self, slug, options):
        self.slug = slug

    def rows(self):
        ASKED.append(self.slug)
        if self.fails:
            raise SourceError("The source is away.")
        return [{"hostname": "pay-1", "address": "10.0.0.1"}]


@pytest.fixture
def counting_source(settings):
    settings.CONFIG_SOURCES = {"file": f"{__name__}.CountingSource"}
    ASKED.clear()
    yield CountingSource
    CountingSource.fails = False


@pytest.fixture
def write_list(payment, config_files):
    """Writes the file that payment's machines are read from."""

    def write(*hostnames):
        machines = [{"hostname": name, "address": f"10.0.1.{n}"} for n, name in enumerate(hostnames, 1)]
        (config_files / "payment.json").write_text(json.dumps(machines))

    return write


def live(business):
    return sorted(Machine.objects.live_in(business).values_list("hostname", flat=True))


def test_the_first_list_adds_its_machines(payment, write_list):
    write_list("pay-1", "pay-2")
    sync = payment.sync_machines()
    assert (sync.listed, sync.added, sync.gone) == (2, ["pay-1", "pay-2"], [])
    assert live(payment) == ["pay-1", "pay-2"]


def test_a_changed_address_is_taken_over_and_the_machine_stays_the_same_row(payment, write_list, config_files):
    write_list("pay-1")
    payment.sync_machines()
    before = Machine.objects.get()
    moved = [{"hostname": "pay-1", "address": "10.9.9.9", "port": 2222, "labels": {"site": "bj-2"}}]
    (config_files / "payment.json").write_text(json.dumps(moved))
    payment.sync_machines()
    after = Machine.objects.get()
    assert (after.pk, after.address, after.port, after.site) == (before.pk, "10.9.9.9", 2222, "bj-2")


def test_a_machine_that_is_no_longer_listed_is_gone_but_not_deleted(payment, write_list):
    write_list("pay-1", "pay-2", "pay-3", "pay-4")
    payment.sync_machines()
    write_list("pay-1", "pay-2", "pay-3")
    assert payment.sync_machines().gone == ["pay-4"]
    assert live(payment) == ["pay-1", "pay-2", "pay-3"]
    assert Listing.objects.get(machine__hostname="pay-4").gone_at is not None


def test_a_machine_that_returns_is_live_again_and_keeps_when_it_was_first_seen(payment, write_list):
    write_list("pay-1", "pay-2", "pay-3", "pay-4")
    payment.sync_machines()
    first_seen = Listing.objects.get(machine__hostname="pay-4").first_seen_at
    write_list("pay-1", "pay-2", "pay-3")
    payment.sync_machines()
    write_list("pay-1", "pay-2", "pay-3", "pay-4")
    assert payment.sync_machines().added == ["pay-4"]
    listing = Listing.objects.get(machine__hostname="pay-4")
    assert (listing.gone_at, listing.first_seen_at) == (None, first_seen)


def test_a_list_retires_none_of_its_own_machines_however_fast_it_is_taken(payment):
    """SQLite's clock stands still for a millisecond: a listing made in it once counted as older than its own list."""
    for _ in range(50):
        Listing.objects.take(payment, rows("pay-1"))
        assert live(payment) == ["pay-1"]


def test_what_one_business_no_longer_lists_stays_in_the_other(payment, orders):
    list_machines(payment, "shared-1", "pay-1")
    list_machines(orders, "shared-1")
    list_machines(payment, "pay-1")
    assert (live(payment), live(orders)) == (["pay-1"], ["shared-1"])


def test_a_missing_file_leaves_the_last_good_list_and_keeps_the_reason(payment, write_list, config_files):
    write_list("pay-1", "pay-2")
    payment.sync_machines()
    payment.refresh_from_db()
    answered = payment.synced_at
    (config_files / "payment.json").unlink()
    with pytest.raises(SourceError):
        payment.sync_machines()
    payment.refresh_from_db()
    assert live(payment) == ["pay-1", "pay-2"]
    assert "payment.json" in payment.sync_error
    assert payment.synced_at == answered


def test_a_good_answer_clears_the_reason_of_the_last_bad_one(payment, write_list):
    with pytest.raises(SourceError):
        payment.sync_machines()
    write_list("pay-1")
    payment.sync_machines()
    payment.refresh_from_db()
    assert payment.sync_error == ""


@pytest.mark.parametrize("left", [[], ["pay-1"], ["pay-1", "pay-2"], ["new-1", "new-2", "new-3", "new-4"]])
def test_a_sudden_loss_is_not_taken(payment, write_list, left):
    write_list("pay-1", "pay-2", "pay-3", "pay-4")
    payment.sync_machines()
    write_list(*left)
    with pytest.raises(SourceError, match="suddenly missing"):
        payment.sync_machines()
    assert live(payment) == ["pay-1", "pay-2", "pay-3", "pay-4"]


def test_the_only_machine_is_not_lost_to_an_empty_list(payment, write_list):
    write_list("pay-1")
    payment.sync_machines()
    write_list()
    with pytest.raises(SourceError, match="If it is really gone: sync_machines payment --accept-loss"):
        payment.sync_machines()
    assert live(payment) == ["pay-1"]


def test_a_list_of_more_rows_than_a_business_may_have_is_not_taken(payment, write_list, settings):
    write_list("pay-1", "pay-2")
    payment.sync_machines()
    settings.CONFIG_SERVICE_MAX_MACHINES = 2
    payment.sync_machines()
    write_list("pay-1", "pay-2", "pay-3")
    with pytest.raises(SourceError, match="more than 2 rows"):
        payment.sync_machines()
    assert live(payment) == ["pay-1", "pay-2"]


def test_a_row_that_is_refused_counts_as_missing(payment, write_list, config_files):
    write_list("pay-1", "pay-2", "pay-3", "pay-4")
    payment.sync_machines()
    bad = [{"hostname": f"pay-{n}", "address": "a;b" if n > 1 else "10.0.1.1"} for n in range(1, 5)]
    (config_files / "payment.json").write_text(json.dumps(bad))
    with pytest.raises(SourceError, match="suddenly missing"):
        payment.sync_machines()


def test_a_sudden_loss_is_taken_when_ops_accept_it(payment, write_list):
    write_list("pay-1", "pay-2", "pay-3", "pay-4")
    payment.sync_machines()
    write_list("pay-1")
    assert payment.sync_machines(accept_loss=True).gone == ["pay-2", "pay-3", "pay-4"]
    assert live(payment) == ["pay-1"]


def test_refused_rows_are_counted_and_the_others_kept(payment, config_files):
    answer = [{"hostname": "pay-1", "address": "10.0.0.1"}, {"hostname": "-oProxyCommand=id", "address": "10.0.0.2"}]
    (config_files / "payment.json").write_text(json.dumps(answer))
    assert len(payment.sync_machines().refused) == 1
    payment.refresh_from_db()
    assert (live(payment), payment.refused_rows) == (["pay-1"], 1)


def test_the_source_is_asked_once_a_minute_at_most(payment, counting_source):
    for _ in range(3):
        payment.refresh_machines()
    assert ASKED == ["payment"]
    assert live(payment) == ["pay-1"]
    assert payment.synced_at


@pytest.fixture
def asked_at_each_start(settings):
    settings.CONFIG_SERVICE_MAX_AGE_AT_START = -1


def test_the_source_is_asked_again_when_the_list_is_old(payment, counting_source, asked_at_each_start):
    payment.refresh_machines()
    payment.refresh_machines(before_start=True)
    assert len(ASKED) == 2


def test_a_list_that_is_not_old_costs_one_query(payment, counting_source, django_assert_num_queries):
    payment.refresh_machines()
    with django_assert_num_queries(1):
        payment.refresh_machines()
    assert len(ASKED) == 1


@pytest.mark.parametrize("before_start", [False, True])
def test_a_source_that_fails_is_not_asked_more_often(payment, counting_source, before_start):
    CountingSource.fails = True
    for _ in range(3):
        payment.refresh_machines(before_start)
    assert len(ASKED) == 1
    assert payment.sync_error == "The source is away."
    assert payment.synced_at is None


@pytest.mark.django_db(transaction=True)
def test_a_list_that_cannot_be_asked_for_now_is_shown_as_it_is_but_starts_nothing(
    payment, counting_source, asked_at_each_start
):
    with only_read():
        payment.refresh_machines()
        with pytest.raises(InternalError):
            payment.refresh_machines(before_start=True)
    assert ASKED == []


def test_before_a_start_counts_what_another_request_was_told(payment, counting_source):
    CountingSource.fails = True
    Business.objects.get(pk=payment.pk).refresh_machines(before_start=True)
    payment.refresh_machines(before_start=True)
    assert (len(ASKED), payment.sync_error) == (1, "The source is away.")


@pytest.mark.django_db(transaction=True)
def test_the_source_is_asked_once_by_many_requests_at_the_same_time(counting_source):
    business = make_business("payment")
    ready = Barrier(8)

    def refresh():
        ready.wait()
        type(business).objects.get(pk=business.pk).refresh_machines()
        connection.close()

    threads = [Thread(target=refresh) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(ASKED) == 1


def test_ten_thousand_machines_are_taken_by_a_few_queries(payment, django_assert_max_num_queries):
    many = list(_many_rows(10_000))
    # SQLite takes a thousand values in one query
    with django_assert_max_num_queries(130):
        Listing.objects.take(payment, many)
    assert len(live(payment)) == 10_000


def _many_rows(number):
    row = rows("pay-0")[0]
    for n in range(number):
        yield type(row)(f"pay-{n}", f"10.1.{n // 250}.{n % 250 + 1}", 22, "", {}, "")


def test_a_source_that_is_not_registered_any_more_is_an_error_in_words(payment, settings):
    settings.CONFIG_SOURCES = {}
    with pytest.raises(SourceError):
        payment.sync_machines()


class Overtaken:
    """A source that is asked, and before it answers MEANWHILE happens."""

    MEANWHILE = []

    def __init__(self, slug, options):
        self.names = options["names"]

    def rows(self):
        answer = [{"hostname": name, "address": f"10.0.0.{n}"} for n, name in enumerate(self.names, 1)]
        while self.MEANWHILE:
            time.sleep(0.005)  # SQLite's clock has milliseconds
            self.MEANWHILE.pop()()
        if not self.names:
            raise SourceError("It is down.")
        return answer


@pytest.fixture
def meanwhile(payment, settings):
    """Before payment's source answers with these names, or fails without any, this happens."""
    settings.CONFIG_SOURCES = {"file": f"{__name__}.Overtaken"}

    def meanwhile(names, happens):
        payment.source_options = {"names": names}
        payment.save()
        Overtaken.MEANWHILE[:] = [happens]

    return meanwhile


def asked_anew(business, *names):
    """Another process asks the same source and is answered at once."""

    def ask():
        read, config_service.read = config_service.read, lambda *args: (rows(*names), [])
        try:
            Business.objects.get(pk=business.pk).sync_machines()
        finally:
            config_service.read = read

    return ask


def replaced(business):
    return lambda: Business.objects.filter(pk=business.pk).update(source_options={"names": ["new-1"]})


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_answer_does_not_undo_one_that_was_asked_for_later(payment, meanwhile, dry_run):
    meanwhile(["pay-1", "pay-2"], asked_anew(payment, "pay-1", "pay-3", "pay-4"))
    sync = payment.sync_machines(dry_run=dry_run)
    assert (sync.listed, sync.has_news) == (3, False)
    assert live(payment) == ["pay-1", "pay-3", "pay-4"]
    assert Sync.objects.count() == 1


def test_an_answer_is_taken_after_one_that_was_asked_for_sooner(payment, meanwhile):
    meanwhile(["pay-1", "pay-2"], lambda: None)
    asked_anew(payment, "pay-1")()
    assert payment.sync_machines().added == ["pay-2"]


def test_an_answer_is_taken_though_the_clock_was_set_back(payment, meanwhile):
    Business.objects.update(synced_at=database_now() + timedelta(hours=1))
    meanwhile(["pay-1"], lambda: None)
    assert payment.sync_machines().added == ["pay-1"]


@pytest.mark.parametrize("max_age", [None, 30, 0])
def test_the_source_is_asked_though_the_clock_was_set_back(payment, meanwhile, settings, max_age):
    settings.CONFIG_SERVICE_MAX_AGE_AT_START = max_age
    to_come = database_now() + timedelta(days=1)
    meanwhile(["pay-1"], lambda: None)
    Business.objects.update(asked_at=to_come, synced_at=to_come)
    payment.refresh_machines(before_start=max_age is not None)
    assert live(payment) == ["pay-1"]


def test_a_failure_does_not_undo_an_answer_that_was_asked_for_later(payment, meanwhile):
    meanwhile([], asked_anew(payment, "pay-1"))
    with pytest.raises(SourceError, match="It is down"):
        payment.sync_machines()
    payment.refresh_from_db()
    assert (payment.sync_error, live(payment)) == ("", ["pay-1"])
    assert not Sync.objects.exclude(error="").exists()


@pytest.mark.parametrize("names", [["old-1"], []])
def test_the_answer_of_a_source_that_was_replaced_meanwhile_does_not_count(
    payment, meanwhile, asked_at_each_start, names
):
    meanwhile(names, replaced(payment))
    payment.refresh_machines()
    assert payment.sync_error.startswith("The source was changed while it was asked")
    assert live(payment) == []
    payment.refresh_from_db()
    payment.refresh_machines(before_start=True)
    assert (payment.sync_error, live(payment)) == ("", ["new-1"])


def test_the_list_can_say_no_machine_for_a_business_that_never_had_one(payment, write_list):
    write_list()
    assert payment.sync_machines().listed == 0


def test_ops_hold_the_rights_of_ops_in_every_business(payment, ops):
    from jobs.rights import GRANTED_TO_OPS

    assert payment.rights_of(ops) == GRANTED_TO_OPS


def test_a_person_who_was_deactivated_has_no_rights(payment, publisher):
    publisher.is_active = False
    assert payment.rights_of(publisher) == set()


def written(listed, payment):
    """The rows by rows that taking a list writes: the statements that insert."""
    with CaptureQueriesContext(connection) as captured:
        Listing.objects.take(payment, listed)
    return [query["sql"] for query in captured if query["sql"].startswith("INSERT")]


def test_an_unchanged_list_is_seen_again_and_written_nowhere_else(payment):
    listed = rows(*(f"pay-{n}" for n in range(50)))
    Listing.objects.take(payment, listed)
    before = set(Listing.objects.values_list("pk", "first_seen_at"))
    seen_at = Listing.objects.latest("last_seen_at").last_seen_at
    assert not written(listed, payment)
    assert set(Listing.objects.values_list("pk", "first_seen_at")) == before
    assert not Listing.objects.filter(last_seen_at__lte=seen_at).exists()


@pytest.mark.parametrize("changed", [{"labels": {"rack": "b2"}}, {"port": 2222}, {"user": "root"}, {"site": "bj-1"}])
def test_only_what_changed_is_written(payment, changed):
    listed = rows("pay-1", "pay-2", "pay-3")
    Listing.objects.take(payment, listed)
    [insert] = written([listed[0], dataclasses.replace(listed[1], **changed), listed[2]], payment)
    assert "pay-2" in insert
    assert "pay-1" not in insert
    [(name, value)] = changed.items()
    assert getattr(Machine.objects.get(hostname="pay-2"), name) == value


def test_what_only_others_list_is_not_read_for_it(payment, orders):
    """With the years, most machines of a portal are none of a list that is asked for every minute."""
    list_machines(orders, "web-1", "web-2", "web-3")
    list_machines(payment, "pay-4", "pay-5")
    list_machines(payment, "pay-4")
    assert Machine.objects.put(payment, rows("pay-4", "web-2")).keys() == {"pay-4", "pay-5", "web-2"}


def test_more_machines_may_go_than_a_query_has_parameters(payment):
    listed = rows(*(f"pay-{n}" for n in range(1, 1201)))
    Listing.objects.take(payment, listed)
    Listing.objects.take(payment, listed[:1])
    assert live(payment) == ["pay-1"]
    assert Listing.objects.exclude(gone_at=None).count() == 1199

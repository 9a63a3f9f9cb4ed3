"""When freezes are in force: once, weekly over midnight and the week's end, across changes of the clocks."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from deploy_portal.clock import database_now
from jobs.models import Event, Freeze, FreezeMoved, JobMoved, Leave
from tests.freezes import HOUR, freeze_now, occurrence_of
from tests.parallel import at_once

DAYS = {name: 1 << number for number, name in enumerate(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])}
WEEKEND = "fri 18:00 62"


def weekly(rule):
    """A weekly freeze of "fri,sat 18:00 2.5", not stored."""
    days, at, hours = rule.split()
    weekdays = sum(DAYS[day] for day in days.split(","))
    return Freeze(kind="weekly", weekdays=weekdays, from_time=time.fromisoformat(at), hours=Decimal(hours))


def help_for(starter, job):
    return Freeze.objects.who_can_help(Freeze.objects.holding(job, starter), job, starter)


def at(moment, zone="UTC"):
    return datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone))


def in_force(freeze, moment):
    """From when to when it is, as UTC to the minute; None when it is not."""
    found = freeze.occurrences(moment, moment)
    assert len(found) <= 1
    return tuple(f"{when.astimezone(UTC):%m-%d %H:%M}" for when in (found[0].starts, found[0].ends)) if found else None


# 2026-11-27 is a Friday.
@pytest.mark.parametrize(
    ("rule", "moment", "expected"),
    [
        (WEEKEND, "2026-11-27 17:59:59", None),
        (WEEKEND, "2026-11-27 18:00:00", ("11-27 18:00", "11-30 08:00")),
        (WEEKEND, "2026-11-29 12:00:00", ("11-27 18:00", "11-30 08:00")),
        (WEEKEND, "2026-11-30 07:59:59", ("11-27 18:00", "11-30 08:00")),
        (WEEKEND, "2026-11-30 08:00:00", None),
        ("sun 22:00 6", "2026-11-29 23:00:00", ("11-29 22:00", "11-30 04:00")),
        ("sun 22:00 6", "2026-11-30 03:59:00", ("11-29 22:00", "11-30 04:00")),
        ("sun 22:00 6", "2026-11-30 04:00:00", None),
        ("mon 00:00 0.25", "2026-11-30 00:14:00", ("11-30 00:00", "11-30 00:15")),
        ("mon 00:00 0.25", "2026-11-29 23:59:00", None),
        ("mon,tue,wed,thu,fri 20:00 12", "2026-11-25 03:00:00", ("11-24 20:00", "11-25 08:00")),
        ("mon,tue,wed,thu,fri 20:00 12", "2026-11-25 12:00:00", None),
        ("mon,tue,wed,thu,fri 20:00 12", "2026-11-28 07:00:00", ("11-27 20:00", "11-28 08:00")),
        ("sat,sun 00:00 24", "2026-11-28 12:00:00", ("11-28 00:00", "11-30 00:00")),
        ("sat,sun,mon 12:00 30", "2026-11-30 23:00:00", ("11-28 12:00", "12-01 18:00")),
        ("tue 12:00 167.75", "2026-11-24 11:30:00", ("11-17 12:00", "11-24 11:45")),
        ("tue 12:00 167.75", "2026-11-24 11:50:00", None),
        ("tue,wed,thu,fri,sat,sun 00:00 24", "2026-11-24 00:00:00", ("11-24 00:00", "11-30 00:00")),
        ("tue,wed,thu,fri,sat,sun 00:00 24", "2026-11-29 23:59:00", ("11-24 00:00", "11-30 00:00")),
        ("thu 00:00 24", "2026-12-31 23:00:00", ("12-31 00:00", "01-01 00:00")),
    ],
)
def test_a_weekly_freeze(rule, moment, expected):
    assert in_force(weekly(rule), at(moment)) == expected


BERLIN = "Europe/Berlin"  # 2026-03-29 has no 2:00 to 3:00, 2026-10-25 has it twice


@pytest.mark.parametrize(
    ("zone", "rule", "moment", "expected"),
    [
        # By the clock on the wall, however many hours there are between.
        (BERLIN, WEEKEND, "2026-03-28 12:00", ("03-27 17:00", "03-30 06:00")),
        (BERLIN, WEEKEND, "2026-10-24 12:00", ("10-23 16:00", "10-26 07:00")),
        (BERLIN, WEEKEND, "2026-10-26 07:59", ("10-23 16:00", "10-26 07:00")),
        (BERLIN, WEEKEND, "2026-10-26 08:00", None),
        # What begins or ends at a time that comes twice, or never, is in force as long as it may be meant.
        (BERLIN, "sun 02:30 1", "2026-03-29 03:10", ("03-29 00:30", "03-29 01:30")),
        (BERLIN, "sun 01:00 1.5", "2026-03-29 01:59", ("03-29 00:00", "03-29 01:30")),
        (BERLIN, "sun 02:30 2", "2026-10-25 03:00", ("10-25 00:30", "10-25 03:30")),
        (BERLIN, "sat 20:00 6.5", "2026-10-25 01:00", ("10-24 18:00", "10-25 01:30")),
        # Havana turns its clocks at midnight; Lord Howe by half an hour.
        ("America/Havana", "sun 00:00 8", "2026-03-08 01:30", ("03-08 04:00", "03-08 12:00")),
        ("Australia/Lord_Howe", "sun 01:00 3", "2026-04-05 01:00", ("04-04 14:00", "04-04 17:30")),
        ("Asia/Shanghai", "sat 00:00 48", "2026-11-27 23:59", None),
        ("Asia/Shanghai", "sat 00:00 48", "2026-11-28 00:00", ("11-27 16:00", "11-29 16:00")),
        ("Pacific/Kiritimati", WEEKEND, "2026-11-27 18:00", ("11-27 04:00", "11-29 18:00")),
    ],
)
def test_it_goes_by_the_portals_time_zone(settings, zone, rule, moment, expected):
    settings.TIME_ZONE = zone
    assert in_force(weekly(rule), at(moment, zone)) == expected


def test_for_two_years_of_changing_clocks_its_times_follow_each_other(settings):
    settings.TIME_ZONE = BERLIN
    freeze = weekly("sat,sun,wed 01:30 5.25")
    times = freeze.occurrences(at("2026-01-01"), at("2027-12-31"))
    assert len(times) == 3 * 104
    assert all(one.ends < following.starts for one, following in zip(times, times[1:], strict=False))
    assert {one.ends - one.starts for one in times} <= {timedelta(hours=hours) for hours in (4.25, 5.25, 6.25)}
    for one in times[::20]:
        assert (
            freeze.occurrences(one.starts, one.starts) == freeze.occurrences(one.ends - HOUR, one.ends - HOUR) == [one]
        )


@pytest.mark.parametrize(
    ("rule", "never"),
    [
        ("mon 00:00 167.75", False),
        ("mon,tue,wed,thu,fri,sat,sun 00:00 23.75", False),
        ("mon,tue,wed,thu,fri,sat,sun 00:00 24", True),
        ("mon,thu 00:00 95", False),
        ("mon,thu 00:00 96", True),
        ("fri,sat,sun 12:00 119", False),
        ("fri,sat,sun 12:00 120", True),
    ],
)
def test_one_that_reaches_into_itself_never_pauses(rule, never):
    assert weekly(rule).never_pauses == never


@pytest.mark.parametrize(
    ("rule", "now", "expected"),
    [
        (WEEKEND, "2026-11-25 12:00", "11-27 18:00"),
        (WEEKEND, "2026-11-28 12:00", "12-04 18:00"),
        (WEEKEND, "2026-11-27 18:00", "12-04 18:00"),
        ("mon,wed 09:00 1", "2026-11-23 09:30", "11-25 09:00"),
    ],
)
def test_the_next_time(rule, now, expected):
    assert f"{weekly(rule).upcoming(at(now)).starts:%m-%d %H:%M}" == expected


def test_one_that_is_in_force_once_has_no_next_time():
    freeze = Freeze(kind="once", starts_at=at("2026-11-25 12:00"), ends_at=at("2026-11-25 14:00"))
    assert freeze.upcoming(at("2026-10-25 12:00")).starts == freeze.starts_at
    assert freeze.upcoming(at("2026-11-25 12:00")) is None


def test_none_is_seen_where_two_become_one_of_a_fortnight(settings):
    """The hour between them is the one that the change of the clocks skips."""
    settings.TIME_ZONE = "Europe/Berlin"
    assert weekly("sun 03:00 167").upcoming(at("2027-03-23 12:00")) is None


def told(by):
    """The last event of what is of no job."""
    event = Event.objects.filter(job=None, actor=by).latest("pk")
    return event.verb, event.subject, event.reason


@pytest.mark.django_db
class TestInForce:
    def test_once(self, ops, payment):
        now = database_now()
        freeze_now(ops, starts_at=now - 2 * HOUR, ends_at=now - HOUR)
        freeze = freeze_now(ops, payment)
        freeze_now(ops, starts_at=now + HOUR, ends_at=now + 2 * HOUR)
        assert [one.freeze for one in Freeze.objects.in_force()] == [freeze]
        assert [one.is_in_force for one in Freeze.objects.ahead()] == [True, False]

    def test_ahead_is_seven_days(self, ops):
        now = database_now()
        freeze_now(ops, starts_at=now + timedelta(days=8), ends_at=now + timedelta(days=9))
        soon = freeze_now(ops, starts_at=now + timedelta(days=6), ends_at=now + timedelta(days=30))
        assert [one.freeze for one in Freeze.objects.ahead()] == [soon]

    def test_of_one_business_or_of_all(self, ops, payment, orders, outsider):
        every, own, other = (freeze_now(ops, business) for business in (None, payment, orders))
        assert {one.freeze for one in Freeze.objects.of(payment).in_force()} == {every, own}
        assert set(Freeze.objects.seen_by(outsider)) == {every, other}
        assert set(Freeze.objects.seen_by(ops)) == {every, own, other}

    def test_one_that_was_ended_is_not(self, ops, requester):
        freeze = freeze_now(ops)
        freeze.end(requester, "sold out")
        assert told(requester) == ("ended", "freeze the great sale", "sold out")
        assert Freeze.objects.in_force() == []
        assert (freeze.ended_by, freeze.end_reason) == (requester, "sold out")
        with pytest.raises(FreezeMoved, match="ended meanwhile"):
            freeze.end(ops, "again")
        assert Freeze.objects.get().ended_by == requester

    def test_it_has_begun_once_it_was_in_force(self, ops):
        now = database_now()
        assert freeze_now(ops).has_begun(database_now())
        assert freeze_now(ops).has_begun(now + timedelta(days=30))
        assert not freeze_now(ops, starts_at=now + HOUR).has_begun(database_now())
        hourly = weekly("mon,tue,wed,thu,fri,sat,sun 00:00 23")
        hourly.made_by, hourly.reason = ops, "nights"
        hourly.save()
        hourly.refresh_from_db()
        assert hourly.has_begun(now + timedelta(days=2))


@pytest.mark.django_db
class TestTheDatabaseRefuses:
    @pytest.mark.parametrize(
        "changed",
        [
            {"starts_at": None},
            {"ends_at": None},
            {"ends_at": at("2020-01-01")},
            {"kind": "monthly"},
            {"kind": "weekly"},
            {"kind": "stop"},
            {"reason": ""},
            {"weekdays": 3},
            {"hours": 1},
            {"ended_at": Now()},
            {"end_reason": "why not"},
        ],
        ids=str,
    )
    def test_times_that_are_none(self, ops, changed):
        freeze = freeze_now(ops)
        with pytest.raises(IntegrityError), transaction.atomic():
            Freeze.objects.filter(pk=freeze.pk).update(**changed)

    @pytest.mark.parametrize(
        "changed",
        [
            {"weekdays": 0},
            {"weekdays": 128},
            {"weekdays": None},
            {"from_time": None},
            {"hours": None},
            {"hours": 0},
            {"hours": 168},
            {"ends_at": Now()},
        ],
        ids=str,
    )
    def test_weekly_times_that_are_none(self, ops, changed):
        freeze = weekly(WEEKEND)
        freeze.made_by, freeze.reason = ops, "weekend"
        freeze.save()
        with pytest.raises(IntegrityError), transaction.atomic():
            Freeze.objects.filter(pk=freeze.pk).update(**changed)

    def test_a_stop_of_one_business(self, ops, payment):
        Freeze.objects.stop_world(ops, "smoke")
        with pytest.raises(IntegrityError), transaction.atomic():
            Freeze.objects.update(business=payment)


@pytest.mark.django_db
class TestStop:
    def test_there_is_one_at_a_time(self, ops, requester):
        Freeze.objects.stop_world(ops, "smoke")
        with pytest.raises(FreezeMoved, match="stopped already"):
            Freeze.objects.stop_world(requester, "fire")
        assert Freeze.objects.stop().reason == "smoke"

    def test_it_is_in_force_until_somebody_ends_it(self, ops, requester):
        stop = Freeze.objects.stop_world(ops, "smoke")
        assert told(ops) == ("stopped", "all releases", "smoke")
        assert [(one.freeze, one.ends, one.is_in_force) for one in Freeze.objects.in_force()] == [(stop, None, True)]
        Freeze.objects.resume_world(requester, "it was toast")
        assert told(requester) == ("resumed", "all releases", "it was toast")
        assert (Freeze.objects.stop(), Freeze.objects.in_force()) == (None, [])
        with pytest.raises(FreezeMoved, match="no stop"):
            Freeze.objects.resume_world(ops, "again")
        Freeze.objects.stop_world(ops, "fire")
        assert Freeze.objects.count() == 2

    def test_it_is_in_force_though_the_databases_clock_was_set_back_since(self, ops, publisher, job):
        Freeze.objects.stop_world(ops, "smoke")
        Freeze.objects.update(starts_at=F("starts_at") + HOUR)
        [occurrence] = Freeze.objects.holding(job, publisher)
        assert occurrence.is_in_force
        Freeze.objects.resume_world(ops, "it was the toaster")
        assert Freeze.objects.in_force() == []


@pytest.mark.django_db(transaction=True)
def test_of_many_who_stop_at_once_one_did(ops):
    outcomes = at_once(*[lambda: Freeze.objects.stop_world(ops, "smoke")] * 4)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Freeze", *["FreezeMoved"] * 3]


@pytest.mark.django_db
class TestLeave:
    def test_it_lets_the_job_pass_this_time(self, ops, approver, publisher, job, make_job):
        freeze = freeze_now(ops)
        Leave.objects.give(job, approver, occurrence_of(freeze), "a hole in the wall")
        assert Freeze.objects.holding(job, publisher) == []
        assert Freeze.objects.holding(make_job("3.0"), publisher)
        event = job.events.get(verb="leave")
        assert (event.actor, event.reason) == (approver, "a hole in the wall")
        assert event.detail["freeze"] == occurrence_of(freeze).told

    def test_it_does_not_count_for_who_gave_it(self, ops, approver, job):
        freeze = freeze_now(ops)
        Leave.objects.give(job, approver, occurrence_of(freeze), "urgent")
        assert Freeze.objects.holding(job, approver)
        assert "Nobody else may give leave" in help_for(approver, job)

    def test_it_is_given_once(self, ops, approver, job):
        occurrence = occurrence_of(freeze_now(ops))
        Leave.objects.give(job, approver, occurrence, "urgent")
        with pytest.raises(JobMoved, match="already"):
            Leave.objects.give(job, approver, occurrence, "urgent")
        assert (Leave.objects.count(), job.events.filter(verb="leave").count()) == (1, 1)

    def test_it_is_void_once_the_job_was_edited(self, ops, approver, publisher, requester, job, machines):
        freeze = freeze_now(ops)
        Leave.objects.give(job, approver, occurrence_of(freeze), "urgent")
        job.edit(requester, machines[:1])
        job.refresh_from_db()
        assert Freeze.objects.holding(job, publisher)
        assert not job.leaves.live()

    def test_it_is_for_one_time_of_a_freeze(self, ops, approver, publisher, job):
        freeze = freeze_now(ops)
        Leave.objects.give(job, approver, occurrence_of(freeze), "urgent")
        Freeze.objects.update(ends_at=database_now() + 5 * HOUR)
        assert Freeze.objects.holding(job, publisher)

    def test_of_two_freezes_both_must_be_passed(self, ops, approver, publisher, job, payment):
        first, second = freeze_now(ops), freeze_now(ops, payment, "audit")
        Leave.objects.give(job, approver, occurrence_of(first), "urgent")
        assert [one.freeze for one in Freeze.objects.holding(job, publisher)] == [second]
        Leave.objects.give(job, approver, occurrence_of(second), "urgent")
        assert Freeze.objects.holding(job, publisher) == []

    def test_what_was_edited_meanwhile_gets_none(self, ops, approver, requester, job, make_job, machines):
        occurrence = occurrence_of(freeze_now(ops))
        stale = type(job).objects.get(pk=job.pk)
        job.edit(requester, machines[:1])
        with pytest.raises(JobMoved):
            Leave.objects.give(stale, approver, occurrence, "urgent")
        withdrawn = make_job("3.0")
        withdrawn.withdraw(requester, "never mind")
        with pytest.raises(JobMoved):
            Leave.objects.give(withdrawn, approver, occurrence, "urgent")
        assert not Leave.objects.exists()

    def test_the_database_refuses_that_of_the_requester(self, ops, requester, job):
        occurrence = occurrence_of(freeze_now(ops))
        with pytest.raises(IntegrityError), transaction.atomic():
            Leave.objects.give(job, requester, occurrence, "mine")
        assert not job.events.filter(verb="leave").exists()

    def test_who_can_help_is_named(self, ops, approver, publisher, job):
        freeze_now(ops)
        assert "by one of: approver." in help_for(publisher, job)
        Freeze.objects.stop_world(ops, "smoke")
        assert "Only ops can end that." in help_for(publisher, job)

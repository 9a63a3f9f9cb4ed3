from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from deploy_portal import origin
from jobs import append_only
from jobs.chain import seal
from jobs.models import Event, Job
from tests.chains import faults, forge
from tests.parallel import at_once

pytestmark = pytest.mark.django_db


def execute(statement):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


class TestChain:
    def test_each_event_names_the_hash_of_the_one_before(self, job):
        first, second = job.events.order_by("number")
        assert (first.number, first.previous) == (1, "")
        assert (second.number, second.previous) == (2, first.digest)
        assert second.digest == seal(second)
        assert len(second.digest) == 64

    def test_the_hash_is_made_as_ever(self):
        """Made otherwise, every chain that was written before would be broken."""
        told = {"verb": "edited", "stage": "release", "was": "approved", "became": "waiting", "reason": "因为"}
        told |= {"origin": "page from ::1", "detail": {"b": 1, "a": [None]}, "previous": "0" * 64}
        event = Event(job_id=1, number=2, at=datetime(2026, 1, 2, 3, 4, 5, 6, UTC), actor_id=3, **told)
        assert seal(event) == "2a49faeb41d3149e4e68e5722f2a5382f401210e98d564840d396367e86b384d"

    def test_each_job_has_a_chain_of_its_own_and_so_has_the_portal(self, make_job, ops):
        jobs = [make_job(approved=False), make_job()]
        Event.objects.tell(ops, Event.Verb.CHANGED, "business Payment")
        told = Event.objects.order_by(F("job").asc(nulls_first=True), "number").values_list("job", "number")
        assert list(told) == [(None, 1), (jobs[0].pk, 1), (jobs[1].pk, 1), (jobs[1].pk, 2)]
        assert faults() == {}

    def test_an_event_without_a_job_tells_who_from_where_and_what(self, ops):
        with origin.process("command"):
            event = Event.objects.tell(ops, Event.Verb.CHANGED, "x" * 300, "why", fields=["name"])
        event.refresh_from_db()
        assert (event.job, event.actor, event.reason, event.subject) == (None, ops, "why", "x" * 255)
        assert event.origin.startswith("command on ")
        assert event.detail == {"fields": ["name"]}

    @pytest.mark.parametrize(
        "changed",
        [
            *[{"reason": "forged"}, {"verb": "skipped"}, {"stage": "release"}, {"was": "x"}, {"became": "x"}],
            *[{"origin": "elsewhere"}, {"detail": {}}, {"actor": None}, {"at": F("at") + timedelta(milliseconds=1)}],
        ],
        ids=lambda changed: next(iter(changed)),
    )
    def test_the_hash_is_over_all_that_an_event_says(self, job, changed):
        forge(job.events.get(verb="asked"), **changed)
        assert faults() == {job.pk: ["event 1 was changed"]}

    @pytest.mark.parametrize("text", ["发布 🚀", "a\nb", '"\\', "\u202e", "é"])
    def test_what_is_read_again_has_the_hash_of_what_was_written(self, job, approver, text):
        job.record(
            Event.Verb.SKIPPED, approver, text, **{"names": [text, 1, None, True, 2**40], text: {"a": 1, "B": []}}
        )
        assert faults() == {}

    def test_the_database_takes_no_number_twice(self, job):
        event = job.events.get(verb="approved")
        event.pk = None
        with pytest.raises(IntegrityError), transaction.atomic():
            event.save(force_insert=True)
        assert job.events.count() == 2

    @pytest.mark.parametrize("subject", ["", "both"])
    def test_an_event_is_of_a_job_or_of_something_else(self, job, subject):
        of = job if subject else None
        with pytest.raises(IntegrityError), transaction.atomic():
            Event.objects.create(job=of, number=9, subject=subject, verb="changed", digest="0")


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_writers_of_one_job_go_one_after_the_other(self, job, publisher):
        def write():
            return Job.objects.get(pk=job.pk).record(Event.Verb.SKIPPED, publisher).number

        assert sorted(at_once(*[write] * 8)) == list(range(3, 11))
        assert faults() == {}

    def test_writers_without_a_job_go_one_after_the_other(self, ops):
        def write():
            return Event.objects.tell(ops, Event.Verb.CHANGED, "business Payment").number

        assert sorted(at_once(*[write] * 8)) == list(range(1, 9))
        assert faults() == {}

    def test_times_follow_the_numbers_also_when_one_had_to_wait(self, job, publisher):
        at_once(*[lambda: Job.objects.get(pk=job.pk).record(Event.Verb.SKIPPED, publisher)] * 6)
        times = list(job.events.order_by("number").values_list("at", flat=True))
        assert times == sorted(times)


class TestAppendOnly:
    @pytest.mark.parametrize(
        "change",
        [
            lambda: Event.objects.update(reason="forged"),
            lambda: Event.objects.filter(verb="asked").delete(),
            lambda: Event.objects.first().delete(),
            lambda: Event.objects.first().save(),
            lambda: Event.objects.bulk_update([Event.objects.first()], ["reason"]),
            lambda: execute("UPDATE jobs_event SET reason = 'forged'"),
            lambda: execute("DELETE FROM jobs_event"),
        ],
    )
    def test_the_database_refuses_to_change_or_delete_an_event_and_says_why(self, job, change):
        before = list(Event.objects.order_by("pk").values())
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            change()
        assert list(Event.objects.order_by("pk").values()) == before

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="a word of SQLite")
    @pytest.mark.parametrize("key", ["id", "NULL"])
    def test_sqlite_does_not_replace_one_either(self, job, key):
        columns = [field.column for field in Event._meta.concrete_fields if field.column not in ("id", "reason")]
        names = ", ".join(columns)
        with pytest.raises(IntegrityError, match="append-only"):
            into = f"INSERT OR REPLACE INTO jobs_event (id, reason, {names})"
            execute(f"{into} SELECT {key}, 'forged', {names} FROM jobs_event")

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="words of PostgreSQL")
    @pytest.mark.parametrize(
        "statement",
        [
            "SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE jobs_event",
            "SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE jobs_job CASCADE",
            "SET LOCAL session_replication_role = replica; DELETE FROM jobs_event",
            "INSERT INTO jobs_event SELECT * FROM jobs_event ON CONFLICT (id) DO UPDATE SET reason = 'forged'",
        ],
    )
    def test_postgresql_refuses_its_own_ways_too(self, job, statement):
        with pytest.raises(IntegrityError, match="append-only"):
            execute(statement)

    def test_the_triggers_are_there(self, db):
        assert append_only.missing() == []
        assert run_checks(databases=["default"], tags=["database"]) == []

    def test_a_check_tells_when_they_are_gone(self, db):
        append_only.remove()
        [gone] = run_checks(databases=["default"], tags=["database"])
        assert gone.id == "jobs.W001"
        assert append_only.missing()[0] in gone.msg

    def test_a_check_tells_when_one_does_something_else(self, db):
        append_only.remove()
        name = next(iter(append_only.TRIGGERS[connection.vendor]))
        execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON jobs_event BEGIN SELECT 1; END"
            if connection.vendor == "sqlite"
            else f"CREATE TRIGGER {name} BEFORE DELETE ON jobs_event EXECUTE FUNCTION jobs_event_refuse()"
        )
        assert name in append_only.missing()


def test_the_migration_chains_what_was_written_before(make_job):
    jobs = [make_job(), make_job()]
    append_only.remove()
    Event.objects.update(number=F("pk"), previous="", digest="")
    import_module("jobs.migrations.0005_event_chain").chain(apps, None)
    assert faults() == {}
    assert [list(job.events.order_by("pk").values_list("number", flat=True)) for job in jobs] == [[1, 2], [1, 2]]

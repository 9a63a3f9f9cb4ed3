import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from jobs import append_only
from jobs.chain import seal
from jobs.models import Event
from tests.cases import each
from tests.chains import forge, tear_out
from tests.commands import FAILED, MISTAKE, fail, help_of, say, say_json

pytestmark = pytest.mark.django_db


@pytest.fixture
def jobs(make_job, ops):
    Event.objects.tell(ops, Event.Verb.CHANGED, "business Payment")
    return [make_job(), make_job()]


@pytest.fixture
def heads(jobs, tmp_path):
    """A file with the heads as they are now."""
    file = tmp_path / "heads.json"
    file.write_text(say("verify_events", "--json"))
    return file


def event(job, number):
    return Event.objects.get(job=job, number=number)


def broken(*arguments):
    """What is said to be wrong, but for the triggers, which whoever forges here had to remove."""
    lines = fail("verify_events", *arguments, code=FAILED).splitlines()
    return [line for line in lines if not line.startswith("the database did not refuse")]


def test_prints_the_head_of_each_chain(jobs):
    last = event(jobs[1], 2)
    lines = say("verify_events").splitlines()
    assert lines[0] == f"the portal: 1 {event(None, 1).digest}"
    assert lines[2] == f"job {jobs[1].pk}: 2 {last.digest}"


def test_json_tells_the_same(jobs):
    said = say_json("verify_events")
    assert (said["intact"], said["wrong"]) == (True, [])
    assert said["heads"][1] == {"job": jobs[0].pk, "number": 2, "hash": event(jobs[0], 2).digest}


def test_only_the_named_jobs_are_looked_at(jobs):
    assert [head["job"] for head in say_json("verify_events", jobs[1].pk)["heads"]] == [jobs[1].pk]
    forge(event(jobs[0], 1), reason="forged")
    assert broken(jobs[0].pk) == [f"job {jobs[0].pk}: event 1 was changed"]
    assert broken(jobs[1].pk) == []


def test_a_changed_event_is_named(jobs):
    forge(event(jobs[0], 2), actor=None)
    assert broken() == [f"job {jobs[0].pk}: event 2 was changed"]


def test_a_changed_event_with_a_hash_that_fits_breaks_the_next_one(jobs):
    forged = event(jobs[0], 1)
    forged.reason = "forged"
    forge(forged, reason="forged", digest=seal(forged))
    assert broken() == [f"job {jobs[0].pk}: event 2 does not follow what stands before it"]


def test_missing_events_are_named(jobs, publisher):
    for _ in range(4):
        jobs[0].record(Event.Verb.SKIPPED, publisher)
    tear_out(event(jobs[0], 3), event(jobs[0], 4), event(jobs[1], 1))
    assert broken() == [f"job {jobs[0].pk}: events 3 to 4 are missing", f"job {jobs[1].pk}: event 1 is missing"]


def test_an_event_moved_to_another_job_is_found(jobs):
    forge(event(jobs[0], 2), job=jobs[1], number=3)
    assert broken() == [
        f"job {jobs[1].pk}: event 3 does not follow what stands before it",
        f"job {jobs[1].pk}: event 3 was changed",
    ]


def test_two_events_that_changed_places_are_found(jobs):
    append_only.remove()
    jobs[0].events.update(number=F("number") + 10)
    jobs[0].events.filter(number=12).update(number=1)
    jobs[0].events.filter(number=11).update(number=2)
    assert len(broken()) == 4


def test_a_job_without_any_event_is_found(jobs):
    tear_out(*jobs[0].events.all())
    assert broken() == [f"job {jobs[0].pk}: all events are missing"]


def test_the_portals_own_chain_is_looked_at_too(jobs):
    forge(event(None, 1), subject="business Orders")
    assert broken() == ["the portal: event 1 was changed"]


class TestHeads:
    def test_what_grew_since_is_whole(self, heads, jobs, publisher):
        jobs[0].record(Event.Verb.SKIPPED, publisher)
        assert say_json("verify_events", "--heads", heads)["intact"]

    def test_a_cut_off_end_is_found(self, heads, jobs):
        tear_out(event(jobs[0], 2))
        assert broken("--heads", heads) == [f"job {jobs[0].pk}: event 2 is cut off from its end"]
        assert broken() == []

    def test_a_chain_that_was_written_anew_is_found(self, heads, jobs):
        first, second = event(jobs[0], 1), event(jobs[0], 2)
        first.reason = "forged"
        second.previous = first.digest = seal(first)
        forge(first, reason="forged", digest=first.digest)
        forge(second, previous=first.digest, digest=seal(second))
        assert broken("--heads", heads) == [f"job {jobs[0].pk}: event 2 is not the one that was kept"]

    def test_a_chain_that_is_gone_is_found(self, heads, jobs):
        tear_out(event(None, 1))
        assert broken("--heads", heads) == ["the portal: all events are missing"]

    def test_so_is_one_beside_the_portals_own(self, heads, jobs):
        tear_out(event(None, 1), *jobs[0].events.all())
        missing = ["the portal: all events are missing", f"job {jobs[0].pk}: all events are missing"]
        assert broken("--heads", heads) == missing

    def test_of_the_named_jobs_only(self, heads, jobs):
        tear_out(event(jobs[0], 2))
        assert broken("--heads", heads, jobs[1].pk) == []

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"heads": [1]}', '{"heads": [{"job": "x"}]}', "\x00", "7"])
    def test_a_file_that_is_none_is_refused(self, db, tmp_path, text):
        self.assert_refused(tmp_path, text)

    @pytest.mark.parametrize("head", ['"job": 1e400', '"job": 1, "number": -1e400', f'"job": {"[" * 100_000}'], ids=len)
    def test_a_number_or_a_depth_without_end_is_refused(self, db, tmp_path, head):
        self.assert_refused(tmp_path, f'{{"heads": [{{{head}}}]}}')

    def assert_refused(self, tmp_path, text):
        (tmp_path / "heads.json").write_text(text)
        with pytest.raises(CommandError, match="is not what verify_events --json has printed"):
            say("verify_events", "--heads", tmp_path / "heads.json")

    def test_a_file_that_is_not_there_is_refused(self, db, tmp_path):
        with pytest.raises(CommandError, match="No such file"):
            say("verify_events", "--heads", tmp_path / "none.json")


class TestTriggers:
    def test_tells_when_they_are_missing(self, jobs):
        append_only.remove()
        assert "the database did not refuse changes" in fail("verify_events", code=FAILED)

    def test_restores_them_and_tells_that_they_were_missing(self, jobs):
        connection.check_constraints()  # PostgreSQL alters no table that still has some to check
        append_only.remove()
        assert "did not refuse" in fail("verify_events", "--restore-triggers", code=FAILED)
        assert append_only.missing() == []
        told = Event.objects.get(job=None, number=2)
        assert (told.subject, told.detail["triggers"]) == ("database", sorted(append_only.TRIGGERS[connection.vendor]))
        assert say_json("verify_events")["intact"]

    def test_changes_nothing_where_they_are(self, jobs):
        before = Event.objects.count()
        say("verify_events", "--restore-triggers")
        assert Event.objects.count() == before


@each("number", [0, 7777, -1, 10**30])
def test_a_job_that_is_not_there_is_refused(jobs, number):
    assert "There is no job" in fail("verify_events", "--", number, code=MISTAKE)


def test_without_any_event_there_is_nothing_wrong(db):
    assert say("verify_events") == ""
    assert say_json("verify_events") == {"intact": True, "wrong": [], "heads": []}


def test_asks_as_often_for_many_chains_as_for_one(jobs, make_job):
    with CaptureQueriesContext(connection) as few:
        say("verify_events")
    for _ in range(4):
        make_job()
    with CaptureQueriesContext(connection) as many:
        say("verify_events")
    assert len(many) == len(few)


def test_help_says_what_it_does(capsys):
    assert "whether the events are whole" in help_of("verify_events", capsys)

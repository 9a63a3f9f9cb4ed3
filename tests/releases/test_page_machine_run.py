"""One machine of a run: its log, what happened, and how an unknown one ended."""

import re
from datetime import UTC, datetime
from itertools import product

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from jobs.models import Event, Job, Machine
from releases.log import LogKeeper
from releases.masking import MASK
from releases.models import LogBlock, MachineRun, ReleaseStage
from tests.cases import each
from tests.pages import came_too_late, is_sent_to_login, page, source, words

ALL = each("name", ["machine_run", "machine_run_log", "machine_run_download", "resolve_machine_run"])
EVIL = "<script>alert(1)</script></code></li>"


@pytest.fixture
def machine_run(job, start, machines):
    return start(job, machines[:1]).machine_runs.get()


@pytest.fixture
def unknown(machine_run, finish):
    finish("unknown")
    MachineRun.objects.filter(pk=machine_run.pk).update(reason="Its worker was lost.", exit_status=None)
    machine_run.refresh_from_db()
    return machine_run


def address(name, machine_run, job=None):
    return page(name, job or machine_run.run.stage.job, machine_run_id=machine_run.pk)


def says(machine_run, *texts, stream="out"):
    number = machine_run.log_blocks.count()
    for text in texts:
        number += 1
        LogBlock.objects.create(machine_run=machine_run, number=number, stream=stream, text=text)


class TestWho:
    @pytest.mark.one_database
    @ALL
    def test_it_asks_who_you_are(self, client, machine_run, name):
        where = address(name, machine_run)
        assert is_sent_to_login(client.post(where) if name.startswith("resolve") else client.get(where), where)

    @pytest.mark.one_database
    @ALL
    def test_for_an_outsider_it_is_not_there(self, as_user, outsider, machine_run, name):
        client = as_user(outsider)
        where = address(name, machine_run)
        assert (client.post(where) if name.startswith("resolve") else client.get(where)).status_code == 404

    @ALL
    def test_it_is_not_there_under_another_job(self, as_user, publisher, make_job, machine_run, name):
        client = as_user(publisher)
        where = address(name, machine_run, make_job("3.0"))
        assert (client.post(where) if name.startswith("resolve") else client.get(where)).status_code == 404

    @pytest.mark.one_database
    def test_a_log_is_only_read(self, as_user, publisher, machine_run, case):
        names = ["machine_run", "machine_run_log", "machine_run_download"]
        for name, method in product(names, ["post", "put", "patch", "delete"]):
            with case(name, method=method):
                assert getattr(as_user(publisher), method)(address(name, machine_run)).status_code == 405

    @pytest.mark.one_database
    @pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
    def test_only_a_post_resolves(self, as_user, publisher, unknown, method):
        assert getattr(as_user(publisher), method)(address("resolve_machine_run", unknown)).status_code == 405

    @pytest.mark.one_database
    @pytest.mark.parametrize("person", ["requester", "approver"])
    def test_others_are_told_which_right_is_missing(self, as_user, request, unknown, person):
        client = as_user(request.getfixturevalue(person))
        response = client.post(address("resolve_machine_run", unknown), {"status": "failed", "reason": "looked"})
        assert response.status_code == 403
        assert "resolve a machine of this job" in words(response)
        assert address("resolve_machine_run", unknown) not in source(
            client.get(address("machine_run", unknown))
        ) or "It ended" not in words(client.get(address("machine_run", unknown)))
        unknown.refresh_from_db()
        assert unknown.status == "unknown"

    @each("number", ["0", "01", "-1", "1" * 19, "1" * 23, "x"])
    def test_a_number_that_is_none(self, as_user, publisher, job, machine_run, number):
        assert as_user(publisher).get(f"/jobs/{job.pk}/machine-runs/{number}/").status_code == 404


class TestLog:
    def test_what_it_said_is_shown_in_order(self, as_user, approver, machine_run):
        says(machine_run, "one\ntwo\n", "three\n")
        said = words(as_user(approver).get(address("machine_run", machine_run)))
        assert said.index("one") < said.index("two") < said.index("three")

    @pytest.mark.one_database
    @pytest.mark.parametrize("stream", ["out", "err", "mark"])
    @pytest.mark.parametrize("name", ["machine_run", "machine_run_log"])
    def test_its_lines_are_text_and_no_markup(self, as_user, approver, machine_run, stream, name):
        says(machine_run, EVIL, '" onload="x', "{{ 7*7 }} {% now 'Y' %}", stream=stream)
        response = as_user(approver).get(address(name, machine_run))
        assert "<script>alert" not in response.content.decode()
        assert EVIL in source(response)
        assert "{{ 7*7 }} {% now 'Y' %}" in source(response)

    def test_lines_beside_a_stage_page_come_without_a_page_around_them(self, as_user, approver, machine_run):
        says(machine_run, EVIL)
        shown = as_user(approver).get(address("machine_run", machine_run), HTTP_HX_REQUEST="true").content.decode()
        assert "<html" not in shown
        assert "<script>alert" not in shown

    def test_it_goes_on_after_the_block_that_was_read_last(self, as_user, approver, machine_run):
        says(machine_run, "one\n", "two\n", "three\n")
        response = as_user(approver).get(address("machine_run_log", machine_run), {"after": 2})
        assert "three" in words(response)
        assert "two" not in words(response)
        assert f"{address('machine_run_log', machine_run)}?after=3" in source(response)

    def test_while_nothing_is_said_it_asks_from_the_same_block(self, as_user, approver, machine_run):
        says(machine_run, "one\n")
        response = as_user(approver).get(address("machine_run_log", machine_run), {"after": 1})
        assert f"{address('machine_run_log', machine_run)}?after=1" in source(response)

    def test_after_the_end_it_no_longer_asks(self, as_user, approver, machine_run, finish):
        says(machine_run, "one\n")
        finish("failed", exit_status=3)
        response = as_user(approver).get(address("machine_run_log", machine_run), {"after": 0})
        assert "hx-get" not in response.content.decode()
        assert "Failed, exit 3" in words(response)

    def test_the_page_shows_what_has_become_of_it(self, as_user, publisher, machine_run, finish):
        client = as_user(publisher)
        page_source = source(client.get(address("machine_run", machine_run)))
        asked = re.search(r'hx-get="([^"]+seen=queued)"', page_source)[1]
        assert 'id="side"' not in source(client.get(asked))
        finish("unknown")
        told = client.get(asked)
        assert '<div class="stack" id="side" hx-swap-oob="true">' in source(told)
        assert page_source.count('id="side"') == 1
        assert "How did it end?" in words(told)
        assert 'class="status unknown pill"' in source(told)

    def test_beside_a_stage_only_its_lines_and_its_status_are_swapped(self, as_user, publisher, machine_run, finish):
        client = as_user(publisher)
        pane = source(client.get(address("machine_run", machine_run), HTTP_HX_REQUEST="true"))
        asked = re.search(r'hx-get="([^"]+)"', pane)[1]
        finish("unknown")
        told = source(client.get(asked))
        assert re.findall(r'id="([^"]+)"', told) == ["log-status"]
        assert "pill" not in told

    def test_a_form_is_not_swapped_while_the_rest_of_a_log_comes(self, as_user, publisher, unknown, monkeypatch):
        monkeypatch.setattr("releases.views.machine_run.LINES_AT_ONCE", 1)
        says(unknown, "one\n", "two\n")
        client = as_user(publisher)
        asked = re.search(r'hx-get="([^"]+)"', source(client.get(address("machine_run", unknown))))[1]
        assert 'id="side"' not in source(client.get(asked))

    @pytest.mark.parametrize("lines", [1, 900])
    def test_a_long_one_comes_by_and_by_and_whole(self, as_user, approver, machine_run, finish, lines, monkeypatch):
        monkeypatch.setattr("releases.views.machine_run.LINES_AT_ONCE", 2000 if lines > 1 else 2)
        says(machine_run, *("".join(f"line {block}-{n}\n" for n in range(lines)) for block in range(1, 6)))
        finish()
        client, where, shown, answers = as_user(approver), address("machine_run_log", machine_run), [], 0
        text = client.get(address("machine_run", machine_run)).text
        assert "The rest is in the download." in text
        while True:
            answers += 1
            shown += re.findall(r"line \d-\d+", text)
            following = re.search(r"log/\?after=(\d+)[^\"]*\"\s+hx-trigger=\"load, every 1s,", text)
            if not following:
                break
            text = client.get(where, {"after": following[1]}).text
        assert shown == [f"line {block}-{n}" for block in range(1, 6) for n in range(lines)]
        assert answers == (2 if lines > 1 else 3)

    def test_a_block_number_that_cannot_be(self, as_user, approver, machine_run, case):
        where = address("machine_run_log", machine_run)
        for after in ["-1", "", "x", "1.5", "1e3", "٣", "9" * 10, "9" * 5000, "1\0", " 1"]:
            with case(after=after):
                assert as_user(approver).get(where, {"after": after}).status_code == 400

    def test_a_block_number_past_the_end(self, as_user, approver, machine_run):
        says(machine_run, "one\n")
        response = as_user(approver).get(address("machine_run_log", machine_run), {"after": "9" * 9})
        assert response.status_code == 200
        assert "one" not in words(response)


class TestDownload:
    def download(self, client, machine_run):
        response = client.get(address("machine_run_download", machine_run))
        assert response.status_code == 200
        return b"".join(response.streaming_content).decode()

    def test_each_line_stands_behind_its_time_and_stream(self, as_user, approver, machine_run, settings):
        settings.TIME_ZONE = "Asia/Shanghai"
        says(machine_run, "one\ntwo\n")
        says(machine_run, "no space left\n", stream="err")
        says(machine_run, "… 5 bytes left out here …", stream="mark")
        says(machine_run, "the end\nof 中文 🚀")
        LogBlock.objects.filter(machine_run=machine_run).update(at=datetime(2026, 11, 24, 6, 3, 59, tzinfo=UTC))
        assert self.download(as_user(approver), machine_run).splitlines() == [
            "14:03:59 out| one",
            "14:03:59 out| two",
            "14:03:59 err| no space left",
            "14:03:59 ---| … 5 bytes left out here …",
            "14:03:59 out| the end",
            "14:03:59 out| of 中文 🚀",
        ]

    def test_it_is_text_to_be_saved_under_a_name_that_tells_what_it_is(self, as_user, approver, machine_run):
        response = as_user(approver).get(address("machine_run_download", machine_run))
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in response["Content-Security-Policy"]
        name = f"payment-2.0-pay-1-run-{machine_run.run_id}.log"
        assert response["Content-Disposition"] == f'attachment; filename="{name}"'

    def test_the_name_is_safe_whatever_the_parts_are(self, as_user, approver, machine_run):
        Machine.objects.filter(pk=machine_run.machine_id).update(hostname='../x"\r\ny' + "z" * 240)
        Job.objects.update(version="1~rc+2")
        response = as_user(approver).get(address("machine_run_download", machine_run))
        name = re.fullmatch(r'attachment; filename="([A-Za-z0-9._-]+)"', response["Content-Disposition"])[1]
        assert name.startswith("payment-1-rc-2-..-x---yzzz")
        assert name.endswith(f"zzz-run-{machine_run.run_id}.log")
        assert len(name) < 255

    def test_a_machine_that_said_nothing(self, as_user, approver, machine_run):
        assert self.download(as_user(approver), machine_run) == ""

    def test_every_line_has_its_prefix_whatever_ends_it(self, as_user, approver, machine_run):
        says(machine_run, "a\u2028b\x0bc\n\n" + EVIL)
        said = self.download(as_user(approver), machine_run)
        assert [line[8:] for line in said.splitlines()] == [
            " out| a",
            " out| b",
            " out| c",
            " out| ",
            f" out| {EVIL}",
        ]

    def test_it_is_sent_block_by_block(self, as_user, approver, machine_run):
        says(machine_run, *["line\n" * 1000] * 50)
        response = as_user(approver).get(address("machine_run_download", machine_run))
        assert response.streaming
        sizes = [len(piece) for piece in response.streaming_content]
        assert sizes == [1000 * len("12:00:00 out| line\n")] * 50

    def test_the_page_and_the_pane_lead_there(self, as_user, approver, machine_run):
        client = as_user(approver)
        link = f'href="{address("machine_run_download", machine_run)}" download'
        assert link in source(client.get(address("machine_run", machine_run)))
        assert link in source(client.get(address("machine_run", machine_run), HTTP_HX_REQUEST="true"))

    def test_a_secret_that_a_machine_said_is_not_in_it(self, as_user, approver, machine_run):
        keeper = LogKeeper(machine_run.pk)
        keeper.feed(b"login with password=s3cret now\n", "out")
        LogBlock.objects.bulk_create(keeper.finish())
        client = as_user(approver)
        assert f"login with password={MASK} now" in self.download(client, machine_run)
        assert f"login with password={MASK} now" in words(client.get(address("machine_run", machine_run)))


class TestFacts:
    @pytest.mark.one_database
    @pytest.mark.parametrize("status", ["succeeded", "failed", "timed_out", "unknown"])
    def test_every_end_is_told(self, as_user, approver, machine_run, finish, status):
        finish(status, exit_status=None if status == "unknown" else 7)
        machine_run.refresh_from_db()
        said = words(as_user(approver).get(address("machine_run", machine_run)))
        assert machine_run.get_status_display() in said

    @pytest.mark.parametrize(
        ("status", "told"),
        [("succeeded", "1.9 → 2.0"), ("failed", "1.9 (2.0 was to come)"), (None, "(2.0 is to come)")],
    )
    def test_only_a_version_that_came_is_shown_as_come(self, as_user, approver, machine_run, finish, status, told):
        MachineRun.objects.filter(pk=machine_run.pk).update(version_before="1.9")
        if status:
            finish(status)
        client = as_user(approver)
        for where in (address("machine_run", machine_run), reverse("machine", args=[machine_run.machine_id])):
            said = words(client.get(where))
            assert told in said
            assert ("→ 2.0" in said) == (status == "succeeded")

    @pytest.mark.parametrize(
        ("status", "told"),
        [
            ("not_run", "Its run had stopped before its turn came."),
            ("cancelled", "Its run was cancelled before its turn came."),
        ],
    )
    def test_one_whose_turn_never_came_says_why(self, as_user, approver, machine_run, status, told):
        MachineRun.objects.filter(pk=machine_run.pk).call_off(status)
        client = as_user(approver)
        assert words(client.get(address("machine_run", machine_run))).count(told) == 2
        assert told in words(client.get(address("machine_run", machine_run), HTTP_HX_REQUEST="true"))
        MachineRun.objects.filter(pk=machine_run.pk).update(reason="It moved.")
        said = words(client.get(address("machine_run", machine_run)))
        assert "It moved." in said
        assert told not in said

    def test_one_that_is_held_names_what_it_waits_for_until_that_ends(
        self, as_user, publisher, machine_run, make_job, start_when_free, finish, machines
    ):
        waiting = start_when_free(make_job("3.0"), machines[:1]).machine_runs.get()
        client = as_user(publisher)
        told = f"Waits for: {machine_run.run.stage.job} · Pre-release · publisher · waiting"
        for name in ("machine_run", "machine_run_log"):
            response = client.get(address(name, waiting))
            assert told in words(response)
            assert f'href="{address("machine_run", machine_run)}"' in source(response)
            assert "Waits for:" not in words(client.get(address(name, machine_run)))
        finish()
        assert "Waits for:" not in words(client.get(address("machine_run_log", waiting)))

    def test_what_holds_it_is_asked_for_alone_however_many_jobs_there_are(
        self, as_user, publisher, machine_run, make_job, start_when_free, machines
    ):
        waiting = start_when_free(make_job("3.0"), machines[:1]).machine_runs.get()
        client = as_user(publisher)
        with CaptureQueriesContext(connection) as asked:
            client.get(address("machine_run_log", waiting))
        jobs = [query["sql"] for query in asked if 'FROM "jobs_job"' in query["sql"]]
        assert [sql for sql in jobs if "LIMIT" not in sql] == []

    def test_one_that_another_business_holds_does_not_tell_more(
        self, as_user, publisher, machine_run, make_job, start_when_free, orders, outsider, machines
    ):
        waiting = start_when_free(make_job("3.0"), machines[:1]).machine_runs.get()
        Job.objects.filter(pk=machine_run.run.stage.job_id).update(business=orders)
        said = words(as_user(publisher).get(address("machine_run", waiting)))
        assert "Waits for: a job of another business" in said

    @pytest.mark.one_database
    def test_a_reason_and_a_note_are_text_and_no_markup(self, as_user, approver, unknown):
        MachineRun.objects.filter(pk=unknown.pk).update(reason=EVIL + " 100%", note=EVIL)
        response = as_user(approver).get(address("machine_run", unknown))
        assert "<script>alert" not in response.content.decode()
        assert "100%" in words(response)

    def test_a_script_is_text_and_shows_what_it_hides(self, as_user, approver, release_task, job, start, machines):
        release_task.revise(f"echo {EVIL}\n# \u202etxt.exe", None)
        response = as_user(approver).get(address("machine_run", start(job, machines[:1]).machine_runs.get()))
        assert "<script>alert" not in response.content.decode()
        assert "\u202e" not in response.content.decode()

    def test_the_text_is_the_one_that_ran(self, as_user, approver, release_task, machine_run):
        release_task.revise("echo rewritten", None)
        said = words(as_user(approver).get(address("machine_run", machine_run)))
        assert "echo done" in said
        assert "echo rewritten" not in said

    def test_runs_of_other_businesses_on_the_machine_are_not_shown(self, as_user, approver, orders, machine_run):
        foreign = Job.objects.create(business=orders, title="Secret", version="9.9", requester=approver)
        where, run = address("machine_run", machine_run), machine_run.run
        run.pk, run.submit_key, run.stage = None, "theirs", ReleaseStage.objects.of(foreign)[0]
        run.save(force_insert=True)
        ended = {"status": "succeeded", "started_at": "2026-01-01T00:00:00Z", "version_after": "9.9"}
        run.machine_runs.create(machine=machine_run.machine, **ended)
        response = as_user(approver).get(where)
        assert (response.status_code, "9.9" in words(response)) == (200, False)


class TestResolve:
    def resolve(self, client, machine_run, **changed):
        data = {"status": "failed", "reason": "its disk is full"} | changed
        return client.post(address("resolve_machine_run", machine_run), data, follow=True)

    @pytest.mark.parametrize("person", ["publisher", "ops"])
    @pytest.mark.parametrize("status", ["succeeded", "failed"])
    def test_a_person_says_how_it_ended(self, as_user, request, unknown, person, status):
        response = self.resolve(as_user(request.getfixturevalue(person)), unknown, status=status)
        unknown.refresh_from_db()
        assert (unknown.status, unknown.reason) == (status, "its disk is full")
        assert "Resolved; the machine is free again." in words(response)
        event = unknown.run.stage.job.events.first()
        assert (event.verb, event.actor.username, event.became) == (Event.Verb.RESOLVED, person, status)
        happened = words(response).split("What happened")[1].split("Facts")[0]
        assert f"{person} resolved pay-1 as {status} its disk is full" in happened.split("Unknown")[1]

    @pytest.mark.one_database
    def test_the_next_unknown_one_of_the_stage_is_a_click_away(
        self, as_user, publisher, requester, job, start, finish, machines
    ):
        """A worker that died leaves as many as it had in hand."""
        first, second, _ended = start(job, machines[:3]).machine_runs.order_by("pk")
        finish("unknown", on=["pay-1", "pay-2"])
        assert "Next unknown" not in words(as_user(requester).get(address("machine_run", first)))
        response = self.resolve(as_user(publisher), first)
        assert "Next unknown →" in words(response)
        assert address("machine_run", second) in source(response)
        assert "Next unknown" not in words(self.resolve(as_user(publisher), second))

    @pytest.mark.one_database
    def test_who_goes_from_one_to_the_next_comes_to_each(self, as_user, publisher, job, start, finish, machines):
        start(job, machines[:3])
        finish("unknown")
        first, second, third = MachineRun.objects.order_by("pk")
        for machine_run, following in ((first, second), (second, third), (third, first)):
            shown = source(as_user(publisher).get(address("machine_run", machine_run)))
            assert re.search(f'href="{address("machine_run", following)}">Next unknown', shown)

    @pytest.mark.one_database
    def test_that_is_not_told_of_others_whose_end_has_no_exit_status(
        self, as_user, publisher, job, start, finish, machines
    ):
        """Of another machine in the same run, or of the same one in another run: their checks failed."""
        one, other = start(job, machines[:2]).machine_runs.order_by("pk")
        finish("failed", exit_status=None)
        MachineRun.objects.filter(pk=one.pk).update(status="unknown")
        client = as_user(publisher)
        assert "publisher resolved" in words(self.resolve(client, one))
        again = start(job, machines[:1]).machine_runs.get()
        finish("failed", exit_status=None)
        for machine_run in (other, again):
            assert "publisher resolved" not in words(client.get(address("machine_run", machine_run)))

    @pytest.mark.one_database
    def test_what_was_told_before_stays(self, as_user, publisher, unknown):
        client, note = as_user(publisher), "Its worker, given up by then, saw: succeeded, exit status 0."
        MachineRun.objects.filter(pk=unknown.pk).update(note=note)
        for response in (client.get(address("machine_run", unknown)), self.resolve(client, unknown)):
            happened = words(response).split("What happened")[1].split("Facts")[0]
            assert "Its worker was lost." in happened
            assert note in happened

    @pytest.mark.one_database
    def test_what_its_worker_saw_is_told_also_when_it_comes_later(self, as_user, publisher, unknown):
        self.resolve(as_user(publisher), unknown, status="succeeded")
        MachineRun.objects.end(unknown.worker, [unknown.pk], "failed", 1)
        said = words(as_user(publisher).get(address("machine_run", unknown)))
        assert "Its worker, given up by then, saw: failed, exit status 1." in said

    @pytest.mark.one_database
    @each("status", ["", "unknown", "queued", "running", "timed_out", "x", "succeeded\0"])
    def test_a_bad_end_changes_nothing_and_keeps_the_reason(self, as_user, publisher, unknown, status):
        response = self.resolve(as_user(publisher), unknown, status=status)
        assert response.status_code == 200
        assert "its disk is full" in words(response)
        unknown.refresh_from_db()
        assert unknown.status == "unknown"

    @pytest.mark.one_database
    @each("reason", ["", "  ", "a\0b", "a\u202eb", "x" * 2001])
    def test_a_bad_reason_changes_nothing_and_keeps_the_choice(self, as_user, publisher, unknown, reason):
        response = self.resolve(as_user(publisher), unknown, reason=reason)
        assert response.status_code == 200
        assert 'value="failed" required' in source(response).replace(' id="id_status_1"', "")
        assert "checked" in source(response)
        unknown.refresh_from_db()
        assert unknown.status == "unknown"

    def test_a_second_word_on_it_comes_too_late(self, as_user, publisher, unknown):
        client = as_user(publisher)
        self.resolve(client, unknown)
        response = self.resolve(client, unknown, status="succeeded", reason="no, fine")
        assert "pay-1 is no longer unknown." in words(response)
        assert came_too_late(response, "no, fine")
        unknown.refresh_from_db()
        assert unknown.status == "failed"
        assert unknown.run.stage.job.events.filter(verb=Event.Verb.RESOLVED).count() == 1

    def test_two_clicks_are_one_word(self, as_user, publisher, ops, unknown):
        client = as_user(publisher)
        for _click in range(2):
            assert "Resolved; the machine is free again." in words(self.resolve(client, unknown))
        assert unknown.run.stage.job.events.filter(verb=Event.Verb.RESOLVED).count() == 1
        assert came_too_late(self.resolve(client, unknown, status="succeeded"), "its disk is full")
        assert came_too_late(self.resolve(as_user(ops), unknown), "its disk is full")

    def test_one_that_is_not_unknown(self, as_user, publisher, machine_run):
        assert "pay-1 is no longer unknown." in words(self.resolve(as_user(publisher), machine_run))
        machine_run.refresh_from_db()
        assert machine_run.status == "queued"

    @pytest.mark.one_database
    def test_a_reason_is_text_and_no_markup(self, as_user, publisher, unknown):
        response = self.resolve(as_user(publisher), unknown, reason=EVIL)
        assert "<script>alert" not in response.content.decode()


@pytest.mark.one_database
def test_what_happened_on_another_day_says_on_which(as_user, publisher, machine_run, unknown):
    """It may be looked at years later, and somebody may say days later how it ended."""
    names = ("queued_at", "claimed_at", "started_at", "ended_at")
    MachineRun.objects.update(**{name: f"2024-03-0{day}T14:02:00Z" for day, name in enumerate(names, 1)})
    said = words(as_user(publisher).get(address("machine_run", machine_run)))
    assert all(f"2024-03-0{day} 14:02" in said for day in range(1, 5))

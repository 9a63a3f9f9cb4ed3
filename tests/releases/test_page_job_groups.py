"""The page of a job: its machines in groups, what went wrong by name, and parts of its timeline."""

import re

import pytest

from jobs.models import Machine
from releases.models import MachineRun, ReleaseStage
from tests.cases import each
from tests.pages import page, words
from tests.workers import begin, end


@pytest.fixture
def look(as_user, publisher, job):
    """Looks at the page of the job with this query."""
    return lambda **query: as_user(publisher).get(page("job", job), query)


def chosen(response):
    """The chips that are marked as the ones that are looked at."""
    return re.findall(r'<a href="[^"]*" aria-current="true">([^<]*)</a>', response.content.decode())


class TestGroups:
    @pytest.fixture(autouse=True)
    def _racks(self, machines):
        for number, machine in enumerate(machines):
            machine.labels = {"site": "sh-1", "rack": f"r{number % 2}", "serial": f"s{number}"}
        Machine.objects.bulk_update(machines, ["labels"])

    def test_by_site_unless_asked_for_others(self, look):
        response = look()
        assert chosen(response) == ["By site", "All"]
        said = words(response)
        assert "By site By stage By rack sh-1 0 of 6" in said
        assert "By serial" not in said

    def test_by_the_stage_they_ran_in(self, look, job, start, finish, machines):
        start(job, machines[:2])
        finish("failed", on=["pay-2"])
        response = look(by="stage")
        assert chosen(response) == ["By stage", "All"]
        assert "Pre-release 1 of 2 1 failed pay-1" in words(response)
        assert "In no stage yet 0 of 4 pay-3" in words(response)

    @pytest.mark.one_database
    def test_also_those_that_were_excused_since(self, look, job, publisher, start, finish, machines):
        start(job, machines[:2])
        finish("failed", on=["pay-2"])
        ReleaseStage.objects.excuse(job, machines[1:3], publisher, "in repair")
        said = words(look(by="stage"))
        assert re.search("Pre-release 1 of 2 1 excused pay-1 .* pay-2 .* In no stage yet 0 of 4 1 excused pay-3", said)

    @pytest.mark.one_database
    def test_or_that_they_are_planned_for(self, as_user, publisher, make_job, start, machines):
        job = make_job(plan_pre_release="pay-1", plan_gray_release="pay-2 pay-3")
        start(job, [machines[0], machines[2]])  # one of which departs from the plan
        said = words(as_user(publisher).get(page("job", job), {"by": "stage"}))
        assert re.search("Pre-release 0 of 2 pay-1 .* pay-3 .* Gray release 0 of 1 pay-2 .* Release 0 of 3 pay-4", said)
        assert "In no stage yet" not in said

    @pytest.mark.one_database
    def test_in_a_group_of_several_sites_they_stand_by_name(self, look):
        Machine.objects.filter(hostname__in=["pay-2", "pay-4"]).update(site="bj-1")
        assert re.search("In no stage yet 0 of 6 pay-1 .* pay-2 .* pay-3 .* pay-4 .* pay-5", words(look(by="stage")))

    def test_by_a_label(self, look, job, start, finish, machines):
        Machine.objects.filter(hostname="pay-6").update(labels={})
        start(job, machines[:1])
        finish()
        response = look(by="rack")
        assert chosen(response) == ["By rack", "All"]
        assert re.search("r0 1 of 3 pay-1 .* r1 0 of 2 pay-2 .* Without rack 0 of 1 pay-6", words(response))

    @pytest.mark.one_database
    @each("by", ["serial", "nonsense", "", "<b>", "rack\0", "x" * 5000])
    def test_what_is_none_to_group_by_groups_by_site(self, look, by):
        response = look(by=by)
        assert response.status_code == 200
        assert chosen(response)[0] == "By site"

    @pytest.mark.one_database
    def test_each_choice_keeps_the_other(self, look):
        shown = look(by="rack", events="people").content.decode()
        assert 'href="?by=stage&amp;events=people#machines"' in shown
        assert '?events=people#machines">By site</a>' in shown
        assert 'href="?by=rack&amp;events=failures#timeline"' in shown
        assert '?by=rack#timeline">All</a>' in shown


class TestWhatWentWrong:
    HEADING = "What went wrong"

    def test_it_is_listed_by_name_with_the_way_to_its_log(self, look, job, start, finish, machines):
        run = start(job, machines[:3])
        finish("failed", on=["pay-2"], exit_status=7)
        response = look()
        assert f"{self.HEADING} 1 Failed, exit 7 pay-2" in words(response)
        of_pay_2 = run.machine_runs.get(machine=machines[1])
        assert f'href="{page("machine_run", job, machine_run_id=of_pay_2.pk)}">Log</a>' in response.content.decode()

    def test_what_did_well_since_is_not(self, look, job, start, finish, machines):
        start(job, machines[:3])
        finish("failed", on=["pay-1", "pay-2"])
        start(job, machines[:1])
        finish()
        assert f"{self.HEADING} 1 Failed pay-2" in re.sub(r", exit \d+", "", words(look()))
        ReleaseStage.objects.excuse(job, machines[1:2], job.requester, "in repair")
        assert self.HEADING not in words(look())

    @pytest.mark.parametrize(("person", "button"), [("publisher", "Resolve"), ("requester", "Log")])
    def test_what_is_unknown_leads_who_may_to_where_it_is_resolved(
        self, as_user, request, job, start, finish, machines, person, button
    ):
        start(job, machines[:1])
        finish("unknown")
        shown = as_user(request.getfixturevalue(person)).get(page("job", job)).content.decode()
        unknown = MachineRun.objects.get(machine=machines[0])
        assert f'href="{page("machine_run", job, machine_run_id=unknown.pk)}">{button}</a>' in shown

    @pytest.mark.one_database
    def test_a_hundred_are_listed_and_all_are_counted(self, look, job, start, finish, machines, monkeypatch):
        monkeypatch.setattr("releases.pictures.WRONG_SHOWN", 2)
        start(job, machines[:4])
        finish("failed")
        shown = look().content.decode()
        assert f"{self.HEADING} 4" in words(look())
        assert len(re.findall('id="wrong-[0-9]+-of"', shown)) == 2


class TestTimeline:
    @pytest.fixture(autouse=True)
    def _failed(self, job, start, finish, machines):
        start(job, machines[:2])
        finish("failed", on=["pay-2"])
        start(job, machines[1:2])
        finish()

    TOLD = {
        "approved": "approver approved",
        "failed": "failed: 1 failed, 1 succeeded",
        "ended": "succeeded: 1 succeeded",
    }

    @pytest.mark.parametrize(
        ("events", "chip", "told"),
        [
            ("", "All", {"approved", "failed", "ended"}),
            ("people", "People", {"approved"}),
            ("failures", "Failures", {"failed"}),
            ("nonsense", "All", {"approved", "failed", "ended"}),
        ],
    )
    def test_of_it_is_shown(self, look, events, chip, told):
        response = look(events=events)
        assert chosen(response) == ["By site", chip]
        assert {name for name, sentence in self.TOLD.items() if sentence in words(response)} == told

    @pytest.mark.one_database
    def test_where_nothing_has_failed_it_says_so(self, as_user, publisher, make_job):
        response = as_user(publisher).get(page("job", make_job("3.0")), {"events": "failures"})
        assert "Timeline All People Failures Nothing has failed." in words(response)

    def test_what_was_lost_is_a_failure(self, look, job, start, machines):
        run = start(job, machines[2:3], "pre-release")
        job.record("lost", None, "", "running", "unknown", run=run.pk, machines=1, hostnames=["pay-3"])
        assert "pay-3" in words(look(events="failures")).partition("Timeline")[2]

    def test_so_is_a_run_that_was_cancelled_after_one(self, as_user, publisher, make_job, start, machines, worker):
        job = make_job("3.0")
        run = start(job, machines[:3], batch_size="1", failure_budget=None)
        end(worker, begin(worker), "failed")
        client = as_user(publisher)
        shown = words(client.get(page("job", job), {"events": "failures"}))
        assert "Failures No run with failures has ended yet." in shown
        run.cancel(publisher)
        shown = words(client.get(page("job", job), {"events": "failures"})).partition("Timeline")[2]
        assert f"run {run.pk} cancelled: " in shown
        assert "1 failed" in shown

"""Excusing machines from a job, so that it is done without them."""

import pytest

from jobs.models import Event, Job, Machine
from releases.models import ReleaseStage
from tests.conftest import list_machines
from tests.pages import NO_MACHINES, came_too_late, checked, ids, is_sent_to_login, offered, page, source, words


@pytest.fixture
def failed(job, start, finish, machines):
    """The job, whose pre-release put 2.0 on pay-1 and failed on pay-2; nothing has touched the other four."""
    start(job, machines[:2])
    finish("failed", on=["pay-2"])
    return job


@pytest.fixture
def excuse(as_user, publisher):
    def excuse(job, machines, /, by=publisher, **changed):
        fields = {"machines": ids(machines), "reason": "in repair"} | changed
        return as_user(by).post(page("excuse_machines", job), fields)

    return excuse


def excused(job):
    return set(job.job_machines.exclude(excused_at=None).values_list("machine__hostname", flat=True))


def told(job):
    return job.events.filter(verb=Event.Verb.EXCUSED)


class TestLooking:
    def test_it_lists_what_is_not_released_and_first_what_went_wrong(self, as_user, publisher, failed, machines):
        response = as_user(publisher).get(page("excuse_machines", failed))
        assert offered(response) == set(ids(machines[1:]))
        assert checked(response) == set()
        said = words(response)
        assert "pay-2 10.0.0.2 sh-1 – Failed" in said
        assert said.index("pay-2") < said.index("pay-3") < said.index("pay-6")

    def test_what_did_not_go_wrong_is_by_site_and_name(self, as_user, publisher, failed):
        Machine.objects.filter(hostname="pay-6").update(site="bj-1")
        said = words(as_user(publisher).get(page("excuse_machines", failed)))
        assert said.index("pay-2 10.0.0.2") < said.index("pay-6 10.0.0.6") < said.index("pay-3 10.0.0.3")

    @pytest.mark.one_database
    def test_what_is_under_way_rolled_back_or_excused_is_not_in_it(
        self, as_user, publisher, failed, start, finish, machines
    ):
        ReleaseStage.objects.of_kind(failed, "pre-release").roll_back(publisher, machines[:2], "broken", "key")
        finish()
        start(failed, machines[2:3], key="again")
        ReleaseStage.objects.excuse(failed, machines[5:], publisher, "in repair")
        assert offered(as_user(publisher).get(page("excuse_machines", failed))) == set(ids(machines[3:5]))

    @pytest.mark.one_database
    def test_what_is_gone_held_or_unknown_is_in_it_and_says_so(
        self, as_user, publisher, make_job, payment, failed, start, finish, machines
    ):
        holder = make_job("3.0")
        start(holder, machines[2:3])
        start(failed, machines[1:2], key="again")
        finish("unknown", on=["pay-2"])
        start(holder, machines[3:4], "gray-release")
        list_machines(payment, *(f"pay-{n}" for n in range(1, 6)))
        said = words(as_user(publisher).get(page("excuse_machines", failed)))
        assert (
            f"pay-2 10.0.0.2 sh-1 – Unknown pay-2 is unknown in #{failed.pk} until somebody says how it ended." in said
        )
        assert f"pay-4 is held by #{holder.pk}." in said
        assert "pay-6 is gone from the config service." in said

    def test_a_rollback_that_was_called_off_is_not_how_it_ended(self, as_user, publisher, failed, machines):
        stage = ReleaseStage.objects.of_kind(failed, "pre-release")
        stage.roll_back(publisher, machines[1:2], "broken", "key").cancel(publisher, "no, it is fine")
        assert "pay-2 10.0.0.2 sh-1 – Failed" in words(as_user(publisher).get(page("excuse_machines", failed)))

    def test_what_was_released_is_not_in_it_while_a_later_job_has_it(
        self, as_user, publisher, make_job, failed, start, machines
    ):
        start(make_job("3.0"), machines[:1])
        assert offered(as_user(publisher).get(page("excuse_machines", failed))) == set(ids(machines[1:]))

    @pytest.mark.one_database
    def test_it_asks_who_you_are(self, client, failed):
        address = page("excuse_machines", failed)
        assert is_sent_to_login(client.get(address), address)
        assert is_sent_to_login(client.post(address), address)

    @pytest.mark.one_database
    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    def test_other_methods_are_refused(self, as_user, publisher, failed, method):
        assert getattr(as_user(publisher), method)(page("excuse_machines", failed)).status_code == 405

    @pytest.mark.one_database
    @pytest.mark.parametrize("person", ["requester", "approver"])
    def test_others_are_told_which_right_is_missing(self, as_user, excuse, request, failed, machines, person):
        user = request.getfixturevalue(person)
        for response in (as_user(user).get(page("excuse_machines", failed)), excuse(failed, machines[1:2], by=user)):
            assert response.status_code == 403
            assert "run or roll back a stage of this job" in words(response)
        assert excused(failed) == set()

    @pytest.mark.one_database
    def test_for_an_outsider_it_is_not_there(self, as_user, excuse, outsider, failed, machines):
        assert as_user(outsider).get(page("excuse_machines", failed)).status_code == 404
        assert excuse(failed, machines[1:2], by=outsider).status_code == 404
        assert excused(failed) == set()

    def test_when_nothing_is_left_it_says_so(self, as_user, publisher, job, start, finish, machines):
        start(job, machines)
        finish()
        response = as_user(publisher).get(page("excuse_machines", job))
        assert "Every machine of this job was released, rolled back or excused" in words(response)
        assert not offered(response)

    @pytest.mark.parametrize("approved", [True, False])
    def test_a_job_that_has_not_begun_is_edited_instead(self, as_user, publisher, excuse, make_job, machines, approved):
        job = make_job("3.0", approved=approved)
        assert "before that it is edited" in words(as_user(publisher).get(page("excuse_machines", job)))
        excuse(job, machines[:1])
        assert excused(job) == set()


class TestExcusing:
    @pytest.mark.parametrize("person", ["publisher", "ops"])
    def test_who_publishes_excuses(self, request, excuse, failed, machines, person):
        response = excuse(failed, machines[1:3], by=request.getfixturevalue(person))
        assert response.url == page("job", failed)
        assert excused(failed) == {"pay-2", "pay-3"}
        event = told(failed).get()
        assert (event.actor.username, event.reason) == (person, "in repair")
        assert event.detail["hostnames"] == ["pay-2", "pay-3"]

    def test_the_stage_and_the_job_are_done_without_them(self, as_user, publisher, excuse, failed, machines):
        excuse(failed, machines[1:2])
        assert ReleaseStage.objects.of_kind(failed, "pre-release").status == "succeeded"
        excuse(failed, machines[2:])
        failed.refresh_from_db()
        assert failed.status == Job.Status.RELEASED
        said = words(as_user(publisher).get(page("job", failed)))
        assert "Excused: the job is done without them." in said
        assert "publisher excused 4 machines: pay-3, pay-4, pay-5, pay-6" in said

    def test_what_is_excused_is_offered_nowhere_any_more(self, as_user, publisher, excuse, failed, machines):
        excuse(failed, machines[1:2])
        client = as_user(publisher)
        assert offered(client.get(page("excuse_machines", failed))) == set(ids(machines[2:]))
        response = client.get(page("stage", failed, kind="gray-release"))
        assert offered(response) == set(ids(machines[2:]))
        assert "Excused by publisher: in repair" in words(response)

    def test_the_same_form_twice_is_told_once(self, excuse, failed, machines):
        for _press in range(2):
            response = excuse(failed, machines[1:3])
            assert response.url == page("job", failed)
        assert told(failed).count() == 1

    def test_the_same_by_another_person_is_told(self, excuse, ops, failed, machines):
        excuse(failed, machines[1:3])
        assert "Some of these cannot be excused now." in words(excuse(failed, machines[1:3], by=ops))

    def test_more_than_was_excused_is_told(self, excuse, failed, machines):
        excuse(failed, machines[1:3])
        assert "Some of these cannot be excused now." in words(excuse(failed, machines[1:4]))
        assert excused(failed) == {"pay-2", "pay-3"}

    def test_a_second_time_is_told_and_changes_nothing(self, excuse, failed, machines):
        excuse(failed, machines[1:3])
        response = excuse(failed, machines[1:3], reason="again")
        assert "Some of these cannot be excused now." in words(response)
        assert told(failed).get().reason == "in repair"


BAD_MACHINES = [
    *NO_MACHINES,
    (list(range(10**9, 10**9 + 10_000)), "Some of these cannot be excused now."),
]


class TestBadInput:
    def test_machines(self, excuse, failed, case):
        for value, why in BAD_MACHINES:
            with case(machines=value):
                response = excuse(failed, [], machines=value or [])
                assert response.status_code == 200
                assert why in words(response)
                assert "in repair" in words(response)
                assert "<script>alert" not in response.content.decode()
                assert excused(failed) == set()

    def test_one_of_another_job(self, excuse, make_job, start, finish, machines):
        job = make_job("3.0", on=machines[:3])
        make_job("4.0", on=machines[3:])
        start(job, machines[:1])
        finish()
        response = excuse(job, [machines[1], machines[4]])
        assert "Some of these cannot be excused now." in words(response)
        assert checked(response) == {machines[1].pk}
        assert excused(job) == set()

    def test_one_that_is_released(self, excuse, failed, machines):
        response = excuse(failed, machines[:2])
        assert "Some of these cannot be excused now." in words(response)
        assert checked(response) == {machines[1].pk}
        assert excused(failed) == set()

    @pytest.mark.one_database
    def test_a_bad_reason_keeps_what_was_chosen(self, excuse, failed, machines, case):
        for reason in ["", "  ", None, "a\0b", "a\u202eb", "x" * 2001]:
            with case(reason=reason):
                response = excuse(failed, machines[1:3], reason=reason or "")
                assert response.status_code == 200
                assert checked(response) == set(ids(machines[1:3]))
                assert excused(failed) == set()

    @pytest.mark.one_database
    def test_a_reason_is_text_and_no_markup(self, as_user, publisher, excuse, failed, machines):
        reason = "<script>alert(1)</script>"
        excuse(failed, machines[1:2], reason=reason)
        for address in (page("job", failed), page("stage", failed, kind="gray-release")):
            response = as_user(publisher).get(address)
            assert reason in source(response)
            assert "<script>alert" not in response.content.decode()


class TestMeanwhile:
    """Between the look at the list and the excuse, the machine is taken, released or excused."""

    @pytest.fixture
    def meanwhile(self, monkeypatch):
        """Has `step` happen after the page looked, before it excuses."""
        look_again = ReleaseStage.objects.excuse

        def happen(step):
            def excuse(*args):
                step()
                return look_again(*args)

            monkeypatch.setattr(type(ReleaseStage.objects), "excuse", lambda self, *args: excuse(*args))

        return happen

    @pytest.mark.parametrize("end", ["begun", "released"])
    def test_by_a_run(self, as_user, publisher, excuse, failed, start, finish, machines, meanwhile, end):
        def go_on():
            start(failed, machines[1:2], key="again")
            if end == "released":
                finish()

        meanwhile(go_on)
        response = excuse(failed, machines[1:3])
        assert "Not to be had now: pay-2" in words(response)
        assert came_too_late(response, "in repair")
        assert page("excuse_machines", failed) in source(response)
        assert excused(failed) == set()
        assert not told(failed)

    def test_by_another_excuse(self, as_user, publisher, ops, excuse, failed, machines, meanwhile):
        meanwhile(lambda: failed.excuse(ops, machines[1:2], "first"))
        response = excuse(failed, machines[1:3])
        assert "Some of these machines were excused meanwhile" in words(response)
        assert came_too_late(response, "in repair")
        assert excused(failed) == {"pay-2"}
        assert told(failed).get().reason == "first"

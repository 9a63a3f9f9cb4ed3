"""Home: what waits for me, what runs, what ended, and whether it is out yet."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from jobs.models import Business, Freeze, Job, Membership
from jobs.rights import Role
from releases.models import ReleaseStage, Run
from releases.overview import ended_lately
from tests.cases import each
from tests.conftest import list_machines, make_business, stage_of
from tests.databases import only_read, sqlite_plans
from tests.pages import is_sent_to_login, page, source, words
from tests.releases.test_rollback_overtaken import MORE, more
from tests.workers import begin, end, fall_silent, grow_old

URL = reverse("home")


def waiting(response):
    """What the page says from "Waiting for you" up to the next heading."""
    said = words(response).split("Waiting for you", 1)[1]
    for heading in ("Ended lately", "Running now", "You asked for"):
        said = said.split(heading, 1)[0]
    return said


def test_it_asks_who_you_are(client, db):
    assert is_sent_to_login(client.get(URL), URL)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_is_only_read(as_user, publisher, method):
    assert getattr(as_user(publisher), method)(URL).status_code == 405


def test_with_nothing_to_do_it_says_so(as_user, publisher):
    said = words(as_user(publisher).get(URL))
    assert "Nothing waits for you." in said
    assert "Nothing has been released yet." in said
    assert "No approved job yet." in said


def test_while_a_silent_worker_may_still_beat_the_page_looks_again(
    as_user, publisher, job, machines, start, worker, settings
):
    settings.WORKER_DEAD_AFTER = 15
    run = start(job, machines[:1])
    begin(worker)
    client, element = as_user(publisher), 'id="look-again" hx-get="/" hx-trigger="load delay:6s"'
    assert "look-again" not in source(client.get(URL))
    fall_silent(worker, suspected=False)
    # Other pages do not look themselves.
    assert element in source(client.get(reverse("account")))
    looking = client.get(URL)
    assert element in source(looking)
    assert "<noscript><p>Without scripts" in source(looking)
    grow_old(worker)
    again = source(client.get(URL, headers={"hx-request": "true"}))
    assert "look-again" not in again
    assert "No worker is alive since" in again
    assert run.machine_runs.get().status == "unknown"


def test_a_silent_worker_whom_no_run_waits_for_is_not_looked_for(as_user, publisher, worker):
    fall_silent(worker, suspected=False)
    assert "look-again" not in source(as_user(publisher).get(URL))


def test_a_job_waits_for_its_approver_and_for_nobody_else(as_user, approver, requester, publisher, make_job):
    make_job(approved=False)
    assert "To approve" in waiting(as_user(approver).get(URL))
    assert "Nothing waits for you." in waiting(as_user(requester).get(URL))
    assert "Nothing waits for you." in waiting(as_user(publisher).get(URL))


def test_who_asked_sees_how_it_stands_until_it_has_ended(
    as_user, requester, approver, publisher, make_job, start, finish, machines
):
    job = make_job(approved=False, on=machines[:1])

    def of_asked_for(user=requester):
        response = as_user(user).get(URL)
        said = words(response)
        return "You asked for" in said and said.split("You asked for", 1)[1].split("Ended lately", 1)[0]

    assert f"1 All of yours Status Job Title When Waiting for approval {job} Payment 2.0" in of_asked_for()
    assert f'href="{page("job", job)}"' in source(as_user(requester).get(URL))
    assert f'href="{reverse("jobs")}?q=requester"' in source(as_user(requester).get(URL))
    assert not of_asked_for(publisher)
    job.approve(approver)
    assert f"Approved {job}" in of_asked_for()
    start(job, machines[:1])
    assert f"In progress {job}" in of_asked_for()
    finish()
    assert not of_asked_for()


def test_what_was_withdrawn_or_sent_back_waits_for_nobody_else(as_user, requester, approver, make_job):
    make_job("2.0", approved=False).withdraw(requester, "not needed")
    make_job("2.1", approved=False).send_back(approver, "not today")
    response = as_user(requester).get(URL)
    assert "You asked for" not in words(response)
    assert "Sent back" in waiting(response)
    assert "payment 2.0" not in waiting(response)


def test_an_approved_job_waits_for_the_publisher(as_user, approver, publisher, job):
    response = as_user(publisher).get(URL)
    assert "To publish" in waiting(response)
    assert page("stage", job) in source(response)
    assert "Nothing waits for you." in waiting(as_user(approver).get(URL))


def test_nothing_of_another_business_is_seen(as_user, outsider, make_job, start, finish, machines):
    make_job("9.9", approved=False)
    start(make_job("8.8"), machines[:1])
    finish("unknown")
    start(make_job("7.7"), machines[1:2])
    said = words(as_user(outsider).get(URL))
    assert "Nothing waits for you." in said
    assert "payment" not in said.lower()
    for version in ("9.9", "8.8", "7.7"):
        assert version not in said


def test_an_unknown_machine_comes_first(as_user, publisher, make_job, start, finish, machines):
    make_job("3.0")
    run = start(make_job("2.0"), machines[:1])
    finish("unknown")
    response = as_user(publisher).get(URL)
    said = waiting(response)
    assert said.index("1 unknown") < said.index("To publish")
    assert "pay-1 is held for" in said
    assert page("machine_run", run.stage.job, machine_run_id=run.machine_runs.get().pk) in source(response)


def test_a_failed_stage_asks_to_decide(as_user, publisher, job, start, finish, machines):
    start(job, machines[:2])
    finish("failed", on=["pay-1"])
    said = waiting(as_user(publisher).get(URL))
    assert "Stopped" in said
    assert "try again, roll back, excuse or skip." in said
    assert "Decide" in said


def test_a_stage_that_was_rolled_back_says_so(as_user, publisher, job, start, finish, machines):
    for kind, machine in (("pre-release", machines[0]), ("gray-release", machines[1])):
        start(job, [machine], kind)
        finish()
    stage_of(job).roll_back(publisher, machines[:1], "it hurts", "back")
    finish()
    said = waiting(as_user(publisher).get(URL))
    assert f"{job} · Pre-release Payment 2.0; it was rolled back, and can be started again" in said


def test_the_last_stage_is_not_offered_to_be_skipped(as_user, publisher, job, start, finish, machines):
    for kind in ("pre-release", "gray-release"):
        ReleaseStage.objects.of_kind(job, kind).skip(publisher, "small")
    start(job, machines[:2], "release").cancel(publisher)
    assert "Look at them, then try again, roll back or excuse." in waiting(as_user(publisher).get(URL))


def test_a_paused_run_is_told_as_such(as_user, publisher, job, start, machines):
    run = start(job, machines[:2])
    run.pause(publisher)
    assert "payment 2.0 Paused Pre-release" in words(as_user(publisher).get(URL))
    said = words(as_user(publisher).get(page("job", job)))
    assert "Pre-release is paused Paused: nothing more begins until it is resumed" in said


@pytest.mark.parametrize("is_sent_back", [False, True])
def test_who_has_no_role_any_more_is_told_of_no_job(as_user, requester, approver, make_job, is_sent_back):
    job = make_job(approved=False)
    if is_sent_back:
        job.send_back(approver, "not on Friday")
    client = as_user(requester)
    assert f"#{job.pk} payment 2.0" in words(client.get(URL))
    requester.membership_set.all().delete()
    assert client.get(page("job", job)).status_code == 404
    assert "payment" not in words(client.get(URL))


@pytest.mark.one_database
def test_who_may_no_longer_edit_it_is_not_told_to(as_user, requester, approver, make_job):
    make_job(approved=False).send_back(approver, "on Friday")
    Membership.objects.filter(user=requester).update(role=Role.APPROVER)
    assert "Nothing waits for you." in waiting(as_user(requester).get(URL))


def test_a_job_that_is_done_without_all_its_machines_waits_for_nobody(
    as_user, publisher, make_job, start, finish, machines
):
    job = make_job(on=machines[:1])
    start(job, machines[:1])
    finish("failed")
    ReleaseStage.objects.excuse(job, machines[:1], publisher, "scrapped")
    assert "Nothing waits for you" in words(as_user(publisher).get("/"))


def test_what_is_not_shown_is_not_hidden(as_user, approver, requester, make_job, machines):
    for number in range(21):
        make_job(f"2.{number}", approved=False)
    said = waiting(as_user(approver).get(URL))
    assert said.startswith(" 20+ ")
    assert said.count("To approve") == 20
    said = words(as_user(requester).get(URL, {"page": 7}))
    assert "You asked for 20+ " in said
    assert said.count("Waiting for approval") == 20


def test_a_failed_stage_is_not_hidden_by_newer_jobs(as_user, publisher, make_job, start, finish, machines):
    start(make_job("1.0"), machines[:1])
    finish("failed")
    for number in range(21):
        make_job(f"2.{number}")
    said = waiting(as_user(publisher).get(URL))
    assert "payment 1.0 · Pre-release" in said
    assert said.count("To publish") == 19


def end_as(job, *statuses):
    """Makes the job's stages as if they had ended so just now."""
    for stage, status in zip(ReleaseStage.objects.of(job), statuses, strict=False):
        ReleaseStage.objects.filter(pk=stage.pk).update(status=status, done_at=Now())


@each(
    "statuses, said_of_it",
    [
        (["succeeded", "rolled_back", "failed"], "To publish #{id} payment 2.0 · Gray release"),
        (["succeeded", "rolled_back", "succeeded"], "To publish #{id} payment 2.0 · Gray release"),
        (["rolled_back", "waiting", "waiting"], "To publish #{id} payment 2.0 · Pre-release"),
        (["skipped", "waiting", "waiting"], "To publish #{id} payment 2.0 · Gray release"),
        (["succeeded", "cancelled", "failed"], "Stopped #{id} payment 2.0 · Gray release"),
        (["succeeded", "running", "waiting"], "Nothing waits for you."),
        (["rolled_back", "succeeded", "running"], "Nothing waits for you."),
        (["succeeded", "succeeded", "skipped"], "Machines left #{id} payment 2.0"),
    ],
)
def test_what_waits_is_the_first_stage_that_is_not_done(as_user, publisher, job, statuses, said_of_it):
    end_as(job, *statuses)
    assert said_of_it.format(id=job.pk) in waiting(as_user(publisher).get(URL))


def test_a_job_with_machines_left_when_all_stages_have_ended_waits_for_the_publisher(
    as_user, approver, publisher, job, start, finish, machines
):
    start(job, machines[:2])
    finish("failed", on=["pay-2"])
    ReleaseStage.objects.of_kind(job, "pre-release").skip(publisher, "pay-2 is broken")
    ReleaseStage.objects.of_kind(job, "gray-release").skip(publisher, "small")
    start(job, machines[2:], "release")
    finish()
    response = as_user(publisher).get(URL)
    assert f"1 Machines left #{job.pk} payment 2.0 Some machines of this job were not released" in waiting(response)
    assert re.search(rf'href="{page("job", job)}">\s*Open job', source(response))
    assert "Nothing waits for you." in waiting(as_user(approver).get(URL))
    ReleaseStage.objects.excuse(job, machines[1:2], publisher, "scrapped")
    assert "Nothing waits for you." in waiting(as_user(publisher).get(URL))


def test_what_is_ready_is_not_hidden_by_newer_jobs_that_soak(as_user, publisher, make_job, payment):
    payment.soak_minutes = 30
    payment.save()
    soaked, fresh = make_job("1.0"), make_job("1.1")
    end_as(soaked, "succeeded")
    soaked.stages.filter(kind="pre-release").update(done_at=Now() - timedelta(minutes=30))
    for number in range(21):
        end_as(make_job(f"2.{number}"), "succeeded")
    said = waiting(as_user(publisher).get(URL))
    assert said.count("To publish") == 2
    assert said.index(str(fresh)) < said.index(f"{soaked} · Gray release")


def test_behind_a_skipped_stage_the_soak_time_of_the_one_before_counts(as_user, publisher, job, payment):
    payment.soak_minutes = 30
    payment.save()
    end_as(job, "succeeded", "skipped")
    client = as_user(publisher)
    assert "This stage is not open" in words(client.get(page("stage", job, kind="release")))
    assert "Nothing waits for you." in waiting(client.get(URL))
    job.stages.filter(kind="pre-release").update(done_at=Now() - timedelta(minutes=30))
    assert f"To publish #{job.pk} payment 2.0 · Release" in waiting(client.get(URL))


def test_ten_jobs_that_wait_need_no_more_queries_than_two(as_user, publisher, make_job):
    client, counts = as_user(publisher), []
    for versions in (["1.0", "1.1"], [f"2.{number}" for number in range(9)]):
        for version in versions:
            end_as(make_job(version), "succeeded", "waiting" if version.endswith("0") else "failed")
        client.get(URL)
        with CaptureQueriesContext(connection) as captured:
            assert "payment 1.0" in waiting(client.get(URL))
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_for_ops_nothing_waits_but_what_is_unknown(as_user, ops, make_job, start, finish, machines):
    make_job("3.0", approved=False)
    start(make_job("2.0"), machines[:1])
    finish("unknown")
    said = waiting(as_user(ops).get(URL))
    assert "1 unknown" in said
    assert "3.0" not in said


def running(client, *runs, **told):
    """What an open home page that shows these runs, and tells of these `workers` and this `stop`, is answered."""
    seen = {"seen": "-".join(str(run.pk) for run in runs)}
    return client.get(reverse("running"), seen | told, headers={"HX-Request": "true"})


def test_an_open_page_asks_on_and_for_all_of_itself_only_when_other_runs_go_on(
    as_user, approver, job, start, finish, machines
):
    client = as_user(approver)
    asks = 'id="running" hx-get="{}?workers=0&stop=&seen={}" hx-trigger="every {}s,'
    assert asks.format(reverse("running"), "", 30) in source(client.get(URL))
    assert "HX-Trigger" not in running(client)
    run = start(job, machines[:2])
    begun = running(client)
    assert "runs-changed" in begun["HX-Trigger"]
    assert asks.format(reverse("running"), run.pk, 5) in source(begun)
    assert asks.format(reverse("running"), run.pk, 5) in source(client.get(URL))
    assert "hx-swap-oob" not in source(begun)
    still = running(client, run)
    assert "HX-Trigger" not in still
    assert "Running now 1" in words(still)
    assert "<html" not in source(still)
    finish()
    ended = running(client, run)
    assert "runs-changed" in ended["HX-Trigger"]
    assert "Running now" not in words(ended)


def test_what_can_have_the_focus_has_an_id_by_which_a_swap_gives_it_back(
    as_user, requester, payment, make_job, start, finish, machines
):
    payment.membership_set.create(user=requester, role="publisher")
    start(make_job("2.0"), machines[:2], failure_budget="")
    finish("unknown", on=["pay-1"])
    start(make_job("3.0"), machines[2:3])
    make_job("4.0")
    home = source(as_user(requester).get(URL)).split('id="home"')[1].split("</main>")[0]
    found = [re.search(r' id="[a-z0-9_-]+"|$', link)[0] for link in re.findall(r"<a [^>]*>", home)]
    assert len(found) == len(set(found)) == 10
    assert "" not in found


def test_an_open_page_of_an_outsider_is_told_nothing(as_user, outsider, job, start, machines):
    run = start(job, machines[:2])
    response = running(as_user(outsider), run)
    assert "payment" not in source(response)
    assert "HX-Trigger" not in running(as_user(outsider))


def test_an_open_page_finds_what_a_dead_worker_left(as_user, publisher, job, machines, start, worker):
    run = start(job, machines[:1])
    begin(worker)
    grow_old(worker)
    fall_silent(worker)
    assert "runs-changed" in running(as_user(publisher), run)["HX-Trigger"]
    assert run.machine_runs.get().status == "unknown"


def test_an_open_page_is_told_when_the_last_worker_dies_and_when_everything_is_stopped(
    as_user, publisher, ops, job, start, machines, worker
):
    """As a stage's page is: one that is left open all night said that a worker is alive, and of no stop."""
    start(job, machines[:1])
    client = as_user(publisher)
    asked = {"workers": "1", "stop": ""}
    assert "hx-swap-oob" not in source(running(client, **asked))
    fall_silent(worker, suspected=False)
    said = words(running(client, **asked))
    assert "No worker is alive since" in said
    assert "Everything is stopped" not in said
    Freeze.objects.stop_world(ops, "the shop is down")
    stopped = running(client, **asked | {"workers": "0"})
    assert "the shop is down" in words(stopped)
    assert 'id="workers"' not in source(stopped)
    assert "hx-swap-oob" not in source(client.get(URL, asked))  # a whole page tells of each once


@each("seen", ["", "x", "1-2-3", "9" * 5000, "\0", "<script>"])
def test_whatever_a_page_says_that_it_shows(as_user, publisher, job, start, machines, seen):
    start(job, machines[:1])
    response = as_user(publisher).get(reverse("running"), {"seen": seen})
    assert "runs-changed" in response["HX-Trigger"]
    assert "<script>" not in source(response)


def test_the_batch_of_a_run_in_batches_is_told(as_user, approver, job, start, finish, machines):
    start(job, machines[:3], batch_size="1")
    assert "batch 1 of 3" in words(as_user(approver).get(URL))


def test_what_runs_and_what_ended_is_told(as_user, approver, job, start, finish, machines):
    start(job, machines[:2])
    stays = "Without scripts this page does not renew itself"
    said = words(as_user(approver).get(URL))
    assert "Running now 1" in said
    assert "2 waiting" in said
    assert stays in said
    finish()
    said = words(as_user(approver).get(URL))
    assert "Running now" not in said
    assert stays not in said
    assert "Succeeded" in said.split("Ended lately")[1]


def test_a_rollback_is_not_told_as_a_success_of_the_release(as_user, approver, publisher, job, start, finish, machines):
    start(job, machines[:1])
    finish()
    ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "broken", "key")
    finish()
    assert "Rolled back" in words(as_user(approver).get(URL)).split("Ended lately")[1]


def test_nor_beside_what_else_was_done_to_the_machine(as_user, approver, publisher, job, start, finish, machines):
    run = start(job, machines[:1])
    finish()
    ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "broken", "key")
    finish()
    response = as_user(approver).get(page("machine_run", job, machine_run_id=run.machine_runs.get().pk))
    assert "Rolled back" in words(response).split("Also on this machine")[1]


def test_nor_while_it_goes_on(as_user, publisher, job, start, finish, machines, worker):
    start(job, machines[:2])
    finish()
    run = ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:2], "broken", "key")
    end(worker, begin(worker)[:1])
    for address in (URL, page("cancel_run", job, run_id=run.pk)):
        said = words(as_user(publisher).get(address))
        assert "1 rolled back" in said
        assert "1 succeeded" not in said


def test_is_it_out_yet(as_user, approver, job, start, finish, machines):
    start(job, machines[:2])
    finish("failed", on=["pay-2"])
    assert "1 of 6 on 2.0 · 5 not known" in words(as_user(approver).get(URL))


def test_each_other_version_is_told_apart(as_user, approver, job, make_job, start, finish, machines):
    start(make_job("1.0", on=machines[:1]), machines[:1])
    start(job, machines[1:3])
    finish()
    newest = "0 of 6 on 3.0 · 3 not known · 2 on 2.0 · 1 on 1.0"
    make_job("3.0")
    assert newest in words(as_user(approver).get(URL))


def test_of_many_other_versions_the_rest_is_summed_up(as_user, approver, make_job, start, finish, machines):
    for number, machine in enumerate(machines[:5]):
        start(make_job(f"1.{number}"), [machine])
    finish()
    make_job("3.0")
    said = words(as_user(approver).get(URL))
    [told] = re.findall(r"0 of 6 on 3.0 (?:· \d \S+ [\w.]+ ){3}· 3 others", said)
    assert sum(map(int, re.findall(r"· (\d)", told))) == 6


def test_what_went_back_to_nothing_and_what_never_ran_are_one_number(
    as_user, approver, publisher, job, start, finish, machines
):
    start(job, machines[:1])
    finish()
    ReleaseStage.objects.of_kind(job, "pre-release").roll_back(publisher, machines[:1], "broken", "key")
    finish()
    assert "0 of 6 on 2.0 · 6 not known" in words(as_user(approver).get(URL))


def test_a_title_is_text_and_no_markup(as_user, approver, make_job):
    make_job(title="<script>alert(1)</script>", approved=False)
    assert "<script>alert" not in as_user(approver).get(URL).content.decode()


@pytest.mark.one_database
def test_more_businesses_need_no_more_queries(as_user, ops, job, orders, start, finish, machines):
    def queries():
        with CaptureQueriesContext(connection) as asked:
            assert "Payment 2.0 1 of 6" in words(as_user(ops).get(URL))
        return len(asked)

    start(job, machines[:1])
    finish()
    few = queries()
    for number in range(5):
        list_machines(make_business(f"other-{number}"), f"other-{number}")
    assert queries() == few


def test_of_a_stages_unknown_machines_the_one_that_waits_longest_is_read_and_all_are_counted(
    as_user, publisher, make_job, start, finish, machines
):
    run = start(make_job("2.0"), machines[:4])
    start(make_job("3.0"), machines[4:])
    finish("unknown")
    run.machine_runs.filter(machine=machines[2]).update(ended_at=Now() - timedelta(hours=2))
    with CaptureQueriesContext(connection) as asked:
        said = waiting(as_user(publisher).get(URL))
    assert ["4 unknown" in said, "2 unknown" in said] == [True, True]
    assert ["pay-3 is held for 2" in said, "pay-5 is held for 0" in said] == [True, True]
    [query] = (query["sql"] for query in asked if "= 'unknown'" in query["sql"])
    assert "LIMIT 21" in query


@pytest.mark.one_database
def test_sqlite_looks_for_what_is_unknown_among_what_is_held(as_user, publisher):
    """And does not go through all that ever ran in the businesses of a publisher."""
    with CaptureQueriesContext(connection) as asked:
        as_user(publisher).get(URL)
    [plan] = sqlite_plans(query for query in asked if "= 'unknown'" in query["sql"])
    assert "INDEX one_active_run_per_machine" in plan
    assert "(run_id=?)" not in plan


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["home", "running", "machines", "health", "job", "stage", "stage_live"])
def test_what_only_shows_is_shown_while_the_database_takes_no_writes(
    as_user, publisher, job, start, worker, machines, name
):
    """Also what would tidy up after a worker that cannot beat, and ask for a list that has grown old."""
    client = as_user(publisher)
    start(job, machines[:2])
    begin(worker)
    fall_silent(worker)
    Business.objects.update(asked_at=None)
    address = page(name, job) if name in ("job", "stage", "stage_live") else reverse(name)
    with only_read():
        assert client.get(address).status_code == 200


@pytest.mark.skipif(connection.vendor != "postgresql", reason="by what PostgreSQL has counted of its rows")
def test_postgresql_reads_what_ended_in_ones_own_businesses_alone(orders, job, start, finish, machines):
    """However much ended in others while nothing did in this one."""
    run = start(job, machines[:1])
    finish()
    jobs = more(Job.objects.filter(pk=job.pk))
    stages = more(ReleaseStage.objects.filter(pk=run.stage_id), job=jobs)
    more(Run.objects.filter(pk=run.pk), stage=stages, submit_key=[f"again-{n}" for n in range(MORE)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    assert "run_by_end" not in ended_lately([orders]).explain()

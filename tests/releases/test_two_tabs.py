"""Two tabs, two jobs that share machines, many submits at once: over real HTTP, with one browser's cookies."""

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest
import requests
from django.test import Client

from releases import tokens
from releases.models import MachineRun, Run
from tests.pages import ids, offered, page, stage_fields, words
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("release_task", "rollback_task")]


class Page:
    """An answer, read as the other tests read theirs."""

    def __init__(self, answer):
        self.status_code, self.content = answer.status_code, answer.content
        self.location = answer.headers.get("Location", "")


class Browser:
    """Sends what its tabs send, in parallel if they like; each answer's cookies are there for the next request."""

    def __init__(self, server, user):
        client = Client()
        client.force_login(user)
        self.server = server
        self.cookies = {name: cookie.value for name, cookie in client.cookies.items()}
        self.lock = Lock()
        self.get("/jobs/")

    def get(self, path):
        return self._send("GET", path)

    def post(self, path, fields):
        return self._send("POST", path, fields | {"csrfmiddlewaretoken": self.cookies["csrftoken"]})

    def _send(self, method, path, data=None):
        with self.lock:
            cookies = dict(self.cookies)
        answer = requests.request(
            method, self.server.url + path, data=data, cookies=cookies, allow_redirects=False, timeout=PATIENCE
        )
        with self.lock:
            self.cookies |= answer.cookies.get_dict()
        return Page(answer)

    def post_at_once(self, posts):
        """The answers to `posts`, (path, fields) each, in their order."""
        with ThreadPoolExecutor(20) as tabs:
            return list(tabs.map(lambda post: self.post(*post), posts))


@pytest.fixture
def browser(live_server, publisher):
    return Browser(live_server, publisher)


@pytest.fixture
def jobs(make_job, machines):
    """Two jobs: pay-1 to pay-4, and pay-3 to pay-6."""
    return make_job("2.0", on=machines[:4]), make_job("3.0", on=machines[2:])


def machines_of(job):
    return set(MachineRun.objects.in_job(job).values_list("machine__hostname", flat=True))


def test_the_first_tab_starts_its_own_job_though_the_second_was_opened_last(browser, jobs, publisher, machines):
    first, second = jobs
    assert offered(browser.get(page("stage", first))) == set(ids(machines[:4]))
    assert offered(browser.get(page("stage", second))) == set(ids(machines[2:]))
    answer = browser.post(page("stage", first), stage_fields(first, publisher, machines[:4]))
    assert (answer.status_code, answer.location) == (302, page("stage", first))
    assert machines_of(first) == {"pay-1", "pay-2", "pay-3", "pay-4"}
    assert machines_of(second) == set()


@pytest.mark.one_database
def test_of_200_checks_at_once_none_is_about_the_other_job(browser, jobs, publisher, machines):
    tabs = [(jobs[0], machines[:4]), (jobs[1], machines[2:])]
    forms = [(page("stage", job), stage_fields(job, publisher, its, step="check")) for job, its in tabs]
    answers = browser.post_at_once(forms * 100)
    for (job, its), answer in zip(tabs * 100, answers, strict=True):
        assert answer.status_code == 200
        assert f"payment {job.version} goes to 4 machines" in words(answer)
        assert f"{its[0]}, {its[1]}, {its[2]}, {its[3]}" in words(answer)
    assert not Run.objects.exists()


def test_of_many_starts_at_once_each_job_gets_one_with_its_own_machines(browser, jobs, publisher, machines):
    posts = []
    for number in range(20):
        job, its = (jobs[0], machines[:2]) if number % 2 else (jobs[1], machines[4:])
        posts.append((page("stage", job), stage_fields(job, publisher, its)))
    answers = browser.post_at_once(posts)
    assert sum(answer.status_code == 302 for answer in answers) == 2
    for answer in answers:
        # One that looked just before the winner and chose just after is told of the machines, the others of the stage.
        assert answer.status_code in (302, 409) or (answer.status_code == 200 and "is held by #" in words(answer))
    assert [machines_of(job) for job in jobs] == [{"pay-1", "pay-2"}, {"pay-5", "pay-6"}]
    assert Run.objects.count() == 2


def test_one_submit_sent_20_times_at_once_is_one_run(browser, jobs, publisher, machines):
    job = jobs[0]
    fields = stage_fields(job, publisher, machines[:4])
    answers = browser.post_at_once([(page("stage", job), fields)] * 20)
    assert {(answer.status_code, answer.location) for answer in answers} == {(302, page("stage", job))}
    assert Run.objects.count() == 1
    assert MachineRun.objects.count() == 4


def test_one_rollback_sent_20_times_at_once_is_one_run(browser, jobs, publisher, start, finish, machines):
    job = jobs[0]
    start(job, machines[:4])
    finish()
    version = job.stages.get(kind="pre-release").version
    job.refresh_from_db()
    token = tokens.issue(publisher, job, "pre-release", version)
    fields = {"token": token, "machines": ids(machines[:4]), "reason": "broken"}
    answers = browser.post_at_once([(page("roll_back_stage", job), fields)] * 20)
    assert {(answer.status_code, answer.location) for answer in answers} == {(302, page("stage", job))}
    assert Run.objects.filter(action="rollback").count() == 1


def test_two_jobs_that_start_on_one_machine_at_once_never_both_have_it(browser, jobs, publisher, machines):
    shared = machines[2:4]
    posts = [(jobs[n % 2], stage_fields(jobs[n % 2], publisher, shared)) for n in range(20)]
    answers = browser.post_at_once([(page("stage", job), fields) for job, fields in posts])
    run = Run.objects.get()
    assert MachineRun.objects.holding().count() == run.machine_runs.count() == 2
    assert sum(answer.status_code == 302 for answer in answers) == 1
    winner = run.stage.job
    refused = [answer for (job, _), answer in zip(posts, answers, strict=True) if job != winner]
    assert len(refused) == 10
    for answer in refused:
        assert answer.status_code in (200, 409)
        assert f"pay-3 is held by #{winner.pk}." in words(answer)

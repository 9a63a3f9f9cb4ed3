"""What holds for every page, in both languages."""

import re
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse

from releases.models import LogBlock, ReleaseStage, Worker
from tests.conftest import list_machines
from tests.pages import page, stage_fields, words

pytestmark = pytest.mark.one_database

LANGUAGES = ["en", "zh-hans"]
# Where the gap shows that belongs between sentences of other languages
GAP = re.compile(r"[^\n]*[。，：；！？](?:</?(?:a|b|code)\b[^>]*>)*\s+(?:</?(?:a|b|code)\b[^>]*>)*[^\s<][^\n]*")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def world(make_job, start, finish, payment, machines):
    """A job in every state; machine runs in most."""
    waiting, fresh, withdrawn = make_job("1.0", approved=False), make_job("2.0"), make_job("3.0")
    withdrawn.withdraw(withdrawn.requester, "not needed")
    failed, running = make_job("4.0", remark="two\nlines"), make_job("5.0")
    run = start(failed, machines[:3], batch_size=2, remark="carefully")
    LogBlock.objects.create(machine_run=run.machine_runs.first(), number=1, stream="err", text="no space left\n")
    LogBlock.objects.create(machine_run=run.machine_runs.first(), number=2, stream="mark", text="left out")
    finish("failed", on=["pay-1"], exit_status=3)
    unknown = start(failed, machines[:1])
    finish("unknown", exit_status=None)
    live = start(running, machines[3:5])
    paused = start(make_job("6.0"), machines[5:])
    paused.pause(paused.started_by, "a moment")
    ReleaseStage.objects.excuse(failed, machines[5:], failed.approvals_now[0].by, "in repair")
    list_machines(payment, *(f"pay-{n}" for n in range(1, 6)))
    return {
        "waiting": waiting,
        "fresh": fresh,
        "withdrawn": withdrawn,
        "failed": failed,
        "running": running,
        "paused": paused.stage.job,
        "runs": {"failed": run, "running": live},
        "unknown": unknown.machine_runs.get(),
        "machine_runs": [*run.machine_runs.all(), *unknown.machine_runs.all(), *live.machine_runs.all()],
    }


def addresses(world):
    """Every page that can be asked for."""
    yield from map(reverse, ["home", "jobs", "new_job", "account", "change_password", "second_factor"])
    yield "/jobs/?status=waiting&business=payment"
    for state in ("waiting", "fresh", "withdrawn", "failed", "running"):
        job = world[state]
        yield page("job", job)
        for kind in ("pre-release", "gray-release", "release"):
            yield page("stage", job, kind=kind)
        yield page("roll_back_stage", job)
        yield page("roll_back_job", job)
        yield page("excuse_machines", job)
    yield page("edit_job", world["waiting"])
    for state in ("failed", "running"):
        yield page("stage_live", world[state])
        yield page("cancel_run", world[state], run_id=world["runs"][state].pk)
    yield page("stage", world["paused"])
    yield page("stage", world["failed"]) + "?retry=failed"
    for machine_run in world["machine_runs"]:
        job = machine_run.run.stage.job
        yield page("machine_run", job, machine_run_id=machine_run.pk)
        yield page("machine_run_log", job, machine_run_id=machine_run.pk)


def is_clean(response):
    """No attribute or element that the policy would refuse, nothing from outside; and the policy is sent."""
    shown = response.content.decode()
    tags = re.findall(r"<[a-z][^>]*>", shown)
    inline = [tag for tag in tags if re.search(r"""\s(style|on[a-z]+)\s*=""", tag)]
    outside = [
        tag
        for tag in tags
        if re.search(r"""\s(?:src|href|action|hx-get|poster|data)\s*=\s*["']?\s*(?:https?:|//|javascript:)""", tag)
    ]
    assert inline == []
    assert outside == []
    # A script that is data is never executed.
    code = re.sub(r'<script id="[a-z-]+" type="application/json">', "", shown)
    assert re.findall(r"<script(?![^>]*\ssrc=)[^>]*>|<style|<iframe|<object|<embed|<base", code) == []
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    return True


# Each language with one person who sees many buttons, and one who sees few
@pytest.mark.parametrize(
    ("person", "language", "answers"),
    [
        ("ops", "en", [200]),
        ("publisher", "zh-hans", [200, 302, 403]),
        ("approver", "en", [200, 302, 403]),
        ("requester", "zh-hans", [200, 302, 403]),
    ],
)
def test_every_page_is_shown_and_clean(as_user, request, world, person, language, answers):
    client = as_user(request.getfixturevalue(person))
    for address in addresses(world):
        response = client.get(address, HTTP_ACCEPT_LANGUAGE=language)
        assert response.status_code in answers, address
        assert response.status_code == 302 or is_clean(response), address
        if response.status_code == 200 and "<html" in response.content.decode():
            assert f'<html lang="{language}"' in response.content.decode()
        assert language == "en" or not GAP.search(response.text), address


def test_the_title_of_a_page_names_its_job(as_user, publisher, world):
    client, titles = as_user(publisher), {}
    for address in addresses(world):
        if number := re.match(r"/jobs/(\d+)/", address):
            title = re.search("<title>(.*?)</title>", client.get(address).text)
            titles[address] = not title or f"#{number[1]} payment" in title[1] or "Not allowed" in title[1]
    assert [address for address, is_named in titles.items() if not is_named] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_so_are_the_answers_to_posts(as_user, publisher, ops, world, release_task, rollback_task, machines, language):
    client = as_user(publisher)
    fresh = world["fresh"]
    unknown = world["unknown"]
    answers = [
        (reverse("new_job"), {}, 200),
        (page("stage", fresh), stage_fields(fresh, publisher, machines[:1], step="check"), 200),
        (page("stage", fresh), stage_fields(fresh, publisher, []), 200),
        (page("stage", fresh), stage_fields(fresh, publisher, [], token="x"), 409),
        (page("stage", fresh), {}, 409),
        (page("stage", fresh), {"step": "x"}, 400),
        (page("roll_back_stage", world["failed"]), {}, 409),
        (page("roll_back_job", world["failed"]), {}, 409),
        (page("resolve_machine_run", world["failed"], machine_run_id=unknown.pk), {}, 200),
        (page("excuse_machines", world["failed"]), {}, 200),
        (page("skip_stage", fresh), {"reason": "a\u202eb"}, 200),
    ]
    for address, fields, answer in answers:
        response = client.post(address, fields, HTTP_ACCEPT_LANGUAGE=language)
        assert response.status_code == answer, address
        assert is_clean(response)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("address", "answer"), [("/login/", 200), ("/login/?next=/jobs/1/", 200), ("/nowhere/", 404), ("/jobs/01/", 404)]
)
def test_so_are_the_pages_of_nobody(client, db, address, answer, language):
    response = client.get(address, HTTP_ACCEPT_LANGUAGE=language)
    assert response.status_code == answer
    assert is_clean(response)
    assert bool(CHINESE.search(words(response).replace("中文", ""))) == (language == "zh-hans")


def test_the_language_that_was_switched_to_stays(as_user, publisher, world):
    client = as_user(publisher)
    response = client.post(reverse("set_language"), {"language": "zh-hans", "next": "/jobs/"})
    assert response.url == "/jobs/"
    assert '<html lang="zh-hans"' in client.get("/jobs/").content.decode()


def test_switching_the_language_where_a_step_failed_leads_to_its_button(as_user, requester, job):
    response = as_user(requester).post(page("withdraw_job", job), {"reason": ""})
    assert f'name="next" value="{page("job", job)}"' in response.content.decode()


@pytest.mark.parametrize("elsewhere", ["//evil.example/", "https://evil.example/", "javascript:alert(1)", "\\\\evil"])
def test_switching_the_language_leads_nowhere_else(as_user, publisher, elsewhere):
    response = as_user(publisher).post(reverse("set_language"), {"language": "zh-hans", "next": elsewhere})
    assert "evil" not in response.url
    assert "javascript" not in response.url


def test_stylesheets_and_scripts_load_nothing_from_outside(settings):
    for path in (settings.BASE_DIR / "deploy_portal/static").rglob("*.*"):
        if path.suffix in {".css", ".js", ".svg"}:
            text = path.read_text().replace("http://www.w3.org/", "")
            assert not re.search(r"""(?:url\(\s*["']?|@import\s+["']|src=["']|fetch\(["'])(?:https?:|//)""", text), path


@pytest.mark.parametrize(
    "address",
    [
        "/jobs/?page=-1",
        "/jobs/?page=0",
        "/jobs/01/",
        f"/jobs/{'1' * 23}/",
        f"/jobs/{'1' * 23}/stages/release/",
        "/jobs/1/stages/prod/",
        "/jobs//",
        "/admin/../jobs/x/",
        "/%00/",
    ],
)
def test_what_is_no_address_is_not_found(as_user, ops, job, address):
    assert as_user(ops).get(address).status_code == 404


POSTS = [
    "new_job",
    "edit_job",
    "withdraw_job",
    "approve_job",
    "stage",
    "skip_stage",
    "roll_back_stage",
    "roll_back_job",
    "excuse_machines",
    "pause_run",
    "resume_run",
    "cancel_run",
]


class TestForgedRequests:
    @pytest.fixture
    def careful(self, ops):
        client = Client(enforce_csrf_checks=True)
        client.force_login(ops)
        return client

    @pytest.mark.parametrize("name", POSTS)
    def test_without_a_csrf_token(self, careful, job, name):
        where = {"run_id": 1} if name.endswith("_run") else {}
        address = reverse(name) if name == "new_job" else page(name, job, **where)
        response = careful.post(address, {"reason": "x"})
        assert response.status_code == 403
        assert "This page was too old" in words(response)
        assert is_clean(response)
        assert job.events.count() == 2

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil.example"])
    def test_from_a_foreign_origin(self, careful, job, origin):
        careful.get(page("job", job))
        data = {"reason": "x", "csrfmiddlewaretoken": careful.cookies["csrftoken"].value}
        assert careful.post(page("withdraw_job", job), data, HTTP_ORIGIN=origin).status_code == 403
        job.refresh_from_db()
        assert job.status == "approved"
        assert careful.post(page("withdraw_job", job), data, HTTP_ORIGIN="http://testserver").status_code == 302
        job.refresh_from_db()
        assert job.status == "withdrawn"

    @pytest.mark.parametrize("address", ["/", "/login/", "/jobs/", "/health/"])
    @pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "testserver@evil.example", "a b"])
    def test_under_a_wrong_host(self, careful, address, host):
        response = careful.get(address, HTTP_HOST=host)
        assert response.status_code == 400
        assert "evil" not in response.content.decode()

    @pytest.mark.parametrize("sent", [{"remark": "x" * 3_000_000}, {f"field{n}": "" for n in range(26_000)}])
    def test_with_too_much(self, as_user, publisher, job, sent):
        client, form = as_user(publisher), "application/x-www-form-urlencoded"
        for response in (client.post(page("stage", job), sent), client.post(page("stage", job), urlencode(sent), form)):
            assert response.status_code == 400
            assert "You sent more than the portal takes. Nothing was changed." in words(response)


class TestLoggingInOnTheWay:
    """Whose session has ended clicks a button, logs in, and is where the button was."""

    BACK_AT = {
        "approve_job": "job",
        "withdraw_job": "job",
        "send_back_job": "job",
        "skip_stage": "stage",
        "pause_run": "job",
        "resume_run": "job",
        "cancel_run": "cancel_run",
        "excuse_machines": "excuse_machines",
        "resolve_machine_run": "machine_run",
        "edit_job": "edit_job",
        "stage": "stage",
    }

    def test_to_a_step(self, client, approver, world, case):
        machine_run = world["unknown"]
        job = machine_run.run.stage.job
        for name, back_at in self.BACK_AT.items():
            where = {"run_id": machine_run.run_id} if name.endswith("_run") else {}
            where = {"machine_run_id": machine_run.pk} if "machine_run" in name else where
            with case(name):
                response = client.post(page(name, job, **where), {"reason": "x"})
                response = client.post(response.url, {"username": "approver", "password": "correct horse battery"})
                assert response.url == page(back_at, job, **(where if back_at == name or "run" in back_at else {}))
                assert client.get(response.url).status_code in (200, 403)

    def test_to_logging_out(self, client, approver):
        response = client.post("/login/?next=/logout/", {"username": "approver", "password": "correct horse battery"})
        assert client.get(response.url).status_code == 200


def test_the_keys_are_for_who_is_logged_in(as_user, publisher, job):
    client = as_user(publisher)
    for address in ("/", "/jobs/", page("job", job), "/jobs/4711/"):
        shown = client.get(address).text
        assert [shown.count(part) for part in ("<dialog", "keys.js", "data-keys-hint>?</kbd>")] == [1, 1, 1], address
    for address in ("/login/", "/nowhere/"):
        shown = Client().get(address).text
        assert [shown.count(part) for part in ("<dialog", "keys.js", "data-keys")] == [0, 0, 0], address


def test_every_page_says_whether_a_worker_is_alive(as_user, publisher):
    client = as_user(publisher)
    assert "No worker has ever been alive" in words(client.get("/"))
    worker = Worker.objects.enlist([])
    assert "1 worker alive" in words(client.get("/"))
    worker.leave()
    assert "No worker is alive since" in words(client.get("/"))

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from deploy_portal.models import User
from jobs.models import Business, Job, Machine
from releases.admin import MACHINE_RUNS_SHOWN, VERSIONS_SHOWN, TaskAdmin
from releases.models import MachineRun, ReleaseStage, Run, Task, Worker
from tests.conftest import list_machines, make_task, make_user
from tests.forms import based_on
from tests.parallel import at_once, waits_for_a_lock
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("contexts")]

LATE = "Somebody changed this meanwhile. Copy what you typed, open the page again and take both up."
TASKS = "/admin/releases/task/"
RUNS = "/admin/releases/run/"


@pytest.fixture
def page(as_user, ops):
    """The test client, logged in as ops."""
    return as_user(ops)


@pytest.fixture
def task(db):
    return make_task("deploy", script="#!/bin/sh\necho one\n")


def change(task):
    return f"{TASKS}{task.pk}/change/"


def fields(page, task, **changed):
    """What the change form of `task`, opened now, posts: lines end as browsers end them."""
    script = task.latest.script.replace("\n", "\r\n")
    form = {"name": task.name, "business": "", "timeout": task.timeout, "in_use": "on", "script": script}
    return form | based_on(page, change(task)) | management() | changed


def management():
    return {"versions-TOTAL_FORMS": 0, "versions-INITIAL_FORMS": 0}


def errors(response, name):
    return response.context["adminform"].form.errors.get(name, [])


def numbers(task):
    return list(task.versions.values_list("number", flat=True))


def test_adds_a_task_with_its_first_version(page, ops, payment):
    form = {"name": "deploy", "business": payment.pk, "action": "release", "timeout": "60", "in_use": "on"}
    assert page.post(f"{TASKS}add/", form | {"script": "echo\r\n"}).status_code == 302
    task = Task.objects.get()
    assert (task.business, task.latest.number, task.latest.script, task.latest.author) == (payment, 1, "echo\n", ops)


def test_a_changed_text_makes_a_version_and_the_same_text_none(page, ops, task):
    page.post(change(task), fields(page, task, timeout="30"))
    task.refresh_from_db()
    assert (task.timeout, numbers(task)) == (30, [1])
    page.post(change(task), fields(page, task, script="#!/bin/sh\r\necho two\r\n"))
    task.refresh_from_db()
    assert numbers(task) == [2, 1]
    assert (task.latest.script, task.latest.author) == ("#!/bin/sh\necho two\n", ops)


def test_a_changed_check_alone_makes_a_version_and_no_check_is_none(page, task):
    for check, versions in [("", [1]), ("test -e up\r\n", [2, 1]), ("test -e up\r\n", [2, 1]), ("", [3, 2, 1])]:
        page.post(change(task), fields(page, task, check_script=check))
        task.refresh_from_db()
        assert numbers(task) == versions
        assert task.latest.check_script == check.replace("\r\n", "\n")
        assert task.latest.script == "#!/bin/sh\necho one\n"


@pytest.mark.one_database
@pytest.mark.parametrize("typed", ["#!/usr/bin/python3\n", "\0", "x" * 1_000_001], ids=["python", "NUL", "large"])
def test_says_at_the_field_what_is_wrong_with_a_check_and_keeps_it(page, task, typed):
    response = page.post(change(task), fields(page, task, check_script=typed))
    assert errors(response, "check_script")
    assert response.context["adminform"].form["check_script"].value() == typed
    task.refresh_from_db()
    assert numbers(task) == [1]


@pytest.mark.one_database
@pytest.mark.parametrize(("name", "field"), [("script", "Script"), ("check_script", "Check")])
def test_says_where_a_shell_finds_a_mistake_and_saves_it(page, task, name, field, monkeypatch):
    """No refusal: a machine's shell may be another. It is said once, of the text that is new."""
    monkeypatch.setattr("releases.syntax.TIME_LIMIT", PATIENCE)
    broken = fields(page, task, **{name: "echo <b>\r\nfi\r\n"})
    response = page.post(change(task), broken, follow=True)
    [warning, done] = [str(message) for message in response.context["messages"]]
    assert warning.startswith(f"Saved, but sh here finds a mistake: {field}, line 2: ")
    assert "was changed successfully" in done
    task.refresh_from_db()
    assert getattr(task.latest, name) == "echo <b>\nfi\n"
    same = fields(page, task, timeout="30", check_script=task.latest.check_script)
    response = page.post(change(task), same, follow=True)
    assert len(response.context["messages"]) == 1


def test_shows_the_check_of_each_version_that_has_one(page, task):
    task.revise("echo two", None, "test -e <up>\ntest -e \u202eup")
    text = page.get(change(task)).text
    assert text.count("Show the check (") == 1
    assert "<li>test -e &lt;up&gt;</li><li>test -e ⟨U+202E⟩up</li>" in text


def test_keeps_blank_lines_and_indents_at_both_ends(page, task):
    page.post(change(task), fields(page, task, script="\r\n  echo two  \r\n\r\n"))
    task.refresh_from_db()
    assert task.latest.script == "\n  echo two  \n\n"


@pytest.mark.one_database
@pytest.mark.parametrize(
    "typed", ["#!/usr/bin/python3\nprint()", "", "echo \0", "x" * 1_000_001], ids=["python", "empty", "NUL", "large"]
)
def test_says_at_the_field_what_is_wrong_with_a_script_and_keeps_it(page, task, typed):
    response = page.post(change(task), fields(page, task, script=typed, name="renamed"))
    assert response.status_code == 200
    assert errors(response, "script")
    assert response.context["adminform"].form["script"].value() == typed
    task.refresh_from_db()
    assert (task.name, numbers(task)) == ("deploy", [1])


def test_does_not_overwrite_what_another_wrote_meanwhile(page, task, publisher):
    form = fields(page, task, script="echo mine")
    task.revise("echo theirs", publisher)
    response = page.post(change(task), form)
    assert "publisher wrote v2 meanwhile" in errors(response, "script")[0]
    assert response.context["adminform"].form["script"].value() == "echo mine"
    assert errors(page.post(change(task), form | {"text_based_on": ""}), "script")
    assert numbers(task) == [2, 1]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("changed", [{"timeout": "30"}, {"script": "echo three"}])
def test_does_not_overwrite_what_another_writes_at_the_same_moment(page, task, monkeypatch, changed):
    """Who had read the task just before put its old text, or their own, over the new one."""
    other = Client()
    other.cookies = page.cookies
    form = fields(page, task, **changed)
    real, answers = TaskAdmin.tell, []

    def tell(admin, *args, **detail):
        real(admin, *args, **detail)
        if not answers:
            answers.append(pool.submit(at_once, partial(other.post, change(task), form)))
            wait_until(lambda: answers[0].done() or waits_for_a_lock())

    monkeypatch.setattr(TaskAdmin, "tell", tell)
    with ThreadPoolExecutor(1) as pool:
        page.post(change(task), fields(page, task, script="echo two"))
        [answer] = answers[0].result(PATIENCE)
    assert "ops wrote v2 meanwhile" in answer.text
    task.refresh_from_db()
    assert (task.latest.script, numbers(task)) == ("echo two", [2, 1])


def test_what_was_opened_before_does_not_undo_a_retirement(page, task):
    form = fields(page, task, script="echo mine", timeout="30")
    Task.objects.filter(pk=task.pk).update(in_use=False)
    response = page.post(change(task), form)
    assert errors(response, "__all__") == [LATE]
    assert response.context["adminform"].form["script"].value() == "echo mine"
    task.refresh_from_db()
    assert (task.in_use, task.timeout, numbers(task)) == (False, 600, [1])


def test_staff_who_may_only_look_see_nothing_of_what_a_form_is_based_on(as_user, task):
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename="view_task"))
    text = as_user(staff).get(change(task)).text
    assert "deploy" in text
    assert "ased on" not in text
    assert "based_on" not in text


def test_refuses_a_name_beside_which_this_one_would_be_offered(page, task, payment, orders):
    make_task("payment-only", business=payment)
    form = {"action": "release", "timeout": "60", "script": "echo"}
    for business, name, whose in [
        ("", "deploy", "shared by all"),
        (payment.pk, "deploy", "shared by all"),
        (payment.pk, "payment-only", "Payment"),
        ("", "payment-only", "Payment"),
    ]:
        refused = page.post(f"{TASKS}add/", form | {"name": name, "business": business})
        assert errors(refused, "name") == [f"There is a task of this name already: {whose}."]
    assert page.post(f"{TASKS}add/", form | {"name": "payment-only", "business": orders.pk}).status_code == 302


@pytest.mark.parametrize("changed", [{"timeout": "30"}, {"name": "deploy all"}, {"in_use": ""}])
def test_one_of_two_that_have_one_name_already_can_be_changed(page, task, payment, changed):
    make_task("deploy", business=payment)
    assert page.post(change(task), fields(page, task, **changed)).status_code == 302
    assert errors(page.post(change(task), fields(page, task, business=payment.pk)), "name")


def test_a_task_has_no_name_that_looks_like_another(page, task):
    response = page.post(change(task), fields(page, task, name="dep\u202eloy"))
    assert errors(response, "name") == ["Remove the control or invisible characters."]


@pytest.mark.one_database
@pytest.mark.parametrize("timeout", ["0", "-1", "86401", "9" * 40, "x", ""])
def test_refuses_a_time_limit_out_of_bounds(page, task, timeout):
    assert errors(page.post(change(task), fields(page, task, timeout=timeout)), "timeout")


def test_a_task_keeps_what_it_is_used_for(page, task):
    page.post(change(task), fields(page, task, action="rollback"))
    task.refresh_from_db()
    assert task.action == "release"


def test_takes_a_task_out_of_use(page, task):
    form = fields(page, task)
    del form["in_use"]
    page.post(change(task), form)
    task.refresh_from_db()
    assert not task.in_use


def test_shows_every_version_with_its_lines_and_author_and_changes_none(page, task, publisher):
    task.revise("echo <two>\necho \u202etwo", publisher)
    for number in range(VERSIONS_SHOWN):
        make_task(f"other-{number}")  # each with a version that is newer
    text = page.get(change(task)).text
    assert "<li>echo &lt;two&gt;</li><li>echo ⟨U+202E⟩two</li>" in text
    assert "<li>echo one</li>" in text
    assert text.index("echo &lt;two&gt;</li>") < text.index("<li>echo one</li>")
    assert ">publisher</a>" in text
    first = task.versions.get(number=1)
    counts = {"versions-TOTAL_FORMS": 1, "versions-INITIAL_FORMS": 1}
    forged = {"id": first.pk, "task": task.pk, "script": "forged", "number": "9", "DELETE": "on"}
    task.refresh_from_db()
    row = {f"versions-0-{name}": value for name, value in forged.items()}
    page.post(change(task), fields(page, task, **counts, **row))
    first.refresh_from_db()
    assert (first.script, first.number) == ("#!/bin/sh\necho one\n", 1)
    assert numbers(task) == [2, 1]


def test_lists_tasks_with_their_newest_version(page, task, publisher):
    task.revise("echo two", publisher)
    text = page.get(TASKS).text
    assert ">v2</td>" in text
    assert ">publisher</td>" in text
    assert "shared by all" in text


def test_shows_a_run_with_its_counts_task_and_logs(page, job, machines, start, finish):
    run = start(job, machines)
    finish("failed", on=["pay-2", "pay-3"])
    text = page.get(f"{RUNS}{run.pk}/change/").text
    assert '<span class="status failed">2 Failed</span>' in text
    assert '<span class="status succeeded">4 Succeeded</span>' in text
    assert "<li>echo done</li>" in text
    failed = run.machine_runs.get(machine__hostname="pay-2")
    assert f'href="/jobs/{job.pk}/machine-runs/{failed.pk}/"' in text
    assert f'href="/jobs/{job.pk}/stages/pre-release/"' in text
    assert text.index(">pay-2<") < text.index(">pay-3<") < text.index(">pay-1<")


def test_shows_how_a_run_was_to_go(page, job, machines, start, finish):
    first = start(job, machines[:1])
    finish("failed")
    pace = {"batch_size": "50 %", "canary": True, "batch_pause": 60, "failure_budget": "40 %"}
    run = start(job, machines, **pace)
    text = page.get(f"{RUNS}{run.pk}/change/").text
    shown = dict(re.findall(r'field-(\w+)">.*?<div class="readonly">(.*?)</div>', text, re.DOTALL))
    assert f"{RUNS}{first.pk}/change/" in shown["retry_of"]
    assert (shown["batch_size"], shown["batch_pause"], shown["failure_budget"]) == ("3", "60", "3")
    assert "icon-yes" in shown["canary"]
    assert shown["batch_progress"] == "1 / 3"
    text = page.get(f"/admin/releases/releasestage/{run.stage_id}/change/").text
    assert "50 %" in text
    assert "40 %" in text


def test_a_run_on_many_machines_shows_some_and_leads_to_all(page, payment, make_job, machines, start):
    hostnames = [f"m-{number}" for number in range(120)]
    many = list_machines(payment, *hostnames)
    run = start(make_job(on=many), many)
    last = run.machine_runs.order_by("pk").last()
    MachineRun.objects.filter(pk=last.pk).update(status="unreachable")
    with CaptureQueriesContext(connection) as asked:
        text = page.get(f"{RUNS}{run.pk}/change/").text
    assert len(asked) < 20
    assert text.count('<td class="field-state">') == MACHINE_RUNS_SHOWN
    assert text.index(">Unreachable<") < text.index(">Waiting<")
    assert f'<a href="/admin/releases/machinerun/?run__id__exact={run.pk}">all 120</a>' in text
    assert page.get("/admin/releases/machinerun/", {"run__id__exact": run.pk}).context["cl"].result_count == 120


def test_the_portals_own_reasons_are_told_in_the_readers_language(page, make_job, machines, start, finish):
    run = start(make_job(), machines[:1])
    finish("unknown")
    run.machine_runs.update(reason="Its worker was lost while the command ran; it may still be running.")
    machine_run = run.machine_runs.get()
    for where in (f"{RUNS}{run.pk}/change/", f"/admin/releases/machinerun/{machine_run.pk}/change/"):
        shown = page.get(where, headers={"Accept-Language": "zh-hans"}).content.decode()
        assert "命令可能仍在执行。" in shown
        assert "it may still be running" not in shown


def test_a_machine_run_shows_where_it_was_sent_and_a_dash_for_no_reason(page, make_job, machines, start):
    machine_run = start(make_job(), machines[:1]).machine_runs.get()
    Machine.objects.filter(pk=machines[0].pk).update(address="10.9.9.9")
    text = page.get(f"/admin/releases/machinerun/{machine_run.pk}/change/").text
    assert '<div class="readonly">10.0.0.1</div>' in text
    assert re.search(r'field-why">.*?<div class="readonly">-</div>', text, re.DOTALL)


@pytest.mark.one_database
def test_finds_jobs_stages_and_runs_by_the_names_of_a_business(page, payment, orders, outsider, job, machines, start):
    Business.objects.filter(pk=payment.pk).update(name="Checkout")
    other = Job(business=orders, title="Stock", version=job.version)
    other.ask(outsider, list_machines(orders, "ord-1"))
    ReleaseStage.objects.of(other)
    run = start(job, machines)
    stages = ReleaseStage.objects.filter(job=job)
    for where, rows in [("jobs/job", [job]), ("releases/releasestage", stages), ("releases/run", [run])]:
        for query in ["checkout", "payment", f"payment {job.version}"]:
            assert set(found(page, where, query)) == set(rows)
        assert not set(found(page, where, "orders")) & set(rows)


@pytest.mark.one_database
def test_finds_jobs_and_runs_by_each_name_of_a_person(page, job, machines, start):
    run = start(job, machines)
    for where, row, person in [("jobs/job", job, job.requester), ("releases/run", run, run.started_by)]:
        User.objects.filter(pk=person.pk).update(first_name="Xiaoming", last_name="王")
        for query in [person.username, "xiaoming", "王"]:
            assert found(page, where, query) == [row]
        User.objects.update(first_name="", last_name="")


def found(page, where, query):
    return list(page.get(f"/admin/{where}/", {"q": query}).context["cl"].result_list)


def test_finds_runs_and_machine_runs_by_job_machine_and_status(page, make_job, machines, start, finish):
    first, second = make_job("1.0"), make_job("2.0")
    start(first, machines[:1])
    finish("failed")
    start(second, machines[1:])
    runs = page.get(RUNS, {"q": f"#{second.pk}"}).context["cl"].result_list
    assert second in {run.stage.job for run in runs}
    assert page.get(RUNS, {"status": "failed"}).context["cl"].result_count == 1
    found = page.get("/admin/releases/machinerun/", {"q": "pay-1"}).context["cl"].result_list
    assert [machine_run.run.stage.job for machine_run in found] == [first]


def test_shows_a_stage_with_its_runs(page, job, machines, start):
    run = start(job, machines)
    text = page.get(f"/admin/releases/releasestage/{run.stage_id}/change/").text
    assert f'<a href="{RUNS}{run.pk}/change/">run {run.pk}</a>' in text


def test_a_posted_row_of_a_run_changes_nothing(page, job, machines, start):
    run = start(job, machines)
    machine_run = run.machine_runs.first()
    row = {"machine_runs-TOTAL_FORMS": 1, "machine_runs-INITIAL_FORMS": 1, "machine_runs-0-id": machine_run.pk}
    response = page.post(f"{RUNS}{run.pk}/change/", row | {"machine_runs-0-status": "succeeded", "status": "succeeded"})
    assert response.status_code == 403
    machine_run.refresh_from_db()
    assert machine_run.status == "queued"
    assert Run.objects.get().status == "running"


def test_says_whether_a_worker_is_alive_and_since_when_not(page):
    alive, left, silent = (Worker.objects.enlist(sites) for sites in [["sh-1", "sh-2"], [], []])
    Worker.objects.filter(pk=silent.pk).update(heartbeat_at="2026-01-01T00:00:00Z")
    Worker.objects.filter(pk=left.pk).update(stopped_at="2026-01-02T00:00:00Z")
    text = page.get("/admin/releases/worker/").text
    assert text.count(">Alive<") == 1
    assert text.count(">Stopped 2026-01-02") == 1
    assert text.count('<td class="field-of_sites">every site</td>') == 2
    assert text.count('"status warn">No sign of life since 2026-01-01') == 1
    assert "sh-1, sh-2" in text
    assert ">Alive<" in page.get(f"/admin/releases/worker/{alive.pk}/change/").text

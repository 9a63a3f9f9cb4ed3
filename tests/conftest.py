"""The people, businesses and machines of the tests."""

import gc
import re
from contextlib import contextmanager
from dataclasses import asdict
from zlib import crc32

import pytest
from _pytest import runner
from django.db import connection
from django.db.models.functions import Now
from django.template import Template
from django.test.utils import instrumented_test_render
from django.utils import translation

from deploy_portal.models import User
from jobs.config_service.rows import MachineRow
from jobs.models import Business, Job, Listing, Machine, Membership
from jobs.rights import Role
from releases.models import Action, MachineRun, ReleaseStage, Run, Task, Worker
from tests.cases import undone
from tests.databases import django_db_setup, with_tables  # noqa: F401
from tests.workers import begin

PASSWORD = "correct horse battery"
PLAIN_RENDER = Template._render


# What takes longest begins first: nobody waits for it alone at the end.
LONG = [
    *("releases/demo/", "test_hostile_values", "test_commands_in_a_shell", "test_two_tabs", "test_permissions"),
    *("test_queries", "test_page_long_list", "test_pages_everywhere", "test_migrations"),
]
# What waits more than it computes goes between the first half of the others, as the second takes next to no time: by
# itself it would leave both cores idle.
WAITING = ["faults/", "executors/test_remote_shell", "executors/test_ssh."]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from tests.together import Together

    return Together(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not _is_of(LONG, item))
    ordered = [item for item in items if not _is_of(WAITING, item)]
    waiting = sorted((item for item in items if _is_of(WAITING, item)), key=lambda item: crc32(item.nodeid.encode()))
    every = len(ordered) // 2 // (len(waiting) + 1) + 1
    for number, item in enumerate(waiting, 1):
        ordered.insert(number * every - 1, item)
    items[:] = ordered


def _is_of(names, item):
    return any(name in item.nodeid for name in names)


def pytest_collectstart():
    gc.disable()  # there is no garbage yet to speak of


def pytest_collection_finish():
    """What was imported and collected stays: no search for garbage need go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    return _with_room_for_frames(runner.pytest_runtest_protocol, item, nextitem)


def _with_room_for_frames(call, *args):
    return call(*args)


# CPython keeps frames in blocks of 16 kB: a loop whose calls cross the end of one asks the system for memory and gives
# it back at each call, a sixth of a test's time. A frame that says it is large comes in a block of 1 MB.
_with_room_for_frames.__code__ = _with_room_for_frames.__code__.replace(co_stacksize=70_000)


@pytest.fixture(autouse=True)
def _english():
    """A page in Chinese leaves its language behind in this thread."""
    translation.deactivate()


@pytest.fixture(scope="session", autouse=True)
def _plain_templates(django_test_environment):
    """As in production: a twentieth of a page's time went into keeping the context of each of its templates."""
    Template._render = PLAIN_RENDER


@pytest.fixture
def contexts(monkeypatch):
    """Keeps them: `response.context` has what a page was made of."""
    monkeypatch.setattr(Template, "_render", instrumented_test_render)


@pytest.fixture
def config_files(settings, tmp_path):
    """A folder for the files that businesses are read from."""
    settings.CONFIG_FILES_DIR = tmp_path / "config"
    settings.CONFIG_FILES_DIR.mkdir()
    return settings.CONFIG_FILES_DIR


def make_user(name, **fields):
    return User.objects.create_user(name, password=PASSWORD, **fields)


def make_business(slug, **fields):
    """A business whose list is fresh, so that no page asks its source, unless a test says otherwise."""
    source = {"source": "file", "source_options": {"path": "{business}.json"}}
    return Business.objects.create(**{"slug": slug, "name": slug.title()} | source | fields)


def rows(*hostnames, site="sh-1", port=22):
    """What a config service gives for these host names; their number is in their address too."""
    numbers = [re.sub(r"\D", "", name) or "250" for name in hostnames]
    return [
        MachineRow(hostname=name, address=f"10.0.0.{number}", port=port, user="", labels={"site": site}, site=site)
        for name, number in zip(hostnames, numbers, strict=True)
    ]


def list_machines(business, *hostnames, **fields):
    """Makes `hostnames` the whole list of `business`, as if its source had just answered."""
    Listing.objects.take(business, rows(*hostnames, **fields))
    mark_fresh(business)
    return list(Machine.objects.filter(hostname__in=hostnames).order_by("hostname"))


def mark_fresh(business):
    Business.objects.filter(pk=business.pk).update(asked_at=Now(), synced_at=Now())


@pytest.fixture
def payment(db):
    return make_business("payment")


@pytest.fixture
def orders(db):
    return make_business("orders")


@pytest.fixture
def machines(payment):
    """Six machines of payment, pay-1 to pay-6; as `list_machines` makes them, by less."""
    given = rows(*(f"pay-{number}" for number in range(1, 7)))
    made = Machine.objects.bulk_create(Machine(**asdict(row)) for row in given)
    Listing.objects.bulk_create(Listing(business=payment, machine=machine) for machine in made)
    mark_fresh(payment)
    return made


@pytest.fixture
def requester(payment):
    return make_member("requester", payment, Role.REQUESTER)


@pytest.fixture
def publisher(payment):
    return make_member("publisher", payment, Role.PUBLISHER)


@pytest.fixture
def approver(payment):
    return make_member("approver", payment, Role.APPROVER)


@pytest.fixture
def outsider(orders):
    """Has every role, in another business only."""
    return make_member("outsider", orders, *Role)


@pytest.fixture
def ops(db):
    return make_user("ops", is_staff=True, is_superuser=True)


def make_member(name, business, *roles):
    user = make_user(name)
    Membership.objects.bulk_create([Membership(user=user, business=business, role=role) for role in roles])
    return user


def make_task(name, action=Action.RELEASE, script="echo done", business=None, **fields):
    task = Task.objects.create(name=name, action=action, business=business, **fields)
    task.revise(script, None)
    return task


@pytest.fixture
def release_task(db):
    return make_task("deploy")


@pytest.fixture
def rollback_task(db):
    return make_task("roll-back", Action.ROLLBACK)


@pytest.fixture
def make_job(requester, approver, payment, machines):
    """Makes a job of payment; approved unless `approved=False`."""

    def make(version="2.0", on=None, approved=True, **fields):
        job = Job(**{"business": payment, "title": f"Payment {version}", "version": version} | fields)
        chosen = machines if on is None else on
        job.ask(requester, chosen)
        if approved:
            job.approve(approver)
        if len(chosen) > 500:
            _analyze()
        return job

    return make


def _analyze():
    """What PostgreSQL does by itself a while after many rows were written; until then it plans for the few before."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


@pytest.fixture
def job(make_job):
    return make_job()


def stage_of(job, kind="pre-release"):
    """That stage of the job, as both are now."""
    return ReleaseStage.objects.of_kind(Job.objects.get(pk=job.pk), kind)


@pytest.fixture
def start(publisher, release_task, rollback_task):
    """Starts a stage of a job as the publisher, without its page; returns the run."""

    def start(job, machines, kind="pre-release", key=None, **fields):
        stage = ReleaseStage.objects.of_kind(job, kind)
        stage.release_task, stage.rollback_task = release_task, rollback_task
        for name, value in fields.items():
            setattr(stage, name, "" if value is None else value)
        return stage.start(publisher, machines, key or f"{job.pk}-{kind}-{stage.version}")

    return start


@pytest.fixture
def finish():
    """Ends every machine run that is due, as a worker would: `finish("failed", on=["pay-2"])` for some of them."""

    def finish(status="succeeded", on=None, exit_status=0):
        worker = Worker.objects.enlist([])
        while MachineRun.objects.filter(status="queued").exists() and (ids := begin(worker)):
            marked = MachineRun.objects.filter(pk__in=ids)
            if on is not None:
                marked = marked.filter(machine__hostname__in=on)
            marked_ids = set(marked.values_list("pk", flat=True))
            MachineRun.objects.end(worker, marked_ids, status, exit_status)
            MachineRun.objects.end(worker, set(ids) - marked_ids, "succeeded", 0)
            Run.objects.due().advance()
        return worker

    return finish


@pytest.fixture
def as_user(client):
    """The test client, logged in as a user."""

    def log_in(user):
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def case(subtests, client):
    """`with case(name=name):` tests one of many cases on one world, and tells by its name the one that fails.

    The next one begins from the same rows, with nobody logged in: what a fixture makes within a case is gone after it.
    """

    @contextmanager
    def case(*name, **what):
        with subtests.test(*name, **what), undone():
            client.cookies.clear()
            yield

    return case

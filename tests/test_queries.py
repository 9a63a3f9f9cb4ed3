"""How many queries a page makes does not depend on how many machines there are."""

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from jobs.fields import in_short
from jobs.models import Job, Machine, Membership
from jobs.rights import Role
from releases import tokens
from releases.models import LogBlock, ReleaseStage, Worker
from tests.commands import say
from tests.conftest import list_machines, make_business, make_user
from tests.pages import ids, page, stage_fields

pytestmark = pytest.mark.one_database

FEW, MANY = 6, 60


class World:
    """A business of `size` machines: a third released, of which half failed; a third held by a run; a third free."""

    def __init__(self, size, publisher, approver):
        self.business = make_business(f"b{size}")
        self.user, self.requester, self.approver = make_user(f"user-{size}"), make_user(f"requester-{size}"), approver
        for user in (self.user, self.requester, approver, publisher):
            Membership.objects.bulk_create([Membership(user=user, business=self.business, role=role) for role in Role])
        self.machines = list_machines(self.business, *(f"m{size}-{n:03}" for n in range(size)))
        third = size // 3
        self.first, self.second, self.free = self.machines[:third], self.machines[third:-third], self.machines[-third:]
        self.done, self.running, self.fresh = (self.job(version) for version in ("1.0", "2.0", "3.0"))

    def job(self, version):
        job = Job(business=self.business, title="A job", version=version)
        job.ask(self.requester, self.machines)
        job.approve(self.approver)
        return job


@pytest.fixture
def worlds(settings, publisher, approver, start, finish):
    # However long it takes to ask for all pages, to each of them the lists are fresh and the worker is alive.
    settings.CONFIG_SERVICE_MAX_AGE = settings.CONFIG_SERVICE_MAX_AGE_AT_START = settings.WORKER_DEAD_AFTER = 3600
    worlds = [World(size, publisher, approver) for size in (FEW, MANY)]
    for world in worlds:
        run = start(world.done, world.first)
        world.machine_run = run.machine_runs.first()
        for machine_run in run.machine_runs.all():
            LogBlock.objects.create(machine_run=machine_run, number=1, stream="err", text="no space left\n")
    finish("failed", on=[machine.hostname for world in worlds for machine in world.first[::2]])
    for world in worlds:
        world.run = start(world.running, world.second)
    return worlds


def get(address, by="user"):
    return lambda world: (getattr(world, by), "get", address(world), None, 200)


def post(address, fields, answer=302):
    return lambda world: (world.user, "post", address(world), fields(world), answer)


def choosing(step, which="free", answer=200):
    def fields(world):
        machines = getattr(world, which)
        return stage_fields(world.fresh, world.user, machines, step=step, typed_count=str(len(machines)))

    return post(lambda world: page("stage", world.fresh), fields, answer)


def rolling_back(world):
    stage = ReleaseStage.objects.of_kind(world.done, "pre-release")
    token = tokens.issue(world.user, stage.job, stage.kind, stage.version)
    return {"token": token, "machines": ids(world.first), "reason": "broken"}


def waiting(world):
    """Choosing machines that another job holds, to be started when they are free."""
    held = ids(world.second)
    count = str(len(held))
    return stage_fields(world.fresh, world.user, [], machines=None, when_free=held, typed_count=count)


def moving(world):
    """Choosing machines that are elsewhere now than when they were chosen, to be released there."""
    Machine.objects.filter(pk__in=ids(world.free)).update(port=2222)
    count = str(len(world.free))
    return stage_fields(world.fresh, world.user, [], machines=None, moved=in_short(ids(world.free)), typed_count=count)


def excusing(world):
    return {"machines": ids(world.free), "reason": "in repair"}


def of_run(name):
    return lambda world: page(name, world.running, run_id=world.run.pk)


def machine_runs(name):
    return get(lambda world: page(name, world.done, machine_run_id=world.machine_run.pk))


def new_job(world):
    machines = ids(world.machines)
    return {"title": "T", "business": world.business.pk, "version": "4.0", "machines": machines, "remark": ""}


PAGES = {
    "home": get(lambda world: reverse("home")),
    "home, asked on": get(lambda world: reverse("running")),
    "jobs": get(lambda world: reverse("jobs")),
    "new job": get(lambda world: reverse("new_job")),
    "edit job": get(lambda world: page("edit_job", world.fresh), by="requester"),
    "asking for a job": post(lambda world: reverse("new_job"), new_job),
    "bad machines in a new job": post(
        lambda world: reverse("new_job"), lambda world: new_job(world) | {"version": ""}, 200
    ),
    "job": get(lambda world: page("job", world.done)),
    "job to be approved": get(lambda world: page("job", world.fresh)),
    "job that runs": get(lambda world: page("job", world.running)),
    "stage to choose": get(lambda world: page("stage", world.fresh)),
    "stage that failed": get(lambda world: page("stage", world.done)),
    "stage that runs": get(lambda world: page("stage", world.running)),
    "live": get(lambda world: page("stage_live", world.running)),
    "live, ended": get(lambda world: page("stage_live", world.done)),
    "check": choosing("check"),
    "check that fails": post(
        lambda world: page("stage", world.fresh),
        lambda world: stage_fields(world.fresh, world.user, world.free, step="check", remark="x" * 2001),
        200,
    ),
    "start": choosing("start", answer=302),
    "held machines": choosing("start", "second"),
    "start when free": post(lambda world: page("stage", world.fresh), waiting),
    "start where it has moved": post(lambda world: page("stage", world.fresh), moving),
    "another page of the list": post(
        lambda world: page("stage", world.fresh), lambda world: {"machines": ids(world.free), "list": "2"}, 200
    ),
    "stage to try again": get(lambda world: page("stage", world.done) + "?retry=failed"),
    "what a cancel would end": get(of_run("cancel_run")),
    "pause": post(of_run("pause_run"), lambda world: {}),
    "cancel": post(of_run("cancel_run"), lambda world: {}),
    "machines to excuse": get(lambda world: page("excuse_machines", world.done)),
    "excusing": post(lambda world: page("excuse_machines", world.done), excusing),
    "bad machines to excuse": post(
        lambda world: page("excuse_machines", world.done), lambda world: excusing(world) | {"reason": ""}, 200
    ),
    "rollback of a stage": get(lambda world: page("roll_back_stage", world.done)),
    "rollback of a job": get(lambda world: page("roll_back_job", world.done)),
    "rolling back": post(lambda world: page("roll_back_stage", world.done), rolling_back),
    "machine run": machine_runs("machine_run"),
    "log": machine_runs("machine_run_log"),
    "log as a file": machine_runs("machine_run_download"),
}


def queries(client, world, ask):
    user, method, address, data, answer = ask(world)
    client.force_login(user)
    with CaptureQueriesContext(connection) as captured:
        response = getattr(client, method)(address, data)
        list(response)
    assert response.status_code == answer
    return [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]


def test_ten_times_the_machines_need_no_more_queries(client, worlds, case):
    for name, ask in PAGES.items():
        with case(name):
            few, many = (len(queries(client, world, ask)) for world in worlds)
            assert many == few
            assert few <= 50


def test_so_does_a_command_that_only_looks(worlds):
    """Nor does it write anything: on SQLite a write waits for every other."""
    for stage in ("fresh", "done"):
        ReleaseStage.objects.of(getattr(worlds[0], stage)), ReleaseStage.objects.of(getattr(worlds[1], stage))
    for command, job, options in (
        ("run_stage", "fresh", ["pre-release", "--all", "--when-free"]),
        ("rollback_stage", "done", ["all", "--reason", "x"]),
    ):
        asked = []
        for world in worlds:
            line = [command, "--as", world.user.username, getattr(world, job).pk, *options, "--dry-run", "--json"]
            with CaptureQueriesContext(connection) as captured:
                say(*line)
            asked.append([query["sql"] for query in captured])
        few, many = map(len, asked)
        assert many == few
        assert few <= 60
        assert not [sql for sql in asked[1] if not sql.startswith("SELECT")]


def test_more_runs_that_go_on_need_no_more_queries(client, worlds, publisher):
    """Every open home page asks for them again and again."""

    def asked_by(user):
        return len(queries(client, worlds[0], lambda world: (user, "get", reverse("running"), None, 200)))

    assert asked_by(worlds[0].user) == asked_by(publisher)  # who sees one, and two


def test_a_page_asks_nothing_twice(client, worlds, case):
    ReleaseStage.objects.of(worlds[0].fresh)  # made when they are first looked at
    stage = ["stage to choose", "stage that failed", "stage that runs", "check", "check that fails"]
    job = ["job", "job to be approved", "job that runs", "edit job"]
    for name in [*stage, *job, "rollback of a stage", "rollback of a job"]:
        with case(name):
            asked = queries(client, worlds[0], PAGES[name])
            assert not [sql for sql in set(asked) if asked.count(sql) > 1]


def test_a_run_that_goes_on_is_not_asked_for_what_only_its_end_shows(client, worlds):
    """How many machines could be rolled back, which is the dearest question of a page that asks each second."""
    can_go_back = 'COUNT(*) AS "__count" FROM "releases_machinerun"'
    assert [sql for sql in queries(client, worlds[0], PAGES["live, ended"]) if can_go_back in sql]
    assert not [sql for sql in queries(client, worlds[0], PAGES["live"]) if can_go_back in sql]


def test_what_is_asked_for_again_and_again_reads_no_labels(client, worlds, case):
    """A config service may give a machine dozens of them."""
    for name in ("live", "live, ended", "home, asked on"):
        with case(name):
            assert not [sql for sql in queries(client, worlds[0], PAGES[name]) if '"labels"' in sql]


def test_who_only_looks_writes_nothing(client, worlds, case):
    """On SQLite a write waits for every other; also not where no worker lives, and pages do what it would."""
    Worker.objects.update(stopped_at=Now())
    pages = {name: ask for name, ask in PAGES.items() if ask(worlds[0])[1] == "get"}
    for name, ask in pages.items():
        with case(name):
            queries(client, worlds[0], ask)  # the stages are made when they are first looked at
            assert not [sql for sql in queries(client, worlds[0], ask) if not sql.startswith("SELECT")]

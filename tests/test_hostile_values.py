"""Hostile values in every field of every form and in every option of every command: no error, and no job crossed."""

import contextlib
import itertools
from urllib.parse import urlencode, urlsplit

import pytest
from django.contrib import admin
from django.core.management import CommandError, get_commands, load_command_class
from django.test import Client
from django.urls import Resolver404, resolve
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deploy_portal.models import User
from jobs.models import Job, JobMachine, Notice
from releases.management.commands.demo import Command as DemoCommand
from releases.models import MachineRun, Run
from releases.worker import ReleaseWorker
from tests.cases import undone
from tests.commands import say
from tests.conftest import PASSWORD, list_machines
from tests.deploy_portal.test_second_factor import code_of
from tests.forms import Form, Page
from tests.pages import page
from tests.test_permissions import TABLE

pytestmark = pytest.mark.django_db

CANARIES = [
    *["", " ", "0", "-1", "1-999999", "1,2,3", "9" * 4300, "1e400", "NaN", "0x10", "٣", "1\u00a0%", "all", "None"],
    *["$(touch pwned)", "`touch pwned`", "; touch pwned #", "|touch pwned", "&& touch pwned", "\ntouch pwned\n"],
    *["--reason", "-rf /", "../../etc/passwd", "/etc/passwd", "%s%n%00", "{0.__class__}", "{{ 7|add:7 }}", "${IFS}"],
    *["' OR 1=1 --", '"; DROP TABLE jobs_job; --', "%_\\", "<script>alert(1)</script>", "\"'><img src=x onerror=a>"],
    *["\x00", "a\x00b", "\x1b[2J\x1b]0;pwned\x07", "\u202egnp.exe", "\ufeff", "\u2028", "\U0001f469\u200d\U0001f680"],
    *["[" * 2000, '{"a": ' * 500, "{}", "[]", "null", '{"path": "\\u0000"}', "2026-13-45", "9999-12-31T23:59:59"],
    *["http://[::1", "https://user:pw@169.254.169.254/", "file:///etc/passwd", "x" * 70_000, "é" * 300],
    *[b"\xff\xfe", b"\xed\xa0\x80", b"%00"],
]
hostile = st.sampled_from(CANARIES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.integers()
argument = hostile.map(lambda value: value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value))
# There is no freeze here, nothing is stopped, and no config service answers.
REFUSED_HERE = {"grant_leave", "resume_world", "sync_machines"}
DJANGOS = {"help", "verbosity", "settings", "pythonpath"}
# The same examples each time: a new one is found by a person who raises their number, not by chance in a release.
examples = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NOT_FOR_THESE = {"set_language"}


class Crawler:
    """Follows the links that a person sees; `forms` are those that are posted, one of each kind."""

    def __init__(self, client, *paths):
        self.client = client
        self.forms, self.seen = {}, set()
        self.waiting = [*paths]

    def crawl(self):
        """Looks at the pages that it begins with, and at one of each other kind."""
        first = set(self.waiting)
        while self.waiting:
            path = self.waiting.pop()
            name = name_of(path)
            if name and (path in first or name not in self.seen):
                first.discard(path)
                self.seen.add(name)
                self._look_at(path)
        return self

    def _look_at(self, path):
        response = self.client.get(path)
        if response.status_code == 200 and response["Content-Type"].startswith("text/html"):
            found = Page(path, response.text)
            self.waiting[:0] = found.links
            for form in found.forms:
                if form.method == "post":
                    self.forms.setdefault((form.url_name, frozenset(form.names)), form)


def name_of(path):
    with contextlib.suppress(Resolver404):
        return resolve(urlsplit(path).path).url_name


@pytest.fixture
def world(make_job, start, finish, machines, orders, requester, publisher, approver, ops):
    """A job in each state, in which every button is offered to somebody; and machines that are not theirs."""
    list_machines(orders, "ord-1", "ord-2")
    make_job("1.0", approved=False)
    make_job("2.0")
    failed = make_job("3.0")
    start(failed, machines[:2])
    finish("unknown", on=["pay-1"])
    finish("failed")
    paused = make_job(on=machines[2:])
    start(paused, machines[3:]).pause(publisher, "a moment")
    running = make_job(on=machines[2:3])
    start(running, machines[2:3])
    Notice.objects.create(job=failed, to=approver, by=ops, reason="shop is down")
    return {user.username: user for user in (requester, publisher, approver, ops)}


@pytest.fixture
def crawled(world):
    """What each person sees, and who is not in yet: nobody, and somebody who has only shown the password."""
    paths = ["/", "/jobs/new/?business=payment", "/stop/"]
    for job in Job.objects.all():
        paths += [page("job", job), page("stage", job)]
    for one in MachineRun.objects.filter(status="unknown"):
        paths.append(page("machine_run", one.run.stage.job, machine_run_id=one.pk))
    crawlers = [Crawler(logged_in(user), *paths) for user in world.values()]
    world["requester"].confirm_second_factor(code_of(world["requester"].offer_second_factor()))
    half_way = Client()
    half_way.post("/login/", {"username": "requester", "password": PASSWORD})
    crawlers += [Crawler(Client(), "/login/"), Crawler(half_way, "/login/code/")]
    return [crawler.crawl() for crawler in crawlers]


def logged_in(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def posted(crawled):
    """The client and the form, for every form that somebody can post."""
    found = {key: (crawler.client, form) for crawler in crawled for key, form in crawler.forms.items()}
    ops, approver = (logged_in(User.objects.get(username=name)) for name in ("ops", "approver"))
    # Shown only while everything is stopped, or a freeze is near
    unlinked = [(ops, Form("/stop/", "/stop/end/", "post", [], ["reason"]))]
    give_leave = page("give_leave", Job.objects.first())
    unlinked.append((approver, Form(give_leave, give_leave, "post", [], ["occurrence", "reason"])))
    return [found[key] for key in sorted(found, key=str) if key[0] not in NOT_FOR_THESE] + unlinked


def post(client, form, values):
    """Posts the form with these values in it, then takes everything back that this changed."""
    cookies = client.cookies.copy()
    with undone():
        data = urlencode(form.filled(values))
        response = client.post(form.action, data, content_type="application/x-www-form-urlencoded")
        assert response.status_code < 500, (form.action, values)
        assert_nothing_crossed()
    client.cookies = cookies


def assert_nothing_crossed():
    """Every machine run is on a machine of its own job."""
    theirs = set(JobMachine.objects.values_list("job", "machine"))
    ran = set(MachineRun.objects.values_list("run__stage__job", "machine"))
    assert ran <= theirs


def test_neither_a_field_of_any_form_breaks_it_nor_a_mixture(crawled, posted):
    """Both in one test, for finding all the forms takes longer than either."""
    assert_every_form_was_found(crawled, posted)
    values = itertools.cycle(CANARIES)
    for client, form in posted:
        for name in form.names:
            post(client, form, {name: next(values)})

    @settings(examples, max_examples=60)
    @given(data=st.data())
    def post_a_mixture(data):
        client, form = data.draw(st.sampled_from(posted))
        names = data.draw(st.lists(st.sampled_from(form.names), unique=True, min_size=1))
        post(client, form, {name: data.draw(hostile) for name in names})

    post_a_mixture()


def assert_every_form_was_found(crawled, posted):
    """A new address that is posted to, or a new model in the admin, must be reached by somebody's links."""
    found = {form.url_name for _, form in posted} | NOT_FOR_THESE
    assert {name for name, method in TABLE if method == "post"} <= found
    [ops] = [crawler for crawler in crawled if "index" in crawler.seen]
    for model in admin.site._registry:
        assert f"{model._meta.app_label}_{model._meta.model_name}_changelist" in ops.seen
    assert {"jobs_business_add", "jobs_business_change", "deploy_portal_user_add", "releases_task_add"} <= found


class Options:
    """What a command takes: `base` has a value that works for each positional and each required option."""

    def __init__(self, name, base):
        self.name, self.base = name, base
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        taken = [action for action in parser._actions if action.nargs != 0 and action.dest not in DJANGOS]
        self.actions = {action.dest: action for action in taken}

    def line(self, values):
        """The command line in which these, by name, have these values."""
        line, last = [], []
        for dest, action in self.actions.items():
            if dest not in values and dest not in self.base:
                continue
            value = values.get(dest, self.base.get(dest))
            if action.option_strings:
                line.append(f"{action.option_strings[-1]}={value}")
            else:
                last += value if isinstance(value, list) else [value]
        return [*line, *(["--", *map(str, last)] if last else [])]


@pytest.fixture
def commands(world, monkeypatch):
    """Every command of ours with what it needs; the worker and the demo only begin."""
    jobs = {job.version: job for job in Job.objects.all()}
    paused, running = (Run.objects.get(status=status).pk for status in ("paused", "running"))
    base = {
        "approve_job": {"actor": "approver", "job": jobs["1.0"].pk},
        "create_job": {"actor": "requester", "business": "payment", "version": "9.0", "machines": ["pay-1"]},
        "job_status": {"actor": "requester", "job": jobs["2.0"].pk},
        "run_stage": {"actor": "publisher", "job": jobs["2.0"].pk, "stage": "pre-release", "machines": ["pay-2"]},
        "rollback_stage": {"actor": "publisher", "job": jobs["3.0"].pk, "stage": "all", "machines": [], "reason": "so"},
        "machine_status": {"actor": "requester", "business": "payment", "machines": ["pay-1"]},
        "machine_log": {"actor": "requester", "run": running, "machine": "pay-3"},
        "sync_machines": {"businesses": ["payment"]},
        "withdraw_job": {"actor": "requester", "job": jobs["1.0"].pk, "reason": "so"},
        "send_back_job": {"actor": "approver", "job": jobs["1.0"].pk, "reason": "so"},
        "skip_stage": {"actor": "publisher", "job": jobs["2.0"].pk, "stage": "pre-release", "reason": "so"},
        "excuse_machines": {"actor": "publisher", "job": jobs["3.0"].pk, "machines": ["pay-1"], "reason": "so"},
        "grant_leave": {"actor": "approver", "job": jobs["1.0"].pk, "reason": "so"},
        "stop_world": {"actor": "ops", "reason": "so"},
        "resume_world": {"actor": "ops", "reason": "so"},
        "verify_events": {},
        "prune_logs": {"older_than": "3"},
        "demo": {},
        "release_worker": {},
    }
    lost = {"run": Run.objects.get(status="failed").pk, "machines": ["pay-1"]}
    base["resolve_machines"] = {"actor": "publisher", "ended": "failed", "reason": "so"} | lost
    runs = {"pause_run": running, "resume_run": paused, "cancel_run": paused}
    base |= {name: {"actor": "publisher", "run": run} for name, run in runs.items()}

    async def work(worker, tell):
        return True

    monkeypatch.setattr(ReleaseWorker, "work", work)
    monkeypatch.setattr(DemoCommand, "handle", lambda self, **options: None)
    return [Options(name, needed) for name, needed in sorted(base.items())]


def run_command(options, values):
    """Runs it, then takes back what it changed. A CommandError is the answer of a command that refuses."""
    with undone():
        with contextlib.suppress(CommandError):
            say(options.name, *options.line(values))
        assert_nothing_crossed()


def test_no_option_of_any_command_breaks_it(commands):
    ours = {name for name, app in get_commands().items() if app in ("deploy_portal", "jobs", "releases")}
    assert {options.name for options in commands} == ours
    values = itertools.cycle(value for value in CANARIES if isinstance(value, str) and "\0" not in value)
    for options in commands:
        if options.name not in REFUSED_HERE:
            with undone():
                say(options.name, *options.line({}))
        for name in options.actions:
            for _ in range(4):
                run_command(options, {name: next(values)})


@settings(examples, max_examples=60)
@given(data=st.data())
def test_no_mixture_of_hostile_options_breaks_a_command(commands, data):
    options = data.draw(st.sampled_from(commands))
    names = data.draw(st.lists(st.sampled_from(list(options.actions)), unique=True, min_size=1))
    run_command(options, {name: data.draw(argument) for name in names})

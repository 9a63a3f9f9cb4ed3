"""Links and buttons that say the same lead to the same, or a screen reader calls them by what they are about, too."""

from collections import defaultdict

import pytest
from django.urls import reverse

from jobs.models import Notice
from tests.names import Names
from tests.pages import page
from tests.workers import begin, end

pytestmark = pytest.mark.one_database


@pytest.fixture
def named(as_user):
    """The names on a page of what leads to different places, each with those places."""

    def named(user, address):
        found = defaultdict(set)
        for name, leads in Names(as_user(user).get(address).text).found:
            found[name].add(leads)
        assert all(len(leads) == 1 for leads in found.values()), {
            name: leads for name, leads in found.items() if len(leads) > 1
        }
        return found

    return named


@pytest.mark.parametrize("name", ["stage", "stage_live"])
def test_what_can_be_done_after_a_failure(named, publisher, job, machines, start, worker, name):
    run = start(job, machines[:5], batch_size="4", failure_budget="2")
    for pk, status in zip(begin(worker), ["failed", "timed_out", "cancelled", "succeeded"], strict=True):
        end(worker, [pk], status)
    found = named(publisher, page(name, job))
    assert {"Choose… Excuse a machine", "Choose Retry the 2 that failed", "Choose Release the 1 not run"} < set(found)
    assert {"Log pay-1", "Log pay-2"} < set(found)
    assert run.machine_runs.count() == 5


def test_what_waits_for_me(named, publisher, approver, make_job):
    first, second = make_job("1.0"), make_job("2.0")
    found = named(publisher, reverse("home"))
    assert {f"Open stage {job} · Pre-release" for job in (first, second)} < set(found)
    unread = [make_job(version, approved=False) for version in ("3.0", "4.0")]
    found = named(approver, reverse("home"))
    assert {f"Look and approve {job}" for job in unread} < set(found)


def test_what_ops_did_without_approval(named, approver, ops, make_job):
    jobs = [make_job(version) for version in ("1.0", "2.0")]
    for job in jobs:
        Notice.objects.create(job=job, to=approver, by=ops, reason="on fire")
    found = named(approver, reverse("home"))
    for job in jobs:
        assert {f"{what} ops broke the glass for {job}" for what in ("Open job", "I have seen it")} < set(found)

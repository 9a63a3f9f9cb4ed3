"""While a freeze is in force no release begins on another machine; what runs goes on, and rollbacks are never held."""

import asyncio
import re
from threading import Event

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from deploy_portal.models import User
from jobs.models import Freeze, Leave, Membership
from jobs.rights import Role
from releases.models import MachineRun, ReleaseStage, Run, StageMoved
from releases.worker import ReleaseWorker
from tests.at_work import SUCCEEDED, ScriptedExecutor
from tests.freezes import HOUR, freeze_now, occurrence_of
from tests.waiting import wait_until
from tests.workers import begin, claim, end, state

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(start, job, machines):
    return start(job, machines[:4], batch_size="2", failure_budget=None)


def frozen_by(run):
    return [occurrence.freeze for occurrence in Run.objects.get(pk=run.pk).frozen_by()]


def give_leave(run, freeze, by):
    return Leave.objects.give(run.stage.job, by, occurrence_of(freeze), "urgent")


class TestClaiming:
    def test_nothing_more_begins_and_what_runs_ends(self, run, worker, ops):
        running = begin(worker, 1)
        freeze = freeze_now(ops)
        assert MachineRun.objects.claim(worker, 10) == 0
        end(worker, running)
        assert state(run) == ("running", 1, {"succeeded": 1, "queued": 3})
        assert frozen_by(run) == [freeze]
        freeze.end(ops, "over")
        assert len(begin(worker)) == 1

    def test_when_it_is_over_it_goes_on_by_itself(self, run, worker, ops):
        freeze = freeze_now(ops)
        assert claim(worker) == []
        Freeze.objects.filter(pk=freeze.pk).update(ends_at=freeze.starts_at + HOUR / 2)
        assert len(claim(worker)) == 2
        assert frozen_by(run) == []

    def test_what_was_claimed_is_queued_again(self, run, worker, ops):
        """A worker has connected, but not yet sent a command, when the freeze begins."""
        ids = claim(worker)
        Freeze.objects.stop_world(ops, "smoke")
        assert MachineRun.objects.begin(worker, ids) == set()
        assert state(run) == ("running", 1, {"queued": 4})
        assert not MachineRun.objects.exclude(worker=None, claimed_at=None, started_at=None).exists()
        end(worker, ids, "unknown")  # what its executor answers, and nobody hears
        assert state(run) == ("running", 1, {"queued": 4})

    def test_of_what_was_claimed_only_the_free_begins(
        self, run, worker, ops, payment, approver, make_job, start, machines
    ):
        other = start(make_job("3.0"), machines[4:])
        ids = claim(worker)
        give_leave(other, freeze_now(ops, payment), approver)
        mine = set(other.machine_runs.values_list("pk", flat=True))
        assert MachineRun.objects.begin(worker, ids) == mine
        assert MachineRun.objects.counts() == {"running": 2, "queued": 4}

    def test_of_another_business_it_holds_nothing(self, run, worker, ops, orders):
        freeze_now(ops, orders)
        assert len(begin(worker)) == 2
        assert frozen_by(run) == []

    def test_what_a_worker_still_knows_is_left_out(self, run, worker):
        first, second = run.machine_runs.filter(batch=1).values_list("pk", flat=True)
        assert MachineRun.objects.claim(worker, 10, but=[first]) == 1
        assert claim(worker, 0) == [second]

    def test_leave_lets_it_go_on(self, run, worker, ops, payment, approver):
        give_leave(run, freeze_now(ops, payment), approver)
        assert frozen_by(run) == []
        assert len(begin(worker)) == 2

    def test_not_that_of_who_started_it(self, run, worker, ops, payment, publisher, approver):
        Membership.objects.create(user=publisher, business=payment, role=Role.APPROVER)
        freeze = freeze_now(ops, payment)
        give_leave(run, freeze, publisher)
        assert (claim(worker), frozen_by(run)) == ([], [freeze])
        give_leave(run, freeze, approver)
        assert len(claim(worker)) == 2

    @pytest.mark.parametrize("way", ["role", "another business", "inactive", "ops"])
    def test_not_that_of_who_may_no_longer_give_it(self, run, worker, ops, payment, orders, approver, way):
        """Nobody has opened the job's page since."""
        freeze = freeze_now(ops, payment)
        give_leave(run, freeze, approver)
        if way == "role":
            Membership.objects.filter(user=approver).update(role=Role.PUBLISHER)
        elif way == "another business":
            Membership.objects.filter(user=approver).update(business=orders)
        else:
            User.objects.filter(pk=approver.pk).update(is_active=way != "inactive", is_superuser=way == "ops")
        assert (claim(worker), frozen_by(run)) == ([], [freeze])

    def test_what_was_claimed_with_leave_does_not_begin_without_it(self, run, worker, ops, payment, approver):
        give_leave(run, freeze_now(ops, payment), approver)
        ids = claim(worker)
        Membership.objects.filter(user=approver).delete()
        assert MachineRun.objects.begin(worker, ids) == set()

    def test_no_leave_passes_a_stop(self, run, worker, ops, payment, approver):
        give_leave(run, freeze_now(ops, payment), approver)
        stop = Freeze.objects.stop_world(ops, "smoke")
        assert (claim(worker), frozen_by(run)) == ([], [stop])

    @pytest.mark.parametrize("step", ["pause", "cancel"])
    def test_it_can_be_paused_and_cancelled(self, run, worker, ops, publisher, step):
        Freeze.objects.stop_world(ops, "smoke")
        getattr(run, step)(publisher)
        assert state(run)[0] == {"pause": "paused", "cancel": "cancelled"}[step]


class TestRollback:
    def test_it_is_never_held(self, start, finish, job, machines, worker, ops, publisher):
        start(job, machines[:2])
        finish()
        freeze_now(ops)
        Freeze.objects.stop_world(ops, "smoke")
        stage = ReleaseStage.objects.of_kind(job, "pre-release")
        rollback = stage.roll_back(publisher, machines[:2], "broken", "back")
        assert frozen_by(rollback) == []
        ids = begin(worker)
        end(worker, ids)
        assert state(rollback) == ("succeeded", 1, {"succeeded": 2})

    def test_nor_is_resolving_or_excusing(self, run, worker, ops, publisher, job, machines):
        end(worker, begin(worker, 1), "unknown")
        Freeze.objects.stop_world(ops, "smoke")
        MachineRun.objects.get(status="unknown").resolve(publisher, "failed", "looked")
        ReleaseStage.objects.excuse(job, machines[4:], publisher, "in repair")
        assert job.job_machines.exclude(excused_at=None).count() == 2


class TestStarting:
    def test_no_release_starts(self, start, job, machines, ops, approver):
        freeze_now(ops)
        with pytest.raises(StageMoved, match=r"Frozen from .* to .*: the great sale.*by one of: approver"):
            start(job, machines[:1])
        assert not Run.objects.exists()
        assert ReleaseStage.objects.of_kind(job, "pre-release").version == 0

    def test_why_is_told_in_sentences_of_the_readers_language(self, start, job, machines, ops, approver):
        freeze_now(ops)
        with translation.override("zh-hans"):
            with pytest.raises(StageMoved) as refused:
                start(job, machines[:1])
            assert re.search(r"：the great sale。\S+：approver。", str(refused.value))

    def test_with_leave_it_does(self, start, job, machines, ops, approver):
        Leave.objects.give(job, approver, occurrence_of(freeze_now(ops)), "urgent")
        assert start(job, machines[:1]).status == "running"

    def test_not_with_leave_of_who_starts_it(self, start, job, machines, ops, publisher, payment):
        Membership.objects.create(user=publisher, business=payment, role=Role.APPROVER)
        Leave.objects.give(job, publisher, occurrence_of(freeze_now(ops)), "urgent")
        with pytest.raises(StageMoved, match="Frozen from"):
            start(job, machines[:1])

    def test_ops_who_step_in_are_held_too(self, job, machines, ops, release_task, rollback_task):
        Freeze.objects.stop_world(ops, "smoke")
        stage = ReleaseStage.objects.of_kind(job, "pre-release")
        stage.release_task, stage.rollback_task, stage.remark = release_task, rollback_task, "urgent"
        with pytest.raises(StageMoved, match="Only ops can end that"):
            stage.start(ops, machines[:1], "key")

    def test_the_same_submit_shows_what_it_started(self, start, job, machines, ops):
        run = start(job, machines[:1], key="once")
        freeze_now(ops)
        assert start(job, machines[:1], key="once") == run


class TestCost:
    """A worker looks many times a second."""

    def queries(self, call):
        with CaptureQueriesContext(connection) as captured:
            call()
        return [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]

    def test_an_idle_worker_asks_one_thing(self, worker):
        idle = ReleaseWorker(ScriptedExecutor())
        asked = self.queries(lambda: idle._look(10, []))
        assert len(asked) == 1
        assert "releases_run" in asked[0]

    def test_freezes_are_asked_for_once_and_only_where_something_is_due(self, run):
        assert len(self.queries(lambda: MachineRun.objects.due().not_frozen().exists())) == 2
        assert len(self.queries(lambda: MachineRun.objects.due().exists())) == 1

    def test_nothing_is_written_for_what_a_freeze_holds(self, run, worker, ops):
        freeze_now(ops)
        asked = self.queries(lambda: MachineRun.objects.claim(worker, 10))
        assert len(asked) == 3
        assert {sql.split()[0] for sql in asked} == {"SELECT"}

    def test_more_freezes_need_no_more_queries(self, run, ops, payment, orders):
        for business in (None, payment, orders, payment):
            freeze_now(ops, business)
        assert len(self.queries(lambda: MachineRun.objects.due().not_frozen().exists())) == 2


@pytest.mark.django_db(transaction=True)
def test_a_worker_at_work_puts_back_what_it_had_claimed(at_work, start, job, machines, ops):
    """It has connected when the world is stopped: nothing is sent, and once the stop is ended it is, once."""

    connected, stopped = Event(), Event()

    async def connect(started, output):
        connected.set()
        while not stopped.is_set():
            await asyncio.sleep(0.01)
        await started()
        return SUCCEEDED

    executor = ScriptedExecutor(pay_1=connect)
    run = start(job, machines[:1])
    at_work(executor)
    wait_until(connected.is_set)
    Freeze.objects.stop_world(ops, "smoke")
    stopped.set()
    wait_until(lambda: state(run)[2] == {"queued": 1})
    assert executor.sent == []
    Freeze.objects.resume_world(ops, "it was toast")
    wait_until(lambda: state(run)[0] == "succeeded")
    assert executor.sent == ["pay-1"]

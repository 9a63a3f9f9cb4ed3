"""The worker, driven for real: its own threads and event loop, with an executor that does what a test says."""

import asyncio

import pytest
from django.db import InterfaceError, OperationalError, transaction

from jobs.models import Business, Event, Machine
from releases.executors.base import Ending, ExecutorError, Outcome
from releases.models import LogBlock, MachineRun, Run, Worker
from releases.tidying import tidy
from releases.worker import ReleaseWorker
from tests.at_work import SUCCEEDED, Held, ScriptedExecutor, ends
from tests.databases import read_only, stood_still
from tests.faults.seen import counts, ended, row
from tests.waiting import PATIENCE, wait_until
from tests.workers import fall_silent

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_worker_takes_a_run_to_its_end(at_work, start, job, machines):
    run = start(job, machines)
    working = at_work()
    assert ended(run).status == Run.Status.SUCCEEDED
    assert counts(run) == {"succeeded": 6}
    assert sorted(working.executor.sent) == [machine.hostname for machine in machines]
    assert Event.objects.filter(job=job, verb="ended").count() == 1


def test_a_machine_is_given_its_order(at_work, start, job, machines):
    run = start(job, machines[:1])
    working = at_work()
    ended(run)
    [order] = working.executor.orders
    machine_run = run.machine_runs.get()
    assert (order.hostname, order.address, order.port, order.timeout) == ("pay-1", "10.0.0.1", 22, 600)
    assert (order.script, order.key) == ("echo done", "")
    assert order.env == {
        "DEPLOY_VERSION": "2.0",
        "DEPLOY_PREVIOUS_VERSION": "",
        "DEPLOY_JOB": str(job.pk),
        "DEPLOY_STAGE": "pre-release",
        "DEPLOY_ACTION": "release",
        "DEPLOY_BUSINESS": "payment",
        "DEPLOY_MACHINE": "pay-1",
        "DEPLOY_RUN": str(machine_run.pk),
    }


def test_an_order_names_the_key_of_its_business(at_work, start, job, machines, payment):
    Business.objects.filter(pk=payment.pk).update(ssh_key="payment")
    working = at_work()
    ended(start(job, machines[:1]))
    assert [order.key for order in working.executor.orders] == ["payment"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(Ending.FAILED, 7, "Exit status 7"), "failed"),
        (Outcome(Ending.TIMED_OUT, 137, "Took too long"), "timed_out"),
        (Outcome(Ending.UNKNOWN, None, "Connection cut"), "unknown"),
    ],
)
def test_how_a_command_ended_is_recorded_as_it_was_seen(at_work, start, job, machines, outcome, status):
    run = start(job, machines[:2], failure_budget="")
    at_work(ScriptedExecutor(pay_1=ends(outcome)))
    assert ended(run).status == Run.Status.FAILED
    bad = row(run, "pay-1")
    assert (bad.status, bad.exit_status, bad.reason) == (status, outcome.exit_status, outcome.reason)
    assert row(run, "pay-2").status == "succeeded"


def test_a_machine_that_cannot_be_reached_had_no_command(at_work, start, job, machines):
    async def refuse(started, output):
        await output(b"Log in as ubuntu", "out")
        raise ExecutorError("The machine refused the connection.")

    run = start(job, machines[:2], failure_budget="")
    working = at_work(ScriptedExecutor(pay_1=refuse))
    assert ended(run).status == Run.Status.FAILED
    bad = row(run, "pay-1")
    assert (bad.status, bad.started_at, bad.reason) == ("unreachable", None, "The machine refused the connection.")
    assert LogBlock.objects.get(machine_run=bad).text == "Log in as ubuntu"
    assert working.executor.sent == ["pay-2"]


def test_an_executor_that_breaks_before_the_command_was_sent_leaves_an_unreachable_machine(
    at_work, start, job, machines
):
    async def break_down(started, output):
        raise ValueError("a bug")

    run = start(job, machines[:2], failure_budget="")
    at_work(ScriptedExecutor(pay_1=break_down))
    ended(run)
    assert counts(run) == {"unreachable": 1, "succeeded": 1}


@pytest.mark.parametrize("error", [ValueError("a bug"), ExecutorError("too late to say so")])
def test_an_executor_that_breaks_after_the_command_was_sent_leaves_an_unknown_machine(
    at_work, start, job, machines, error
):
    async def break_down(started, output):
        await started()
        raise error

    run = start(job, machines[:2], failure_budget="")
    at_work(ScriptedExecutor(pay_1=break_down))
    ended(run)
    assert counts(run) == {"unknown": 1, "succeeded": 1}


def test_what_a_machine_says_of_its_end_cannot_break_the_worker(at_work, start, job, machines):
    """Exit statuses come as any 32 bits, and words as any text; PostgreSQL takes neither as it comes."""
    run = start(job, machines[:3])
    at_work(
        ScriptedExecutor(
            pay_1=ends(Outcome(Ending.FAILED, 2**32 - 1, "")),
            pay_2=ends(Outcome(Ending.FAILED, 1, "Killed by \0\ud800\x1b[31m")),
        )
    )
    ended(run)
    assert counts(run) == {"failed": 2, "succeeded": 1}
    assert row(run, "pay-2").reason == "Killed by ␀\ufffd␛[31m"


def test_no_more_machines_at_once_than_the_worker_was_told(at_work, start, job, machines):
    async def take_a_moment(started, output):
        await started()
        await asyncio.sleep(0.02)
        return SUCCEEDED

    run = start(job, machines)
    on = {f"pay_{number}": take_a_moment for number in range(1, 7)}
    working = at_work(ScriptedExecutor(**on), at_once=2)
    ended(run)
    assert working.executor.most == 2


def test_many_machines_run_at_the_same_time(at_work, start, job, machines):
    async def meet(started, output):
        await started()
        async with asyncio.timeout(PATIENCE):
            while executor.most < len(machines):
                await asyncio.sleep(0.005)
        return SUCCEEDED

    run = start(job, machines)
    executor = ScriptedExecutor(**{f"pay_{number}": meet for number in range(1, 7)})
    at_work(executor)
    ended(run)
    assert counts(run) == {"succeeded": 6}


def test_a_worker_serves_its_own_sites_only(at_work, start, make_job, machines):
    Machine.objects.filter(hostname__in=["pay-1", "pay-2"]).update(site="bj-2")
    there = list(Machine.objects.order_by("pk"))
    run = start(make_job(on=there), there)
    near, far = at_work(sites=["sh-1"]), at_work(sites=["bj-2"])
    ended(run)
    assert sorted(far.executor.sent) == ["pay-1", "pay-2"]
    assert sorted(near.executor.sent) == ["pay-3", "pay-4", "pay-5", "pay-6"]


def test_batches_are_worked_one_after_the_other(at_work, start, job, machines):
    seen = []

    async def look(started, output):
        await started()
        seen.append(executor.now)
        return SUCCEEDED

    run = start(job, machines, batch_size=1)
    executor = ScriptedExecutor(**{f"pay_{number}": look for number in range(1, 7)})
    at_work(executor)
    ended(run)
    assert seen == [1] * 6


def test_what_comes_after_a_failed_batch_is_not_run(at_work, start, job, machines):
    run = start(job, machines, batch_size=2)
    working = at_work(ScriptedExecutor(pay_3=ends(Outcome(Ending.FAILED, 1))))
    assert ended(run).status == Run.Status.FAILED
    assert counts(run) == {"succeeded": 3, "failed": 1, "not_run": 2}
    assert sorted(working.executor.sent) == ["pay-1", "pay-2", "pay-3", "pay-4"]


def test_a_run_moves_on_while_its_worker_is_busy_with_another(at_work, start, make_job, machines):
    """What a worker still has in hand of one run says nothing about the others."""
    busy = Held()
    at_work(ScriptedExecutor(pay_1=busy))
    other = start(make_job("2.1"), machines[:1])
    wait_until(lambda: busy.running)
    assert ended(start(make_job("2.2"), machines[1:4], batch_size=1)).status == Run.Status.SUCCEEDED
    assert other.machine_runs.get().status == "running"


def test_a_spent_budget_ends_a_run_whose_worker_is_still_busy_with_it(at_work, start, job, machines):
    busy = Held()
    working = at_work(ScriptedExecutor(pay_1=busy, pay_2=ends(Outcome(Ending.FAILED, 1))), at_once=2)
    run = start(job, machines, failure_budget="1")
    wait_until(lambda: counts(run).get("not_run"))
    assert counts(run) == {"running": 1, "failed": 1, "not_run": 4}
    working.call(busy.let_go.set)
    assert ended(run).status == Run.Status.FAILED


def test_two_workers_share_a_run_and_no_machine_runs_twice(at_work, start, job, machines):
    run = start(job, machines, batch_size=3)
    first, second = at_work(at_once=1), at_work(at_once=1)
    ended(run)
    assert sorted(first.executor.sent + second.executor.sent) == [machine.hostname for machine in machines]
    assert Event.objects.filter(job=job, verb="ended").count() == 1


def test_the_log_is_written_with_its_streams_apart(at_work, start, job, machines):
    async def talk(started, output):
        await started()
        await output(b"one\ntwo\n", "out")
        await output("错误\n".encode(), "err")
        return SUCCEEDED

    run = start(job, machines[:1])
    at_work(ScriptedExecutor(pay_1=talk))
    ended(run)
    blocks = LogBlock.objects.filter(machine_run__run=run)
    assert [(block.stream, block.text) for block in blocks] == [("out", "one\ntwo\n"), ("err", "错误\n")]


def test_the_log_can_be_read_while_the_command_runs(at_work, start, job, machines):
    held = Held()

    async def talk(started, output):
        await output(b"working\n", "out")
        return await held(started, output)

    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=talk))
    wait_until(lambda: LogBlock.objects.filter(machine_run__run=run, text="working\n").exists())
    wait_until(lambda: held.running)
    assert row(run, "pay-1").status == MachineRun.Status.RUNNING
    working.call(held.let_go.set)
    assert ended(run).status == Run.Status.SUCCEEDED


def test_a_flood_of_output_is_cut_and_the_end_is_right(at_work, start, job, machines, settings):
    settings.LOG_HEAD_BYTES, settings.LOG_TAIL_BYTES = 10_000, 2_000

    async def flood(started, output):
        await started()
        for number in range(2000):
            await output(b"line %d\n" % number * 100, "out")
        return SUCCEEDED

    run = start(job, machines[:1])
    at_work(ScriptedExecutor(pay_1=flood))
    assert ended(run).status == Run.Status.SUCCEEDED
    blocks = list(LogBlock.objects.filter(machine_run__run=run))
    text = "".join(block.text for block in blocks)
    assert text.startswith("line 0\n")
    assert text.endswith("line 1999\n")
    assert len(text) < 13_000
    assert [block.stream for block in blocks].count("mark") == 1


def test_machines_whose_streams_alternate_share_the_blocks_of_a_write(
    at_work, start, job, machines, settings, monkeypatch
):
    """Each change of stream would be a row: the database thread would be busy with them while it ought to beat."""
    written, talked = [], []
    bulk_create = type(LogBlock.objects).bulk_create
    monkeypatch.setattr("releases.ledger.BLOCKS_AT_ONCE", 300)
    monkeypatch.setattr(
        type(LogBlock.objects),
        "bulk_create",
        lambda self, blocks, **options: written.append(len(blocks)) or bulk_create(self, blocks, **options),
    )

    async def alternate(started, output):
        await started()
        for number in range(3000):
            await output(b"%d\n" % number, "err" if number % 2 else "out")
        talked.append(1)
        while len(talked) < 3:
            await asyncio.sleep(0.01)
        return SUCCEEDED

    run = start(job, machines[:3])
    at_work(ScriptedExecutor(pay_1=alternate, pay_2=alternate, pay_3=alternate))
    assert ended(run).status == Run.Status.SUCCEEDED
    assert max(written) <= 2 * 300
    for machine_run in run.machine_runs.all():
        said = "".join(machine_run.log_blocks.order_by("number").values_list("text", flat=True)).split()
        assert sorted(map(int, said)) == list(range(3000))


def test_a_drained_worker_ends_what_runs_and_claims_nothing_new(at_work, start, make_job, machines, monkeypatch):
    held, looks = Held(), []
    start(make_job(on=machines[:1]), machines[:1])
    working = at_work(ScriptedExecutor(pay_1=held))
    wait_until(lambda: held.running)
    look = working.worker._look
    monkeypatch.setattr(working.worker, "_look", lambda *args: looks.append(args) or look(*args))

    def looked():
        looks.clear()
        wait_until(lambda: len(looks) > 1)

    working.drain()
    wait_until(working.worker.draining.is_set)
    looked()
    run = start(make_job(on=machines[1:3]), machines[1:3])
    looked()
    assert not working.has_ended
    working.call(held.let_go.set)
    working.end()
    assert working.ended_well
    assert working.executor.closed
    assert working.executor.sent == ["pay-1"]
    assert counts(run) == {"queued": 2}


def test_an_idle_worker_ends_at_once_when_drained(at_work):
    working = at_work()
    working.drain()
    working.end()
    assert working.ended_well
    assert Worker.objects.get().stopped_at is not None


@pytest.mark.parametrize("dies", [True, False])
def test_what_outlasts_the_grace_is_unknown_and_the_worker_ends(at_work, start, job, machines, dies, monkeypatch):
    if not dies:
        monkeypatch.setattr("releases.worker.CANCEL_GRACE", 1)
    held = Held(dies)
    run = start(job, machines[:2], batch_size=1)
    working = at_work(ScriptedExecutor(pay_1=held), grace=0)
    wait_until(lambda: held.running)
    working.drain()
    working.end()
    lost = row(run, "pay-1")
    assert (lost.status, "cancelled" in lost.note) == ("unknown", dies)
    assert working.executor.sent == ["pay-1"]
    assert Event.objects.filter(job=job, verb="lost").count() == 1


def test_a_second_drain_ends_at_once_whatever_runs(at_work, start, job, machines):
    held = Held(dies=False)
    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=held), grace=3600)
    wait_until(lambda: held.running)
    working.drain()
    working.drain()
    working.end()
    assert counts(run) == {"unknown": 1}


def test_a_worker_that_was_given_up_ends_itself_and_changes_nothing_more(at_work, start, job, machines, settings):
    settings.WORKER_DEAD_AFTER = 15  # a fifth of it until it hears of it
    held = Held()
    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=held))
    wait_until(lambda: held.running)
    Worker.objects.get().leave()
    working.end()
    assert not working.ended_well
    lost = row(run, "pay-1")
    assert (lost.status, lost.exit_status) == ("unknown", None)
    assert "saw: cancelled, exit status 143" in lost.note


def test_a_worker_that_breaks_leaves_and_says_what_broke_it(db, monkeypatch):
    def break_down():
        raise ValueError("a bug")

    monkeypatch.setattr("releases.worker.tidy", break_down)
    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(ReleaseWorker(ScriptedExecutor()).work())
    assert Worker.objects.get().stopped_at is not None


class SlowLogin:
    """A machine to which connecting takes until `go_on`; the command is sent if it is still wanted then."""

    def __init__(self):
        self.has_begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, started, output):
        self.has_begun.set()
        await self.go_on.wait()
        return SUCCEEDED if await started() else Outcome(Ending.UNKNOWN)


def test_a_command_whose_claim_was_lost_while_connecting_is_not_sent(at_work, start, job, machines):
    login = SlowLogin()
    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=login))
    wait_until(login.has_begun.is_set)
    Run.objects.filter(pk=run.pk).update(status="failed")
    MachineRun.objects.filter(run=run).update(status="queued", worker=None, claimed_at=None)
    working.call(login.go_on.set)
    wait_until(lambda: not working.worker.tasks)
    assert working.executor.sent == []
    assert counts(run) == {"queued": 1}


def test_what_a_pause_overtook_while_connecting_is_sent_once_after_the_resume(at_work, start, job, machines, publisher):
    login = SlowLogin()
    run = start(job, machines[:1])
    working = at_work(ScriptedExecutor(pay_1=login))
    wait_until(login.has_begun.is_set)
    run.pause(publisher)
    working.call(login.go_on.set)
    wait_until(lambda: not working.worker.tasks)
    assert working.executor.sent == []
    assert counts(run) == {"queued": 1}
    run.resume(publisher)
    assert ended(run).status == Run.Status.SUCCEEDED
    assert working.executor.sent == ["pay-1"]


def test_a_worker_recovers_what_a_dead_one_held(at_work, start, job, machines):
    dead = Worker.objects.enlist([])
    run = start(job, machines[:2], failure_budget="2")
    MachineRun.objects.claim(dead, 2)
    begun = run.machine_runs.first()
    MachineRun.objects.begin(dead, [begun.pk])
    fall_silent(dead)
    working = at_work()
    ended(run)
    assert counts(run) == {"unknown": 1, "succeeded": 1}
    assert len(working.executor.sent) == 1


def test_a_worker_moves_on_a_run_whose_last_recorder_died_before_it_could(at_work, start, job, machines):
    run = start(job, machines[:2], batch_size=1)
    other = Worker.objects.enlist([])
    MachineRun.objects.claim(other, 1)
    ids = list(MachineRun.objects.claimed_by(other).values_list("pk", flat=True))
    MachineRun.objects.begin(other, ids)
    MachineRun.objects.end(other, ids, "succeeded", 0)
    at_work()
    assert ended(run).status == Run.Status.SUCCEEDED


@pytest.mark.parametrize("when", ["claim", "begin", "end"])
@pytest.mark.parametrize(
    "error",
    [
        OperationalError("terminating connection"),
        InterfaceError("the connection is closed"),
        read_only(),
        stood_still(),
    ],
    ids=["away", "closed", "read_only", "stood_still"],
)
def test_a_database_that_is_away_for_a_moment_costs_nothing(at_work, start, job, machines, monkeypatch, when, error):
    manager = type(MachineRun.objects.all())
    real = getattr(manager, when)
    failures = []

    def fail_once(self, *args, **kwargs):
        if not failures:
            failures.append(when)
            raise error
        return real(self, *args, **kwargs)

    monkeypatch.setattr("releases.ledger.RETRY_AFTER", 0.01)
    monkeypatch.setattr(manager, when, fail_once)
    run = start(job, machines[:3])
    working = at_work()
    assert ended(run).status == Run.Status.SUCCEEDED
    assert failures == [when]
    assert sorted(working.executor.sent) == ["pay-1", "pay-2", "pay-3"]


def test_what_was_claimed_but_not_heard_of_is_executed_before_more_is_claimed(
    at_work, start, job, machines, monkeypatch
):
    """The commit went through, its answer was lost, and nothing else is due that would have it looked at again."""
    manager = type(MachineRun.objects.all())
    real, claimed = manager.claim, []

    def lose_the_first_answer(self, *args, **options):
        claimed.append(real(self, *args, **options))
        if claimed == [1]:
            raise OperationalError("server closed the connection unexpectedly")
        return claimed[-1]

    monkeypatch.setattr("releases.ledger.RETRY_AFTER", 0.01)
    monkeypatch.setattr(manager, "claim", lose_the_first_answer)
    run = start(job, machines[:2], batch_size=1)
    working = at_work()
    assert ended(run).status == Run.Status.SUCCEEDED
    assert working.executor.sent == ["pay-1", "pay-2"]
    assert claimed[0] == 1


def test_it_never_takes_itself_for_dead(at_work, start, job, machines, monkeypatch):
    """It has been silent, as all are while connections are lost, and looks for the dead once more."""
    lost = []

    def lose_the_first_answer():
        tidy()
        if not lost:
            lost.append(fall_silent(Worker.objects.get()))
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr("releases.ledger.RETRY_AFTER", 0.01)
    monkeypatch.setattr("releases.worker.tidy", lose_the_first_answer)
    at_work()
    wait_until(lambda: lost)
    assert ended(start(job, machines[:1])).status == Run.Status.SUCCEEDED
    assert Worker.objects.get().stopped_at is None


def test_an_end_that_was_written_but_not_heard_of_is_not_noted_as_late(at_work, start, job, machines, monkeypatch):
    """The commit went through, its answer was lost: the same end is written again."""
    real = Run.advance
    failures = []

    def fail_once(self):
        if not failures:
            failures.append(self.pk)
            raise OperationalError("server closed the connection unexpectedly")
        return real(self)

    monkeypatch.setattr("releases.ledger.RETRY_AFTER", 0.01)
    monkeypatch.setattr(Run, "advance", fail_once)
    run = start(job, machines[:1])
    at_work(ScriptedExecutor(pay_1=ends(Outcome(Ending.UNKNOWN, None, "Connection cut"))))
    ended(run)
    end = row(run, "pay-1")
    assert (failures, end.status, end.reason, end.note) == ([run.pk], "unknown", "Connection cut", "")


def test_nothing_is_executed_while_the_database_is_away_at_the_claim(at_work, start, job, machines, monkeypatch):
    manager = type(MachineRun.objects.all())
    real, tries, away = manager.claim, [], [True]

    def claim(self, *args, **options):
        tries.append(1)
        if away:
            raise OperationalError("connection refused")
        return real(self, *args, **options)

    monkeypatch.setattr("releases.ledger.RETRY_AFTER", 0.01)
    monkeypatch.setattr(manager, "claim", claim)
    run = start(job, machines[:1])
    working = at_work()
    wait_until(lambda: len(tries) > 3)
    assert working.executor.orders == []
    away.clear()
    assert ended(run).status == Run.Status.SUCCEEDED


def test_a_database_that_is_away_for_a_night_does_not_fill_the_log(at_work, monkeypatch, caplog):
    """It is asked twice a second, and its words are always the same."""
    beat, tries, away = Worker.beat, [], [True]

    def no_answer(self):
        if not away:
            return beat(self)
        tries.append(1)
        raise OperationalError("connection refused")

    def told():
        return [record for record in caplog.records if "The database is away" in record.message]

    monkeypatch.setattr("releases.ledger.RETRY_AFTER", 0.001)
    monkeypatch.setattr(Worker, "beat", no_answer)
    at_work()
    wait_until(lambda: len(tries) > 20)
    lines = len(told())
    away.clear()
    assert lines == 1


def test_the_claim_of_an_open_transaction_is_waited_for(at_work, start, job, machines):
    """A run whose transaction has not ended is not there yet."""
    working = at_work()
    with transaction.atomic():
        run = start(job, machines[:1])
        assert working.executor.orders == []
    assert ended(run).status == Run.Status.SUCCEEDED

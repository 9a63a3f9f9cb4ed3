"""Connections that are kept between two commands on one machine."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from releases.executors import ssh as ssh_module
from releases.executors.base import Ending, ExecutorError
from tests.releases.executors.conftest import SaysReady, becomes, let_pass
from tests.waiting import PATIENCE, wait_until

REMOTE, STATE, INODE = 2, 3, 9  # columns of /proc/net/tcp, which has the sockets of all processes
ESTABLISHED, CLOSED_BY_THE_MACHINE = "01", "08"


@pytest.fixture
def warm(ssh, settings):
    """The executor, keeping connections for longer than a test waits for one to be closed."""
    settings.SSH_KEEP_CONNECTIONS = 10
    settings.SSH_KEEP_SECONDS = 3600
    return ssh


@pytest.fixture
def during(warm):
    """Runs a coroutine function in an event loop of its own, then closes the executor, which leaves nothing behind."""

    def during(coroutine_function):
        async def to_the_end():
            try:
                return await asyncio.wait_for(coroutine_function(), PATIENCE)
            finally:
                await warm.close()
                await becomes(lambda: asyncio.all_tasks() == {asyncio.current_task()})

        return asyncio.run(to_the_end())

    return during


@pytest.fixture
def sockets(fleet):
    """How many sockets this process has connected to a machine, as the kernel sees it."""

    def sockets(hostname="web-01", states=(ESTABLISHED, CLOSED_BY_THE_MACHINE)):
        end = f":{fleet.ports[hostname]:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        connected = {row[INODE] for row in rows if row[REMOTE].endswith(end) and row[STATE] in states}
        return len(connected & _own_sockets())

    return sockets


def _own_sockets():
    """The inodes of this process's sockets."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(descriptor))
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:")}


@pytest.fixture
def logins(fleet):
    """How many logins there were since the test began."""
    before = fleet.logins
    return lambda: fleet.logins - before


@pytest.fixture
def known_hosts(fleet, settings, tmp_path):
    """A file of known hosts of the test's own."""
    path = tmp_path / "known_hosts"
    path.write_text(fleet.known_hosts.read_text())
    settings.SSH_KNOWN_HOSTS = str(path)
    return path


async def turns(number):
    """Lets so many turns of the event loop pass: enough to begin on something, not to log in to a machine."""
    for _ in range(number):
        await asyncio.sleep(0)


def public(key):
    return key.export_public_key("openssh").decode().strip()


def executed(fleet, hostname):
    """What scripts wrote to a machine's file, which is then gone."""
    path = fleet.home(hostname) / "executed"
    text = path.read_text()
    path.unlink()
    return text


def test_the_next_command_on_a_machine_needs_no_login(during, warm, ordered, logins, sockets):
    async def one_after_the_other():
        return [await ordered(script).by(warm) for script in ("echo 1", "echo 2; exit 7", "echo 3 >&2", "echo $A")]

    first, second, third, last = during(one_after_the_other)
    assert [each.outcome.exit_status for each in (first, second, third, last)] == [0, 7, 0, 0]
    assert (first.out, second.out, third.err, last.out) == (b"1\n", b"2\n", b"3\n", b"\n")
    assert logins() == 1
    assert sockets() == 0


def test_nothing_of_a_script_reaches_the_next_one(during, warm, ordered, logins):
    async def one_after_the_other():
        await ordered("export LEFT=1; cd /; umask 0; ulimit -n 20", env={"VALUE": "secret"}).by(warm)
        after = ordered('echo "[$LEFT$VALUE]"; pwd; umask; ulimit -n')
        return [(await each.by(warm)).out for each in (after, ordered(after.order.script, "web-02"))]

    again, elsewhere = during(one_after_the_other)
    assert again == elsewhere.replace(b"/web-02", b"/web-01")
    assert again.startswith(b"[]\n")
    assert logins() == 2


def test_switched_off_each_command_logs_in(during, warm, ordered, logins, sockets, settings):
    settings.SSH_KEEP_CONNECTIONS = 0

    async def twice():
        for _ in range(2):
            await ordered("echo").by(warm)
            await becomes(lambda: not sockets())

    during(twice)
    assert logins() == 2


def test_two_at_once_on_one_machine_have_a_connection_each(during, warm, ordered, logins, sockets):
    """And one of them is kept."""

    async def at_once():
        executions = [ordered(f"echo begun; sleep 0.2; echo {number}") for number in range(2)]
        await asyncio.gather(*(each.by(warm) for each in executions))
        await becomes(lambda: sockets() == 1)
        return [*executions, await ordered("echo 2").by(warm)]

    assert [each.out for each in during(at_once)] == [b"begun\n0\n", b"begun\n1\n", b"2\n"]
    assert logins() == 2


def test_many_at_once_on_warm_machines(during, warm, ordered, logins):
    names = ["web-01", "web-02", "slow-01", "cutting-01", "freezing-01"]

    async def rounds():
        for number in range(4):
            executions = [ordered(f"echo {number}", name) for name in names]
            await asyncio.gather(*(each.by(warm) for each in executions))
            assert {each.out for each in executions} == {f"{number}\n".encode()}

    during(rounds)
    assert logins() == len(names)


def test_the_least_recently_used_is_closed_when_there_are_too_many(during, warm, ordered, logins, sockets, settings):
    settings.SSH_KEEP_CONNECTIONS = 2

    async def more_and_more():
        for name in ("web-01", "web-02", "web-01", "slow-01"):
            await ordered("echo", name).by(warm)
        await becomes(lambda: [sockets(name) for name in ("web-01", "web-02", "slow-01")] == [1, 0, 1])
        before = logins()
        await ordered("echo", "web-01").by(warm)
        assert logins() == before
        await ordered("echo", "web-02").by(warm)
        assert logins() == before + 1

    during(more_and_more)


def test_one_that_is_not_used_is_closed_by_itself(during, warm, ordered, sockets, settings):
    settings.SSH_KEEP_SECONDS = 60

    async def once():
        await ordered("echo").by(warm)
        assert sockets() == 1
        let_pass(settings.SSH_KEEP_SECONDS)
        await becomes(lambda: not sockets())

    during(once)


def test_the_time_counts_from_the_last_use(during, warm, ordered, logins, settings, fleet):
    """It does not run out while a command runs."""
    settings.SSH_KEEP_SECONDS = 60

    async def longer():
        await ordered("echo").by(warm)
        execution = ordered("echo ready; while [ ! -e go ]; do sleep 0.05; done; rm go")
        task = asyncio.create_task(execution.by(warm))
        await execution.says(b"ready")
        let_pass(settings.SSH_KEEP_SECONDS)
        (fleet.home("web-01") / "go").touch()
        await task
        await ordered("echo").by(warm)

    during(longer)
    assert logins() == 1


def test_the_time_of_an_earlier_use_does_not_end_it(during, warm, ordered, logins, settings):
    settings.SSH_KEEP_SECONDS = 60

    async def again_and_again():
        for _ in range(3):
            await ordered("echo").by(warm)
            let_pass(0.6 * settings.SSH_KEEP_SECONDS)
            await turns(5)

    during(again_and_again)
    assert logins() == 1


def test_another_user_of_the_machine_gets_another_connection(during, warm, ordered):
    async def as_two():
        await ordered("echo", user="deploy").by(warm)
        with pytest.raises(ExecutorError, match="does not accept"):
            await ordered("echo", user="root").by(warm)

    during(as_two)


@pytest.mark.parametrize("end", ["timed out", "killed", "held open", "cancelled", "cut"])
def test_after_an_end_in_doubt_nothing_is_kept(during, warm, ordered, sockets, running, gone, fleet, end, monkeypatch):
    monkeypatch.setattr(ssh_module, "QUIET_SECONDS", 0.3)
    scripts = {
        "timed out": "sleep 3000",
        "killed": 'read -r stat < /proc/$PPID/stat; set -- $stat; kill -9 "$4"',
        "held open": "sleep 3000 &",
    }
    hostname = "cutting-01" if end == "cut" else "web-01"
    execution = ordered(scripts.get(end, "echo ready; sleep 3000"), hostname, timeout=1 if end == "timed out" else 30)

    async def once():
        task = asyncio.create_task(warm.execute(execution.order, execution._start, execution._take))
        if end in ("cancelled", "cut"):
            await execution.says(b"ready")
            task.cancel() if end == "cancelled" else fleet.strike(hostname)
        await task
        await becomes(lambda: not sockets(hostname))

    during(once)
    assert execution.started
    assert sockets(hostname) == 0
    for pid in running(hostname):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    gone(hostname)


class HangsUp(SaysReady):
    """Says that the script has succeeded, and closes the connection with that."""

    def data_received(self, data, datatype):
        self._chan.exit(0)
        self._chan.get_connection().close()


def test_a_machine_that_closes_its_connection_with_the_end_of_a_command(during, warm, ordered, fleet, monkeypatch):
    monkeypatch.setattr(fleet, "session", lambda hostname: HangsUp())

    async def twice():
        return [(await ordered("echo").by(warm)).outcome.ending for _ in range(2)]

    assert during(twice) == [Ending.SUCCEEDED] * 2


class Dies(SaysReady):
    """Says that a signal killed the script, of which more may still run."""

    def data_received(self, data, datatype):
        self._chan.exit_with_signal("KILL")


def test_after_the_word_of_a_signal_nothing_is_kept(during, warm, ordered, logins, fleet, monkeypatch):
    monkeypatch.setattr(fleet, "session", lambda hostname: Dies())

    async def twice():
        return [(await ordered("echo").by(warm)).outcome.ending for _ in range(2)]

    assert during(twice) == [Ending.FAILED] * 2
    assert logins() == 2


# The host key


def test_known_hosts_that_say_the_same_in_another_file_change_nothing(during, warm, ordered, logins, known_hosts):
    async def rewritten():
        await ordered("echo").by(warm)
        known_hosts.write_text(f"# a comment\n{known_hosts.read_text()}")
        await ordered("echo").by(warm)

    during(rewritten)
    assert logins() == 1


def test_a_file_that_was_replaced_counts_though_it_seems_as_old_and_as_long(during, warm, ordered, fleet, known_hosts):
    own, other = (public(fleet.host_key(name)) for name in ("web-01", "web-02"))
    before = known_hosts.stat()

    async def then_copied_over():
        await ordered("echo").by(warm)
        known_hosts.write_text(known_hosts.read_text().replace(own, other))
        os.utime(known_hosts, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ExecutorError, match="not the known one"):
            await ordered("echo").by(warm)

    during(then_copied_over)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("removed", "host key is not known"),
        ("changed", "not the known one"),
        ("revoked", "not the known one"),
        ("known by name", "not the known one"),
        ("unreadable", "look at SSH_KNOWN_HOSTS"),
    ],
)
def test_a_host_key_that_is_no_longer_vouched_for(
    during, warm, ordered, logins, sockets, fleet, known_hosts, change, words
):
    own, other = (public(fleet.host_key(name)) for name in ("web-01", "web-02"))
    text = known_hosts.read_text()
    changed = {
        "removed": "",
        "changed": text.replace(own, other),
        "revoked": f"@revoked * {own}\n{text}",
        "known by name": f"web-01 {other}\n{text}",
        "unreadable": "nonsense",
    }

    async def then_changed():
        await ordered("echo").by(warm)
        known_hosts.write_text(changed[change])
        refused = ordered("echo")
        with pytest.raises(ExecutorError, match=words):
            await refused.by(warm)
        await becomes(lambda: not sockets())
        return refused

    commands = fleet.commands
    assert not during(then_changed).started
    assert (logins(), fleet.commands) == (1, commands + 1)


# Kept connections in trouble


@pytest.mark.parametrize("noticed", [True, False])
def test_a_dead_connection_costs_nothing(during, warm, ordered, logins, fleet, sockets, noticed):
    async def then_dead():
        await ordered("echo", "cutting-01").by(warm)
        fleet.strike("cutting-01")
        if noticed:
            await becomes(lambda: not sockets("cutting-01"))
        else:
            wait_until(lambda: not sockets("cutting-01", [ESTABLISHED]))  # holds the event loop up, too
        return await ordered("echo x >> executed", "cutting-01").by(warm)

    assert during(then_dead).outcome.ending == Ending.SUCCEEDED
    assert executed(fleet, "cutting-01") == "x\n"
    assert logins() == 2


def test_a_frozen_connection_is_given_up_within_seconds(during, warm, ordered, logins, fleet, monkeypatch):
    monkeypatch.setattr(ssh_module, "WARM_SECONDS", 0.3)

    async def then_frozen():
        await ordered("echo", "freezing-01").by(warm)
        fleet.strike("freezing-01")
        return await ordered("echo x >> executed", "freezing-01").by(warm)

    assert during(then_frozen).outcome.ending == Ending.SUCCEEDED
    assert executed(fleet, "freezing-01") == "x\n"
    assert logins() == 2


class Waiting:
    """An execution on a machine whose connection is kept, held where `started` is asked."""

    def __init__(self, warm, execution, *answers):
        self.execution = execution
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.times = 0
        self.answers = iter(answers)
        self.task = asyncio.create_task(warm.execute(execution.order, self._start, execution._take))

    async def _start(self):
        self.times += 1
        self.asked.set()
        await self.go_on.wait()
        return next(self.answers, True)


@pytest.fixture
def dead_while_it_waits(warm, ordered, fleet, sockets):
    """Such an execution, whose connection went meanwhile."""

    async def dead_while_it_waits():
        await ordered("echo", "cutting-01").by(warm)
        waiting = Waiting(warm, ordered("echo x >> executed", "cutting-01"))
        await waiting.asked.wait()
        fleet.strike("cutting-01")
        await becomes(lambda: not sockets("cutting-01"))
        await turns(5)  # from what the kernel knows to what the event loop does
        return waiting

    return dead_while_it_waits


def test_a_connection_that_dies_while_the_start_is_recorded_costs_nothing(during, dead_while_it_waits, fleet, logins):
    async def then_on():
        waiting = await dead_while_it_waits()
        waiting.go_on.set()
        return waiting, await waiting.task

    waiting, outcome = during(then_on)
    assert (waiting.times, outcome.ending, logins()) == (2, Ending.SUCCEEDED, 2)
    assert executed(fleet, "cutting-01") == "x\n"


def test_before_the_script_is_sent_on_another_one_the_start_is_asked_for_again(
    during, dead_while_it_waits, fleet, logins, sockets
):
    """To log in again takes time in which it may have become somebody else's."""

    async def then_refused():
        waiting = await dead_while_it_waits()
        waiting.answers = iter([True, False])
        waiting.go_on.set()
        return waiting, await waiting.task

    waiting, outcome = during(then_refused)
    assert (waiting.times, outcome.ending, logins()) == (2, Ending.UNKNOWN, 2)
    assert not (fleet.home("cutting-01") / "executed").exists()
    assert not sockets("cutting-01")


def test_it_has_failed_when_the_machine_cannot_be_reached_again(
    during, dead_while_it_waits, fleet, known_hosts, sockets
):
    async def then_refused():
        waiting = await dead_while_it_waits()
        known_hosts.write_text("")
        waiting.go_on.set()
        return await waiting.task

    outcome = during(then_refused)
    assert (outcome.ending, outcome.exit_status) == (Ending.FAILED, None)
    assert "host key is not known" in outcome.reason
    assert not (fleet.home("cutting-01") / "executed").exists()
    assert not sockets("cutting-01")


def test_it_is_cancelled_for_certain_while_the_machine_is_reached_again(
    during, dead_while_it_waits, fleet, sockets, logins
):
    async def then_cancelled():
        waiting = await dead_while_it_waits()
        waiting.go_on.set()
        await turns(5)
        waiting.task.cancel()
        return await waiting.task

    assert during(then_cancelled).ending == Ending.CANCELLED
    assert logins() == 1
    assert not (fleet.home("cutting-01") / "executed").exists()
    assert not sockets("cutting-01")


@pytest.mark.parametrize("end", ["refused", "cancelled"])
def test_a_session_that_waited_in_vain_has_run_nothing(during, warm, ordered, fleet, sockets, running, end):
    async def in_vain():
        await ordered("echo").by(warm)
        waiting = Waiting(warm, ordered("echo x >> executed"), False)
        await waiting.asked.wait()
        if end == "cancelled":
            waiting.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting.task
        else:
            waiting.go_on.set()
            assert (await waiting.task).ending == Ending.UNKNOWN
        await becomes(lambda: not sockets())

    during(in_vain)
    wait_until(lambda: not running())
    assert not (fleet.home("web-01") / "executed").exists()


def test_a_session_waits_for_its_script_longer_than_the_script_may_take(during, warm, ordered):
    async def slowly():
        await ordered("echo").by(warm)
        waiting = Waiting(warm, ordered("echo done", timeout=5))
        await waiting.asked.wait()
        await asyncio.sleep(5.2)  # the timeout of a script begins when it is sent
        waiting.go_on.set()
        assert (await waiting.task).ending == Ending.SUCCEEDED

    during(slowly)


# Machines that let no session be opened


@pytest.fixture
def no_sessions(fleet, monkeypatch):
    """From now on the machines open that many sessions less."""

    def no_sessions(number):
        refusals = iter([False] * number)
        session = fleet.session
        monkeypatch.setattr(fleet, "session", lambda hostname: next(refusals, None) is None and session(hostname))

    return no_sessions


def test_a_kept_connection_on_which_no_session_can_be_opened_costs_nothing(
    during, warm, ordered, logins, fleet, no_sessions
):
    async def then_refused():
        await ordered("echo").by(warm)
        no_sessions(1)
        return await ordered("echo x >> executed").by(warm)

    assert during(then_refused).outcome.ending == Ending.SUCCEEDED
    assert (executed(fleet, "web-01"), logins()) == ("x\n", 2)


def test_a_machine_that_lets_no_commands_run_any_more(during, warm, ordered, logins, sockets, no_sessions):
    async def then_refused():
        await ordered("echo").by(warm)
        no_sessions(2)
        refused = ordered("echo")
        with pytest.raises(ExecutorError, match="nothing was run"):
            await refused.by(warm)
        await becomes(lambda: not sockets())
        return refused

    assert not during(then_refused).started
    assert logins() == 2


async def assert_nothing_left(execution, task, sockets):
    """Cancels what has not begun: it ends so, and its sockets are closed."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await becomes(lambda: not sockets())
    assert not execution.started


def test_cancelled_while_a_session_is_opened_it_leaves_no_socket(during, warm, ordered, fleet, sockets):
    async def cancelled():
        execution = ordered("echo x >> executed", "hesitant-02")
        task = asyncio.create_task(execution.by(warm))
        await becomes(lambda: fleet.hesitates("hesitant-02"))
        await assert_nothing_left(execution, task, lambda: sockets("hesitant-02"))

    during(cancelled)
    assert not (fleet.home("hesitant-02") / "executed").exists()


# Letting go


@pytest.mark.parametrize("hostname", ["silent-01", "slow-01"])
def test_cancelled_while_it_connects_it_leaves_no_socket(during, warm, ordered, sockets, hostname):
    async def cancelled():
        execution = ordered("echo", hostname)
        task = asyncio.create_task(execution.by(warm))
        await becomes(lambda: sockets(hostname))
        await assert_nothing_left(execution, task, lambda: sockets(hostname))

    during(cancelled)


def test_cancelled_while_it_tries_a_kept_connection_it_leaves_no_socket(during, warm, ordered, fleet, sockets):
    async def cancelled():
        await ordered("echo", "freezing-01").by(warm)
        fleet.strike("freezing-01")
        execution = ordered("echo", "freezing-01")
        task = asyncio.create_task(execution.by(warm))
        await turns(5)
        await assert_nothing_left(execution, task, lambda: sockets("freezing-01"))

    during(cancelled)


def test_closing_closes_what_is_kept_frozen_or_not(warm, ordered, fleet, sockets):
    names = ["web-01", "web-02", "freezing-01"]

    async def closed():
        await asyncio.gather(*(ordered("echo", name).by(warm) for name in names))
        assert [sockets(name) for name in names] == [1, 1, 1]
        fleet.strike("freezing-01")
        await warm.close()
        await becomes(lambda: not any(map(sockets, names)))
        await becomes(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(closed())


def test_what_comes_back_after_closing_is_closed(during, warm, ordered, sockets):
    async def late():
        execution = ordered("echo ready; sleep 0.3")
        task = asyncio.create_task(execution.by(warm))
        await execution.says(b"ready")
        await warm.close()
        assert (await task).outcome.ending == Ending.SUCCEEDED
        await becomes(lambda: not sockets())

    during(late)

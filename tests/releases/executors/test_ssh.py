import asyncio
import contextlib
import errno
import functools
import os
import resource
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import asyncssh
import pytest

from releases.demo import shell
from releases.demo.fleet import ADDRESS, _Door
from releases.demo.shell import Session
from releases.executors import connections, pool, remote_shell
from releases.executors import ssh as ssh_module
from releases.executors.base import Ending, ExecutorError, Order
from tests.releases.executors.conftest import SaysReady, becomes, let_pass
from tests.waiting import PATIENCE

TEXT = "中文 ü 😀"
HOSTILE = f"a'b\"c\n$(touch pwned) `touch pwned` ; touch pwned # {TEXT} \\ !x"


@pytest.mark.parametrize(
    ("script", "ending", "exit_status"),
    [
        ("echo hello", Ending.SUCCEEDED, 0),
        ("echo hello\n\n\n", Ending.SUCCEEDED, 0),
        ("", Ending.SUCCEEDED, 0),
        ("# only a comment", Ending.SUCCEEDED, 0),
        ("echo exit 1\necho exit 1 >&2", Ending.SUCCEEDED, 0),
        ("exit 7", Ending.FAILED, 7),
        ("exit 300", Ending.FAILED, 44),
        ("false\n", Ending.FAILED, 1),
        ("set -e\nfalse\nexit 0", Ending.FAILED, 1),
        ("#!/bin/sh -e\nfalse\nexit 0", Ending.FAILED, 1),
        ("#!/bin/bash -eu\necho $nothing\nexit 0", Ending.FAILED, 1),
        ("if true; then", Ending.FAILED, 2),
        ("no-such-command", Ending.FAILED, 127),
        ("exit 124", Ending.FAILED, 124),
    ],
)
def test_the_channel_decides_how_a_command_ended(run, script, ending, exit_status):
    outcome = run(script).outcome
    assert (outcome.ending, outcome.exit_status) == (ending, exit_status)


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_a_script_killed_by_a_signal_has_failed(run, name):
    outcome = run(f"kill -{name} $$").outcome
    assert outcome.ending == Ending.FAILED
    assert outcome.exit_status == 128 + getattr(signal, f"SIG{name}")
    assert name in outcome.reason


def test_a_shell_that_is_killed_itself_has_failed(run, gone):
    outcome = run('read -r stat < /proc/$PPID/stat; set -- $stat; kill -9 "$4"').outcome
    assert (outcome.ending, outcome.exit_status) == (Ending.FAILED, None)
    assert outcome.reason == "Killed by signal KILL."
    gone()


@pytest.fixture
def nameless(monkeypatch):
    """The user of this process is only a number and has no home, as in a container."""

    def look_up(uid):
        raise KeyError(uid)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.setenv(name, "")  # so that it goes again if it is set meanwhile
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", look_up)


def test_a_worker_whose_user_has_no_name_reaches_machines(nameless, run):
    assert run("echo hello").out == b"hello\n"


def test_out_and_err_stay_apart(run):
    execution = run("echo to out; echo to err >&2")
    assert (execution.out, execution.err) == (b"to out\n", b"to err\n")


def test_text_arrives_as_it_was_written(run):
    assert run(f"echo '{TEXT}'").out.decode() == TEXT + "\n"


def test_any_bytes_may_be_printed(run):
    assert run(r"printf '\000\377\033[31m\344\270'; printf '\r\n'").out == b"\0\xff\x1b[31m\xe4\xb8\r\n"


def test_values_of_the_environment_are_inert(run, fleet):
    execution = run('printf %s "$VALUE"; printf %s "$OTHER" >&2', env={"VALUE": HOSTILE, "OTHER": TEXT})
    assert execution.out.decode() == HOSTILE
    assert execution.err.decode() == TEXT
    assert not list(fleet.home("web-01").glob("pwned*"))


def test_the_environment_is_exported_and_nothing_else_comes_with_it(run):
    names = {line.split("=")[0] for line in run("env", env={"VERSION": "1.2"}).out.decode().splitlines()}
    assert {"VERSION", "HOME"} <= names
    assert "s" not in names
    assert run('echo "${s-none}"').out == b"none\n"


@pytest.mark.parametrize("name", ["", "1A", "A B", "A;touch pwned", "A\n", "名"])
def test_a_name_that_is_none_is_an_error_of_the_caller(run, name):
    with pytest.raises(ValueError, match="Not the name"):
        run("echo", env={name: "x"})


def test_errors_name_the_lines_of_the_script(run):
    assert b"3:" in run("#!/bin/sh\ntrue\nno-such-command", env={"A": "1", "B": "2"}).err


def test_a_command_that_reads_its_input_gets_none_of_the_script(run):
    execution = run("cat\nread -r line || echo nothing to read\nreadlink /proc/self/fd/0")
    assert execution.out == b"nothing to read\n/dev/null\n"


def test_a_script_larger_than_arguments_may_be(run):
    execution = run("x='" + "y" * 1_000_000 + "'\necho ${#x}")
    assert (execution.outcome.exit_status, execution.out) == (0, b"1000000\n")


@pytest.mark.parametrize("first_line", ["#!/bin/bash", "#!/usr/bin/env bash", "#! /usr/bin/bash -e\r"])
def test_a_script_for_bash_gets_bash(run, first_line):
    execution = run(first_line + '\na=(1 2 3); echo "${#a[@]}"')
    assert (execution.outcome.exit_status, execution.out) == (0, b"3\n")


@pytest.mark.parametrize(
    "script",
    ["#!/usr/bin/python3\nprint()", "#!/bin/bash -l\necho", "#!/bin/zsh\necho", "#!", "echo \0", "echo \udcff"],
)
def test_what_no_shell_could_run_is_refused_before_connecting(run, fleet, script):
    logins = fleet.logins
    with pytest.raises(ExecutorError) as error:
        run(script)
    assert error.value.permanent
    assert fleet.logins == logins


def test_nothing_is_left_behind(run, running):
    run("echo $$; (true) & wait")
    assert running() == []


def test_a_service_that_the_script_started_lives_on(run, running, gone):
    execution = run("sleep 3000 </dev/null >/dev/null 2>&1 &\necho $!")
    assert execution.outcome.ending == Ending.SUCCEEDED
    assert running() == [int(execution.out)]
    os.kill(int(execution.out), signal.SIGKILL)
    gone()


def test_a_daemon_that_holds_the_output_open_holds_nobody_up(run, gone):
    execution = run("sleep 3000 &\necho $!")
    assert (execution.outcome.ending, execution.outcome.exit_status) == (Ending.SUCCEEDED, 0)
    os.kill(int(execution.out), signal.SIGKILL)
    gone()


def test_a_daemon_that_goes_on_writing_holds_nobody_up(run, gone, monkeypatch):
    monkeypatch.setattr(ssh_module, "LATE_SECONDS", 1)
    execution = run("(while echo noise; do sleep 0.1; done) &\necho begun; exit 3")
    assert (execution.outcome.ending, execution.outcome.exit_status) == (Ending.FAILED, 3)
    gone()


@pytest.fixture
def alarm():
    """Ends the whole process when an event loop stands still: no timeout of its own would."""
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)


def test_a_daemon_that_writes_faster_than_it_is_taken_holds_nobody_up(ssh, ordered, gone, monkeypatch, alarm):
    """There is always more to hand on when its time is over."""
    monkeypatch.setattr(ssh_module, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(ssh_module, "BUFFERED_BYTES", 16_384)  # so little comes on the busiest host
    execution = ordered("yes noise &\necho begun; exit 3")

    async def take_slowly(data, stream):
        execution.blocks.append((data, stream))
        await asyncio.sleep(0.02)

    execution._take = take_slowly
    outcome = asyncio.run(execution.by(ssh)).outcome
    assert (outcome.ending, outcome.exit_status) == (Ending.FAILED, 3)
    assert len(execution.out) > ssh_module.BUFFERED_BYTES
    gone()


# Time runs out, and cancelling


def test_a_command_that_hangs_is_killed(run, gone):
    outcome = run("sleep 3000 & sleep 3001", timeout=1).outcome
    assert (outcome.ending, outcome.exit_status) == (Ending.TIMED_OUT, 124)
    gone()


def test_a_command_that_hangs_and_ignores_the_signal_is_killed(run, gone, monkeypatch):
    monkeypatch.setattr(remote_shell, "KILL_AFTER", 1)
    outcome = run("trap '' TERM; (sleep 3000; sleep 3001) & sleep 3002; sleep 3003", timeout=1).outcome
    assert (outcome.ending, outcome.exit_status) == (Ending.TIMED_OUT, 137)
    gone()


@pytest.fixture
def kills_soon(monkeypatch):
    """What is left of a script has less time to end by itself."""
    monkeypatch.setattr(remote_shell, "_WRAPPER", remote_shell._WRAPPER.replace(" 2 2;", ";"))


def test_what_outlives_its_shell_and_ignores_the_signal_is_killed_too(run, gone, kills_soon):
    outcome = run("(trap '' TERM; sleep 3000) & sleep 3001", timeout=1).outcome
    assert (outcome.ending, outcome.exit_status) == (Ending.TIMED_OUT, 124)
    gone()


def test_a_command_that_answers_the_signal_with_success_has_still_timed_out(run, gone):
    outcome = run("trap 'exit 0' TERM; sleep 3000 & wait", timeout=1).outcome
    assert outcome.ending == Ending.TIMED_OUT
    gone()


def test_a_command_that_fails_by_itself_when_its_time_is_over_has_failed(ssh, ordered, fleet):
    async def late():
        execution = ordered("echo so far; until [ -e go ]; do sleep 0.1; done; rm go; exit 7")
        task = asyncio.create_task(execution.by(ssh))
        await execution.says(b"so far\n")
        let_pass(execution.order.timeout)
        (fleet.home("web-01") / "go").touch()
        return await task

    outcome = asyncio.run(late()).outcome
    assert (outcome.ending, outcome.exit_status) == (Ending.FAILED, 7)


def test_without_a_remote_timeout_the_lifeline_ends_the_command(run, gone, monkeypatch):
    monkeypatch.setattr(ssh_module, "TIMEOUT_GRACE", -29)
    assert run("sleep 3000", timeout=30).outcome.ending == Ending.TIMED_OUT
    gone()


def test_a_machine_that_freezes_past_the_timeout_is_unknown(ssh, ordered, fleet, monkeypatch):
    monkeypatch.setattr(ssh_module, "TIMEOUT_GRACE", 0)
    monkeypatch.setattr(ssh_module, "END_GRACE", 0.3)
    execution = asyncio.run(_struck(ssh, ordered("echo so far; sleep 3000", "freezing-01", timeout=100), fleet, 100))
    assert execution.outcome.ending == Ending.UNKNOWN
    assert "may still be running" in execution.outcome.reason
    assert execution.out == b"so far\n"


async def _struck(ssh, execution, fleet, seconds=0):
    """An execution on a machine that is cut or freezes once it has said something; then so much time passes."""
    task = asyncio.create_task(execution.by(ssh))
    await execution.says(b"so far\n")
    fleet.strike(execution.order.hostname)
    let_pass(seconds)
    return await task


def test_all_that_came_before_a_cut_is_kept_however_late_it_is_taken(ssh, ordered, fleet, monkeypatch, gone):
    """What has no room in the session's buffer waits in its channel."""
    channels, lost = [], asyncio.Event()

    class Command(ssh_module._Command):
        def connection_made(self, chan):
            channels.append(chan)
            super().connection_made(chan)

        def connection_lost(self, exc):
            super().connection_lost(exc)
            lost.set()

    def waiting():
        return sum(len(data) for data, _stream in channels[0]._recv_buf) if channels else 0

    async def cut():
        execution, go_on = ordered("yes; sleep 3000", "cutting-01"), asyncio.Event()

        async def take_late(data, stream):
            await go_on.wait()
            execution.blocks.append((data, stream))

        execution._take = take_late
        task = asyncio.create_task(execution.by(ssh))
        await becomes(lambda: waiting() > ssh_module.BUFFERED_BYTES // 4)
        fleet.strike("cutting-01")
        await asyncio.wait_for(lost.wait(), PATIENCE)
        go_on.set()
        return await task

    monkeypatch.setattr(ssh_module, "_Command", Command)
    execution = asyncio.run(cut())
    assert execution.outcome.ending == Ending.UNKNOWN
    assert len(execution.out) > 1.2 * ssh_module.BUFFERED_BYTES
    gone("cutting-01")


def _and_then(method, call):
    def both(self):
        method(self)
        call()

    return both


async def _cancelled(ssh, execution, before_cancel=lambda: None):
    task = asyncio.create_task(ssh.execute(execution.order, execution._start, execution._take))
    await execution.says(b"ready")
    before_cancel()
    task.cancel()
    return await task


@pytest.mark.parametrize("script", ["echo ready; sleep 3000", "sleep 3000 & (sleep 3001; :) & echo ready; sleep 3002"])
def test_cancelling_kills_the_process_group_and_says_so(ssh, ordered, gone, script):
    outcome = asyncio.run(_cancelled(ssh, ordered(script)))
    assert outcome.ending == Ending.CANCELLED
    gone()


def test_cancelling_kills_what_ignores_the_signal_too(ssh, ordered, gone, monkeypatch):
    monkeypatch.setattr(remote_shell, "KILL_AFTER", 1)
    outcome = asyncio.run(_cancelled(ssh, ordered("trap '' TERM; echo ready; while :; do sleep 3000; done")))
    assert (outcome.ending, outcome.exit_status) == (Ending.CANCELLED, 137)
    gone()


def test_cancelling_kills_what_outlives_its_shell_and_ignores_the_signal(ssh, ordered, gone, kills_soon):
    outcome = asyncio.run(_cancelled(ssh, ordered("(trap '' TERM; sleep 3000) & echo ready; sleep 3001")))
    assert outcome.ending == Ending.CANCELLED
    gone()


def test_cancelling_kills_what_outlives_a_shell_that_answers_with_success(ssh, ordered, gone, kills_soon):
    script = "trap 'exit 0' TERM; (trap '' TERM; echo ready; sleep 3000) & wait"
    assert asyncio.run(_cancelled(ssh, ordered(script))).ending == Ending.CANCELLED
    gone()


OWN_GROUP = "timeout 3000 sh -c 'echo ready; sleep 3001'; sleep 3002"


def test_cancelling_kills_what_has_a_process_group_of_its_own(ssh, ordered, gone):
    assert asyncio.run(_cancelled(ssh, ordered(OWN_GROUP))).ending == Ending.CANCELLED
    gone()


def test_what_has_a_process_group_of_its_own_is_killed_when_time_runs_out(run, gone):
    assert run(OWN_GROUP, timeout=1).outcome.ending == Ending.TIMED_OUT
    gone()


@pytest.fixture
def kills_nothing(kills_soon, monkeypatch, running, gone):
    """What is left of a script can't be killed, as what runs as root by sudo."""
    monkeypatch.setattr(remote_shell, "_WRAPPER", remote_shell._WRAPPER.replace("hit KILL", ":"))
    monkeypatch.setattr(ssh_module, "END_GRACE", 3)
    yield
    for pid in running():
        with contextlib.suppress(ProcessLookupError):  # a `sleep` of the wrapper, which just ended
            os.kill(pid, signal.SIGKILL)
    gone()


STUBBORN = "(trap '' TERM; echo ready; sleep 3000) & sleep 3001"


def test_cancelling_what_cannot_be_killed_is_not_confirmed(ssh, ordered, kills_nothing):
    outcome = asyncio.run(_cancelled(ssh, ordered(STUBBORN)))
    assert outcome.ending == Ending.UNKNOWN
    assert "may still be running" in outcome.reason


def test_what_cannot_be_killed_has_not_timed_out(run, kills_nothing, monkeypatch):
    monkeypatch.setattr(ssh_module, "TIMEOUT_GRACE", 3)
    outcome = run(STUBBORN, timeout=3).outcome
    assert outcome.ending == Ending.UNKNOWN
    assert "may still be running" in outcome.reason


def test_cancelling_on_a_frozen_machine_is_not_confirmed(ssh, ordered, fleet, monkeypatch):
    monkeypatch.setattr(ssh_module, "END_GRACE", 0.3)
    execution = ordered("echo ready; sleep 3000", "freezing-01")
    outcome = asyncio.run(_cancelled(ssh, execution, lambda: fleet.strike("freezing-01")))
    assert outcome.ending == Ending.UNKNOWN
    assert "may still be running" in outcome.reason


def test_a_command_that_has_just_ended_is_not_called_cancelled(ssh, ordered, running, gone, monkeypatch):
    arrived = asyncio.Event()
    monkeypatch.setattr(ssh_module._Command, "_tell_end", _and_then(ssh_module._Command._tell_end, arrived.set))

    async def cancelled_late():
        execution = ordered("sleep 3000 & echo ready; exit 3")
        task = asyncio.create_task(ssh.execute(execution.order, execution._start, execution._take))
        await asyncio.wait_for(arrived.wait(), PATIENCE)  # its exit status; the daemon still holds the output open
        task.cancel()
        return await task

    outcome = asyncio.run(cancelled_late())
    assert (outcome.ending, outcome.exit_status) == (Ending.FAILED, 3)
    for pid in running():
        os.kill(pid, signal.SIGKILL)
    gone()


def test_a_second_cancellation_ends_at_once(ssh, ordered, fleet):
    async def cancelled_twice():
        execution = ordered("echo ready; sleep 3000", "freezing-01")
        task = asyncio.create_task(ssh.execute(execution.order, execution._start, execution._take))
        await execution.says(b"ready")
        fleet.strike("freezing-01")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, ssh_module.END_GRACE / 2)

    asyncio.run(cancelled_twice())


def test_cancelled_before_anything_was_sent(ssh, ordered, fleet):
    async def cancelled_early():
        execution = ordered("echo", "silent-01")
        task = asyncio.create_task(execution.by(ssh))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return execution

    assert not asyncio.run(cancelled_early()).started


def test_when_the_caller_says_no_nothing_is_sent(run, fleet, gone):
    execution = run("touch sent", go=False)
    assert execution.outcome.ending == Ending.UNKNOWN
    gone()
    assert (execution.started, execution.blocks) == (True, [])
    assert not (fleet.home("web-01") / "sent").exists()


def test_nothing_is_left_to_wait_for_once_the_caller_was_asked(ssh, ordered, fleet):
    """A machine may take its time to open a session; by then the caller's answer would be out of date."""

    async def asked_late():
        execution = ordered("echo sent", "hesitant-01")
        task = asyncio.create_task(execution.by(ssh))
        await becomes(lambda: fleet.hesitates("hesitant-01"))
        assert not execution.started
        fleet.strike("hesitant-01")
        return await task

    execution = asyncio.run(asked_late())
    assert (execution.outcome.ending, execution.out) == (Ending.SUCCEEDED, b"sent\n")


def test_an_error_of_the_caller_ends_the_command_and_goes_on(ssh, ordered, gone):
    execution = ordered("echo ready; sleep 3000")

    async def take(data, stream):
        raise TimeoutError("the caller's own")

    with pytest.raises(TimeoutError, match="the caller's own"):
        asyncio.run(ssh.execute(execution.order, execution._start, take))
    gone()


# Machines in trouble


@pytest.mark.parametrize(
    ("hostname", "words", "permanent"),
    [
        ("refusing-01", "refused the connection", False),
        ("stranger-01", "host key is not the known one", True),
        ("denying-01", "does not accept the portal's SSH key", True),
    ],
)
def test_a_machine_that_lets_nobody_in(run, ordered, fleet, ssh, hostname, words, permanent):
    commands = fleet.commands
    execution = ordered("echo", hostname)
    with pytest.raises(ExecutorError, match=words) as error:
        asyncio.run(execution.by(ssh))
    assert error.value.permanent is permanent
    assert not execution.started
    assert fleet.commands == commands


@pytest.mark.parametrize("hostname", ["silent-01", "banner-01"])
def test_a_machine_that_falls_silent_costs_no_more_than_the_connect_timeout(ordered, ssh, settings, hostname):
    settings.SSH_CONNECT_TIMEOUT = 1
    execution = ordered("echo", hostname)
    with pytest.raises(ExecutorError, match="did not answer in time"):
        asyncio.run(asyncio.wait_for(execution.by(ssh), 5))
    assert not execution.started


def test_a_slow_machine_is_waited_for(run):
    assert run("echo", "slow-01").outcome.ending == Ending.SUCCEEDED


@pytest.mark.parametrize(
    ("address", "words"),
    [("no-such-host.invalid", "address could not be found"), ("x" * 300, "address could not be found")],
)
def test_an_address_that_leads_nowhere(ssh, ordered, address, words):
    order = Order("web-01", address, 22, "", "echo", 10)
    with pytest.raises(ExecutorError, match=words):
        asyncio.run(ssh.execute(order, None, None))


def test_no_route():
    error = connections._connect_error(OSError(errno.EHOSTUNREACH, "No route to host"))
    assert (str(error), error.permanent) == ("There is no route to the machine.", False)


def test_a_user_who_may_not_log_in(run):
    with pytest.raises(ExecutorError, match="does not accept") as error:
        run("echo", user="root")
    assert error.value.permanent


def test_a_machine_that_was_offered_more_keys_than_it_takes(run, monkeypatch):
    """As OpenSSH ends it after six, which is soon when the agent holds many."""

    def refuse(door, username, key):
        door._connection.disconnect(asyncssh.DISC_PROTOCOL_ERROR, "Too many authentication failures")

    monkeypatch.setattr(_Door, "validate_public_key", refuse)
    with pytest.raises(ExecutorError, match="give the business a key of its own") as error:
        run("echo")
    assert error.value.permanent


def test_what_a_machine_says_before_it_lets_nobody_in_is_output(ssh, ordered, monkeypatch):
    """As of an account that has expired, and no more of it than is kept."""

    def refuse(door, username, key):
        door._connection.send_auth_banner("x" * 20_000)
        door._connection.send_auth_banner("Going down.\n")
        door._connection.close()

    monkeypatch.setattr(_Door, "validate_public_key", refuse)
    execution = ordered("echo")
    with pytest.raises(ExecutorError, match="broke the connection off"):
        asyncio.run(execution.by(ssh))
    assert execution.err.endswith(b"xGoing down.\n")
    assert len(execution.err) == pool.BANNER_LENGTH


def test_a_machine_where_no_shell_begins(run, fleet):
    fleet.home("homeless-01").rmdir()
    with pytest.raises(ExecutorError, match="nothing was run"):
        run("echo", "homeless-01")


@pytest.fixture
def runs_first(monkeypatch):
    """Makes machines run something before the command, as a profile does, or instead of it, as a forced command."""
    exec_requested = Session.exec_requested

    def runs_first(first):
        monkeypatch.setattr(Session, "exec_requested", lambda self, command: exec_requested(self, first + command))

    return runs_first


@pytest.mark.parametrize(
    "first", ["exit 0;", "echo Log in as ubuntu; sleep 0.5; exit 0;", "(sleep 0.5; echo Log in as ubuntu) & exit 0;"]
)
def test_what_ends_before_it_is_sent_no_script(ssh, ordered, fleet, runs_first, first):
    """What a forced command calls success, or a profile that ends, is none of the script's."""
    runs_first(first)
    execution = ordered("touch ran")
    with pytest.raises(ExecutorError, match="nothing was run"):
        asyncio.run(execution.by(ssh))
    assert not execution.started
    assert execution.out == (b"Log in as ubuntu\n" if "echo" in first else b"")
    assert not (fleet.home("web-01") / "ran").exists()


@pytest.mark.parametrize(
    "first", ["echo Hello; cat > taken; exit 0;", "echo Hello; read -r line;", "echo Hello; exec sh;"]
)
def test_what_reads_the_input_is_sent_no_script(ssh, ordered, fleet, settings, runs_first, first):
    settings.SSH_CONNECT_TIMEOUT = 2
    runs_first(first)
    execution = ordered("true\ntouch ran")
    with pytest.raises(ExecutorError, match="may wait for input|did not answer in time") as error:
        asyncio.run(execution.by(ssh))
    assert not execution.started
    assert execution.out in (b"Hello\n", b"")  # where the login alone took that long
    assert not execution.out or "may wait for input" in str(error.value)
    assert not (fleet.home("web-01") / "ran").exists()


def test_no_thread_is_waited_for_to_connect(run, monkeypatch):
    prepare, threads = asyncssh.SSHClientConnectionOptions.prepare, []

    def seen(*args, **options):
        threads.append(threading.current_thread())
        prepare(*args, **options)

    monkeypatch.setattr(asyncssh.SSHClientConnectionOptions, "prepare", seen)
    run("echo")
    assert set(threads) == {threading.current_thread()}


def test_what_else_is_done_in_a_thread_is_still(ssh, ordered):
    async def connected():
        await ordered("echo").by(ssh)
        return await asyncio.to_thread(threading.current_thread)

    assert asyncio.run(connected()) is not threading.current_thread()


def test_what_a_profile_says_is_output_too(run, runs_first):
    runs_first("printf READY; echo odd >&2; sleep 0.5;")  # both come before the wrapper's own
    execution = run("echo; echo done")
    assert (execution.out, execution.err) == (b"READY\ndone\n", b"odd\n")


@pytest.mark.parametrize("stream", [1, 2])
def test_a_profile_that_says_more_than_is_kept_holds_no_script_up(run, runs_first, stream):
    runs_first(f"(head -c 5000000 /dev/zero | tr '\\0' x) >&{stream};")
    execution = run("echo; echo done")
    assert execution.out.endswith(b"\ndone\n")
    assert len(execution.out + execution.err) < 2 * ssh_module.BUFFERED_BYTES


@pytest.mark.parametrize("closes", [True, False])
def test_a_machine_that_ends_its_sessions_before_the_script_has_run_nothing(ssh, ordered, fleet, monkeypatch, closes):
    """What the machine calls success, while the start is recorded, is none of the script's."""
    execution, sessions, ends = ordered("echo"), [], []

    async def asked_later():
        fleet.loop.call_soon_threadsafe(sessions[-1].end)
        await becomes(lambda: len(ends) == len(sessions))
        return True

    tell_end = ssh_module._Command._tell_end
    monkeypatch.setattr(ssh_module._Command, "_tell_end", lambda self: tell_end(self) or ends.append(1))
    monkeypatch.setattr(fleet, "session", lambda hostname: sessions.append(EndsEarly(closes)) or sessions[-1])
    execution._start = asked_later
    outcome = asyncio.run(execution.by(ssh)).outcome
    assert (outcome.ending, outcome.exit_status) == (Ending.FAILED, 0)
    assert "nothing was run" in outcome.reason


class EndsEarly(SaysReady):
    def __init__(self, closes):
        self._closes = closes

    def end(self):
        self._chan.exit(0) if self._closes else shell._tell_end(self._chan, 0)


def test_a_connection_that_is_cut(ssh, ordered, fleet, gone):
    execution = asyncio.run(_struck(ssh, ordered("echo so far; sleep 3000", "cutting-01"), fleet))
    assert execution.outcome.ending == Ending.UNKNOWN
    assert "connection was lost" in execution.outcome.reason
    assert execution.out == b"so far\n"
    gone("cutting-01")


def test_a_machine_that_freezes_is_found_out(ordered, ssh, fleet, monkeypatch):
    monkeypatch.setattr(connections, "KEEPALIVE_SECONDS", 0.5)
    impatient = type(ssh)()  # an executor reads that when it is made
    execution = asyncio.run(_struck(impatient, ordered("echo so far; sleep 3000", "freezing-01", timeout=600), fleet))
    assert execution.outcome.ending == Ending.UNKNOWN
    assert "connection was lost" in execution.outcome.reason
    assert execution.out == b"so far\n"


def test_the_other_machines_go_on(ssh, ordered, settings):
    async def all_at_once():
        names = ("silent-01", "refusing-01", "web-01", "web-02")
        silent, *others = [asyncio.create_task(ordered("echo fine", name).by(ssh)) for name in names]
        ended = await asyncio.gather(*others, return_exceptions=True)
        assert not silent.done()
        let_pass(settings.SSH_CONNECT_TIMEOUT)
        return await asyncio.gather(silent, return_exceptions=True) + ended

    silent, refusing, *fine = asyncio.run(all_at_once())
    assert [type(silent), type(refusing)] == [ExecutorError, ExecutorError]
    assert [(each.outcome.ending, each.out) for each in fine] == [(Ending.SUCCEEDED, b"fine\n")] * 2


class Names:
    """A name server: `good.example` is web-01, `two.example` has an address of nobody's, too; others are slow."""

    def __init__(self):
        self.asked, self.answers = [], threading.Event()
        self.usual = socket.getaddrinfo

    def __call__(self, host, port, *args, **options):
        if options.get("flags") == socket.AI_NUMERICHOST:  # asyncssh asks whether it is an address
            return self.usual(host, port, *args, **options)
        self.asked.append(host)
        places = {
            "good.example": [ADDRESS],
            "two.example": ["127.0.0.2", ADDRESS],
            "broken.example": ["127.0.0.3", ADDRESS],
        }
        if host not in places:
            self.answers.wait(PATIENCE)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in places[host]]


@pytest.fixture
def names(monkeypatch):
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.answers.set()


@pytest.fixture
def look_ups(monkeypatch):
    """The look-ups that were asked for, as futures; two names are looked up at once."""
    look_ups = []

    class Threads(ThreadPoolExecutor):
        def submit(self, *args):
            look_ups.append(super().submit(*args))
            return look_ups[-1]

    monkeypatch.setattr(connections, "ThreadPoolExecutor", Threads)
    monkeypatch.setattr(connections, "LOOK_UPS_AT_ONCE", 2)
    return look_ups


@pytest.fixture
def named(ssh, ordered, look_ups, names):
    """Begins an execution on a machine that is listed by that name."""
    executor = type(ssh)()

    def named(name):
        execution = ordered("echo fine")
        execution.order = replace(execution.order, address=name)
        return asyncio.create_task(execution.by(executor))

    return named


def test_a_machine_is_listed_by_a_name(named):
    async def by_name():
        return await named("good.example")

    assert asyncio.run(by_name()).out == b"fine\n"


def test_a_host_certificate_is_for_the_name_that_is_listed(ssh, ordered, fleet, settings, tmp_path):
    authority, key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    certificate = authority.generate_host_certificate(key, "host", principals=["localhost"])

    async def by_name():
        door = functools.partial(_Door, fleet, "web-01")
        server = await asyncssh.create_server(door, ADDRESS, 0, server_host_keys=[(key, certificate)], encoding=None)
        async with server:
            known = f"@cert-authority [localhost]:{server.get_port()} {authority.export_public_key().decode()}"
            (tmp_path / "known_hosts").write_text(known)
            settings.SSH_KNOWN_HOSTS = str(tmp_path / "known_hosts")
            execution = ordered("echo fine")
            execution.order = replace(execution.order, address="localhost", port=server.get_port())
            return await execution.by(type(ssh)())

    assert asyncio.run(by_name()).out == b"fine\n"


def test_of_the_addresses_of_a_name_one_that_answers_is_enough(named):
    async def by_name():
        return await named("two.example")

    assert asyncio.run(by_name()).out == b"fine\n"


@pytest.fixture
def swallows(fleet):
    """127.0.0.3 swallows packets at the machine's port: its queue of connections is full, and nobody takes any."""
    place = "127.0.0.3", fleet.ports["web-01"]
    with socket.create_server(place, backlog=0), socket.socket() as first:
        first.connect(place)
        yield


def test_an_address_that_swallows_packets_leaves_the_others_their_time(named, swallows, settings, monkeypatch):
    """Such as that of IPv6, which comes first, where the way there is broken."""
    connect, tried = asyncssh.connect, []

    def seen(address, *args, **options):
        tried.append(address)
        return connect(address, *args, **options)

    monkeypatch.setattr(asyncssh, "connect", seen)

    async def by_name():
        broken = named("broken.example")
        await becomes(lambda: tried)
        let_pass(settings.SSH_CONNECT_TIMEOUT / 2)
        return await broken

    assert asyncio.run(by_name()).out == b"fine\n"
    assert tried == ["127.0.0.3", ADDRESS]


def test_names_that_nobody_answers_for_hold_up_no_other_machine(ssh, ordered, settings, names, named):
    """As many as are looked up at once, and each for longer than the connect timeout: others wait for their turn."""

    async def all_at_once():
        slow = [named(f"lost-{number}.example") for number in range(2)]
        await becomes(lambda: len(names.asked) == 2)
        waits, address = named("good.example"), ordered("echo fine")
        assert (await address.by(ssh)).out == b"fine\n"  # there is nothing to look up
        let_pass(settings.SSH_CONNECT_TIMEOUT)
        errors = await asyncio.gather(*slow, return_exceptions=True)
        assert not waits.done()
        names.answers.set()
        return errors, await waits

    errors, waited = asyncio.run(all_at_once())
    assert [str(error) for error in errors] == ["The machine did not answer in time."] * 2
    assert waited.out == b"fine\n"


def test_many_names_that_nobody_answers_for_leave_threads_for_others(ssh, ordered, names):
    """More than asyncio has threads of its own."""
    executor = type(ssh)()

    async def all_at_once():
        orders = [ordered("echo fine") for _ in range(50)]
        for number, execution in enumerate(orders):
            name = f"lost-{number}.example" if number < 49 else "good.example"
            execution.order = replace(execution.order, address=name)
        *slow, good = [asyncio.create_task(execution.by(executor)) for execution in orders]
        said = (await good).out
        assert not any(task.done() for task in slow)
        names.answers.set()
        return said, await asyncio.gather(*slow, return_exceptions=True)

    said, errors = asyncio.run(all_at_once())
    assert said == b"fine\n"
    assert {str(error) for error in errors} == {"The machine's address could not be found."}


def test_a_name_whose_machine_was_cancelled_is_not_looked_up(names, named, look_ups):
    async def cancelled():
        slow = [named(f"lost-{number}.example") for number in range(2)]
        await becomes(lambda: len(names.asked) == 2)
        waits = named("good.example")
        await becomes(lambda: len(look_ups) == 3)
        waits.cancel()
        await becomes(look_ups[-1].cancelled)
        names.answers.set()
        return await asyncio.gather(waits, *slow, return_exceptions=True)

    errors = asyncio.run(cancelled())
    assert [type(error) for error in errors] == [asyncio.CancelledError, ExecutorError, ExecutorError]
    assert sorted(names.asked) == ["lost-0.example", "lost-1.example"]


# Keys


def test_without_a_key_nothing_is_tried(run, settings):
    settings.SSH_KEY_FILES = []
    with pytest.raises(ExecutorError, match="set SSH_KEY_FILES") as error:
        run("echo")
    assert error.value.permanent


@pytest.mark.parametrize("content", [None, "not a key"])
def test_a_key_that_cannot_be_read(run, settings, tmp_path, content):
    if content:
        (tmp_path / "key").write_text(content)
    settings.SSH_KEY_FILES = [str(tmp_path / "key")]
    with pytest.raises(ExecutorError, match="look at SSH_KEY_FILES"):
        run("echo")


@pytest.mark.parametrize("lacks", ["SSH_KEY_FILES", "SSH_KNOWN_HOSTS", "connection"])
def test_a_worker_without_file_descriptors_says_that_it_has_none(ssh, ordered, lacks):
    """Whatever it wanted one for: nothing is wrong with that."""
    order, ours = ordered("echo").order, ssh._connections

    async def without():
        peer = None if lacks == "SSH_KEY_FILES" else ours.peer(order)
        if lacks == "connection":
            ours._known_hosts_file.read()
        with no_file_descriptors():
            await ours.fresh(order, peer or ours.peer(order), None)

    with pytest.raises(ExecutorError, match="no file descriptors left") as error:
        asyncio.run(without())
    assert not error.value.permanent


@contextlib.contextmanager
def no_file_descriptors():
    """As at the limit of `ulimit -n`."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as file:
        next_one = file.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


def test_without_known_hosts_every_machine_is_refused(run, settings, fleet):
    settings.SSH_KNOWN_HOSTS = ""
    logins = fleet.logins
    with pytest.raises(ExecutorError, match="set SSH_KNOWN_HOSTS") as error:
        run("echo")
    assert error.value.permanent
    assert fleet.logins == logins


@pytest.mark.parametrize("content", [None, "nonsense", "\xff\xfe"])
def test_known_hosts_that_cannot_be_read(run, settings, tmp_path, content):
    if content:
        (tmp_path / "known_hosts").write_bytes(content.encode("latin-1"))
    settings.SSH_KNOWN_HOSTS = str(tmp_path / "known_hosts")
    with pytest.raises(ExecutorError, match="look at SSH_KNOWN_HOSTS"):
        run("echo")


def test_a_host_key_counts_as_soon_as_it_is_in_the_file(run, settings, fleet, tmp_path):
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("")
    settings.SSH_KNOWN_HOSTS = str(known_hosts)
    with pytest.raises(ExecutorError, match="host key is not known") as error:
        run("echo")
    assert error.value.permanent
    known_hosts.write_text(fleet.known_hosts.read_text())
    assert run("echo").outcome.ending == Ending.SUCCEEDED


def test_another_key_than_is_known_where_a_name_leads_to_is_not_told_to_be_a_new_one(
    ssh, ordered, settings, fleet, tmp_path
):
    settings.SSH_KNOWN_HOSTS = str(tmp_path / "known_hosts")
    key = fleet.host_key("web-02").export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"[{ADDRESS}]:{fleet.ports['web-01']} {key}")
    execution = ordered("echo")
    execution.order = replace(execution.order, address="localhost")
    with pytest.raises(ExecutorError, match="not the known one"):
        asyncio.run(execution.by(ssh))


@pytest.mark.parametrize("known", ["ssh-rsa", "ecdsa-sha2-nistp256", "@cert-authority"])
def test_a_host_key_of_another_kind_than_the_known_one_is_told_as_another(run, settings, fleet, tmp_path, known):
    kind = "ssh-ed25519" if known.startswith("@") else known
    key = asyncssh.generate_private_key(kind).export_public_key().decode()
    marker = known if known.startswith("@") else ""
    (tmp_path / "known_hosts").write_text(f"{marker} [{ADDRESS}]:{fleet.ports['web-01']} {key}")
    settings.SSH_KNOWN_HOSTS = str(tmp_path / "known_hosts")
    with pytest.raises(ExecutorError, match="not the known one") as error:
        run("echo")
    assert error.value.permanent


def test_a_key_known_for_the_hostname_binds_more_than_one_for_the_address(run, settings, fleet, tmp_path):
    settings.SSH_KNOWN_HOSTS = str(tmp_path / "known_hosts")
    names = f"web-01,[web-02]:{fleet.ports['web-02']}"
    own_key = fleet.host_key("web-02").export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"{names} {own_key}{fleet.known_hosts.read_text()}")
    assert run("echo", "web-02").outcome.ending == Ending.SUCCEEDED
    with pytest.raises(ExecutorError, match="not the known one"):
        run("echo", "web-01")


def test_a_revoked_host_key_is_refused(run, settings, fleet, tmp_path):
    settings.SSH_KNOWN_HOSTS = str(tmp_path / "known_hosts")
    key = asyncssh.import_public_key(fleet.host_key("web-01").export_public_key()).export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"@revoked * {key}{fleet.known_hosts.read_text()}")
    with pytest.raises(ExecutorError, match="not the known one"):
        run("echo")
    assert run("echo", "web-02").outcome.ending == Ending.SUCCEEDED


@pytest.mark.parametrize("revoked", ["name", "address"])
@pytest.mark.parametrize("known", ["name", "address"])
def test_a_host_key_is_revoked_by_name_and_by_address(run, settings, fleet, tmp_path, known, revoked):
    key = fleet.host_key("web-01").export_public_key().decode()
    places = {
        place: f"[{value}]:{fleet.ports['web-01']}" for place, value in (("name", "web-01"), ("address", ADDRESS))
    }
    settings.SSH_KNOWN_HOSTS = str(tmp_path / "known_hosts")
    (tmp_path / "known_hosts").write_text(f"{places[known]} {key}")
    assert run("echo").outcome.ending == Ending.SUCCEEDED
    (tmp_path / "known_hosts").write_text(f"{places[known]} {key}\n@revoked {places[revoked]} {key}")
    with pytest.raises(ExecutorError, match="not the known one"):
        run("echo")


# Much output


def test_much_output_keeps_memory_flat(ssh, ordered):
    size = 200_000_000
    execution = ordered(f"head -c {size} /dev/zero; head -c {size // 10} /dev/zero >&2", timeout=PATIENCE)
    taken = {"out": 0, "err": 0}

    async def take(data, stream):
        taken[stream] += len(data)
        if taken["out"] < 1_000_000:
            await asyncio.sleep(0.02)  # a slow start: what is not taken must wait on the machine

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = asyncio.run(ssh.execute(execution.order, execution._start, take))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    assert (outcome.ending, taken) == (Ending.SUCCEEDED, {"out": size, "err": size // 10})
    assert grown < 48, f"{grown:.0f} MB more"


def test_a_flood_of_tiny_packets_leaves_the_others_their_turn(ssh, ordered):
    """Among them the heartbeat: no more packets are handed on between two of its turns than a few thousand bytes."""
    execution, taken, most = ordered("true", "alternating-01"), [], []

    async def take(data, stream):
        taken.append(stream)
        if len(taken) == 1:
            await asyncio.sleep(0.2)  # so that much is there when it goes on

    async def beside():
        while True:
            before = len(taken)
            await asyncio.sleep(0)
            most.append(len(taken) - before)

    async def both():
        others = asyncio.create_task(beside())
        try:
            return await ssh.execute(execution.order, execution._start, take)
        finally:
            others.cancel()

    assert asyncio.run(both()).ending == Ending.SUCCEEDED
    assert len(taken) == 20_000
    assert max(most) <= 2 * ssh_module.PACKETS_AT_ONCE


def test_a_caller_who_takes_output_slowly_gets_all_of_it_though_the_command_has_ended(ssh, ordered, monkeypatch):
    monkeypatch.setattr(ssh_module, "QUIET_SECONDS", 0.3)
    size = 2 * ssh_module.BUFFERED_BYTES
    execution = ordered(f"head -c {size} /dev/zero")
    take = execution._take

    async def take_slowly(data, stream):
        await asyncio.sleep(0.5 if len(execution.blocks) < 2 else 0)
        await take(data, stream)

    execution._take = take_slowly
    assert len(asyncio.run(execution.by(ssh)).out) == size


def test_a_caller_who_does_not_take_output_stops_the_command(ssh, ordered, fleet, monkeypatch):
    """The machine counts what it could write; no more than the buffers between here and there hold."""
    monkeypatch.setattr(ssh_module, "END_GRACE", 10)
    execution = ordered("echo 0 > count; i=0; while printf %100000s; do i=$((i+1)); echo $i > count; done")

    async def stuck():
        blocked = asyncio.Event()

        async def take(data, stream):
            blocked.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(ssh.execute(execution.order, execution._start, take))
        await blocked.wait()
        counts = [-1, 0]
        while counts[-1] != counts[-2] or not counts[-1]:
            await asyncio.sleep(0.3)
            counts.append(int((fleet.home("web-01") / "count").read_text() or 0))
        task.cancel()
        return counts[-1], await task

    written, outcome = asyncio.run(stuck())
    assert written * 100_000 < 20_000_000
    assert outcome.ending == Ending.CANCELLED

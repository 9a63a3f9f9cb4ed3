"""The wrapper by itself, under each shell that this machine has."""

import os
import shutil
import signal
import subprocess

import pytest

from releases.executors import remote_shell
from tests.waiting import PATIENCE, wait_until

LONG = 30  # seconds that no script of these tests takes
SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]


@pytest.fixture(params=SHELLS)
def environment(request, tmp_path):
    """One in which `sh` is that shell."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(shutil.which(request.param))
    return {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.fixture
def begin(environment, tmp_path):
    def begin(command):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(["/bin/sh", "-c", command], cwd=tmp_path, env=environment, **pipes)

    return begin


def test_it_hands_on_status_and_output(begin):
    command, payload = remote_shell.prepare("cat; echo out $A; echo err >&2; exit 7", {"A": "'$x'"}, 30)
    with begin(command) as process:
        process.stdin.write(payload)
        process.stdin.flush()
        told = remote_shell.READY + b"out '$x'\n", b"err\n"
        assert (process.stdout.read(), process.stderr.read()) == told
    assert process.returncode == 7


@pytest.fixture(params=["a group", "no group"])
def timeout_makes(request, environment, tmp_path):
    """What the machine's `timeout` makes for itself: BusyBox's makes no process group."""
    if request.param == "no group":
        tool = tmp_path / "bin" / "timeout"
        tool.write_text(f'#!/bin/sh\nexec {shutil.which("timeout")} --foreground "$@"\n')
        tool.chmod(0o755)


def ended(process, payload, timeout):
    """Sends a script that says `begun` and has it ended, by its lifeline where its limit is LONG; what more it said.

    None when somebody, who then goes on, has its output open.
    """
    process.stdin.write(payload)
    process.stdin.flush()
    assert process.stdout.readline() + process.stdout.readline() == remote_shell.READY + b"begun\n"
    if timeout == LONG:
        process.stdin.close()
    process.wait(timeout=PATIENCE)
    os.set_blocking(process.stdout.fileno(), False)
    return process.stdout.read()


def test_the_end_of_its_input_ends_the_script(begin, timeout_makes):
    command, payload = remote_shell.prepare("sleep 3000 & echo begun; sleep 3000", {}, LONG)
    with begin(command) as process:
        assert ended(process, payload, LONG) == b""
    assert process.returncode == 128 + 15


def test_what_has_no_session_of_its_own_yet_ends_too(begin, environment, tmp_path):
    """A machine may be slow to start a process, and the end be asked for before there is a group to signal."""
    (tmp_path / "bin" / "setsid").write_text("#!/bin/sh\necho >starts\nexec sleep 80\n")
    (tmp_path / "bin" / "setsid").chmod(0o755)
    command, payload = remote_shell.prepare("echo never", {}, LONG)
    with begin(command) as process:
        process.stdin.write(payload)
        process.stdin.flush()
        wait_until((tmp_path / "starts").exists)
        process.stdin.close()
        process.wait(timeout=PATIENCE)
    assert process.returncode == 128 + 15


def test_what_makes_its_session_just_then_is_told_to_end_and_not_killed_later(begin):
    """Whoever looks for its group may find none, and a moment later the session."""
    command, payload = remote_shell.prepare("sleep 3000", {}, LONG)
    for _ in range(40):
        with begin(command) as process:
            process.communicate(payload, timeout=PATIENCE)
        assert process.returncode == 128 + 15


@pytest.mark.parametrize("timeout", [LONG, 1])
def test_what_made_a_group_of_its_own_ends_too(begin, timeout):
    """As what a script runs by `timeout`."""
    command, payload = remote_shell.prepare("timeout 90 sh -c 'echo begun; sleep 80; :'", {}, timeout)
    with begin(command) as process:
        assert ended(process, payload, timeout) == b""


@pytest.mark.parametrize("timeout", [LONG, 2])
def test_what_made_a_session_of_its_own_goes_on(begin, timeout, tmp_path):
    """As services do that a script starts."""
    service = "setsid sh -c 'echo $$ >new; mv new pid; sleep 80; :' >/dev/null 2>&1 &"
    script = f"{service} until [ -e pid ]; do sleep .1; done; echo begun; sleep 80"
    command, payload = remote_shell.prepare(script, {}, timeout)
    with begin(command) as process:
        assert ended(process, payload, timeout) == b""
    os.killpg(int((tmp_path / "pid").read_text()), signal.SIGKILL)


# Root without these capabilities may signal its own processes alone, as the login of a machine does, and sees others
# only where /proc shows them.
BARRED = ["setpriv", "--bounding-set=-kill,-sys_ptrace", "--inh-caps=-kill,-sys_ptrace", "--"]
HIDDEN = ["unshare", "-m", "sh", "-c", 'mount -t proc -o hidepid=2,gid=65534 proc /proc && exec "$@"', "sh", *BARRED]


def works(command):
    return shutil.which(command[0]) and not subprocess.run([*command, "true"], check=False).returncode


@pytest.mark.skipif(os.geteuid() != 0 or not works(BARRED), reason="only root makes processes of two users")
@pytest.mark.parametrize("barred", [BARRED, HIDDEN], ids=["seen", "hidden"])
@pytest.mark.parametrize("timeout", [LONG, 1])
def test_what_it_may_not_kill_is_waited_for(environment, tmp_path, timeout, barred):
    """As what runs by sudo: its end was not seen before it is there."""
    if not works(barred):
        pytest.skip("has no /proc of its own")
    others = "setpriv --reuid=65534 --clear-groups sh -c 'echo begun; sleep 6; echo over' & wait"
    command, payload = remote_shell.prepare(others, {}, timeout)
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen([*barred, "/bin/sh", "-c", command], cwd=tmp_path, env=environment, **pipes) as process:
        assert ended(process, payload, timeout) == b"over\n"


@pytest.mark.parametrize("script", ["cat <<END\nbegun", "echo begun\\"])
def test_nothing_is_added_to_a_script_that_does_not_end_well(begin, script):
    command, payload = remote_shell.prepare(script, {}, LONG)
    with begin(command) as process:
        process.stdin.write(payload)
        process.stdin.flush()
        assert process.stdout.read().rstrip() == remote_shell.READY + b"begun"


@pytest.mark.parametrize("missing", [1, 3, 40])
def test_half_a_script_is_not_run(begin, tmp_path, missing):
    command, payload = remote_shell.prepare("touch ran\n# and more that does not arrive", {}, 30)
    with begin(command) as process:
        process.stdin.write(payload[:-missing])
        process.stdin.close()
        assert process.wait(timeout=PATIENCE) == 255
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cat", ["exit 1", "head -c 30"])
def test_a_script_that_does_not_get_whole_into_its_shell_is_not_run(begin, environment, tmp_path, cat):
    """The machine has no `cat`, or no memory left for it."""
    (tmp_path / "bin" / "cat").write_text(f"#!/bin/sh\n{cat}\n")
    (tmp_path / "bin" / "cat").chmod(0o755)
    command, payload = remote_shell.prepare("touch ran\n# and more that does not arrive", {}, 30)
    with begin(command) as process:
        process.stdin.write(payload)
        process.stdin.flush()
        assert process.wait(timeout=PATIENCE) == 255
    assert not (tmp_path / "ran").exists()


def test_a_script_that_cannot_be_watched_does_not_go_on(begin, tmp_path, monkeypatch):
    """A shell ends when it can't fork, as here when a variable is not set."""
    monkeypatch.setattr(remote_shell, "_WRAPPER", remote_shell._WRAPPER.replace("(while", ": ${{none?}}; (while"))
    command, payload = remote_shell.prepare("sleep 3; touch ran", {}, 30)
    with begin(command) as process:
        process.stdin.write(payload)
        process.stdin.flush()
        process.stdout.read()  # until nothing is left that could write
        assert process.wait(timeout=PATIENCE) != 0
    assert not (tmp_path / "ran").exists()


def test_a_script_that_leaves_no_process_to_fork_ends_with_its_input(begin, tmp_path, monkeypatch):
    """It is then that the end is asked for. A shell ends when it can't fork, as here when a variable is not set."""
    wrapper = remote_shell._WRAPPER.replace("$(LC_ALL", "${{none?}}$(LC_ALL").replace("sleep", ": ${{none?}}; sleep")
    monkeypatch.setattr(remote_shell, "_WRAPPER", wrapper)
    command, payload = remote_shell.prepare("timeout 90 sh -c 'echo begun; sleep 3; touch ran'", {}, LONG)
    with begin(command) as process:
        ended(process, payload, LONG)
        os.set_blocking(process.stdout.fileno(), True)
        process.stdout.read()  # until nothing is left that could write
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif("bash" not in SHELLS, reason="has no bash")
def test_bash_begins_as_bare_as_sh(begin, environment, tmp_path):
    """Started by sshd it would read a file of the user's, which may end or ask for something."""
    environment["SSH_CLIENT"] = "10.0.0.1 50000 22"
    (tmp_path / ".bashrc").write_text("echo theirs; exit 9\n")
    command, payload = remote_shell.prepare("#!/bin/bash\necho out", {}, 30)
    with begin(command) as process:
        process.stdin.write(payload)
        process.stdin.flush()
        assert process.stdout.read() == remote_shell.READY + b"out\n"
    assert process.returncode == 0


def test_nothing_of_the_script_is_in_the_command():
    command, _payload = remote_shell.prepare("echo secret-script", {"NAME": "secret-value"}, 30)
    assert "secret" not in command
    assert "NAME" not in command
    assert "\n" not in command

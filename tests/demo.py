"""The demo, run as a person runs it: `manage.py demo` where nothing is configured."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parent.parent
# Nothing of what the tests or the developer have configured, but for limits that no slow host may reach
LIMITS = {"SSH_CONNECT_TIMEOUT": "60", "CONFIG_SERVICE_TIMEOUT": "60", "WORKER_DEAD_AFTER": "60"}
ENVIRONMENT = {"PATH": os.environ["PATH"], **LIMITS}
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


def run_demo(folder, *arguments, **environment):
    """Runs a demo that ends by itself; the answer has its `returncode`, `stdout` and `stderr`."""
    command = [sys.executable, "manage.py", "demo", "--data", str(folder), "--machines", "6", *map(str, arguments)]
    options = {"cwd": ROOT, "env": ENVIRONMENT | environment, "capture_output": True, "text": True}
    try:
        return subprocess.run(command, **options, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"Not ended within {PATIENCE} s.\n{_last_words(folder)}") from late


def _last_words(folder):
    """What its parts said last."""
    logs = sorted((folder / "logs").glob("*"))
    return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


class RunningDemo:
    """A demo with web server, at any free port, until `stop`; on a leash, so that it does not outlive the tests."""

    def __init__(self, folder):
        self.folder = folder
        self.output = folder.parent / f"{folder.name}.out"
        command = [sys.executable, "-m", "releases.demo.leash", "manage", "demo"]
        command += ["--data", folder, "--machines", "6", "--port", "0"]
        # A shell that starts something in the background has it ignore SIGINT
        in_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                in_background + command,
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(lambda: self.says("Ctrl-C stops") or self.process.poll() is not None, PATIENCE)
        self.facts = json.loads((folder / "demo.json").read_text())
        self.pids = self.facts["processes"]

    def says(self, words):
        return words in self.output.read_text()

    def stop(self, number=signal.SIGINT):
        """Sends the signal; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def log_in(self, session, role):
        """Logs `session` in as a person does, by the page; returns the page that follows."""
        address = f"{self.facts['address']}login/"
        token = TOKEN.search(session.get(address, timeout=PATIENCE).text)[1]
        return session.post(address, {"csrfmiddlewaretoken": token, **self.facts["users"][role]}, timeout=PATIENCE)


def is_running(pid):
    """Whether a process with that id does anything still; one that has ended and was not waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def processes_of(folder):
    """The ids of the processes whose command line or environment names the demo's folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if str(folder).encode() in told and is_running(process.name):
                found.add(int(process.name))
    return found

"""The demo's processes: each leads a session of its own, writes to a log of its own, and never outlives us."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys

from django.conf import settings

READY_WITHIN = 120  # seconds, on a busy machine; one that has died is noticed at once
STOPPED_WITHIN = 12  # seconds: longer than the worker's grace
WORKER = "worker"  # how the name of each worker begins


class PartFailed(Exception):
    """A part did not start, or ended by itself; the text names its log."""


class Parts:
    """Runs modules, as `python -m` would. Leaving the block stops them all."""

    def __init__(self, logs):
        self.logs = logs
        self.processes = {}
        self._known_dead = set()

    def __enter__(self):
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half of them behind
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        # The workers first: what they run can still end while there are machines
        self._stop(self.workers().values())
        self._stop([process for name, process in self.processes.items() if not name.startswith(WORKER)])
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def start(self, name, *command, **options):
        """Starts a module with its arguments. Its stdin ends with us; its stdout goes to its log as well."""
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *map(str, command)],
                cwd=settings.BASE_DIR,
                stdin=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                **{"stdout": log} | options,
            )

    def start_telling(self, name, *command):
        """Like `start`, for a part that says on its stdout when it is ready: `told` waits for that."""
        self.start(name, *command, stdout=subprocess.PIPE)

    def told(self, name):
        """The JSON object that the part writes once it is ready."""
        stdout = self.processes[name].stdout
        is_readable = select.select([stdout], [], [], READY_WITHIN)[0]
        line = stdout.readline() if is_readable else b""
        if not line:
            raise PartFailed(f"The part {name} did not start; read {self.log(name)}.")
        return json.loads(line)

    def tell(self, name, **words):
        """Writes a JSON object to the stdin of a part that listens there."""
        stdin = self.processes[name].stdin
        stdin.write(json.dumps(words).encode() + b"\n")
        stdin.flush()

    def workers(self):
        return {name: process for name, process in self.processes.items() if name.startswith(WORKER)}

    def log(self, name):
        return self.logs / f"{name}.log"

    def pids(self):
        return {name: process.pid for name, process in self.processes.items()}

    def newly_dead(self):
        """One sentence for each part that has ended since this was last asked."""
        dead = {name for name, process in self.processes.items() if process.poll() is not None}
        news, self._known_dead = dead - self._known_dead, dead
        return [f"The part {name} has ended ({self._status(name)}); read {self.log(name)}." for name in sorted(news)]

    def require_all(self):
        """Raises PartFailed when one has ended."""
        if news := self.newly_dead():
            raise PartFailed(" ".join(news))

    def _status(self, name):
        status = self.processes[name].returncode
        return f"exit status {status}" if status >= 0 else signal.strsignal(-status)

    def _stop(self, processes):
        for process in processes:
            process.terminate()
        for process in processes:
            with process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOPPED_WITHIN)
                # Also when it has ended: a web server that was killed leaves its workers
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

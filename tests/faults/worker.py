"""The worker as a process of its own, on the database of the tests."""

import os
import re
import signal
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

from releases.models import Worker
from tests.waiting import PATIENCE, wait_until
from tests.workers import fall_silent


def database_url():
    """The address of the very database that the tests use."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    if host := connection.settings_dict["OPTIONS"].get("host"):
        return f"postgresql://postgres:@/{name}?host={host}"
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))


def environment(fleet=None, **more):
    """The environment of a process of the portal; numbers become text."""
    ours = {
        "DJANGO_SETTINGS_MODULE": "deploy_portal.settings",
        "DATABASE_URL": database_url(),
        "SSH_CONNECT_TIMEOUT": 300,
        "WORKER_DEAD_AFTER": settings.WORKER_DEAD_AFTER,
        "LOG_HEAD_BYTES": 20_000,
        "LOG_TAIL_BYTES": 4_000,
    }
    if fleet:
        ours |= {"SSH_KEY_FILES": fleet.client_key, "SSH_KNOWN_HOSTS": fleet.known_hosts}
    return {**os.environ, **{name: str(value) for name, value in (ours | more).items()}}


class WorkerProcess:
    """`manage.py release_worker` with `arguments`; on a leash, so that it does not outlive the tests."""

    def __init__(self, log, fleet, arguments, module="manage", **env):
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "releases.demo.leash", module, "release_worker", *map(str, arguments)],
                cwd=settings.BASE_DIR,
                env=environment(fleet, **env),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def row(self):
        """Its row in the ledger, which is waited for."""
        return wait_until(self._find)

    def _find(self):
        assert self.process.poll() is None, f"The worker has ended with {self.process.returncode}:\n{self.output}"
        return Worker.objects.filter(name__endswith=f"-{self.process.pid}").first()

    @property
    def is_alive(self):
        return self.process.poll() is None

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    @property
    def catches_sigterm(self):
        """Whether it has come so far that it can be told to end."""
        caught = re.search(r"SigCgt:\s+(\w+)", self._status())[1]
        return bool(int(caught, 16) & (1 << (signal.SIGTERM - 1)))

    @property
    def peak_memory(self):
        """In bytes."""
        return int(re.search(r"VmHWM:\s+(\d+) kB", self._status())[1]) * 1024

    def kill(self):
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def kill_long_ago(self):
        """The same, and whoever looks next gives it up: that takes its time is told by other tests."""
        row = self.row
        self.kill()
        fall_silent(row)

    def terminate(self):
        self.process.terminate()

    def freeze(self):
        """Returns once it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: self._stat().split()[0] == "T")

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self, patience=PATIENCE):
        """Waits until it has ended; its exit status."""
        return self.process.wait(patience)

    def put_down(self):
        """Kills it with all that it started, unless it has ended, and waits for its end."""
        with self.process:
            if self.is_alive:
                os.killpg(self.process.pid, signal.SIGKILL)

    def _status(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return status.read()

    def _stat(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            return stat.read().rpartition(")")[2]

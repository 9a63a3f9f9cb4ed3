"""A PostgreSQL server on this host, as its operator has it in hand: told to end, and started again as it was."""

import os
import signal
import subprocess
from pathlib import Path

PID_FILE = "postmaster.pid"


class Postmaster:
    """The server that has its data in `folder`. OSError or ValueError when there is none that we can see."""

    def __init__(self, folder):
        self.pid_file = Path(folder) / PID_FILE
        self.pid = int(self.pid_file.read_text().split()[0])
        process = Path(f"/proc/{self.pid}")
        self.owner, self.group = process.stat().st_uid, process.stat().st_gid
        self.executable, self.folder = (process / "exe").readlink(), (process / "cwd").readlink()
        self.command = (process / "cmdline").read_text().rstrip("\0").split("\0")
        pairs = (process / "environ").read_text().split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def is_ours(self):
        return os.geteuid() in (0, self.owner)

    def stop(self):
        """Throws out whoever is connected; it `is_gone` soon."""
        os.kill(self.pid, signal.SIGINT)

    def is_gone(self):
        return not self.pid_file.exists()

    def start(self, log):
        """Starts it as the same user with the same command. It outlives us: it was there before us."""
        as_owner = {"user": self.owner, "group": self.group, "extra_groups": []} if os.geteuid() == 0 else {}
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command,
                executable=self.executable,
                cwd=self.folder,
                env=self.environment,
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **as_owner,
            )

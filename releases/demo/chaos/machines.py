"""The demo's machines, as chaos strikes them and as a person looks at them."""

import contextlib
import time
from pathlib import Path

from releases.demo import comparison

THAWED = 1  # seconds until all that was on its way to a frozen machine has come there


class Machines:
    def __init__(self, demo):
        self.demo = demo
        self.hostnames = sorted(demo.hostnames)
        self._frozen = set()
        self._broken = set()
        self._thawed_at = {}

    def cut(self, hostnames):
        self.demo.parts.tell("fleet", cut=hostnames)

    def freeze(self, hostnames):
        self._frozen |= set(hostnames)
        self.demo.parts.tell("fleet", freeze=hostnames)

    def thaw(self, hostnames):
        self.demo.parts.tell("fleet", thaw=hostnames)
        self._thawed_at |= dict.fromkeys(hostnames, time.monotonic())
        self._frozen -= set(hostnames)

    def break_down(self, hostnames):
        """Makes the release script fail there."""
        broken = [self._broken_file(hostname) for hostname in hostnames]
        ours = {file for file in broken if not file.exists()}
        for file in ours:
            file.touch()
        self._broken |= ours

    def repair(self, hostnames):
        for file in self._broken & {self._broken_file(hostname) for hostname in hostnames}:
            file.unlink(missing_ok=True)

    def has_executed(self, hostname, machine_run_id):
        """Whether the machine's own log has that machine run."""
        lines = comparison.lines_of(self.demo.home(hostname))
        return str(machine_run_id) in {line.split(" ")[0] for line in lines}

    def is_quiet(self, hostname):
        """Whether one can look there, and nothing runs."""
        is_there = hostname not in self._frozen and time.monotonic() > self._thawed_at.get(hostname, 0) + THAWED
        return is_there and not _runs_in(self.demo.home(hostname))

    def _broken_file(self, hostname):
        return self.demo.home(hostname) / "broken"


def _runs_in(folder):
    """Whether some process works in that folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                return True
    return False

"""The workers of chaos: some of them claim at any time, whatever becomes of the others."""

import itertools
import random
import signal
from collections import Counter

from releases.demo.parts import WORKER

SIZE = 3
GIVEN_UP = 3  # the exit status of a worker that the others gave up
EXPECTED = {0, GIVEN_UP, -signal.SIGKILL, -signal.SIGTERM}  # SIGTERM: told to end before it had begun


class Crew:
    def __init__(self, demo, seed):
        self.demo, self.parts = demo, demo.parts
        self.random = random.Random(seed)  # noqa: S311
        self.numbers = itertools.count(2)
        self.leaving = set()
        self.frozen = set()
        self.ended = Counter()
        self.errors = []

    def tend(self):
        """Buries the workers that have ended, and starts others for them and for those that are about to end."""
        for name, process in self.parts.workers().items():
            if process.poll() is not None:
                self._bury(name)
        for _ in range(SIZE - len(self.at_work())):
            options = ["--grace", self.random.choice([1, 5]), "--at-once", self.random.choice([2, 5, 50])]
            self.demo.start_worker(f"{WORKER}-{next(self.numbers)}", *options)

    def at_work(self):
        """The names of those that may claim; also of those that stand still."""
        return sorted(self.parts.workers().keys() - self.leaving)

    def moving(self):
        return sorted(set(self.at_work()) - self.frozen)

    def signal(self, name, number):
        """Sends a signal, if the worker is there still."""
        if process := self.parts.workers().get(name):
            process.send_signal(number)

    def freeze(self, name):
        self.frozen.add(name)
        self.signal(name, signal.SIGSTOP)

    def thaw(self, name):
        self.frozen.discard(name)
        self.signal(name, signal.SIGCONT)

    def tell_to_end(self, name):
        self.leaving.add(name)
        self.signal(name, signal.SIGTERM)

    def _bury(self, name):
        process = self.parts.processes.pop(name)
        process.stdin.close()
        self.ended[process.returncode] += 1
        self.leaving.discard(name)
        if process.returncode not in EXPECTED:
            self.errors.append(f"{name} ended with {process.returncode}; read {self.parts.log(name)}")

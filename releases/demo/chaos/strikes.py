"""What strikes the portal while people work in it: at random moments, of a kind chosen at random."""

import heapq
import itertools
import logging
import math
import random
import signal
import time
from collections import Counter

from django.conf import settings

log = logging.getLogger(__name__)

TICK = 0.1
BETWEEN = (0.3, 2.5)  # seconds
FROZEN = (1, 6)  # seconds that a machine's connections stand still
BROKEN = (2, 8)  # seconds until a machine is repaired


class Strikes:
    """Each kind is a method here or one of the database's; what it undoes later, it leaves to `_later`."""

    def __init__(self, crew, machines, database, seed):
        self.crew, self.machines = crew, machines
        self.random = random.Random(seed)  # noqa: S311
        self.counts = Counter()
        self._due, self._order = [], itertools.count()
        # How often each kind comes, in proportion
        self.kinds = {
            "workers killed": (self._kill, 4),
            "workers told to end": (self._terminate, 2),
            "workers frozen": (self._freeze_worker, 3),
            "connections cut": (self._cut, 4),
            "machines frozen": (self._freeze_machines, 3),
            "machines broken": (self._break_machines, 2),
            **database.strikes,
        }

    def fall_for(self, seconds):
        """Strikes again and again, for so long."""
        end = time.monotonic() + seconds
        following = time.monotonic()
        while time.monotonic() < end:
            self._undo_due()
            self.crew.tend()
            if time.monotonic() >= following:
                self._strike()
                following = time.monotonic() + self.random.uniform(*BETWEEN)
            time.sleep(TICK)

    def undo(self):
        """Puts all in order again."""
        while self._due:
            heapq.heappop(self._due)[-1]()

    def _strike(self):
        weights = [weight for _, weight in self.kinds.values()]
        name = self.random.choices(list(self.kinds), weights)[0]
        what = self.kinds[name][0](self.random)
        if what is not None:
            self.counts[name] += 1
            log.info("%s: %s", name, what)

    def _undo_due(self):
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[-1]()

    def _later(self, seconds, undo):
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), undo))

    # The kinds. Each answers what it struck; None: there was nothing to strike.

    def _kill(self, chance):
        return self._worker(chance, lambda name: self.crew.signal(name, signal.SIGKILL))

    def _terminate(self, chance):
        """At times twice, which ends it at once."""
        again = chance.random() < 0.3

        def terminate(name):
            self.crew.tell_to_end(name)
            if again:
                self._later(0.5, lambda: self.crew.signal(name, signal.SIGTERM))

        return self._worker(chance, terminate)

    def _freeze_worker(self, chance):
        """At times for so long that the others give it up, at times not."""
        seconds = chance.uniform(0.3, 3) * settings.WORKER_DEAD_AFTER

        def freeze(name):
            self.crew.freeze(name)
            self._later(seconds, lambda: self.crew.thaw(name))

        return self._worker(chance, freeze)

    def _worker(self, chance, strike):
        moving = self.crew.moving()
        name = chance.choice(moving) if moving else None
        if name:
            strike(name)
        return name

    def _cut(self, chance):
        return self._some_machines(chance, self.machines.cut)

    def _freeze_machines(self, chance):
        return self._some_machines(chance, self.machines.freeze, FROZEN, self.machines.thaw)

    def _break_machines(self, chance):
        return self._some_machines(chance, self.machines.break_down, BROKEN, self.machines.repair)

    def _some_machines(self, chance, strike, seconds=None, undo=None):
        hostnames = self.machines.hostnames
        struck = chance.sample(hostnames, chance.randint(1, math.ceil(len(hostnames) / 3)))
        strike(struck)
        if undo:
            self._later(chance.uniform(*seconds), lambda: undo(struck))
        return struck

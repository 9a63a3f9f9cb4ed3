"""Chaos: people release and roll back while everything is struck; in the end the machines are asked what happened."""

import contextlib
import logging
import threading
import time
from collections import Counter

from django.db import connection

from releases.demo import world
from releases.demo.chaos import database, report
from releases.demo.chaos.crew import GIVEN_UP, Crew
from releases.demo.chaos.machines import Machines
from releases.demo.chaos.people import People
from releases.demo.chaos.strikes import Strikes
from releases.models import MachineRun

FLEET = "releases.demo.relay"
GROUPS = 3  # of people
POLL = 0.2
STUCK_AFTER = 100  # seconds in which nothing at all changed: longer than a task and its time limit take


class Chaos:
    """Chaos in a running demo whose machines are those of FLEET. The same seed makes the same choices."""

    def __init__(self, demo, seed, spare_server=False):
        self.demo, self.seed = demo, seed
        self.machines = Machines(demo)
        self.crew = Crew(demo, f"{seed} crew")
        self.database = database.of_the_demo(demo.parts.log("postgresql"), spare_server)
        self.strikes = Strikes(self.crew, self.machines, self.database, f"{seed} strikes")
        self.people = [People(demo, self.machines, f"{seed} people {number}") for number in range(GROUPS)]

    def run(self, seconds):
        """Chaos for so long, then the end of all that is under way; what came of it, as `report.words` tells it."""
        world.add_checks()
        with _logged_to(self.demo.parts.log("chaos")):
            try:
                with self._people_at_work():
                    self.strikes.fall_for(seconds)
            finally:
                self.strikes.undo()
            self._settle()
        return self._facts(seconds)

    @contextlib.contextmanager
    def _people_at_work(self):
        stop = threading.Event()
        threads = [threading.Thread(target=people.work, args=[stop]) for people in self.people]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _settle(self):
        """Until everything is at rest, or nothing changes any more."""
        connection.close()
        seen, since = None, time.monotonic()
        while not self._is_at_rest() and time.monotonic() < since + STUCK_AFTER:
            self.crew.tend()
            time.sleep(POLL)
            if (now := MachineRun.objects.counts()) != seen:
                seen, since = now, time.monotonic()

    def _is_at_rest(self):
        return self.people[0].finish() and all(map(self.machines.is_quiet, self.machines.hostnames))

    def _facts(self, seconds):
        people = self.people
        return {
            "seed": self.seed,
            "seconds": seconds,
            "database": connection.vendor,
            "strikes": dict(self.strikes.counts),
            "steps": dict(sum((group.steps for group in people), Counter())),
            "refused": sum(group.refused.total() for group in people),
            "away": sum(group.away for group in people),
            "workers": self.crew.ended.total() + len(self.crew.at_work()),
            "given_up": self.crew.ended[GIVEN_UP],
            "errors": [*self.crew.errors, *(error for group in people for error in group.errors)],
            **report.facts(self.demo.home("")),
        }


@contextlib.contextmanager
def _logged_to(path):
    """What is done and struck goes to a file: it is too much for a terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("{asctime} {levelname} {message}", style="{"))
    logger = logging.getLogger(__name__)
    logger.addHandler(handler)
    logger.propagate, propagated = False, logger.propagate
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        handler.close()

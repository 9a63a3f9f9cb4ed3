"""What many ask for at once, made once: the portal's CPU goes where people wait for it, not to a hundred who watch."""

import threading
import time
from collections import OrderedDict

KEPT = 32  # answers; a large one is some hundred kB
PATIENCE = 2  # seconds; who makes it for longer waits for something, which all may wait for at once


class _Answer:
    def __init__(self):
        self.lock = threading.Lock()
        self.made = None
        self.good_until = 0


class Shared:
    """In this process, gives what was made for one who asked to those who ask for the same within `seconds`."""

    def __init__(self):
        self._lock = threading.Lock()
        self._answers = OrderedDict()

    def get(self, key, seconds, make):
        """`make` returns what it made and whether others may have it."""
        asked_at = time.monotonic()
        with self._lock:
            answer = self._answers.setdefault(key, _Answer())
            self._answers.move_to_end(key)
            if len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        if not answer.lock.acquire(timeout=PATIENCE):
            return make()[0]
        try:
            # By when it was asked for: who waited here while it was made has it, too.
            if asked_at < answer.good_until:
                return answer.made
            begun_at = time.monotonic()
            made, is_for_all = make()
            if is_for_all:
                answer.made, answer.good_until = made, begun_at + seconds
            return made
        finally:
            answer.lock.release()

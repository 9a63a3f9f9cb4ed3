"""Waiting for a state instead of for a time."""

import time

# Nothing takes this long: it only ends a test that hangs, however slow the machine.
PATIENCE = 300


def wait_until(condition, patience=PATIENCE, every=0.01):
    """Polls `condition` until it is true and returns what it gave; fails when that takes longer than `patience`."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"Not so within {patience} s: {condition}"
        time.sleep(every)
    return found

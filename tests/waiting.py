"""Waiting for a state instead of for a time."""

import time

# Nothing takes this long: it only ends a test that hangs, however slow the machine. What a test sees killed sleeps for
# longer, or it would be gone in time by itself.
PATIENCE = 300


def wait_until(condition, patience=PATIENCE, every=0.5):
    """Polls `condition` until it is true and returns what it gave; fails when that takes longer than `patience`."""
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < patience, f"Not so within {patience} s: {condition}"
        # The longer it takes the less often it is asked: asking takes the time of what is waited for.
        time.sleep(min(every, max(0.01, waited / 10)))
    return found

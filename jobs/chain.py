"""The chains of events: each event carries a hash over what it says and over the hash of the one before it."""

import json
from datetime import UTC
from hashlib import sha256
from itertools import groupby
from operator import attrgetter

from django.db.models import F

SEALED = ["verb", "subject", "stage", "was", "became", "reason", "origin", "detail", "previous"]


def seal(event):
    """The SHA-256 over what an event says and the hash of the event before it. Never change how it is made."""
    at = event.at.astimezone(UTC).isoformat(timespec="microseconds")
    told = [event.job_id, event.number, at, event.actor_id, *(getattr(event, name) for name in SEALED)]
    return sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def chains(events):
    """(job id or None, its events one after the other) for each chain, with no more than some events in memory."""
    in_order = events.order_by(F("job").asc(nulls_first=True), "number")
    return groupby(in_order.iterator(chunk_size=2000), attrgetter("job_id"))


def check(events, kept=None):
    """The last event of a chain, and what is wrong with it, in words; `kept` is its head as it once was."""
    last, wrong = None, []
    for event in events:
        wrong += _breaks(last, event)
        if kept and event.number == kept["number"] and event.digest != kept["hash"]:
            wrong.append(f"event {event.number} is not the one that was kept")
        last = event
    if kept and kept["number"] > last.number:
        wrong.append(f"{_events(last.number + 1, kept['number'])} cut off from its end")
    return last, wrong


def _breaks(last, event):
    expected, previous = (last.number + 1, last.digest) if last else (1, "")
    if event.number != expected:
        yield f"{_events(expected, event.number - 1)} missing"
    elif event.previous != previous:
        yield f"event {event.number} does not follow what stands before it"
    if event.digest != seal(event):
        yield f"event {event.number} was changed"


def _events(first, last):
    return f"event {first} is" if first == last else f"events {first} to {last} are"

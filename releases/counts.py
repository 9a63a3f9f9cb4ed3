"""How many machines are in which state: in the order in which pages name them, and as the parts of a bar."""

from collections import Counter

from releases.models import MachineRun
from releases.models.task import shown_as

Status = MachineRun.Status

BAR = {
    Status.SUCCEEDED: "ok",
    "rolled_back": "muted",
    Status.FAILED: "bad",
    Status.TIMED_OUT: "bad",
    Status.UNREACHABLE: "bad",
    Status.UNKNOWN: "unk",
    Status.RUNNING: "run",
    "excused": "muted",
}
WAITS = [Status.CLAIMED, Status.QUEUED]
# The order in which counts and bars name the states: good news first, what waits last.
ORDER = [*BAR, *WAITS, Status.HELD, Status.CANCELLED, Status.NOT_RUN, "waiting", "changed", "gone"]


def ordered(counts):
    """(status, number) pairs in the order in which pages name them."""
    return [(status, counts[status]) for status in ORDER if counts[status]]


def bar(counts):
    """(bar class, number) pairs for the template tag that draws a bar; what has not begun is its empty part."""
    by_class = Counter()
    for status, number in counts.items():
        if status in BAR:
            by_class[BAR[status]] += number
    return [(name, by_class[name]) for name in ("ok", "muted", "bad", "unk", "run") if by_class[name]]


def counted(counts, action):
    """How many machines of a run are in which state as pages tell it, out of {status: number}."""
    return Counter({shown_as(status, action): number for status, number in counts.items()})

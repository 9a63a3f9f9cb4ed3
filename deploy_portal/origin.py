"""Where the person who is acting comes from: an address on a page, a host name in a command. Events record it."""

import os
import socket
from contextlib import contextmanager
from contextvars import ContextVar

_origin = ContextVar("origin", default="")


def current():
    return _origin.get()


def enter(where):
    """Makes `where` the origin from here on; returns the token for `leave`."""
    return _origin.set(where)


def leave(token):
    _origin.reset(token)


@contextmanager
def process(kind):
    """Within it, the origin is this process, as a `kind` of process."""
    token = enter(f"{kind} on {socket.gethostname()[:200]}, pid {os.getpid()}")
    try:
        yield
    finally:
        leave(token)

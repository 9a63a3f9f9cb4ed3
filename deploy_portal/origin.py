"""Where the person who is acting comes from: an address on a page, a host name in a command. Events record it."""

import os
import socket
from contextlib import contextmanager
from contextvars import ContextVar

_origin = ContextVar("origin", default="")


def current():
    return _origin.get()


@contextmanager
def set_to(where):
    """Within it, `where` is the origin."""
    token = _origin.set(where)
    try:
        yield
    finally:
        _origin.reset(token)


def address_of(request):
    """Where a request comes from; a web server before this one may hand it over by a socket, which has no address."""
    return request.META.get("REMOTE_ADDR") or "a socket"


def process(kind):
    """Within it, the origin is this process, as a `kind` of process."""
    return set_to(f"{kind} on {socket.gethostname()[:200]}, pid {os.getpid()}")

"""How long a session lasts, by the server's clock: a cookie's age is the browser's word, its signature is renewed."""

import time

from django.conf import settings
from django.contrib.auth import SESSION_KEY

STARTED, SEEN = "started", "seen"
# In seconds: not every page needs a new cookie to say that somebody is there.
SEEN_EVERY = 30


def begin(session):
    session[STARTED] = session[SEEN] = int(time.time())


def is_over(session):
    """Whether somebody's session has reached its age or was idle too long; one that has no start is over."""
    if SESSION_KEY not in session:
        return False
    now, started = time.time(), session.get(STARTED, 0)
    idle = settings.SESSION_IDLE and now - session.get(SEEN, started) >= settings.SESSION_IDLE
    return bool(idle) or now - started >= settings.SESSION_AGE


def note_activity(session):
    now = int(time.time())
    if settings.SESSION_IDLE and SESSION_KEY in session and now - session.get(SEEN, 0) >= SEEN_EVERY:
        session[SEEN] = now

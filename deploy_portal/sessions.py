"""How long a session lasts, by the server's clock: a cookie's age is the browser's word, its signature is renewed."""

import time

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.utils.crypto import constant_time_compare

STARTED, SEEN, SECOND_FACTOR, HALF_WAY = "started", "seen", "second_factor", "half_way"
# In seconds: not every page needs a new cookie to say that somebody is there.
SEEN_EVERY = 30
CODE_WITHIN = 300


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


def go_half_way(session, user):
    """Keeps who has shown a password but not yet a code: nobody is logged in by that."""
    session.flush()
    told = {"user": user.pk, "backend": user.backend, "hash": user.get_session_auth_hash(), "at": int(time.time())}
    session[HALF_WAY] = told


def half_way(session):
    """The person whose code is waited for, or None: too late, or with another password or no access meanwhile."""
    told = session.get(HALF_WAY)
    if not told or time.time() - told["at"] >= CODE_WITHIN:
        return None
    user = get_user_model().objects.filter(pk=told["user"], is_active=True).first()
    if not user or not constant_time_compare(told["hash"], user.get_session_auth_hash()):
        return None
    user.backend = told["backend"]
    return user

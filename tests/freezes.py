"""Freezes of the tests: in force now, or far enough from now."""

from datetime import timedelta

from deploy_portal.clock import database_now
from jobs.models import Freeze

HOUR = timedelta(hours=1)


def freeze_now(by, business=None, reason="the great sale", **fields):
    """One that is in force from an hour ago until two hours from now, unless told."""
    now = database_now()
    times = {"starts_at": now - HOUR, "ends_at": now + 2 * HOUR}
    return Freeze.objects.create(kind="once", business=business, reason=reason, made_by=by, **times | fields)


def occurrence_of(freeze):
    return next(one for one in Freeze.objects.ahead() if one.freeze == freeze)

"""Many cases on one world: each leaves it as it found it."""

from contextlib import contextmanager

from django.db import transaction


@contextmanager
def undone():
    """Takes back what is written within. The instances that it changed, and who was logged in, are not looked after."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)

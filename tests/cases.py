"""Many cases on one world: each leaves it as it found it."""

import inspect
from contextlib import contextmanager
from functools import wraps

from django.db import transaction


def each(names, values):
    """As `pytest.mark.parametrize`, but all on one world, which each finds as the fixtures made it (see `case`)."""
    names = names.split(", ")

    def decorate(test):
        @wraps(test)
        def with_each(*args, case, **fixtures):
            for value in values:
                these = dict(zip(names, value if len(names) > 1 else [value], strict=True))
                with case(**these):
                    test(*args, **fixtures, **these)

        signature = inspect.signature(test)
        taken = [one for name, one in signature.parameters.items() if name not in names]
        case = inspect.Parameter("case", inspect.Parameter.KEYWORD_ONLY)
        with_each.__signature__ = signature.replace(parameters=[*taken, case])
        return with_each

    return decorate


@contextmanager
def undone():
    """Takes back what is written within. The instances that it changed, and who was logged in, are not looked after."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)

"""What the errors of the database mean, and what it must be told as it is."""

from django.db import InterfaceError, InternalError, OperationalError
from django.db.models import Value

# PostgreSQL's word for one that takes no writes for now: a failover, or a full disk.
READ_ONLY = "25006"


def is_away(error):
    """Whether the database cannot be had, or cannot be written to, for now: what was asked may go through later."""
    is_read_only = isinstance(error, InternalError) and getattr(error.__cause__, "sqlstate", "") == READ_ONLY
    return is_read_only or isinstance(error, InterfaceError | OperationalError)


class Constant(Value):
    """A word of the code that stands in the SQL itself: SQLite takes a partial index only for what it reads there."""

    def as_sql(self, compiler, connection):
        return f"'{self.value}'", []

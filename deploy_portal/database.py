"""What the errors of the database mean, and what it must be told as it is."""

import contextlib
import re
from functools import cache

from django.db import (
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
)
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Case, Value, When

# What PostgreSQL calls the options of libpq that say how long the other side may be silent.
IMPATIENCE = {
    "tcp_keepalives_idle": "keepalives_idle",
    "tcp_keepalives_interval": "keepalives_interval",
    "tcp_user_timeout": "tcp_user_timeout",
}
# PostgreSQL's words that it takes no writes for now (a failover, a full disk), and that it has ended a transaction in
# which nothing was asked for too long, or that took too long: who asks was frozen, or a limit is short.
FOR_NOW = ("25006", "25P03", "25P04")
# And for two that wait for each other, one of which it ends.
DEADLOCK = "40P01"
# Its words for a column and a table that are not there, and SQLite's, for which those are errors like any other.
NOT_THERE = ("42703", "42P01")
NOT_THERE_IN_SQLITE = re.compile(r"no such (column|table): |table \S+ has no column named ")
# And for a row that could not be written whatever else is there: it lacks a value, or has one that it may not have.
WRONG_ITSELF = ("23502", "23514")
WRONG_ITSELF_IN_SQLITE = re.compile("(NOT NULL|CHECK) constraint failed")

# Other apps may be gone by now, and their migrations tell nothing of the portal's.
OUR_APPS = ("deploy_portal", "jobs", "releases")


def is_away(error):
    """Whether the database cannot be had, or cannot be written to, for now: what was asked may go through later."""
    is_for_now = isinstance(error, InternalError) and getattr(error.__cause__, "sqlstate", "") in FOR_NOW
    return is_for_now or (isinstance(error, InterfaceError | OperationalError) and not is_of_another_version(error))


def be_as_impatient(connection, **_):
    """Has PostgreSQL wait for us no longer than we do for it: a host that is gone would hold its locks for hours.

    By a question, for libpq's way to say so is one that PgBouncer refuses.
    """
    if connection.vendor == "postgresql":
        told = [(name, str(connection.settings_dict["OPTIONS"][ours])) for name, ours in IMPATIENCE.items()]
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(['set_config(%s, %s, false)'] * len(told))}", sum(told, ()))


@contextlib.contextmanager
def unless_away():
    """For writes that who only looks can do without: what is there is shown, also while none can be made."""
    try:
        yield
    except Error as error:
        if not is_away(error):
            raise


def is_deadlock(error):
    return getattr(error.__cause__, "sqlstate", "") == DEADLOCK


def is_clash(error):
    """Whether the database refused a row for what others wrote; else it is a fault, or the code is an older one."""
    is_told_so = WRONG_ITSELF_IN_SQLITE.match(str(error)) or getattr(error.__cause__, "sqlstate", "") in WRONG_ITSELF
    return isinstance(error, IntegrityError) and not is_told_so


def take_turns(number):
    """Inside a transaction: who takes turns under this number waits for the end of who did before."""
    # SQLite has one writer at a time anyway.
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])


def is_of_another_version(error):
    """Whether the database lacks what the code asks for: one of them is older than the other."""
    is_told_so = isinstance(error, OperationalError) and NOT_THERE_IN_SQLITE.match(str(error))
    return bool(is_told_so) or getattr(error.__cause__, "sqlstate", "") in NOT_THERE


def why_unusable(error):
    """For a terminal: that the database cannot be used, and why; empty where it can, and the code is at fault."""
    if is_of_another_version(error):
        what = "it is of another version than the portal, run manage.py migrate or start the newer one: "
    elif is_away(error) or isinstance(error, ProgrammingError):
        what = ""
    else:
        return ""
    return f"The database cannot be used: {what}{error}"


def require_own_version():
    """For who would do harm without what the code relies on, such as a constraint, or by the rules of old."""
    if words := other_version():
        raise ProgrammingError(f"it is {words}")


def other_version():
    """What the database is beside the code, and what to do; nothing where they are of one version."""
    applied = MigrationRecorder(connection).applied_migrations().keys()
    if not _migrations() <= applied:
        return "older than the portal: run manage.py migrate"
    if any(app in OUR_APPS for app, _ in applied - _migrations()):
        return "newer than the portal: start the newer one here, too"
    return ""


@cache
def _migrations():
    """Those that come with the code; they are read from the disk."""
    return MigrationLoader(None).graph.nodes.keys()


class Constant(Value):
    """A word of the code that stands in the SQL itself: SQLite takes a partial index only for what it reads there."""

    def as_sql(self, compiler, connection):
        return f"'{self.value}'", []


def half_likely(condition):
    """A condition of which PostgreSQL takes half to be true: for what is true of nearly all rows and looks rare to it.

    It would read and sort all there is, where it can stop at the first few.
    """
    return Case(When(condition, then=True), default=False)

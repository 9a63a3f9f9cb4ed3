"""Taking the database away from everybody for a while."""

import contextlib
import sqlite3
import time

from django.db import Error, connection

from releases.demo.chaos.postmaster import Postmaster
from releases.demo.portal import DemoError

LOCKED = (0.5, 6)  # seconds
ITS_TURN = 2  # seconds
DOWN = (0, 4)  # seconds between the end of a server and its next start
POLL = 0.1
PATIENCE = 60
LOCAL = (None, "127.0.0.1", "::1")
OURS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
OTHERS = "FROM pg_stat_activity WHERE datname <> current_database() AND backend_type = 'client backend'"


def of_the_demo(log, spare_server=False):
    """What can be done to the database of the settings. A server that is spared, or is not ours, is not restarted."""
    return Sqlite() if connection.vendor == "sqlite" else PostgreSql(log, spare_server)


class Sqlite:
    def __init__(self):
        self.strikes = {"database locked": (self._lock, 2)}

    def _lock(self, chance):
        """Holds the one lock that every write needs, unless a worker that was frozen with it does."""
        seconds = chance.uniform(*LOCKED)
        path = connection.settings_dict["NAME"]
        with contextlib.closing(sqlite3.connect(path, timeout=ITS_TURN, isolation_level=None)) as holder:
            try:
                holder.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return None
            time.sleep(seconds)
        return f"{seconds:.1f} s"


class PostgreSql:
    def __init__(self, log, spare_server):
        self.log = log
        self.strikes = {"database connections ended": (self._throw_out, 3)}
        if not spare_server and our_postmaster():
            self.strikes["database restarted"] = (self._restart, 2)

    def _throw_out(self, chance):
        """Ends every connection to this database; the server's others are left alone."""
        return _ask(f"SELECT count(pg_terminate_backend(pid)) {OURS}")

    def _restart(self, chance):
        """As an operator does: whoever is connected is thrown out, and for a while nobody gets in."""
        seconds = chance.uniform(*DOWN)
        if not (postmaster := our_postmaster()):
            return None
        postmaster.stop()
        try:
            _wait(postmaster.is_gone)
            time.sleep(seconds)
        finally:
            postmaster.start(self.log)
            _wait(_answers)
        return f"away for {seconds:.1f} s"


def our_postmaster():
    """The server's process, when it is on this host, in our hands, and at the moment nobody else's; else None."""
    with contextlib.suppress(Error, OSError, ValueError):
        postmaster = Postmaster(_ask("SHOW data_directory"))
        is_here = _ask("SELECT host(inet_server_addr())") in LOCAL
        return postmaster if is_here and postmaster.is_ours() and not _ask(f"SELECT count(*) {OTHERS}") else None
    return None


def _ask(query):
    """The one value that the query gives, on a connection that nobody has ended."""
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def _answers():
    with contextlib.suppress(Error):
        return _ask("SELECT true")
    return False


def _wait(is_so):
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise DemoError("The PostgreSQL server did not end or start in time.")
        time.sleep(POLL)

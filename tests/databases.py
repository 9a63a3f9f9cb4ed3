"""The tables are made by the migrations once for all processes of a run, each of which works on a copy.

And what is peculiar to a database: how many parameters it takes, how it says that it takes no writes, how it is away.
"""

import fcntl
import shutil
import sqlite3
from contextlib import contextmanager

import pytest
from django.db import InternalError, OperationalError, connection
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment, django_db_blocker, tmp_path_factory, worker_id):
    """Instead of pytest-django's, with which each process migrates a database of its own."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    if connection.vendor == "sqlite":
        # A file and no shared memory, so that threads and the live server meet the locks that production has.
        connection.settings_dict["TEST"]["NAME"] = str(shared / "test.sqlite3")
    asked_for = connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        with (shared / "database.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _use_migrated(shared / "migrated")
            connection.creation.clone_test_db(worker_id, verbosity=0)
        connection.settings_dict.update(connection.creation.get_test_db_clone_settings(worker_id))
    yield
    with django_db_blocker.unblock():
        connection.creation.destroy_test_db(asked_for, verbosity=0)


@pytest.fixture(scope="session")
def with_tables(django_db_setup):
    """Makes a folder with a `db.sqlite3` that has our tables and nothing in them, which takes a command long."""

    def with_tables(folder):
        folder.mkdir()
        if connection.vendor == "sqlite":
            shutil.copy(connection.settings_dict["TEST"]["NAME"], folder / "db.sqlite3")
        return folder

    return with_tables


def _use_migrated(mark):
    """Connects to the database that is copied, and makes it if this run has none yet. `mark`: the file that says so."""
    if mark.exists():
        connection.settings_dict["NAME"] = connection.creation._get_test_db_name()
    else:
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        mark.touch()
    connection.close()


@contextmanager
def few_parameters():
    """Queries of 999 parameters at most, as in an SQLite that is built with its old default."""
    if connection.vendor != "sqlite":
        yield
        return
    connection.ensure_connection()
    was = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    try:
        yield
    finally:
        connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, was)


@contextmanager
def no_answers():
    """No query of this thread is answered, as by a server that is being restarted."""

    def refuse(*_):
        raise OperationalError("terminating connection due to administrator command")

    with connection.execute_wrapper(refuse):
        yield


def read_only():
    """What Django makes of PostgreSQL's word that it takes no writes for now, as in a failover."""
    error = InternalError("cannot execute UPDATE in a read-only transaction")
    error.__cause__ = ReadOnlySqlTransaction()
    return error


def stood_still():
    """What Django makes of PostgreSQL's word that it has ended a transaction in which too long nothing was asked."""
    error = InternalError("terminating connection due to idle-in-transaction timeout")
    error.__cause__ = IdleInTransactionSessionTimeout()
    return error


@contextmanager
def only_read():
    """No write of this thread is taken, as by a server that others have made read-only."""

    def refuse(execute, sql, *rest):
        if sql.startswith(("INSERT", "UPDATE", "DELETE")) or "FOR UPDATE" in sql or "FOR NO KEY UPDATE" in sql:
            raise read_only()
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        yield


def sqlite_plans(queries):
    """How SQLite goes about each of these that were captured, a step a line."""
    with connection.cursor() as cursor:
        asked = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
        return ["\n".join(step for *_, step in cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()) for sql in asked]

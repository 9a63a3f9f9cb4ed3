"""Doing things at the same time, each with a connection to the database of its own."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from django.db import connection


def at_once(*functions):
    """Calls all `functions` at the same moment, each in a thread; returns what each gave or raised."""
    ready = Barrier(len(functions))

    def call(function):
        try:
            ready.wait()
            return function()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))


def waits_for_a_lock():
    """Whether somebody waits for a lock of this database now; in those beside it the suite's other processes may."""
    # A lock on a row names no database, but who waits for it is in one.
    waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees who was there when it asked first
        cursor.execute(f"{waiting} WHERE NOT granted AND datname = current_database()")
        return cursor.fetchone()[0]

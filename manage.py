#!/usr/bin/env python
import io
import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import Error


class LastWords(io.FileIO):
    """An output that takes what cannot be written there: the exit code which comes after it must not be lost."""

    def write(self, data):
        try:
            return super().write(data) or len(data)  # None where a reader is slow and nobody may wait for it
        except OSError:
            return len(data)


def in_a_line(error):
    """What a setting, or the database, is to blame for; nothing where the code is."""
    if isinstance(error, ModuleNotFoundError):
        settings = os.environ["DJANGO_SETTINGS_MODULE"]
        is_theirs = f"{settings}.".startswith(f"{error.name}.")
        return f"DJANGO_SETTINGS_MODULE names no module: {settings}" if is_theirs else ""
    if isinstance(error, Error):
        from deploy_portal.database import why_unusable

        return why_unusable(error)
    return str(error)


if __name__ == "__main__":
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as by >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    given = sys.stdout, sys.stderr  # kept, since each closes its descriptor when it is not
    # Nothing hangs on whether help was read; of what else is printed, each command tells itself what could not be.
    is_help = {"-h", "--help"} & set(sys.argv) or sys.argv[1:2] in ([], ["help"])
    for name in ["stdout", "stderr"] if is_help else ["stderr"]:
        was = getattr(sys, name)
        out = io.BufferedWriter(LastWords(was.fileno(), "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(out, was.encoding, "backslashreplace", line_buffering=True))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy_portal.settings")
    if sys.argv[1:2] == ["demo"]:
        from releases.demo import environment

        # Before the settings are read: the demo starts where nothing is configured, and brings what they ask for
        environment.enter(sys.argv[2:])
    try:
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, ModuleNotFoundError, Error) as error:
        if "--traceback" in sys.argv or not (words := in_a_line(error)):
            raise
        sys.exit(words)

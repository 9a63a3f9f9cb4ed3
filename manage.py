#!/usr/bin/env python
import io
import os
import sys

from django.core.management import execute_from_command_line


class LastWords(io.FileIO):
    """Standard error that takes what cannot be written there: the exit code which comes after it must not be lost."""

    def write(self, data):
        try:
            return super().write(data) or len(data)  # None where a reader is slow and nobody may wait for it
        except OSError:
            return len(data)


if __name__ == "__main__":
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as by >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    given = sys.stderr  # kept, since it closes its descriptor when it is not
    out = io.BufferedWriter(LastWords(given.fileno(), "w", closefd=False))
    sys.stderr = io.TextIOWrapper(out, given.encoding, "backslashreplace", line_buffering=True)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy_portal.settings")
    if sys.argv[1:2] == ["demo"]:
        from releases.demo import environment

        # Before the settings are read: the demo starts where nothing is configured, and brings what they ask for
        environment.enter(sys.argv[2:])
    execute_from_command_line(sys.argv)

"""`python -m tests` runs the suite on SQLite and on PostgreSQL, both at once: where one waits, the other works."""

import shutil
import subprocess
import sys
import tempfile

SUITE = [sys.executable, "-m", "pytest", "-n", "4"]


def main():
    """Shows the one as it goes and then what the other said; returns 0 when both passed."""
    with tempfile.TemporaryFile() as said:
        on_postgres = subprocess.Popen([*SUITE, "-p", "tests.postgres"], stdout=said, stderr=subprocess.STDOUT)
        try:
            on_sqlite = subprocess.call(SUITE)
        finally:
            on_postgres.wait()
            said.seek(0)
            shutil.copyfileobj(said, sys.stdout.buffer)
    return on_sqlite or on_postgres.returncode


if __name__ == "__main__":
    sys.exit(main())

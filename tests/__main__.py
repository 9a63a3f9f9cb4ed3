"""`python -m tests` runs the suite on SQLite and on PostgreSQL, both at once: where one waits, the other works."""

import shutil
import signal
import subprocess
import sys
import tempfile

SUITE = [sys.executable, "-m", "pytest", "-n", "4"]


def main():
    """Shows the one as it goes and then what the other said; returns 0 when both passed."""
    with tempfile.TemporaryFile() as said:
        on_postgres = [*SUITE, "-p", "tests.postgres"]
        suites = [subprocess.Popen(SUITE), subprocess.Popen(on_postgres, stdout=said, stderr=subprocess.STDOUT)]
        signal.signal(signal.SIGINT, lambda *_: None)  # they hear it, too, and tidy up
        signal.signal(signal.SIGTERM, lambda *_: [suite.send_signal(signal.SIGINT) for suite in suites])
        codes = [suite.wait() for suite in suites]
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout.buffer)
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())

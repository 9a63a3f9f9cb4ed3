"""`manage.py` with a worker that no slow host makes impatient; a test makes it so by its environment, in seconds."""

import os
import sys

import django
from django.core.management import execute_from_command_line

django.setup()

from releases import worker  # noqa: E402
from releases.executors import connections, remote_shell, ssh  # noqa: E402

PATIENT = 300
LIMITS = {
    "CANCEL_GRACE": (worker, PATIENT),
    "LEAVE_WITHIN": (worker, PATIENT),
    "WARM_SECONDS": (ssh, PATIENT),
    "END_GRACE": (ssh, PATIENT),
    "TIMEOUT_GRACE": (ssh, PATIENT),
    "QUIET_SECONDS": (ssh, PATIENT),
    "LATE_SECONDS": (ssh, PATIENT),
    "KEEPALIVE_SECONDS": (connections, PATIENT),
    "KILL_AFTER": (remote_shell, remote_shell.KILL_AFTER),
}
for name, (module, usual) in LIMITS.items():
    setattr(module, name, int(os.environ.get(name, usual)))

if __name__ == "__main__":
    execute_from_command_line(sys.argv)

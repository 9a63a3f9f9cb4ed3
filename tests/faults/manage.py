"""The portal's commands as processes of their own, as a person's shell starts them."""

import subprocess
import sys

from django.conf import settings

from tests.faults.worker import environment
from tests.waiting import PATIENCE


def manage(*arguments):
    """Runs `manage.py` with `arguments` to its end; returns the finished process."""
    command = [sys.executable, "manage.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )

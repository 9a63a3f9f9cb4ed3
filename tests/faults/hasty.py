"""`manage.py` with a worker that finds out in seconds what otherwise takes it a minute."""

import sys

from django.core.management import execute_from_command_line

from releases.executors import connections, remote_shell

connections.KEEPALIVE_SECONDS = 1
remote_shell.KILL_AFTER = 1

if __name__ == "__main__":
    execute_from_command_line(sys.argv)

"""Runs a module, as `python -m` would, until the process that started it is gone: then it is ended, and its children.

    python -m releases.demo.leash MODULE [ARGUMENT ...]

It watches its stdin, which ends with that process however it ended, and must lead a process group of its own.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE = 8  # seconds: longer than the worker and the web server take once they were told to end


def _watch_stdin():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_watch_stdin, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""The portal's web server as a process of its own, which a test may kill."""

import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from urllib.parse import urlencode

from django.conf import settings

from tests.faults.worker import environment
from tests.waiting import PATIENCE, wait_until

CSRF = "c" * 32


class WebProcess:
    """gunicorn with so many threads, at any free port; on a leash, so that it does not outlive the tests."""

    def __init__(self, log, threads):
        self.log = log
        command = ["gunicorn", "deploy_portal.wsgi", "--config", "deploy_portal/gunicorn.conf.py"]
        command += ["--bind", "127.0.0.1:0", "--threads", str(threads)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "releases.demo.leash", *command],
                cwd=settings.BASE_DIR,
                env=environment(DJANGO_SETTINGS_MODULE="tests.settings"),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.port = int(wait_until(self._listening)[1])

    def _listening(self):
        assert self.process.poll() is None, self.log.read_text()
        return re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.log.read_text())

    def post(self, address, session, fields):
        """Posts a form as the user of that session cookie; its status, or None when the answer never came."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {
            "Cookie": f"{settings.SESSION_COOKIE_NAME}={session}; {settings.CSRF_COOKIE_NAME}={CSRF}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode(fields | {"csrfmiddlewaretoken": CSRF}, doseq=True)
        try:
            connection.request("POST", address, body, headers)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def kill(self):
        """As `kill -9` of the server and all that it started; again, it does nothing."""
        with self.process:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

"""What is configured where a demo is started, in .env or around it, is not what the demo goes by."""

import os
import subprocess
import sys

from releases.demo.environment import NOT_OURS
from tests.demo import ROOT
from tests.waiting import PATIENCE

PRODUCTION = {
    "REQUIRE_SECOND_FACTOR": "publisher,ops",
    "LDAP_SERVER": "ldaps://ldap.example",
    "OIDC_CLIENT_ID": "portal",
    "EMAIL_URL": "smtp://mail.example",
    "EMAIL_URL_FILE": "/etc/portal/mail",
    "BEHIND_TLS_PROXY": "1",
    "SECRET_KEY_FILE": "/etc/portal/key",
    "SSH_AGENT": "1",
    "SSH_KEYS_DIR": "/etc/portal/keys",
}
SHOWN = "REQUIRE_SECOND_FACTOR", "OTHER_LOGINS", "EMAIL_BACKEND", "SSH_AGENT", "SSH_KEYS_DIR"
PROGRAM = f"""
import sys
from releases.demo import environment
environment.enter(["--data", sys.argv[1]])
from deploy_portal import settings
print([getattr(settings, name) for name in {SHOWN}], hasattr(settings, "SECURE_PROXY_SSL_HEADER"))
"""


def test_a_production_set_up_does_not_reach_the_demo(tmp_path):
    environ = {"PATH": os.environ["PATH"]} | dict.fromkeys(NOT_OURS, "nonsense") | PRODUCTION
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    entered = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    mail = "django.core.mail.backends.dummy.EmailBackend"
    assert entered.stdout.strip() == f"{[[], {}, mail, False, '']} False", entered.stderr

"""The settings of the test suite: the portal's own, with development values where production wants secrets."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("DEBUG", "0")
os.environ.setdefault("SECRET_KEY", "tests-only-secret-key-that-is-long-enough-for-the-deployment-checks")
os.environ.setdefault("INSECURE_HTTP", "1")
os.environ.setdefault("ALLOWED_HOSTS", "localhost,127.0.0.1,testserver")
for limit in ("WRITES_PER_MINUTE", "LOGINS_PER_MINUTE"):
    os.environ.setdefault(limit, "0")  # tests are quicker than people
os.environ.setdefault("ALLOW_LOOPBACK_MACHINES", "1")

from deploy_portal.settings import *  # noqa: E402, F403

folder = tempfile.mkdtemp(prefix="portal-tests-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
STATIC_ROOT = folder
# Empty: a test that needs files has a folder of its own.
CONFIG_FILES_DIR = BASE_DIR / "tests" / "no_config_files"  # noqa: F405

# First, so that its flush is the one that empties the database after a test.
INSTALLED_APPS = ["tests.flushing", *INSTALLED_APPS]  # noqa: F405

# The lists of most tests have no source behind them that could be asked again, however slow the host.
CONFIG_SERVICE_MAX_AGE = CONFIG_SERVICE_MAX_AGE_AT_START = 3600
# Nor is a service, a machine or a worker given up because it stood still for a moment, as all do on a busy host.
CONFIG_SERVICE_TIMEOUT = SSH_CONNECT_TIMEOUT = 120
WORKER_DEAD_AFTER = 60
# What a test has changed shows at once.
LIVE_SHARED_SECONDS = 0
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}  # noqa: F405
WHITENOISE_USE_FINDERS = True
# Static files are looked for when they are asked for, not once for each test client.
WHITENOISE_AUTOREFRESH = True

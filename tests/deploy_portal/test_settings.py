"""Start-up, in a process of its own: what cannot be meant is an error that names its variable."""

import os
import re
import subprocess
import sys
from pathlib import Path

from jobs.rights import Role
from tests.deploy_portal.test_other_logins import LDAP, OIDC
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "DEBUG": "0",
    "INSECURE_HTTP": "0",
    "SECRET_KEY": "pV3xq8TtZ0w9Lr5cYk2mJb7nHd4sGf6a-uEoWiRyNzAxQCvB-of-a-test",
    "SECRET_KEY_FILE": "",
    "ALLOWED_HOSTS": "portal.example",
    "DATABASE_URL": "postgres://portal:secret@db.example/portal",
    "DJANGO_SETTINGS_MODULE": "deploy_portal.settings",
}


def portal(*command, **variables):
    """Runs Python with the variables of a production set-up, changed by `variables`."""
    environ = {"PATH": os.environ["PATH"], **PRODUCTION, **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def start_up(**variables):
    return portal("-c", "import deploy_portal.settings as s; print(s.SECRET_KEY)", **variables)


def error_of(**variables):
    """The last line that a start-up ends with."""
    started = start_up(**variables)
    assert started.returncode == 1, started.stdout
    last = started.stderr.strip().splitlines()[-1]
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: "), last
    return last


def test_production_settings_start():
    assert start_up().stdout.strip() == PRODUCTION["SECRET_KEY"]


def test_no_secret_key_is_an_error_that_names_it():
    assert "SECRET_KEY" in error_of(SECRET_KEY="")


def test_only_the_worker_starts_without_a_secret_key_and_has_one_of_its_own_then():
    program = "import sys; sys.argv[:] = {}; import deploy_portal.settings as s; print(s.SECRET_KEY)"
    keys = {portal("-c", program.format(["manage.py", "release_worker"]), SECRET_KEY="").stdout for _ in range(2)}
    assert len(keys) == 2
    assert all(len(key) > 40 for key in keys)
    kept = portal("-c", program.format(["manage.py", "release_worker"])).stdout.strip()
    assert kept == PRODUCTION["SECRET_KEY"]
    for argv in (["manage.py", "run_stage"], ["manage.py", "run_stage", "release_worker"], ["gunicorn"]):
        assert "Set SECRET_KEY" in portal("-c", program.format(argv), SECRET_KEY="").stderr


def test_development_starts_without_a_secret_key():
    assert "insecure" in start_up(SECRET_KEY="", DEBUG="1").stdout


def test_the_secret_key_may_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("a key from a file\n")
    assert start_up(SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "key")).stdout.strip() == "a key from a file"


def test_a_secret_key_that_is_given_twice_is_refused(tmp_path):
    assert "SECRET_KEY or SECRET_KEY_FILE, not both" in error_of(SECRET_KEY_FILE=str(tmp_path / "key"))


# Starts up with each NAME=VALUE of its arguments, in a process of its own that has only Django's part of it behind it.
WITH_EACH = """
import os, sys
import django.core.validators, django.utils.translation, environ
for argument in sys.argv[1:]:
    if not os.fork():
        name, _, os.environ[name] = argument.partition("=")
        import deploy_portal.settings
        sys.exit("no error")
    os.wait()
"""


def test_a_bad_value_is_an_error_that_names_its_variable(subtests):
    bad = {
        "DEBUG": "maybe",
        "INSECURE_HTTP": "2",
        "TIME_ZONE": "Mars/Olympus",
        "SESSION_HOURS": "0",
        "SESSION_IDLE_MINUTES": "-1",
        "REQUIRE_SECOND_FACTOR": "publisher, everybody",
        "SSH_CONNECT_TIMEOUT": "soon",
        "SSH_KEEP_SECONDS": "0",
        "WORKER_DEAD_AFTER": "-5",
        "DATABASE_URL": "mysql://db.example/portal",
        "LOG_LEVEL": "loud",
        "EXECUTOR": "telnet",
    }
    started = portal("-c", WITH_EACH, *(f"{name}={value}" for name, value in bad.items()))
    errors = re.findall(r"^(?:django.core.exceptions.ImproperlyConfigured: .*|no error)$", started.stderr, re.MULTILINE)
    for name, error in zip(bad, errors, strict=True):
        with subtests.test(name):
            assert name in error


def test_a_second_factor_can_be_required_of_each_role_and_of_ops():
    assert start_up(REQUIRE_SECOND_FACTOR=",".join([*Role.values, "ops"])).returncode == 0


SETTINGS_OF_A_HOUSE = """
from deploy_portal.settings import *
CONFIG_SOURCES["hosts"] = "jobs.config_service.file.FileSource"
EXECUTORS["own"] = "releases.executors.dummy.DummyExecutor"
EXECUTOR = "own"
"""


def test_a_settings_module_of_a_house_names_its_own_source_and_executor(tmp_path):
    (tmp_path / "house.py").write_text(SETTINGS_OF_A_HOUSE)
    program = "from releases import executors; from jobs.config_service import check; "
    program += "print(type(executors.load()).__name__, check('hosts', {'path': 'x.csv'}))"
    house = {"DJANGO_SETTINGS_MODULE": "house", "PYTHONPATH": str(tmp_path)}
    assert portal("manage.py", "shell", "-v0", "-c", program, **house).stdout.split() == ["DummyExecutor", "[]"]


def test_the_deployment_checks_have_nothing_to_say_about_production(tmp_path):
    assert portal("manage.py", "collectstatic", "--no-input", STATIC_ROOT=str(tmp_path)).returncode == 0
    checked = portal("manage.py", "check", "--deploy", "--fail-level", "WARNING", STATIC_ROOT=str(tmp_path))
    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout


def test_the_deployment_checks_warn_of_sqlite_in_production(tmp_path):
    checked = portal(
        "manage.py", "check", "--deploy", "--fail-level", "WARNING", DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3"
    )
    assert checked.returncode == 1
    assert "deploy_portal.W001" in checked.stderr


def test_cookies_are_bound_to_the_host_and_to_https_in_production():
    names = "SESSION_COOKIE_NAME", "CSRF_COOKIE_NAME", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"
    shown = portal("-c", f"import deploy_portal.settings as s; print([getattr(s, n) for n in {names}])")
    assert shown.stdout.strip() == "['__Host-session', '__Host-csrf', True, True]"


def test_there_is_no_change_of_models_without_its_migration(tmp_path):
    url = f"sqlite:///{tmp_path}/db.sqlite3"
    assert portal("manage.py", "makemigrations", "--check", "--dry-run", DATABASE_URL=url).returncode == 0


# Reads the settings, takes the file sys.argv[1] for a .env, and prints which settings differ then.
# Logins by a directory are on in it, with stand-ins for the packages that they need.
DIFFERENCES = """
import importlib, sys, unittest.mock
for name in ("ldap", "django_auth_ldap", "django_auth_ldap.config"):
    sys.modules[name] = unittest.mock.MagicMock()
sys.modules["django_auth_ldap.config"].LDAPSearch = lambda *args: args
from deploy_portal import env, settings
def read():  # the names of languages can be compared only once Django is set up
    return {name: value for name, value in vars(settings).items() if name.isupper() and name != "LANGUAGES"}
before = read()
env.env.read_env(sys.argv[1])
importlib.reload(settings)
after = read()
print([name for name in before | after if before.get(name) != after.get(name)])
"""


def test_what_the_example_shows_as_defaults_are_the_defaults(tmp_path):
    example = (ROOT / ".env.example").read_text()
    shown = re.findall(r"^#([A-Z_]+=.*)", example, re.MULTILINE)
    assert len(shown) > 50
    (tmp_path / "env").write_text("\n".join(shown))
    compared = portal("-c", DIFFERENCES, str(tmp_path / "env"), **LDAP, **OIDC)
    assert compared.stdout.strip() == "[]", compared.stderr


def test_a_provider_of_logins_is_in_the_path_once_its_variables_are_set():
    shown = portal(
        "-c",
        "import django; django.setup(); from django.conf import settings; from django.urls import reverse;"
        "print(reverse('oidc_authentication_callback'), settings.AUTHENTICATION_BACKENDS[-1])",
        **OIDC,
    )
    assert shown.stdout.split() == ["/login/oidc/callback/", "deploy_portal.oidc_login.OidcBackend"], shown.stderr
    assert "OIDC_TOKEN_ENDPOINT" in error_of(**OIDC | {"OIDC_TOKEN_ENDPOINT": "http://login.example/token"})


def test_the_debug_log_does_not_tell_what_was_typed_for_a_name_in_the_directory():
    """The library would, for LOG_LEVEL=DEBUG; a password may be typed there."""
    level = "import django, logging; django.setup(); print(logging.getLogger('django_auth_ldap').getEffectiveLevel())"
    shown = portal("-c", level, LOG_LEVEL="DEBUG")
    assert shown.stdout.split() == ["30"], shown.stderr


def test_logins_by_a_directory_without_the_package_are_an_error_that_names_it():
    missing = "import sys; sys.modules['django_auth_ldap'] = None; import deploy_portal.settings"
    started = portal("-c", missing, LDAP_SERVER="ldaps://ldap.example")
    assert "LDAP_SERVER needs a package: pip install 'django-auth-ldap>=5.4,<6'" in started.stderr

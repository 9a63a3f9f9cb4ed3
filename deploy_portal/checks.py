"""What `check --deploy` of Django does not see: settings that can't work together, and files that others can read."""

import contextlib
import filecmp
import ipaddress
import os
import stat
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.apps import StaticFilesConfig
from django.core.checks import Tags, Warning, register
from django.db import connection

FALLBACKS = 3
KEY_LENGTH = 50
SECRETS = ["SECRET_KEY", "DATABASE_URL", "EMAIL_URL", "LDAP_BIND_PASSWORD", "OIDC_CLIENT_SECRET"]


@register(Tags.security, deploy=True)
def sqlite_in_production(app_configs, **kwargs):
    if settings.SECURE and settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        return [
            _warning(
                1,
                "The database is SQLite: one web process and one worker on one machine only.",
                "Set DATABASE_URL to a PostgreSQL database.",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def reachable_without_https(app_configs, **kwargs):
    found = []
    if "*" in settings.ALLOWED_HOSTS:
        found.append(_warning(2, "ALLOWED_HOSTS takes every host name.", "Name those under which people come."))
    if not settings.SECURE and not all(map(_is_loopback, settings.ALLOWED_HOSTS)):
        found.append(
            _warning(
                3,
                "Passwords and sessions go over HTTP to other machines.",
                "Unset INSECURE_HTTP and DEBUG, or keep ALLOWED_HOSTS to localhost.",
            )
        )
    return found


@register(Tags.security, deploy=True)
def for_demo_and_tests_only(app_configs, **kwargs):
    if not settings.SECURE:
        return []
    found = []
    if settings.ALLOW_LOOPBACK_MACHINES:
        what = "A config service may point tasks at the portal's own hosts."
        found.append(_warning(4, what, "Unset ALLOW_LOOPBACK_MACHINES: it is for the demo and for tests."))
    if settings.ALLOW_INVENTORY_SCRIPTS:
        what = "An inventory may be a program, which runs as the portal and knows its secrets."
        found.append(_warning(5, what, "Unset ALLOW_INVENTORY_SCRIPTS and write the inventory as YAML or INI."))
    if settings.EXECUTOR == "dummy":
        found.append(_warning(6, "Releases succeed and change no machine.", "Set EXECUTOR=ssh."))
    return found


@register(Tags.security, deploy=True)
def machines_that_cannot_be_reached(app_configs, **kwargs):
    # A host without any SSH setting is one for pages only.
    has_keys = settings.SSH_KEY_FILES or settings.SSH_KEYS_DIR or settings.SSH_AGENT
    found = []
    if has_keys and not settings.SSH_KNOWN_HOSTS:
        what = "No machine's host key is known, so that none is reached."
        found.append(_warning(7, what, "Set SSH_KNOWN_HOSTS to a file with the machines' host keys."))
    if settings.SSH_AGENT and not settings.SSH_AUTH_SOCK:
        found.append(_warning(8, "No SSH agent can be asked.", "Set SSH_AUTH_SOCK to its socket, or unset SSH_AGENT."))
    return found


@register(Tags.security, deploy=True)
def files_that_are_missing(app_configs, **kwargs):
    """Else each machine of the first release is the one to tell it."""
    named = [("SSH_KNOWN_HOSTS", settings.SSH_KNOWN_HOSTS), ("SSH_KEYS_DIR", settings.SSH_KEYS_DIR)]
    named += [("SSH_KEY_FILES", path) for path in settings.SSH_KEY_FILES]
    return [
        _warning(13, f"{name} names {path}, which is not there or is empty.", f"Make it, or set {name} anew.")
        for name, path in named
        if path and _is_missing(path)
    ]


@register(Tags.security, deploy=True)
def static_files_of_another_version(app_configs, **kwargs):
    ignored = StaticFilesConfig.ignore_patterns
    names = {name for finder in finders.get_finders() for name, _ in finder.list(ignored)}
    if settings.WHITENOISE_USE_FINDERS or all(map(_is_collected, names)):
        return []
    what = f"Static files in {settings.STATIC_ROOT} are missing or old: pages are errors, or look and work as of old."
    return [_warning(15, what, "Run manage.py collectstatic --no-input, then start web anew.")]


@register(Tags.security, deploy=True)
def mail_that_is_turned_away(app_configs, **kwargs):
    is_sent = settings.EMAIL_BACKEND.endswith(".smtp.EmailBackend") and not _is_loopback(settings.EMAIL_HOST)
    if not is_sent or not settings.DEFAULT_FROM_EMAIL.rstrip(">").endswith("@localhost"):
        return []
    what = f"Mail to approvers comes from {settings.DEFAULT_FROM_EMAIL}, which mail servers turn away."
    return [_warning(14, what, "Set MAIL_FROM to an address of yours.")]


@register(Tags.security, deploy=True)
def files_that_others_can_read(app_configs, **kwargs):
    private = [settings.BASE_DIR / ".env", *_secret_files(), *settings.SSH_KEY_FILES]
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        private.append(database["NAME"])
    with contextlib.suppress(OSError):  # not ours to look into: then nobody but the worker's user can
        folder = Path(settings.SSH_KEYS_DIR or os.devnull)
        private += [path for path in folder.iterdir() if path.suffix != ".pub"]
    return [
        _warning(9, f"Others on this host can read or change {path}.", f"chmod 600 {path}")
        for path in filter(None, private)
        if _is_open_to_others(path)
    ]


@register(Tags.security, deploy=True)
def old_secret_keys(app_configs, **kwargs):
    keys, found = settings.SECRET_KEY_FALLBACKS, []
    if len(keys) > FALLBACKS:
        what = f"{len(keys)} old secret keys are still good."
        found.append(_warning(10, what, "Take out of SECRET_KEY_FALLBACKS what is older than the longest session."))
    if settings.SECRET_KEY in keys or any(len(key) < KEY_LENGTH for key in keys):
        what = "An old secret key is too short, or is the present one."
        found.append(_warning(11, what, "Take it out of SECRET_KEY_FALLBACKS: whoever knows it can sign sessions."))
    return found


@register(Tags.database)
def letters_that_the_database_cannot_hold(app_configs, databases, **kwargs):
    """Runs with `migrate` and `check --database default`."""
    encoding = _encoding() if databases else "UTF8"
    if encoding == "UTF8":
        return []
    what = f"The database is in {encoding}, so that words which are not plain English are errors."
    return [_warning(12, what, "Move to one in UTF-8: createdb -E UTF8 -T template0 -O portal portal")]


def _encoding():
    if connection.vendor != "postgresql":
        return "UTF8"
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_encoding")
        return cursor.fetchone()[0]


def _secret_files():
    """What `env.secret` is asked for, where it lies in a file."""
    names = {f"{name}_FILE" for name in [*SECRETS, *settings.MASKED_VARIABLES]}
    names |= {name for name in os.environ if name.startswith(settings.CONFIG_SERVICE_TOKEN_PREFIX)}
    return [path for name, path in os.environ.items() if name in names and name.endswith("_FILE")]


def _is_collected(name):
    try:
        return filecmp.cmp(finders.find(name), Path(settings.STATIC_ROOT, name), shallow=False)
    except OSError:
        return False


def _is_missing(path):
    try:
        return os.stat(path).st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # not ours to look into
        return False


def _is_open_to_others(path):
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o077)


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _warning(number, what, hint):
    return Warning(what, hint=hint, id=f"deploy_portal.W{number:03}")

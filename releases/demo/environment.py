"""The environment that the demo's settings come from. Nothing here may need those settings: they are read after it."""

import argparse
import contextlib
import os
import secrets
import shlex
from pathlib import Path
from urllib.parse import quote

from releases.demo import layout
from releases.demo.config_service import TOKEN_VARIABLE

DEFAULT_FOLDER = Path(".demo")
SECRET_KEY_FILE = "secret_key"  # noqa: S105
# What a production .env may say and a demo must not heed
NOT_OURS = [
    "ALLOW_INVENTORY_SCRIPTS",
    "BEHIND_TLS_PROXY",
    "CSRF_TRUSTED_ORIGINS",
    "EMAIL_URL",
    "EMAIL_URL_FILE",
    "LDAP_SERVER",
    "OIDC_CLIENT_ID",
    "REQUIRE_SECOND_FACTOR",
    "SECRET_KEY_FALLBACKS",
    "SECRET_KEY_FILE",
    "SESSION_HOURS",
    "SESSION_IDLE_MINUTES",
    "SSH_AGENT",
    "SSH_KEYS_DIR",
    f"{TOKEN_VARIABLE}_FILE",
]
CHAOS = {"WORKER_DEAD_AFTER": "3", "SSH_CONNECT_TIMEOUT": "2"}  # so that much happens in a short time


def enter(arguments):
    """Sets the environment of a demo that is called with these arguments; its parts inherit it."""
    parser = argparse.ArgumentParser(prog="manage.py demo", add_help=False, allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--chaos")
    known, _ = parser.parse_known_args(arguments)
    os.environ.setdefault("HOME", "/")  # a user without one, as containers have, gets no fleet from asyncssh
    os.environ.update(_variables(known.data.resolve()) | (CHAOS if known.chaos is not None else {}))


def is_entered(folder):
    """Whether this process runs in the environment of the demo in `folder`."""
    return os.environ.get("STATIC_ROOT") == str(folder / "static")


def keep(folder):
    """Writes the secret key, which must stay the same, and a file of the environment for other commands to run in."""
    write_private(folder / SECRET_KEY_FILE, os.environ["SECRET_KEY"])
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in _variables(folder).items()]
    write_private(folder / "env", "".join(lines))


def write_private(path, text):
    """Writes a file that only its owner can read, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def _variables(folder):
    # Set to nothing, so that it does not come from .env either
    return dict.fromkeys(NOT_OURS, "") | {
        "DEBUG": "0",
        "INSECURE_HTTP": "1",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "SECRET_KEY": _secret_key(folder),
        **_database(folder),
        "STATIC_ROOT": str(folder / "static"),
        "EXECUTOR": "ssh",
        "SSH_USER": layout.USER,
        "SSH_KEY_FILES": str(folder / "fleet" / "client_key"),
        "SSH_KNOWN_HOSTS": str(folder / "fleet" / "known_hosts"),
        "ALLOW_LOOPBACK_MACHINES": "1",
        "WRITES_PER_MINUTE": "0",  # the people of --chaos are quicker than any
        "LOGINS_PER_MINUTE": "0",
        TOKEN_VARIABLE: os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(),
    }


def _secret_key(folder):
    """The one that the folder keeps. A folder that cannot be read has none: that it cannot be used is told later."""
    with contextlib.suppress(OSError):
        return (folder / SECRET_KEY_FILE).read_text(encoding="utf-8").strip()
    return secrets.token_urlsafe(50)


def _database(folder):
    """The database that the environment names, else one of the demo's own."""
    if path := os.environ.get("DATABASE_URL_FILE"):
        return {"DATABASE_URL": "", "DATABASE_URL_FILE": path}
    own = f"sqlite:///{quote(str(folder / 'db.sqlite3'))}"
    return {"DATABASE_URL": os.environ.get("DATABASE_URL") or own, "DATABASE_URL_FILE": ""}

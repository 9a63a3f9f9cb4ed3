"""Strict readers of environment variables: a value that cannot be meant is a start-up error that names the variable."""

import io
import os
import re
from pathlib import Path
from zoneinfo import available_timezones

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
DATABASES = ["sqlite", "postgres", "postgresql"]
# The lines of a file that set something, and those that say nothing.
SETTING = re.compile(r"(export )?[A-Za-z_0-9]+=")
NO_SETTING = re.compile(r"\s*(#|$)")
FOR_POSTGRESQL = {
    # A host that swallows packets is away after seconds; libpq's own patience is minutes, and two hours.
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "tcp_user_timeout": 10_000,
    # READ COMMITTED, whatever the server's own default is: who has waited for a lock must see what its holder did.
    "isolation_level": 2,
}


def read(path):
    """Sets what stands in the file at `path`, where there is one, and not in the environment.

    Another user's is passed over, as a worker does by the web's; but not with the portal ending up on SQLite thereby.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return
    except UnicodeDecodeError as error:
        raise ImproperlyConfigured(f"{path.name} cannot be read: {error}") from error
    except OSError as error:
        if not (text("DATABASE_URL") or text("DATABASE_URL_FILE")):
            raise ImproperlyConfigured(f"DATABASE_URL is not set, and {path.name} cannot be read: {error}") from error
        return
    for number, line in enumerate(lines, 1):
        # Django-environ would go on without, on SQLite perhaps, and repeat the line in the log: it may hold a secret.
        if not SETTING.match(line) and not NO_SETTING.match(line):
            raise ImproperlyConfigured(f"{path.name}, line {number}: write NAME=value, without a space before the =.")
    env.read_env(io.StringIO("\n".join(filter(SETTING.match, lines))))


def text(name, default=""):
    # Not by env.str, which takes a value that begins with $ for the name of another variable.
    return os.environ.get(name, default).strip()


def flag(name, default):
    value = text(name).lower()
    if not value:
        return default
    if value not in FLAGS:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(FLAGS)}; it is {value!r}.")
    return FLAGS[value]


def choice(name, default, choices):
    value = text(name) or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}; it is {value!r}.")
    return value


def number(name, default, least=0, most=10**9):
    value = text(name)
    if not value:
        return default
    if not value.isascii() or not value.isdigit() or len(value) > 18 or not least <= int(value) <= most:
        raise ImproperlyConfigured(f"{name} must be a whole number from {least} to {most}; it is {value!r}.")
    return int(value)


def words(name, default=()):
    return [word.strip() for word in text(name, ",".join(default)).split(",") if word.strip()]


def choices(name, choices):
    """Some of `choices`, none unless told."""
    chosen = words(name)
    if unknown := [word for word in chosen if word not in choices]:
        raise ImproperlyConfigured(f"{name} takes {', '.join(choices)}; {', '.join(unknown)} is none of them.")
    return chosen


def secret(name):
    """The value of `name`, or the content of the file that `name`_FILE points to; both at once is an error."""
    value, path = text(name), text(f"{name}_FILE")
    if value and path:
        raise ImproperlyConfigured(f"Set {name} or {name}_FILE, not both.")
    if not path:
        return value
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}") from error
    if not value:
        raise ImproperlyConfigured(f"{name}_FILE names an empty file: {path}")
    return value


def time_zone(name, default):
    value, known = text(name, default), available_timezones()
    if not known:
        raise ImproperlyConfigured("This host knows no time zone, not even UTC: install its package tzdata.")
    if value not in known:
        raise ImproperlyConfigured(f"{name} must be a time zone such as Asia/Shanghai; it is {value!r}.")
    return value


def mail(name, default):
    """Django's EMAIL_… settings from a URL such as smtp+tls://user:password@mail.example.com:587."""
    url = secret(name) or default
    if url.partition("://")[0] not in env.EMAIL_SCHEMES:
        raise ImproperlyConfigured(f"{name} must begin with one of {', '.join(env.EMAIL_SCHEMES)}, then ://.")
    try:
        config = env.email_url_config(url)
    except ValueError:
        raise _no_address(name) from None
    if config["EMAIL_BACKEND"].endswith(".smtp.EmailBackend") and not config["EMAIL_HOST"]:
        raise _no_address(name)
    return {key: value for key, value in config.items() if key.startswith("EMAIL_")}


def database(name, default):
    """A Django DATABASES entry from a URL; SQLite gets the options without which parallel writers fail.

    PostgreSQL gets those without which a host that swallows packets holds up whoever asks it.
    """
    url = secret(name) or default
    scheme, _, where = url.partition("://")
    if scheme not in DATABASES:
        raise ImproperlyConfigured(f"{name} must be a sqlite:// or postgres:// address.")
    if scheme == "sqlite" and not (where.startswith("/") and where.strip("/")):  # a database in memory, gone at the end
        raise ImproperlyConfigured(f"{name} must name SQLite's file, as sqlite:////the/whole/path does.")
    try:
        config = env.db_url_config(url)
    except ValueError:
        raise _no_address(name) from None
    if config["ENGINE"].endswith("sqlite3"):
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    else:
        config["OPTIONS"] = FOR_POSTGRESQL | config.get("OPTIONS", {})
        config["CONN_MAX_AGE"] = 60
        config["CONN_HEALTH_CHECKS"] = True
    return config


def _no_address(name):
    # Not with the error that was found: it repeats a part of the password.
    words = "is no address. In a password write % as %25, / as %2F, ? as %3F, # as %23 and @ as %40."
    return ImproperlyConfigured(f"{name} {words}")

"""Which SSH keys log in for which business: files on the worker's host, or keys that its SSH agent holds."""

import contextlib
import logging
import os
import stat
from pathlib import Path

import asyncssh
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.utils.translation import gettext_noop as _

from releases.executors.base import ExecutorError

log = logging.getLogger(__name__)

KEY_BYTES = 65_536  # more than any key has

_NO_KEY = _("The portal has no SSH key: set SSH_KEY_FILES.")
_BAD_KEY = _("An SSH key of the portal could not be read: look at SSH_KEY_FILES.")
_NO_FOLDER = _("This business has an SSH key of its own: set SSH_KEYS_DIR where the workers run.")
_MISSING = _("The SSH key of this business is missing in SSH_KEYS_DIR.")
_NOT_OURS = _("The SSH key of this business must be a file inside SSH_KEYS_DIR that only the worker's user can read.")
_BAD_NAMED_KEY = _("The SSH key of this business could not be read: look at its file in SSH_KEYS_DIR.")
_NO_AGENT = _("The SSH agent does not answer: look at SSH_AUTH_SOCK.")
_NOT_IN_AGENT = _("The SSH agent does not hold the key: add it there.")
_UNREADABLE = ValueError  # of asyncssh, and of cryptography for numbers that make no key


class FileKeys:
    """Private keys out of files."""

    def __init__(self, contents):
        self._keys = [asyncssh.import_private_key(content) for content in contents]

    @contextlib.asynccontextmanager
    async def ready(self):
        yield self._keys


class AgentKeys:
    """Keys that the agent signs with: the one of a public key, or all that it holds."""

    def __init__(self, contents):
        self._wanted = [asyncssh.import_public_key(content).public_data for content in contents]

    @contextlib.asynccontextmanager
    async def ready(self):
        async with asyncssh.SSHAgentClient(settings.SSH_AUTH_SOCK) as agent:
            try:
                keys = await agent.get_keys(self._wanted)
            except ValueError as error:
                log.warning("The SSH agent: %s", error)
                raise ExecutorError(_NO_AGENT) from error
            if not keys:
                raise ExecutorError(_NOT_IN_AGENT, permanent=True)
            yield keys


class Keyring:
    """The keys by the name that a business gives them; "" are the portal's own. What has changed is read again."""

    def __init__(self):
        self._known = {}

    def keys(self, name):
        """What logs in for `name`: the same object as long as its files stay the same. ExecutorError says why not."""
        kind, contents = _named(name) if name else _default()
        if self._known.get(name, (None,))[0] != (kind, contents):
            try:
                self._known[name] = (kind, contents), kind(contents)
            except _UNREADABLE as error:
                raise _refusal(_BAD_NAMED_KEY if name else _BAD_KEY, name, error) from error
        return self._known[name][1]


def _default():
    if not settings.SSH_KEY_FILES:
        if settings.SSH_AGENT:
            return AgentKeys, []
        raise ExecutorError(_NO_KEY, permanent=True)
    try:
        return FileKeys, [Path(path).read_bytes() for path in settings.SSH_KEY_FILES]
    except OSError as error:
        raise _refusal(_BAD_KEY, "", error) from error


def _named(name):
    """A business's private key or else, for the agent, its public half, whose name ends in `.pub`."""
    if not settings.SSH_KEYS_DIR:
        raise ExecutorError(_NO_FOLDER, permanent=True)
    try:
        validate_slug(name)
        return FileKeys, [_private_content(name)]
    except ValidationError as error:
        raise _refusal(_MISSING, name, error) from error
    except FileNotFoundError as error:
        if settings.SSH_AGENT:
            return AgentKeys, [_public_content(name)]
        raise _refusal(_MISSING, name, error) from error


def _private_content(name):
    with _opened(name) as file:
        facts = os.fstat(file.fileno())
        if facts.st_mode & 0o077 or facts.st_uid not in (0, os.geteuid()):
            raise _refusal(_NOT_OURS, name, f"mode {stat.filemode(facts.st_mode)}, user {facts.st_uid}")
        return file.read(KEY_BYTES)


def _public_content(name):
    try:
        with _opened(f"{name}.pub") as file:
            return file.read(KEY_BYTES)
    except FileNotFoundError as error:
        raise _refusal(_MISSING, name, error) from error


def _opened(filename):
    """A regular file inside the folder. A link within it may lead there, as in a folder of secrets of Kubernetes."""
    folder = Path(settings.SSH_KEYS_DIR).resolve()
    try:
        path = (folder / filename).resolve(strict=True)
        if not path.is_relative_to(folder) or not path.is_file():
            raise _refusal(_NOT_OURS, filename, "not a regular file in there")
        return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise _refusal(_BAD_NAMED_KEY, filename, error) from error


def _refusal(reason, name, detail):
    log.warning("SSH key %r: %s", name, detail)
    return ExecutorError.of(detail, reason, permanent=True)

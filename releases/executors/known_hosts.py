"""By which host keys machines are known: a file such as OpenSSH has, read again whenever it has changed."""

import logging
import os
from pathlib import Path

import asyncssh
from django.conf import settings
from django.utils.translation import gettext_noop as _

from releases.executors.base import ExecutorError

log = logging.getLogger(__name__)

SSH_PORT = 22

_NO_KNOWN_HOSTS = _("No machine's host key is known: set SSH_KNOWN_HOSTS.")
_BAD_KNOWN_HOSTS = _("The file of known host keys could not be read: look at SSH_KNOWN_HOSTS.")
_KEY_NOT_KNOWN = _("The machine's host key is not known: add it to the file that SSH_KNOWN_HOSTS names.")
_KEY_CHANGED = _("The machine's host key is not the known one: find out why before you trust it.")


class KnownHostsFile:
    """The file that SSH_KNOWN_HOSTS names."""

    def __init__(self):
        self._known_hosts = self._version = None

    def read(self):
        """What it says now, or an ExecutorError; never None, which asyncssh would take for "trust all"."""
        if not settings.SSH_KNOWN_HOSTS:
            raise ExecutorError(_NO_KNOWN_HOSTS, permanent=True)
        try:
            found = os.stat(settings.SSH_KNOWN_HOSTS)
            version = (found.st_ctime_ns, found.st_ino, found.st_size)
            if version != self._version:
                self._known_hosts = KnownHosts(Path(settings.SSH_KNOWN_HOSTS).read_bytes().decode())
                self._version = version
        except (OSError, ValueError) as error:
            log.warning("SSH_KNOWN_HOSTS: %s", error)
            raise ExecutorError.of(error, _BAD_KNOWN_HOSTS, permanent=True) from error
        return self._known_hosts


class KnownHosts:
    """What such a file says. Each machine is looked up once: hashed names are tried line by line."""

    def __init__(self, text):
        revoked, known, self._limited = [], [], []
        for marker, names, key in _lines(text):
            line = f"{marker} {','.join(names)} {key}"
            left_out = [name[1:] for name in names if name.startswith("!")]
            if marker == "@revoked":
                revoked.append(line)
            elif left_out:
                self._limited.append((_imported(line), _imported(f"{','.join(left_out)} {key}")))
            else:
                known.append(line)
        self._revoked, self._known = _imported(*revoked), _imported(*known)
        self._looked_up = {}

    def keys_of(self, order, ip):
        """(host keys, authorities, revoked keys) of the order's machine, whose address leads to `ip`.

        Known are those for its hostname or else, when there are none, for its address; what is known at a port binds
        more than what is for all. A line that leaves out one of its names says nothing of it. Revoked are those of
        either.
        """
        place = (order.hostname, order.address, ip, order.port)
        if place not in self._looked_up:
            self._looked_up[place] = self._look_up(*place)
        return self._looked_up[place]

    def _look_up(self, hostname, address, ip, port):
        levels = []
        for hosts in ([hostname], list(dict.fromkeys([address, ip]))):
            at_port = [f"[{host}]:{port}" for host in hosts]
            # SSH's own port is mostly left out in the file.
            levels += [at_port + hosts] if port == SSH_PORT else [at_port, hosts]
        names = sum(levels, [])
        lines = [self._known, *(line for line, left_out in self._limited if not any(_keys_at([left_out], names)))]
        known = (_keys_at(lines, hosts) for hosts in levels)
        keys, authorities, _none = next(filter(any, known), ([], [], []))
        return keys, authorities, _keys_at([self._revoked], names)[2]


def _lines(text):
    """(marker, names, key) of each line; ValueError for one that nobody can read."""
    for line in map(str.strip, text.split("\n")):
        if not line or line.startswith("#"):
            continue
        words = line.split(None, 2) if line.startswith("@") else ["", *line.split(None, 1)]
        if len(words) < 3:
            raise ValueError(f"No names and key: {line}")
        marker, names, key = words
        names = names if names.startswith("|") else names.lower()  # hashed ones stay as they are
        # An empty name would be any machine's for asyncssh. It would read on behind what more characters than these it
        # takes for the end of a line, which a comment may hold: comments are left out.
        if names := [name for name in names.split(",") if name]:
            yield marker, names, " ".join(key.split()[:2])


def error_for(keys, authorities, _revoked):
    """What a publisher is told of a host key that was refused where these are the known ones."""
    return ExecutorError(_KEY_CHANGED if keys or authorities else _KEY_NOT_KNOWN, permanent=True)


def _imported(*lines):
    return asyncssh.import_known_hosts("\n".join(lines))


def _keys_at(known_hosts, hosts):
    found = [some.match(host, "", None)[:3] for some in known_hosts for host in hosts]
    return [sum(keys, []) for keys in zip(*found, strict=True)]

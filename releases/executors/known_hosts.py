"""By which host keys machines are known: a file such as OpenSSH has, read again whenever it has changed."""

import logging
import os
from pathlib import Path

import asyncssh
from django.conf import settings
from django.utils.translation import gettext_noop as _

from releases.executors.base import ExecutorError

logger = logging.getLogger(__name__)

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
                self._known_hosts = KnownHosts(Path(settings.SSH_KNOWN_HOSTS).read_text("utf-8"))
                self._version = version
        except (OSError, ValueError) as error:
            logger.warning("SSH_KNOWN_HOSTS: %s", error)
            raise ExecutorError(_BAD_KNOWN_HOSTS, permanent=True) from error
        return self._known_hosts


class KnownHosts:
    """What such a file says. Each machine is looked up once: hashed names are tried line by line."""

    def __init__(self, text):
        lines = {True: [], False: []}
        for line in text.splitlines():
            lines[line.lstrip().startswith("@revoked")].append(line)
        self._revoked, self._known = (asyncssh.import_known_hosts("\n".join(some)) for some in lines.values())
        self._looked_up = {}

    def keys_of(self, order, ip=""):
        """(host keys, authorities, revoked keys) of the order's machine, whose address leads to `ip`.

        Known are those for its hostname or else, when there are none, for its address; what is known at a port binds
        more than what is for all. Revoked are those of either.
        """
        place = (order.hostname, order.address, ip or order.address, order.port)
        if place not in self._looked_up:
            self._looked_up[place] = self._look_up(*place)
        return self._looked_up[place]

    def error_for(self, order):
        """What a publisher is told of a host key that was refused."""
        keys, authorities, _revoked = self.keys_of(order)
        return ExecutorError(_KEY_CHANGED if keys or authorities else _KEY_NOT_KNOWN, permanent=True)

    def _look_up(self, hostname, address, ip, port):
        levels = []
        for hosts in ([hostname], list(dict.fromkeys([address, ip]))):
            at_port = [f"[{host}]:{port}" for host in hosts]
            # SSH's own port is mostly left out in the file.
            levels += [at_port + hosts] if port == SSH_PORT else [at_port, hosts]
        known = (_keys_at(self._known, hosts) for hosts in levels)
        keys, authorities, _none = next(filter(any, known), ([], [], []))
        return keys, authorities, _keys_at(self._revoked, sum(levels, []))[2]


def _keys_at(known_hosts, hosts):
    found = [known_hosts.match(host, "", None)[:3] for host in hosts]
    return [sum(keys, []) for keys in zip(*found, strict=True)]

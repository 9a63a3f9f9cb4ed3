"""How SSH connections are made, to machines whose host key is known."""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import logging
import os
import socket
from concurrent.futures import Future, ThreadPoolExecutor

import asyncssh
from django.conf import settings
from django.utils.translation import gettext_noop as _

from releases.executors.base import ExecutorError
from releases.executors.keys import Keyring
from releases.executors.known_hosts import KnownHostsFile, error_for
from releases.executors.pool import Client, ConnectionPool, Peer

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 10  # a peer that stays silent for four of these is given up

LOOK_UPS_AT_ONCE = 1000  # more than a worker has machines; a thread is made only for a name that finds none
_DENIED = _("The machine does not accept the portal's SSH key for this user.")
_TOO_MANY_KEYS = _("The machine takes no more SSH keys after the first few: give the business a key of its own.")
_NO_ALGORITHM = _("The machine and the portal have no SSH algorithm in common.")
SILENT = _("The machine did not answer in time.")
BROKE_OFF = _("The machine broke the connection off before a command could be sent.")
_REFUSED = _("The machine refused the connection.")
_NO_ROUTE = _("There is no route to the machine.")
_NO_ADDRESS = _("The machine's address could not be found.")
_NOT_REACHED = _("The machine could not be reached.")

_CONNECT_ERRORS = [
    (asyncssh.PermissionDenied, _DENIED),
    (asyncssh.KeyExchangeFailed, _NO_ALGORITHM),
    (asyncssh.Error, BROKE_OFF),
    (socket.gaierror, _NO_ADDRESS),
    (UnicodeError, _NO_ADDRESS),
    (TimeoutError, SILENT),
    (ConnectionRefusedError, _REFUSED),
    (ConnectionError, BROKE_OFF),
]

# The fastest first; what asyncssh has by default comes after, for older hosts
_ALGORITHMS = {
    "kex_algs": "^curve25519-sha256",
    "encryption_algs": "^aes128-gcm@openssh.com",
    "signature_algs": "^ssh-ed25519",
    "compression_algs": ["none"],
    # After those of the keys that are known: so a machine that has only others is told to have changed
    "server_host_key_algs": "+ssh-*,rsa-*,ecdsa-*",
}


class Connections:
    """Makes connections and keeps them. The keys and the known hosts come from the settings."""

    def __init__(self):
        self._keyring = Keyring()
        self._options = _options()
        self._known_hosts_file = KnownHostsFile()
        self.pool = ConnectionPool()
        # Threads for names alone: asyncio has but a few, and each is busy for as long as a name server does not answer.
        self._threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, "look-up")
        self._loop = None

    def peer(self, order):
        """Where the order goes, and with which keys; ExecutorError says why there are none."""
        return Peer(order.address, order.port, order.user or settings.SSH_USER, self._keyring.keys(order.key))

    def warm(self, order, peer):
        """The connection kept to the order's machine; None when there is none that is still trusted."""
        connection = self.pool.take(peer)
        if connection is None:
            return None
        trusted = False
        try:
            trusted = self._still_trusts(connection, order)
        finally:
            if not trusted:
                connection.close()
        return connection if trusted else None

    async def fresh(self, order, peer, output):
        """A connection to the order's machine, whose host key was verified; ExecutorError says why there is none.

        What the machine says to that is output: an account may have expired, or the machine be going down.
        """
        self._enter(asyncio.get_running_loop())
        known_hosts = self._known_hosts_file.read()
        client = Client(self.pool, peer)

        def trusted(host, ip, port):
            client.trusted = known_hosts.keys_of(order, ip)
            return client.trusted

        addresses = await self._addresses(peer)
        try:
            async with asyncio.timeout(settings.SSH_CONNECT_TIMEOUT), peer.keys.ready() as keys:
                return await _connect(
                    client,
                    await addresses,
                    peer.port,
                    username=peer.user,
                    options=self._options,
                    client_keys=keys,
                    known_hosts=trusted,
                    config=[],
                    host_key_alias=peer.address,  # which a host certificate must be for, and not what it leads to
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise error_for(*client.trusted) from error
        except (asyncssh.Error, OSError, ValueError) as error:
            log.info("No connection to %r at %r: %r", order.hostname, order.address, error)
            if client.banner:
                await output(client.banner.encode(), "err")
            raise _connect_error(error) from error

    def _enter(self, loop):
        """Once for each event loop: has it make the options of connections at once."""
        if loop is not self._loop:
            self._loop = loop
            loop.set_default_executor(_OptionsAtOnce())

    async def _addresses(self, peer):
        """What its address, which may be a name, leads to, as a future: once that is being looked up.

        How long it waits for a thread is not counted as the machine's own time.
        """
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def look_up():
            loop.call_soon_threadsafe(begun.set)
            found = socket.getaddrinfo(peer.address, peer.port, type=socket.SOCK_STREAM)
            return [place[0] for *_, place in found]

        if _is_ip(peer.address):
            addresses = loop.create_future()
            addresses.set_result([peer.address])
            return addresses
        addresses = loop.run_in_executor(self._threads, look_up)
        try:
            await begun.wait()
        except asyncio.CancelledError:
            addresses.cancel()
            raise
        return addresses

    def _still_trusts(self, connection, order):
        """Whether the known hosts say of a kept connection's machine what they said when its key was verified."""
        address = connection.get_extra_info("peername")  # None once it is closed
        known_hosts = self._known_hosts_file.read()
        return address and known_hosts.keys_of(order, address[0]) == connection.get_owner().trusted


class _OptionsAtOnce(ThreadPoolExecutor):
    """An event loop's own threads, but for the options of a connection, which are made at once.

    asyncssh has them made in a thread, though that takes a quarter of a millisecond: to hand two hundred over and back
    was an eighth of a worker's CPU.
    """

    def submit(self, call, /, *args, **options):
        if getattr(call, "func", None) is not asyncssh.SSHClientConnectionOptions:
            return super().submit(call, *args, **options)
        made = Future()
        try:
            made.set_result(call(*args, **options))
        except Exception as error:
            made.set_exception(error)
        return made


def _options():
    """What all connections have in common."""
    # asyncssh does not start for a user without a name or a home, as containers have; it uses them for nothing here.
    os.environ.setdefault("LOGNAME", "portal")
    os.environ.setdefault("HOME", "/")
    return asyncssh.SSHClientConnectionOptions(
        client_keys=None,
        preferred_auth="publickey",
        agent_path=None,
        pkcs11_provider=None,
        gss_kex=False,
        gss_auth=False,
        x509_trusted_certs=None,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=3,
        config=[],
        **_ALGORITHMS,
    )


async def _connect(client, addresses, *args, **options):
    """A connection to the first of these addresses that there is a way to.

    A host that swallows packets, as behind a broken IPv6, leaves the addresses after it their share of the time.
    """
    connect = functools.partial(asyncssh.connect, client_factory=lambda: client, **options)
    *others, last = addresses
    for address in others:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(settings.SSH_CONNECT_TIMEOUT / len(addresses)) as client.patience:
                return await connect(address, *args)
    client.patience = None
    return await connect(last, *args)


def _is_ip(address):
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(address))
    return False


def _connect_error(error):
    """What a publisher is told about an error of asyncssh or of the operating system."""
    if getattr(error, "errno", None) in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return ExecutorError(_NO_ROUTE)
    if "Too many authentication failures" in str(error):  # which OpenSSH calls a broken protocol
        return ExecutorError(_TOO_MANY_KEYS, permanent=True)
    reason = next((reason for kind, reason in _CONNECT_ERRORS if isinstance(error, kind)), _NOT_REACHED)
    return ExecutorError.of(error, reason, permanent=reason in (_DENIED, _NO_ALGORITHM))

"""SSH connections that are kept for a while after a command, so that the next one on the same machine starts warm."""

import asyncio
from typing import Any, NamedTuple

import asyncssh
from django.conf import settings

BANNER_LENGTH = 10_000  # of what a machine says before it lets us in, the last of it is why it does not


class Peer(NamedTuple):
    """What makes a kept connection the right one. `keys` are those that the portal logs in with."""

    address: str
    port: int
    user: str
    keys: Any


class Client(asyncssh.SSHClient):
    """A connection as its pool sees it. `trusted` is what its machine's host key was verified against."""

    def __init__(self, pool, peer):
        self._pool = pool
        self.peer = peer
        self.trusted = None
        self.patience = None  # ours with an address, until its host accepts us
        self.banner = ""
        self._connection = None

    def connection_made(self, conn):
        self._connection = conn
        if self.patience and not self.patience.expired():
            self.patience.reschedule(None)

    def auth_banner_received(self, msg, lang):
        self.banner = (self.banner + msg)[-BANNER_LENGTH:]

    def connection_lost(self, exc):
        self._pool.forget(self.peer, self._connection)


class ConnectionPool:
    """Idle connections, one for each peer. A connection that is taken belongs to its taker until it is given back."""

    def __init__(self):
        self._kept = {}  # by peer, the least recently used first
        self._closed = False

    def take(self, peer):
        """The connection that is kept for a peer, or None."""
        connection, expiry = self._kept.pop(peer, (None, None))
        if expiry:
            expiry.cancel()
        return connection

    def give_back(self, connection):
        """Keeps a connection on which nothing runs any more, or closes it when there is no room for any."""
        client = connection.get_owner()
        if client is None or self._closed:
            connection.close()
            return
        self._drop(client.peer)
        expiry = asyncio.get_running_loop().call_later(settings.SSH_KEEP_SECONDS, self._drop, client.peer)
        self._kept[client.peer] = connection, expiry
        if len(self._kept) > settings.SSH_KEEP_CONNECTIONS:
            self._drop(next(iter(self._kept)))

    def forget(self, peer, connection):
        """Called for each connection that is lost, kept or not."""
        if self._kept.get(peer, (None, None))[0] is connection:
            self.take(peer)

    async def close(self):
        """Closes what is kept, and from now on whatever is given back."""
        self._closed = True
        connections = [self.take(peer) for peer in list(self._kept)]
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()

    def _drop(self, peer):
        if connection := self.take(peer):
            connection.close()

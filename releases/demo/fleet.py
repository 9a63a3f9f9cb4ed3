"""A fleet of loopback machines in one process: real SSH and a real shell each, for the demo and for the tests.

    python -m releases.demo.fleet FOLDER --machines-file FILE

FILE has one hostname a line. One JSON line on stdout says that the fleet is ready and where it is; it stops on SIGTERM,
on SIGINT and when its stdin ends, so that it never outlives the process that started it.
"""

import argparse
import asyncio
import errno
import json
import os
import re
import resource
import secrets
import signal
import socket
import threading
from pathlib import Path

import asyncssh

from releases.demo import shell
from releases.demo.layout import ADDRESS, USER

# Below those that connections come from, which would take the port of a machine while its fleet is down.
PORTS = range(10_000, 32_768)
_PATIENCE = 8  # seconds: longer than the wrapper of the SSH executor takes to end a script
_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_FAST = {
    "kex_algs": ["curve25519-sha256"],
    "encryption_algs": ["aes128-gcm@openssh.com"],
    "compression_algs": ["none"],
    "gss_host": None,
    "x509_trusted_certs": None,
    "config": [],
}


class Fleet:
    """Machines named `hostnames`, with everything that belongs to them in `folder`.

    A machine keeps its host key, its home and, where it is still free, its port between one fleet and the next.
    Once started, `ports` says where each hostname listens on 127.0.0.1.
    """

    def __init__(self, folder, hostnames):
        self.folder = Path(folder).resolve()
        self.hostnames = list(hostnames)
        for hostname in self.hostnames:
            if not _HOSTNAME.fullmatch(hostname):
                raise ValueError(f"Not a hostname: {hostname!r}")
        self.ports = {}
        self.client_key = self.folder / "client_key"
        self.known_hosts = self.folder / "known_hosts"
        self.connections = set()
        self.logins = 0
        self.commands = 0
        self._listeners = []
        self._sessions = set()

    def home(self, hostname):
        """The folder in which the commands of that machine run."""
        return self.folder / "machines" / hostname

    async def start(self):
        """Opens every machine, then writes `known_hosts`. OSError when a folder or a port can't be had."""
        (self.folder / "host_keys").mkdir(parents=True, exist_ok=True)
        self._client_public = private_key(self.client_key).convert_to_public()
        ports_file = self.folder / "ports.json"
        remembered = json.loads(ports_file.read_text()) if ports_file.exists() else {}
        for hostname in self.hostnames:
            self.home(hostname).mkdir(parents=True, exist_ok=True)
            self.ports[hostname] = await self.open(hostname, listening_socket(remembered.get(hostname, 0)))
        ports_file.write_text(json.dumps({**remembered, **self.ports}))
        self.known_hosts.write_text("".join(map(self._known_hosts_line, self.hostnames)))

    async def stop(self):
        """Closes every machine and cuts its connections; a command that outlives the end of its input is killed."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.abort()
        ends = [asyncio.ensure_future(session.ended.wait()) for session in self._sessions]
        if ends and (await asyncio.wait(ends, timeout=_PATIENCE))[1]:
            for session in self._sessions:
                session.kill()
            await asyncio.wait(ends, timeout=1)

    async def open(self, hostname, sock):
        """Serves one machine on a listening socket; its port is answered."""
        listener = await asyncssh.listen(
            sock=sock,
            server_factory=lambda: _Door(self, hostname),
            server_host_keys=[self.host_key(hostname)],
            encoding=None,
            line_editor=False,
            **_FAST,
        )
        self._listeners.append(listener)
        return sock.getsockname()[1]

    def host_key(self, hostname):
        """The key with which a machine proves who it is."""
        return private_key(self.folder / "host_keys" / hostname)

    def known_key(self, hostname):
        """The key that `known_hosts` gives for a machine."""
        return self.host_key(hostname)

    def admits(self, hostname, username, key):
        """Whether that key of that user opens the machine."""
        return username == USER and key == self._client_public

    def command_began(self, hostname):
        """Called for each command once it runs."""
        self.commands += 1

    def told(self, line):
        """Called with each line on the stdin of the fleet's process: a plain fleet does nothing that it is told."""

    def session(self, hostname):
        """What serves one channel of a machine."""
        session = shell.Session(self.home(hostname), lambda _: self.command_began(hostname), self._sessions.discard)
        self._sessions.add(session)
        return session

    def _known_hosts_line(self, hostname):
        public = self.known_key(hostname).export_public_key("openssh").decode().strip()
        return f"[{ADDRESS}]:{self.ports[hostname]} {public}\n"


class _Door(asyncssh.SSHServer):
    """Lets the portal's key in as `deploy`, and nobody else."""

    def __init__(self, fleet, hostname):
        self._fleet = fleet
        self._hostname = hostname

    def connection_made(self, conn):
        self._connection = conn
        self._fleet.connections.add(conn)

    def connection_lost(self, exc):
        self._fleet.connections.discard(self._connection)

    def auth_completed(self):
        self._fleet.logins += 1

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return self._fleet.admits(self._hostname, username, key)

    def session_requested(self):
        return self._fleet.session(self._hostname)


def private_key(path):
    """The private key in that file, made on first use, readable by its owner only."""
    if path.exists():
        return asyncssh.read_private_key(path)
    key = asyncssh.generate_private_key("ssh-ed25519")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.export_private_key())
    return key


def listening_socket(port=0):
    """A socket that listens on that port of 127.0.0.1, or on another when it is 0 or taken."""
    try:
        return socket.create_server((ADDRESS, port or secrets.choice(PORTS)), backlog=128)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return listening_socket()


async def _serve(fleet):
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    threading.Thread(target=_watch_stdin, args=(loop, fleet, done), daemon=True).start()
    await fleet.start()
    ready = {"ports": fleet.ports, "client_key": str(fleet.client_key), "known_hosts": str(fleet.known_hosts)}
    print(json.dumps(ready), flush=True)
    await done.wait()
    await fleet.stop()


def _watch_stdin(loop, fleet, done):
    # Unbuffered: at its end, Python waits for a buffer that a thread is reading
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        for line in stdin:
            loop.call_soon_threadsafe(fleet.told, line)
    loop.call_soon_threadsafe(done.set)


def main(fleet_class=Fleet):
    """The command line; the module's docstring describes it."""
    parser = argparse.ArgumentParser(prog="releases.demo.fleet", description="Serves a fleet of loopback machines.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machines-file", type=Path, required=True, help="one hostname a line")
    options = parser.parse_args()
    # A thousand listening sockets, and four descriptors for each command
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    asyncio.run(_serve(fleet_class(options.folder, options.machines_file.read_text().split())))


if __name__ == "__main__":
    main()

"""Brings the demo up in one folder: database, config service, machines, worker and, when asked for, the web server."""

import contextlib
import fcntl
import http.client
import io
import json
import os
import socket
import time

from django.core.management import call_command
from django.db import connections

from jobs.models import Business
from releases.demo import environment, layout, world
from releases.demo.parts import READY_WITHIN, WORKER, PartFailed, Parts
from releases.models import Worker

HOST = "127.0.0.1"
POLL = 0.1


class DemoError(Exception):
    """Why the demo cannot run here, in a sentence."""


class Demo:
    """A demo in `folder`. What an earlier one left there is taken up again. `fleet`: the module of its machines."""

    def __init__(self, folder, machines, fleet="releases.demo.fleet"):
        self.folder = folder
        self.fleet = fleet
        self.hostnames = layout.hostnames(machines)
        self.fleet_folder = folder / "fleet"
        self.facts = {}

    @contextlib.contextmanager
    def running(self, port=None, slowly=True):
        """Runs the demo for as long as the block; with the web server when there is a `port`, 0 being any free one.

        `slowly` makes its machines take the time that real ones would.
        """
        os.umask(0o077)  # passwords and second factors are in the database
        with contextlib.ExitStack() as stack:
            stack.enter_context(_lock(self.folder))
            listener = stack.enter_context(_listener(port)) if port is not None else None
            environment.keep(self.folder)
            stack.callback(self._tell_stopped)
            self.parts = stack.enter_context(Parts(self.folder / "logs"))
            self._set_pace(slowly)
            self._start(listener)
            yield self

    def home(self, hostname):
        return self.fleet_folder / "machines" / hostname

    def username(self, role):
        return self.facts["users"][role]["username"]

    def act(self, role, command, *arguments):
        """Runs a command of the portal as that person; returns what it tells scripts."""
        out, to_people = io.StringIO(), io.StringIO()
        whose = ("--as", self.username(role), "--json")
        call_command(command, *map(str, arguments), *whose, stdout=out, stderr=to_people)
        return json.loads(out.getvalue())

    def start_worker(self, name, *options):
        self.parts.start(name, "releases.demo.leash", "django", "release_worker", *options)

    def _start(self, listener):
        """Starts what takes long first; a database of others is not even brought up to date."""
        kept = self._kept()
        if world.is_inhabited() and kept.get("database") != _database_url():
            raise DemoError("The database has users who are not the demo's. Give the demo an empty one.")
        names = self.folder / "hostnames"
        names.write_text("\n".join(self.hostnames), encoding="utf-8")
        self.parts.start_telling("fleet", self.fleet, self.fleet_folder, "--machines-file", names)
        self.parts.start_telling("config_service", "releases.demo.config_service", self.folder)
        call_command("migrate", verbosity=0)
        self._fill_database(kept)
        self.start_worker(WORKER, "--grace", 5)
        self._wait(WORKER, self._has_worker)
        if listener:
            world.ask_for_first_job(self.facts["users"])
            self._start_web(listener)
        self._tell("processes", self.parts.pids())
        connections.close_all()

    def _fill_database(self, kept):
        self.facts = {"users": kept.get("users") or world.new_users(), "database": _database_url()}
        fleet = self.parts.told("fleet")
        self._list_machines(fleet["ports"])
        self.facts |= {"known_hosts": fleet["known_hosts"], "client_key": fleet["client_key"]}
        self._tell("config_service", self.parts.told("config_service")["address"])
        world.fill(self.facts["users"], self.facts["config_service"])
        for business in Business.objects.filter(slug__in=world.BUSINESSES):
            # The list is our own: with fewer machines than last time it is meant that way
            business.sync_machines(accept_loss=True)

    def _list_machines(self, ports):
        lists = json.dumps(layout.lists(ports), indent=1)
        environment.write_private(self.folder / "machines.json", lists)
        self.facts["machines"] = {name: {"port": ports[name], "home": str(self.home(name))} for name in self.hostnames}

    def _has_worker(self):
        name_ends = f"-{self.parts.pids()[WORKER]}"
        return Worker.objects.alive().filter(name__endswith=name_ends).exists()

    def _start_web(self, listener):
        call_command("collectstatic", interactive=False, verbosity=0)
        config = ["--config", "deploy_portal/gunicorn.conf.py"]
        bind = ["--bind", f"fd://{listener.fileno()}"]
        threads = ["--worker-class", "gthread", "--threads", 8, "--graceful-timeout", 3]
        server = ["releases.demo.leash", "gunicorn", "deploy_portal.wsgi", *config, *bind, *threads]
        self.parts.start("web", *server, pass_fds=[listener.fileno()])
        port = listener.getsockname()[1]
        self._tell("address", f"http://{HOST}:{port}/")
        # From here on it is the web server's alone: when that dies, a browser must not wait for an answer
        listener.close()
        self._wait("web", lambda: _answers(port))

    def _wait(self, name, is_ready):
        deadline = time.monotonic() + READY_WITHIN
        while not is_ready():
            self.parts.require_all()
            if time.monotonic() > deadline:
                raise PartFailed(f"The part {name} did not get ready; read {self.parts.log(name)}.")
            time.sleep(POLL)

    def _set_pace(self, slowly):
        for name in self.hostnames:
            self.home(name).mkdir(parents=True, exist_ok=True)
            pace = layout.pace(name) if slowly else 0
            (self.home(name) / "pace").write_text(f"{pace}\n")

    def _kept(self):
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.folder / "demo.json").read_text(encoding="utf-8"))
        return {}

    def _tell(self, name, fact):
        self.facts[name] = fact
        environment.write_private(self.folder / "demo.json", json.dumps(self.facts, indent=1) + "\n")

    def _tell_stopped(self):
        if self.facts:
            self._tell("processes", {})


@contextlib.contextmanager
def _lock(folder):
    """Makes the folder ours alone, for as long as this process lives."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise DemoError(f"{folder} cannot be written to: {os.strerror(error.errno)}.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"A demo is running in {folder} already; --data FOLDER begins another one.") from None
        yield


def _listener(port):
    try:
        return socket.create_server((HOST, port), backlog=128)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) else "it is not from 0 to 65535"
        raise DemoError(f"Port {port} cannot be had: {reason}. Choose another: manage.py demo --port NUMBER") from None


def _answers(port):
    """Whether the web server says that it is well."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/health/")
        return connection.getresponse().status == 200
    return False


def _database_url():
    return os.environ["DATABASE_URL"] or f"file {os.environ['DATABASE_URL_FILE']}"

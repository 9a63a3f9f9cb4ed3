import json
import random
import shlex
import signal
import time
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from releases.demo import environment, layout
from releases.demo.chaos import FLEET, Chaos, report
from releases.demo.once import Story
from releases.demo.parts import PartFailed
from releases.demo.portal import Demo, DemoError
from releases.demo.world import PEOPLE

WATCH = 0.5  # seconds between looks at the parts
INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Brings up all that a release needs, on loopback only and in one folder: database, config service, a fleet of "
        "machines, worker and web server. Ctrl-C stops everything; the next demo in that folder goes on from there."
    )

    def create_parser(self, *args, **options):
        return super().create_parser(*args, allow_abbrev=False, **options)

    def add_arguments(self, parser):
        parser.add_argument(
            "--data", type=Path, default=environment.DEFAULT_FOLDER, help="the folder (default %(default)s)"
        )
        machines = f"how many machines, {layout.LEAST} or more (default %(default)s)"
        parser.add_argument("--machines", type=int, default=24, help=machines)
        parser.add_argument("--port", type=int, default=8000, help="of the web server; 0: any (default %(default)s)")
        alone = parser.add_mutually_exclusive_group()
        alone.add_argument(
            "--once",
            action="store_true",
            help="do the main job by itself, without the web server: release to all stages, roll one machine back, "
            "compare what the machines wrote down with the ledger; the exit code is 1 when they differ",
        )
        alone.add_argument(
            "--chaos",
            type=float,
            metavar="SECONDS",
            help="release for so long while workers are killed, connections cut, machines frozen and the database "
            "taken away, then end it all and compare as --once does; the exit code is 1 when they differ or a run is "
            "stuck",
        )
        with_chaos = parser.add_argument_group("with --chaos")
        with_chaos.add_argument("--seed", type=int, help="makes the same choices again (default: any)")
        with_chaos.add_argument(
            "--spare-server",
            action="store_true",
            help="do not restart PostgreSQL, also where it is ours and nobody else is connected to its other databases",
        )
        with_chaos.add_argument("--json", action="store_true", help="tell what came of it as JSON")

    def handle(self, *args, data, machines, port, once, **options):
        folder = data.resolve()
        if not environment.is_entered(folder):
            raise CommandError("The demo brings its own settings. Start it as: python manage.py demo")
        if machines < layout.LEAST:
            raise CommandError(f"--machines must be {layout.LEAST} or more.")
        if options["chaos"] is None and (options["json"] or options["spare_server"] or options["seed"] is not None):
            raise CommandError("--seed, --spare-server and --json are for --chaos.")
        # SIGINT too: a shell that starts us in the background has it ignored
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            if options["chaos"] is not None:
                self._strike(Demo(folder, machines, FLEET), **options)
            elif once:
                self._tell_story(Demo(folder, machines))
            else:
                self._serve(Demo(folder, machines), port)
        except (DemoError, PartFailed) as error:
            raise CommandError(str(error)) from error
        except (OSError, Error) as error:  # as of a full disk, or a database that is not there
            raise CommandError(f"The demo cannot go on: {error}") from error

    def _tell_story(self, demo):
        try:
            with demo.running(slowly=False):
                agree = Story(demo, self.stdout).tell()
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=INTERRUPTED) from None
        if not agree:
            raise CommandError("The machines and the ledger differ.")

    def _strike(self, demo, *, chaos, seed, spare_server, **options):
        if chaos < 0:
            raise CommandError("--chaos must be 0 or more: with 0 all is ended and compared.")
        seed = random.randrange(10**6) if seed is None else seed  # noqa: S311
        try:
            with demo.running():
                facts = Chaos(demo, seed, spare_server).run(chaos)
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=INTERRUPTED) from None
        self.stdout.write(json.dumps(facts, ensure_ascii=False) if options["json"] else report.words(facts))
        if not report.is_good(facts):
            raise CommandError("The machines and the ledger differ, or something is stuck.")

    def _serve(self, demo, port):
        try:
            self._say("Starting; this takes some seconds.")
            with demo.running(port):
                self._introduce(demo)
                while True:
                    time.sleep(WATCH)
                    for sentence in demo.parts.newly_dead():
                        self.stderr.write(sentence)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")

    def _introduce(self, demo):
        rows = []
        for role, account in demo.facts["users"].items():
            tells = ", ".join(PEOPLE[role][1]) or "everything, and the admin"
            rows.append(f"  {role:<11}{account['username']:<11}{account['password']:<21}{tells}")
        some_home = demo.home(demo.hostnames[0])
        lines = [
            f"\nDeploy Portal is at {demo.facts['address']}\n",
            *rows,
            f"\n{len(demo.hostnames)} machines live in {some_home.parent}",
            f"To see one fail:      touch {shlex.quote(str(some_home / 'broken'))}",
            f"For other commands:   . {shlex.quote(str(demo.folder / 'env'))}",
            f"Logs:                 {demo.parts.logs}",
            "Ctrl-C stops everything.",
        ]
        self._say("\n".join(lines))

    def _say(self, words):
        """Prints at once, also where a script reads."""
        self.stdout.write(words)
        self.stdout.flush()

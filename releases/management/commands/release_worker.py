import asyncio
import signal

from django.conf import settings
from django.core.management.base import CommandError

from jobs.commands import InertCommand
from releases import executors
from releases.commands import seconds
from releases.worker import ReleaseWorker


class Command(InertCommand):
    help = (
        "Runs what publishers start: claims machines from the ledger and executes their tasks over SSH. "
        "Any number of workers may run at once. SIGTERM lets it finish what it runs; a second one ends it at once."
    )
    epilog = (
        "Exit codes: 0 it was told to end, 1 the database cannot be used or is of another version, "
        "3 it was given up by the others: start it anew."
    )

    def add_arguments(self, parser):
        parser.add_argument("--site", action="append", default=[], help="serve this site only; may be given again")
        parser.add_argument(
            "--at-once",
            type=int,
            default=settings.WORKER_MACHINES_AT_ONCE,
            help="machines at the same time (default %(default)s)",
        )
        parser.add_argument(
            "--grace", type=seconds, default=60, help="seconds to finish in after SIGTERM (default %(default)s)"
        )

    def handle(self, *args, site, at_once, grace, **options):
        if at_once < 1:
            raise CommandError("--at-once must be 1 or more.")
        if not asyncio.run(self._work(site, at_once, grace)):
            raise CommandError("This worker was given up by the others and has ended itself.", returncode=3)

    async def _work(self, sites, at_once, grace):
        worker = ReleaseWorker(executors.load(), sites, at_once, grace)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, worker.drain)
        return await worker.work(lambda: self.show("Working. Ctrl-C ends it once what runs has ended."))

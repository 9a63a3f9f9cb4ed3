"""What the ledger says of a run, and what its machines say themselves."""

from collections import defaultdict
from threading import Event as Signal
from threading import Thread

from django.db import connection

from jobs.models import Event
from releases.models import LogBlock, Run
from tests.waiting import wait_until


def row(run, hostname):
    return run.machine_runs.select_related("worker").get(machine__hostname=hostname)


def statuses(run):
    return dict(run.machine_runs.values_list("machine__hostname", "status"))


def counts(run):
    return run.machine_runs.counts()


def is_so(run, **expected):
    """Waits until the machines named (`pay_1="running"`) are in these states."""
    wanted = {name.replace("_", "-"): status for name, status in expected.items()}
    return wait_until(lambda: wanted.items() <= statuses(run).items() or None)


def ended(run):
    """Waits until the run has ended, and gives it."""
    return wait_until(lambda: Run.objects.exclude(status=Run.Status.RUNNING).filter(pk=run.pk).first())


def text(run, hostname):
    blocks = LogBlock.objects.filter(machine_run=row(run, hostname)).order_by("number")
    return "".join(blocks.values_list("text", flat=True))


def events(run, verb):
    return Event.objects.filter(job=run.stage.job, verb=verb)


class Watch:
    """Looks at the machines of a run all the time: `seen` has the states of each in the order in which it took them."""

    def __init__(self, run):
        self.run = run
        self.seen = defaultdict(list)
        self._over = Signal()

    def __enter__(self):
        self._thread = Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.005):
            for hostname, status in statuses(self.run).items():
                if self.seen[hostname][-1:] != [status]:
                    self.seen[hostname].append(status)
        connection.close()

"""Real workers and real machines: what a fault test breaks."""

from contextlib import ExitStack

import pytest

from jobs.config_service.rows import MachineRow
from jobs.models import Listing, Machine
from releases.demo.fleet import ADDRESS
from tests.conftest import make_task, mark_fresh
from tests.faults.worker import WorkerProcess
from tests.fleet import FaultyFleet, processes_in, running_fleet
from tests.waiting import wait_until

# Every execution is a line in the machine's own log, and a file named `go` lets it end.
TELL = 'echo "$DEPLOY_RUN" >> executed; echo "on $DEPLOY_MACHINE"\n'
UNTIL_GO = "while [ ! -e go ]; do sleep 0.05; done\n"


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "fleet(*hostnames, **faults): the machines of payment, and what is wrong with which"
    )


@pytest.fixture
def dead_soon(settings):
    """For the workers and for whoever looks after them alike, where a test is about one that is given up in time."""
    settings.WORKER_DEAD_AFTER = 3


@pytest.fixture
def fleet(request, tmp_path):
    """Three machines, or those of `@pytest.mark.fleet("pay-1", pay_2=Fault("cuts"))`."""
    mark = request.node.get_closest_marker("fleet")
    faults = {name.replace("_", "-"): fault for name, fault in mark.kwargs.items()} if mark else {}
    hostnames = sorted([*mark.args, *faults] if mark else ["pay-1", "pay-2", "pay-3"])
    with running_fleet(tmp_path / "fleet", hostnames, FaultyFleet, faults=faults) as fleet:
        yield Machines(fleet)


class Machines:
    """The fleet as a test looks at it."""

    def __init__(self, fleet):
        self.fleet = fleet

    def __getattr__(self, name):
        return getattr(self.fleet, name)

    def executed(self, hostname):
        """The machine runs that the machine itself has executed, by its own log."""
        log = self.fleet.home(hostname) / "executed"
        return list(map(int, log.read_text().split())) if log.exists() else []

    def let_go(self, *hostnames):
        """Lets what waits for it end on these machines, on all of them when none is named."""
        for hostname in hostnames or self.fleet.hostnames:
            (self.fleet.home(hostname) / "go").touch()

    def is_quiet(self, hostname):
        """Waits until nothing runs there any more."""
        wait_until(lambda: not processes_in(self.fleet.home(hostname)))


@pytest.fixture
def machines(payment, fleet):
    """The machines of the fleet, as the config service would have listed them for payment."""
    Listing.objects.take(
        payment,
        [
            MachineRow(hostname=name, address=ADDRESS, port=port, user="deploy", labels={}, site="")
            for name, port in fleet.ports.items()
        ],
    )
    mark_fresh(payment)
    return list(Machine.objects.order_by("hostname"))


@pytest.fixture
def release(make_job, start, machines):
    """Starts the pre-release of a new job with this script, on all machines unless told; returns the run."""
    made = []

    def release(script=TELL, on=None, timeout=3600, version="2.0", check="", **fields):
        chosen = machines if on is None else [machine for machine in machines if machine.hostname in on]
        task = make_task(f"script-{len(made)}", script=script, timeout=timeout)
        task.revise(script, None, check)
        made.append(task)
        fields = {"failure_budget": ""} | fields
        return start(make_job(version, on=chosen), chosen, release_task=task, **fields)

    return release


@pytest.fixture
def worker(fleet, tmp_path, transactional_db):
    """Starts worker processes: `worker("--grace", 1, SSH_CONNECT_TIMEOUT=2)`. What is left of them is killed.

    Further limits that can be set so are in tests/faults/limits.py.
    """
    with ExitStack() as stack:
        started = []

        def worker(*arguments, **env):
            process = WorkerProcess(
                tmp_path / f"worker-{len(started)}.log", fleet, arguments, "tests.faults.limits", **env
            )
            started.append(process)
            stack.callback(_put_down, process)
            return process

        yield worker


def _put_down(worker):
    worker.put_down()
    print(f"--- {worker.log.name}, ended with {worker.process.returncode}\n{worker.output}")

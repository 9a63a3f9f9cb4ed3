"""A release on many loopback machines through the whole portal, beside bare asyncssh, in one run:

    .venv/bin/python -m tests.benchmarks.release [--machines 200] [--rounds 3] [--warm] [--sshd]

The portal is timed from the click (the POST that starts the stage) to the last row recorded. Web server, worker,
database and fleet are those of `manage.py demo`. Both sides connect anew to each machine, unless `--warm` lets the
portal keep its connections from round to round, as it does by default. The machines are asyncssh's in one process, or
with `--sshd` a real sshd each. Prints medians and their ratio; machines are noisy: read the ratio.
"""

import argparse
import getpass
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AT_ONCE = 50
OF_TWELVE = 9  # so many of the demo's machines belong to payment


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", action="store_true", help="the portal keeps its connections")
    parser.add_argument("--sshd", action="store_true", help="the machines are real sshd processes")
    options = parser.parse_args()
    if not options.warm:
        os.environ["SSH_KEEP_CONNECTIONS"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        enter(Path(folder).resolve(), options.sshd)
        demo = demo_with(options.machines, Path(folder).resolve(), options.sshd)
        rounds = _measure(demo, options.machines, options.rounds)
    _tell(options.machines, *rounds)


def enter(folder, sshd=False):
    """Sets the portal up on what a demo in `folder` has for it; to reach each sshd in our own account."""
    import django

    from releases.demo import environment, layout

    if sshd:
        layout.USER = getpass.getuser()
    environment.enter(["--data", str(folder)])
    os.environ.update(DJANGO_SETTINGS_MODULE="deploy_portal.settings", WORKER_MACHINES_AT_ONCE=str(AT_ONCE))
    django.setup()


def demo_with(machines, folder, sshd=False):
    """A demo in which payment has so many machines."""
    from releases.demo.portal import Demo

    fleet = "tests.benchmarks.sshd_fleet" if sshd else "releases.demo.fleet"
    return Demo(folder, -(-machines * 12 // OF_TWELVE) + 12, fleet)


def ask_for_job(demo, version, machines):
    """An approved job for so many machines of payment, and these."""
    from deploy_portal.models import User
    from jobs.models import Business, Job, Machine

    people = {role: User.objects.get(username=user["username"]) for role, user in demo.facts["users"].items()}
    business = Business.objects.get(slug="payment")
    chosen = list(Machine.objects.live_in(business)[:machines])
    job = Job(business=business, title="Benchmark", version=version)
    job.ask(people["requester"], chosen)
    job.approve(people["approver"])
    return job, chosen


def _measure(demo, machines, rounds):
    with demo.running(port=0, slowly=False):
        publisher = Publisher(demo)
        portal, alone = [], []
        for number in range(rounds):
            portal.append(publisher.release(f"1.{number}", machines))
            alone.append(bare(demo, machines))
    return portal, alone


class Publisher:
    """Opens jobs for as many machines, and starts their first stage through the page."""

    def __init__(self, demo):
        import requests

        from releases.models import Task
        from tests.benchmarks.bare_asyncssh import SCRIPT

        self.demo = demo
        self.task = Task.objects.get(business__slug="payment", action="release")
        self.rollback_task = Task.objects.get(business__slug="payment", action="rollback")
        for task in (self.task, self.rollback_task):
            task.revise(SCRIPT, None)
        self.page = requests.Session()
        account = demo.facts["users"]["publisher"]
        self._get("login/")
        self._post("login/", **account)

    def release(self, version, machines):
        job, chosen = ask_for_job(self.demo, version, machines)
        self.job, self.chosen = job, [machine.pk for machine in chosen]
        data = {"step": "start", "typed_count": len(chosen), "remark": "", "batch_size": ""}
        data |= {"release_task": self.task.pk, "rollback_task": self.rollback_task.pk}
        return self._timed(f"jobs/{job.pk}/stages/pre-release/", data)

    def roll_back(self):
        """Takes back what was released last."""
        return self._timed(f"jobs/{self.job.pk}/stages/pre-release/rollback/", {"reason": "benchmark"})

    def _timed(self, path, data):
        from releases.models import MachineRun, Run

        job = self.job
        token = re.search(r'name="token" value="([^"]+)"', self._get(path)).group(1)
        data = data | {"token": token, "machines": self.chosen}
        cpu = self._worker_cpu()
        began = time.perf_counter()
        self._post(path, **data)
        self._wait_for(Run.objects.filter(stage__job=job).latest("pk"))
        wall = time.perf_counter() - began
        failed = MachineRun.objects.in_job(job).exclude(status="succeeded").count()
        return {"wall": wall, "cpu": self._worker_cpu() - cpu, "failed": failed, "peak": self._worker_peak()}

    def _wait_for(self, run):
        """Asks so that it costs the portal next to nothing: nobody asks how far the bare side is."""
        from django.db import connection

        with connection.cursor() as cursor:
            while cursor.execute("SELECT status FROM releases_run WHERE id = %s", [run.pk]).fetchone() == ("running",):
                time.sleep(0.01)

    def _get(self, path):
        return self.page.get(self.demo.facts["address"] + path).text

    def _post(self, path, **data):
        answer = self.page.post(
            self.demo.facts["address"] + path,
            data=data,
            headers={"X-CSRFToken": self.page.cookies["csrftoken"], "Referer": self.demo.facts["address"]},
            allow_redirects=False,
        )
        if answer.status_code != 302:
            raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:2000]}")

    def _worker_cpu(self):
        stat = Path(f"/proc/{self._worker()}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def _worker_peak(self):
        status = Path(f"/proc/{self._worker()}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024

    def _worker(self):
        return self.demo.parts.pids()["worker"]


def bare(demo, machines, again=False):
    """The same by asyncssh alone; `again`: then once more on the same connections."""
    from django.conf import settings

    from jobs.models import Machine

    ports = Machine.objects.filter(businesses__slug="payment").values_list("port", flat=True)[:machines]
    command = [sys.executable, "-m", "tests.benchmarks.bare_asyncssh"]
    facts = [demo.facts["known_hosts"], demo.facts["client_key"], settings.SSH_USER, AT_ONCE, int(again), *ports]
    done = subprocess.run([*command, *map(str, facts)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def median(rounds, what):
    return statistics.median(one[what] for one in rounds)


def _tell(machines, portal, bare):
    print(f"{machines} machines, {AT_ONCE} at a time, medians of {len(portal)}")
    for name, rounds in (("portal", portal), ("bare asyncssh", bare)):
        wall, cpu = median(rounds, "wall"), median(rounds, "cpu")
        failed = sum(one["failed"] for one in rounds)
        print(f"{name:>14}: {wall:.2f} s, CPU {cpu:.2f} s, {failed} failed")
    ratios = [median(portal, what) / median(bare, what) for what in ("wall", "cpu")]
    print(f"         ratio: {ratios[0]:.2f} (wall), {ratios[1]:.2f} (CPU); worker's peak {portal[-1]['peak']:.0f} MB")


if __name__ == "__main__":
    main()

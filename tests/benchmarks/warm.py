"""A first release, a second one and its rollback, beside bare asyncssh and `ansible -m raw`, in one run:

    .venv/bin/python -m tests.benchmarks.warm [--machines 200] [--rounds 3] [--sshd]

Each round begins with a new worker, so that the first release connects anew to each machine; the second one and the
rollback find the connections kept. ansible (of tests/requirements.txt, with an `ssh` client) forks 50. The machines are
asyncssh's in one process, or with `--sshd` a real sshd each. Read the ratios.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import release
from tests.waiting import wait_until

ANSIBLE = Path(sys.executable).with_name("ansible")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sshd", action="store_true", help="the machines are real sshd processes")
    options = parser.parse_args()
    os.environ["SSH_KEEP_CONNECTIONS"] = str(options.machines)
    with tempfile.TemporaryDirectory() as folder:
        release.enter(Path(folder).resolve(), options.sshd)
        demo = release.demo_with(options.machines, Path(folder).resolve(), options.sshd)
        measured = _measure(demo, options.machines, options.rounds)
    _tell(options.machines, measured)


def _measure(demo, machines, rounds):
    measured = {"cold": [], "warm": [], "rollback": [], "bare asyncssh": [], "ansible": []}
    with demo.running(port=0, slowly=False):
        publisher = release.Publisher(demo)
        for number in range(rounds):
            _restart_worker(demo)
            measured["cold"].append(publisher.release(f"1.{number}.0", machines))
            measured["warm"].append(publisher.release(f"1.{number}.1", machines))
            measured["rollback"].append(publisher.roll_back())
            measured["bare asyncssh"].append(release.bare(demo, machines, again=True))
            if ANSIBLE.exists() and shutil.which("ssh"):
                measured["ansible"].append(_ansible(demo, machines, number))
    return {name: rounds for name, rounds in measured.items() if rounds}


def _restart_worker(demo):
    from releases.models import Worker

    process = demo.parts.processes["worker"]
    process.terminate()
    process.wait()
    demo.start_worker("worker", "--grace", 5)
    wait_until(Worker.objects.alive().exists)


def _ansible(demo, machines, number):
    """One `echo` on as many machines, as ansible does it; then (`warm`) once more on the connections that ssh kept.

    A home for each round: in the last one's, ssh would find the connections that it keeps for a minute.
    """
    from django.conf import settings

    from jobs.models import Machine
    from tests.benchmarks.bare_asyncssh import SCRIPT

    rows = Machine.objects.filter(businesses__slug="payment").values_list("hostname", "port")[:machines]
    facts = f"ansible_user={settings.SSH_USER} ansible_ssh_private_key_file={demo.facts['client_key']}"
    inventory = demo.folder / "inventory.ini"
    inventory.write_text("".join(f"{name} ansible_host=127.0.0.1 ansible_port={port} {facts}\n" for name, port in rows))
    command = [ANSIBLE, "all", "-i", inventory, "-m", "raw", "-a", SCRIPT, "-f", release.AT_ONCE]
    command += [f"--ssh-common-args=-o UserKnownHostsFile={demo.facts['known_hosts']}"]
    home = demo.folder / f"ansible-{number}"
    environment = {"ANSIBLE_HOME": home, "ANSIBLE_SSH_CONTROL_PATH_DIR": home / "cp", "ANSIBLE_LOCALHOST_WARNING": 0}
    environment = os.environ | {name: str(value) for name, value in environment.items()}
    facts = {"failed": 0}
    for name in ("wall", "warm"):
        began = time.perf_counter()
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
        facts[name] = time.perf_counter() - began
        facts["failed"] += machines - done.stdout.count("| CHANGED")
    return facts


def _tell(machines, measured):
    print(f"{machines} machines, {release.AT_ONCE} at a time, medians of {len(measured['cold'])}")
    for name, rounds in measured.items():
        print(f"{name:>14}: {release.median(rounds, 'wall'):.2f} s, {sum(one['failed'] for one in rounds)} failed")
    bare = release.median(measured["bare asyncssh"], "wall")
    bare_warm = release.median(measured["bare asyncssh"], "warm")
    print(f"cold / bare asyncssh: {release.median(measured['cold'], 'wall') / bare:.2f}")
    print(f"rollback / bare, connections kept: {release.median(measured['rollback'], 'wall') / bare_warm:.2f}")
    if "ansible" in measured:
        ansible = release.median(measured["ansible"], "wall")
        for name in ("cold", "warm", "rollback"):
            print(f"ansible / {name}: {ansible / release.median(measured[name], 'wall'):.1f}")
        print(f"ansible / bare asyncssh: {ansible / bare:.1f}, connections kept: {ansible / bare_warm:.1f}")
        kept, rollback = release.median(measured["ansible"], "warm"), release.median(measured["rollback"], "wall")
        print(f"ansible, connections kept: {kept:.2f} s; / rollback: {kept / rollback:.1f}")
    print(f"the worker's peak: {measured['cold'][-1]['peak']:.0f} MB")


if __name__ == "__main__":
    main()

"""What the portal is measured against: asyncssh alone, with the same options and remote command, recording nothing."""

import asyncio
import json
import resource
import sys
import time

import asyncssh

from releases.executors import connections, remote_shell

SCRIPT = "echo released"


async def release(known_hosts, key, user, ports, at_once):
    """Runs SCRIPT on every port of 127.0.0.1, `at_once` at a time; the exit statuses."""
    command, payload = remote_shell.prepare(SCRIPT, {"DEPLOY_VERSION": "1.0"}, 60)
    known_hosts = asyncssh.read_known_hosts(known_hosts)
    keys = [asyncssh.read_private_key(key)]
    options = asyncssh.SSHClientConnectionOptions(connections._options(), client_keys=keys)
    room = asyncio.Semaphore(at_once)

    async def one(port):
        async with room:
            connecting = asyncssh.connect(
                "127.0.0.1", port, username=user, options=options, known_hosts=known_hosts, config=[]
            )
            connection = await connecting
            process = await connection.create_process(command, encoding=None)
            process.stdin.write(payload)
            await process.stdout.read()
            await process.wait_closed()
            connection.close()
            return process.exit_status

    return await asyncio.gather(*map(one, ports))


def _cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    known_hosts, key, user, at_once, *ports = sys.argv[1:]
    before, began = _cpu(), time.perf_counter()
    statuses = asyncio.run(release(known_hosts, key, user, list(map(int, ports)), int(at_once)))
    wall = time.perf_counter() - began
    facts = {"wall": wall, "cpu": _cpu() - before, "failed": sum(status != 0 for status in statuses)}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

"""What the portal is measured against: asyncssh alone, with the same options and remote command, recording nothing."""

import asyncio
import json
import resource
import sys
import time

import asyncssh

from releases.executors import connections, remote_shell

SCRIPT = "echo released"


async def release(known_hosts, key, user, ports, at_once, again):
    """Runs SCRIPT on every port of 127.0.0.1, `at_once` at a time; then, if `again`, once more on the same connections.

    The seconds of both (`wall`, `warm`), the CPU of the first, and how many failed.
    """
    before, began = _cpu(), time.perf_counter()
    prepared = remote_shell.prepare(SCRIPT, {"DEPLOY_VERSION": "1.0"}, 60)
    known_hosts = asyncssh.read_known_hosts(known_hosts)
    keys = [asyncssh.read_private_key(key)]
    options = asyncssh.SSHClientConnectionOptions(connections._options(), client_keys=keys)
    room = asyncio.Semaphore(at_once)
    kept = {}

    async def connect(port):
        return await asyncssh.connect(
            "127.0.0.1", port, username=user, options=options, known_hosts=known_hosts, config=[]
        )

    async def one(port):
        async with room:
            connection = kept[port] if port in kept else await connect(port)
            status = await _run(connection, *prepared)
            if again:
                kept[port] = connection
            else:
                connection.close()
            return status

    statuses = await asyncio.gather(*map(one, ports))
    facts = {"wall": time.perf_counter() - began, "cpu": _cpu() - before}
    if again:
        began = time.perf_counter()
        statuses += await asyncio.gather(*map(one, ports))
        facts["warm"] = time.perf_counter() - began
    return facts | {"failed": sum(status != 0 for status in statuses)}


async def _run(connection, command, payload):
    process = await connection.create_process(command, encoding=None)
    process.stdin.write(payload)
    await process.stdout.read()
    await process.wait_closed()
    return process.exit_status


def _cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    known_hosts, key, user, at_once, again, *ports = sys.argv[1:]
    released = release(known_hosts, key, user, list(map(int, ports)), int(at_once), again == "1")
    print(json.dumps(asyncio.run(released)))


if __name__ == "__main__":
    main()

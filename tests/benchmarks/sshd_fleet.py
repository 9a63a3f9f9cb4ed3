"""A fleet of loopback machines that are real sshd processes, one each, in the account of whoever runs this:

    python -m tests.benchmarks.sshd_fleet FOLDER --machines-file FILE

Takes and tells what `releases.demo.fleet` does. Needs Debian's openssh-server.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from releases.demo.fleet import ADDRESS, listening_socket, private_key

SSHD = Path("/usr/sbin/sshd")  # it starts itself anew for each connection, so that its whole path is needed
# Another home, for what the account's own .bashrc does would be measured too
CONFIG = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
PidFile none
LogLevel ERROR
MaxStartups 1000
SetEnv HOME={folder}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machines-file", type=Path, required=True, help="one hostname a line")
    options = parser.parse_args()
    with _serving(options.folder.resolve(), options.machines_file.read_text().split()) as facts:
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def _serving(folder, hostnames):
    folder.mkdir(parents=True, exist_ok=True)
    client_key, host_key = (private_key(folder / name) for name in ("client_key", "host_key"))
    (folder / "authorized_keys").write_bytes(client_key.convert_to_public().export_public_key())
    (folder / "sshd_config").write_text(CONFIG.format(address=ADDRESS, folder=folder))
    ports = dict(zip(hostnames, _free_ports(len(hostnames)), strict=True))
    public = host_key.convert_to_public().export_public_key().decode().strip()
    (folder / "known_hosts").write_text("".join(f"[{ADDRESS}]:{port} {public}\n" for port in ports.values()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # as root it wants that, empty, to shut itself in
    subprocess.run([SSHD, "-t", "-f", folder / "sshd_config"], check=True)  # tells what is wrong, if anything is
    started = [subprocess.Popen([SSHD, "-D", "-f", folder / "sshd_config", "-p", str(port)]) for port in ports.values()]
    try:
        yield {"ports": ports, "client_key": str(folder / "client_key"), "known_hosts": str(folder / "known_hosts")}
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def _free_ports(number):
    """All are held until the last is found, so that none is given twice."""
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(listening_socket()).getsockname()[1] for _ in range(number)]


if __name__ == "__main__":
    main()

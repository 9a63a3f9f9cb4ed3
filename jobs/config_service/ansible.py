"""Machines from an Ansible inventory, as the `ansible-inventory` that ops installed reads it."""

import os
import selectors
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic

from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.config_service.answers import Allowance, at, fields_problems, joined, mapped, parse_json
from jobs.config_service.base import Source, SourceError
from jobs.config_service.file import inside, place_problems

COMMAND = "ansible-inventory"
FIELDS = {"address": "ansible_host", "port": "ansible_port", "user": "ansible_user"}


class AnsibleSource(Source):
    """Options: see docs/config-service.md. The inventory is below settings.CONFIG_FILES_DIR."""

    OPTIONS = {"path": str, "group": str, "executable": str, "fields": dict}

    def rows(self):
        path = inside(self.filled(self.options["path"]))
        _refuse_script(path)
        # Without --export the variables of a group are in those of its hosts, in Ansible's own order of precedence.
        command = [shutil.which(self.options.get("executable", COMMAND)), "-i", str(path), "--list"]
        allowance = Allowance()
        inventory = parse_json(_run(command, allowance), allowance)
        hosts = _hosts_by_group(inventory)
        chosen = hosts.get(self.filled(self.options.get("group", "all")))
        if chosen is None:
            raise SourceError(_("The inventory has no such group, or nothing in it."))
        groups = _groups_by_host(hosts)
        return [self._row(host, at(inventory, "_meta.hostvars"), groups[host]) for host in sorted(chosen, key=str)]

    @classmethod
    def problems(cls, options):
        problems = fields_problems(options)
        if not options.get("path", "").strip():
            problems.append(_("“path” must name an inventory, such as “{business}.ini”."))
        problems += place_problems(options.get("path", ""))
        executable = options.get("executable", COMMAND)
        if Path(executable).name != COMMAND or ("/" in executable and not Path(executable).is_absolute()):
            problems.append(_("“executable” must be an absolute path that ends in /ansible-inventory."))
        elif not shutil.which(executable):
            problems.append(_("There is no ansible-inventory where the portal runs: install ansible-core."))
        return problems

    def _row(self, host, hostvars, groups):
        own = hostvars.get(host) if isinstance(hostvars, dict) else None
        variables = {name: _plain(value) for name, value in own.items()} if isinstance(own, dict) else {}
        row = mapped({"hostname": host, "labels": {"groups": joined(groups)}}, variables, FIELDS)
        return mapped(row, variables, self.options.get("fields"))


def _refuse_script(path):
    """SourceError unless there is a file, one that is no script, or scripts are allowed."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        mode = 0
    if not stat.S_ISREG(mode):
        raise SourceError(format_lazy(_("There is no file {name} in CONFIG_FILES_DIR."), name=path.name))
    if mode & 0o111 and not settings.ALLOW_INVENTORY_SCRIPTS:
        reason = _("{name} is executable, and inventory scripts are not allowed: take the mode away, or set {setting}.")
        error = format_lazy(reason, name=path.name, setting="ALLOW_INVENTORY_SCRIPTS")
        raise SourceError(error, permanent=True)


def _run(command, allowance):
    """What `command` writes, which must end well and in time; whatever it started is gone afterwards."""
    deadline = monotonic() + settings.CONFIG_SERVICE_TIMEOUT
    with tempfile.TemporaryDirectory(prefix="portal-inventory-", ignore_cleanup_errors=True) as folder:
        process = _start(command, folder)
        try:
            output = _output(process, deadline, allowance)
            status = process.wait(max(0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            reason = _("ansible-inventory did not end within {seconds} seconds. See why it is slow.")
            raise SourceError(format_lazy(reason, seconds=settings.CONFIG_SERVICE_TIMEOUT)) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()
    if status != 0:
        reason = _("ansible-inventory ended with status {status}. Try it: ansible-inventory -i {name} --list")
        raise SourceError(format_lazy(reason, status=status, name=Path(command[2]).name))
    return output


def _start(command, folder):
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it may quote a line with a password
            start_new_session=True,
        )
    except OSError as error:
        reason = _("ansible-inventory cannot be started ({error}).")
        raise SourceError(format_lazy(reason, error=error.strerror), permanent=True) from None


def _environment(folder):
    """Nothing of the portal's own. A file that is no script may not name a plugin, which would run code as well."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": folder,
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    }
    if settings.ALLOW_INVENTORY_SCRIPTS:
        return environment
    return {**environment, "ANSIBLE_INVENTORY_ENABLED": "ini,yaml"}


def _output(process, deadline, allowance):
    """All that `process` writes; TimeoutExpired when it, or whoever has its pipe, writes on after `deadline`."""
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0, deadline - monotonic())):
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                return bytes(output)
            allowance.spend(size=len(chunk))
            output += chunk
    raise subprocess.TimeoutExpired(process.args, settings.CONFIG_SERVICE_TIMEOUT)


def _hosts_by_group(inventory):
    """The names of the hosts of each group, with those of its children; a group without any is left out."""
    try:
        hosts = {name: set(found.get("hosts", [])) for name, found in inventory.items()}
        children = {name: set(found.get("children", [])) for name, found in inventory.items()}
    except (AttributeError, TypeError):
        raise SourceError(_("ansible-inventory gave no inventory. Look at what it gives.")) from None
    growing = True
    while growing:  # until nothing is new, since a script may give groups that are inside each other
        size = sum(map(len, hosts.values()))
        for name, below in children.items():
            hosts[name] |= set().union(*(hosts.get(child, set()) for child in below))
        growing = sum(map(len, hosts.values())) > size
    return {name: found for name, found in hosts.items() if found}


def _groups_by_host(hosts):
    """The groups that each host is in, in order; that of all and that of those in no other say nothing."""
    groups = {host: [] for found in hosts.values() for host in found}
    for name in sorted(hosts.keys() - {"all", "ungrouped"}):
        for host in hosts[name]:
            groups[host].append(name)
    return groups


def _plain(value):
    """A value as it is; Ansible marks those that it would not take for templates."""
    return value["__ansible_unsafe"] if isinstance(value, dict) and "__ansible_unsafe" in value else value

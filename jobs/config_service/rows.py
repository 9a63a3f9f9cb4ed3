"""Turns the rows of a config service, whatever they hold, into machines that the portal may trust."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address

from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.validators import printable_line

HOST_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){HOST_LABEL}(?:\.{HOST_LABEL})*")
NOT_IN_HOST_NAME = re.compile(r"[^a-z0-9_.-]")
# The system's resolver reads 2130706433, 127.1 and 0x7f.0.0.0x1 as addresses; ip_address does not.
LOOKS_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
LOOPBACK_NAMES = re.compile(r"(?:.*\.)?localhost|localhost[46]?(?:\.localdomain[46]?)?|ip6-(?:localhost|loopback)")
THIS_NETWORK = IPv4Network("0.0.0.0/8")
PORT = re.compile(r"[1-9][0-9]{0,4}")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
LABEL_KEY = re.compile(r"[A-Za-z0-9_.-]{1,63}")
MAX_LABELS = 64
MAX_LABEL_LENGTH = 255
MAX_NUMBER = 10**18
SHOWN_NAME_LENGTH = 60


@dataclass(frozen=True, slots=True)
class MachineRow:
    hostname: str
    address: str
    port: int
    user: str
    labels: dict[str, str]
    site: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was left out: its number counted from 1, its host name cut and made printable, and why."""

    row_number: int
    name: str
    reason: str


class UnusableRow(dict):
    """A row that its source could not make a machine of, and why, in words for ops."""

    def __init__(self, hostname, reason):
        super().__init__(hostname=hostname)
        self.reason = reason


class RowError(Exception):
    """Why a row is refused, in words for ops."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason  # translated when it is read


def clean_rows(rows, allow_loopback):
    """(machines, refused): a MachineRow or a Refused for each of `rows`; of two that clash, the first stays."""
    machines, refused, taken = [], [], {}
    for number, row in enumerate(rows, start=1):
        try:
            machine = _machine(row, allow_loopback)
            _refuse_duplicate(machine, taken)
        except RowError as error:
            refused.append(Refused(number, _shown_name(row), error.reason))
            continue
        taken[machine.hostname] = taken[machine.address, machine.port] = (number, machine.hostname)
        machines.append(machine)
    return machines, refused


def _machine(row, allow_loopback):
    if not isinstance(row, dict):
        raise RowError(_("The row is not an object."))
    if isinstance(row, UnusableRow):
        raise RowError(row.reason)
    hostname = _host_name(row.get("hostname"))
    address = row.get("address")
    # A source that gives no address means that the host name is one.
    address = _address(hostname if address is None or address == "" else address, allow_loopback)
    labels = _labels(row.get("labels"))
    return MachineRow(hostname, address, _port(row.get("port")), _user(row.get("user")), labels, labels.get("site", ""))


def _refuse_duplicate(machine, taken):
    if first := taken.get(machine.hostname):
        raise RowError(format_lazy(_("Row {number} has the same host name."), number=first[0]))
    if first := taken.get((machine.address, machine.port)):
        reason = _("Row {number} ({name}) has the same address and port.")
        raise RowError(format_lazy(reason, number=first[0], name=first[1]))


def _host_name(value):
    if not isinstance(value, str) or not value:
        raise RowError(_("It has no host name, or one that is not text."))
    name = _lower(value)
    if HOST_NAME.fullmatch(name):
        return name
    if strange := NOT_IN_HOST_NAME.search(name[:253]):
        reason = _("A host name has only a-z, 0-9, “.”, “-” and “_”; this one has the character {code}.")
        raise RowError(format_lazy(reason, code=f"U+{ord(strange[0]):04X}"))
    raise RowError(_("The host name is malformed: a part is empty, too long, or begins or ends with “-”."))


def _lower(name):
    """Lower case of ASCII alone: that of the Kelvin sign would be an ordinary k."""
    return name.lower() if name.isascii() else name


def _address(value, allow_loopback):
    if not isinstance(value, str):
        raise RowError(_("The address is not text."))
    try:
        # An IPv6 scope (fe80::1%eth0) is free text behind the address.
        address = ip_address("" if "%" in value else value)
    except ValueError:
        return _named_address(value, allow_loopback)
    address = (address.version == 6 and address.ipv4_mapped) or address
    if not _reachable(address, allow_loopback):
        raise RowError(_("The address is loopback, link-local, multicast, reserved or unspecified: no machine has it."))
    return str(address)


def _reachable(address, allow_loopback):
    if address.is_loopback:
        return allow_loopback
    refused = address.is_link_local or address.is_multicast or address.is_reserved
    return not refused and address not in THIS_NETWORK


def _named_address(value, allow_loopback):
    name = _lower(value)
    if not HOST_NAME.fullmatch(name):
        raise RowError(_("The address is neither an IP address nor a host name."))
    if LOOKS_NUMERIC.fullmatch(name):
        raise RowError(_("The address is a number in disguise: write it as 10.0.0.1, or give a host name."))
    if LOOPBACK_NAMES.fullmatch(name) and not allow_loopback:
        raise RowError(_("The address is the portal's own host."))
    return name


def _port(value):
    if value is None or value == "":
        return 22
    text = value if isinstance(value, str) else ""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 65535:
        return value
    if not PORT.fullmatch(text) or int(text) > 65535:
        raise RowError(_("The port is not a whole number from 1 to 65535."))
    return int(text)


def _user(value):
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not USER.fullmatch(value):
        raise RowError(_("The user is not a login name: up to 32 of a-z, 0-9, “_” and “-”, first a letter or “_”."))
    return value


def _labels(value):
    """Labels as text; a label without a value (null) is no label."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowError(_("The labels are not an object."))
    if len(value) > MAX_LABELS:
        raise RowError(format_lazy(_("It has more than {most} labels."), most=MAX_LABELS))
    return {_label_key(key): _label_value(key, found) for key, found in value.items() if found is not None}


def _label_key(key):
    if not isinstance(key, str) or not LABEL_KEY.fullmatch(key):
        raise RowError(_("A label's name is not 1 to 63 of A-Z, a-z, 0-9, “_”, “.” and “-”."))
    return key


def _label_value(key, value):
    if isinstance(value, bool):
        return "true" if value else "false"
    # Not `abs(value) >= MAX_NUMBER`: NaN is neither less nor more.
    if isinstance(value, int | float) and abs(value) < MAX_NUMBER:
        return str(value)
    if not isinstance(value, str) or len(value) > MAX_LABEL_LENGTH or not _is_printable(value):
        reason = _("Label {key} is not a plain number or up to {most} visible characters.")
        raise RowError(format_lazy(reason, key=key, most=MAX_LABEL_LENGTH))
    return value


def _is_printable(text):
    if text.isprintable():
        return True
    try:
        printable_line(text)  # also knows the wide space and joined emoji, which isprintable() refuses
    except ValidationError:
        return False
    return True


def _shown_name(row):
    name = row.get("hostname") if isinstance(row, dict) else None
    if not isinstance(name, str):
        return ""
    return shown(name, SHOWN_NAME_LENGTH)


def shown(text, length):
    """The beginning of a text from outside, with a mark in place of each character that does not print."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:length])

"""Which machines the demo's config service lists: told by their number alone, so that a larger fleet only adds some."""

from collections import Counter
from itertools import cycle, islice

ADDRESS = "127.0.0.1"
USER = "deploy"
LEAST = 6  # so that payment has machines for each of its three stages

# (host name, role, businesses that list it), over and over
_PATTERN = [
    ("pay-web", "web", ["payment"]),
    ("pay-web", "web", ["payment"]),
    ("ord-web", "web", ["orders"]),
    ("pay-gw", "gateway", ["payment"]),
    ("pay-web", "web", ["payment"]),
    ("cache", "cache", ["payment", "orders"]),
    ("pay-web", "web", ["payment"]),
    ("pay-web", "web", ["payment"]),
    ("ord-web", "web", ["orders"]),
    ("pay-gw", "gateway", ["payment"]),
    ("pay-web", "web", ["payment"]),
    ("ord-db", "database", ["orders"]),
]
_SITES = ["sh-1", "sh-1", "sh-1", "sh-2", "sh-2", "bj-1", "bj-1"]
_MACHINES_A_RACK = 10


def hostnames(count):
    """The names of a fleet of `count` machines."""
    return [hostname for hostname, _role, _businesses in _machines(count)]


def lists(ports):
    """What machines.json holds for machines with these {hostname: port}: {business: [rows]}."""
    lists = {"payment": [], "orders": []}
    in_site = Counter()
    for (hostname, role, businesses), site in zip(_machines(len(ports)), cycle(_SITES), strict=False):
        rack = f"r{1 + in_site[site] // _MACHINES_A_RACK:02}"
        in_site[site] += 1
        labels = {"site": site, "rack": rack, "role": role}
        row = {"hostname": hostname, "address": ADDRESS, "port": ports[hostname], "user": USER}
        for business in businesses:
            lists[business].append(row | {"labels": labels})
    return lists


def pace(hostname):
    """How long that machine takes for each step of a script, in seconds."""
    return sum(hostname.encode()) * 7 % 45 / 100 + 0.05


def _machines(count):
    """(host name, role, businesses) of each, in order."""
    numbers = Counter()
    for name, role, businesses in islice(cycle(_PATTERN), count):
        numbers[name] += 1
        yield f"{name}-{numbers[name]:03}", role, businesses

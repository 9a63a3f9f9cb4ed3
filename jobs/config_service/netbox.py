"""Machines from NetBox: its devices and, when asked for, its virtual machines."""

import re
from urllib.parse import urlencode

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.config_service.answers import (
    added,
    at,
    fields_problems,
    joined,
    list_at,
    mapped,
    offset_after,
    refuse_other_counts,
)
from jobs.config_service.base import Source
from jobs.config_service.download import base_url_problems, download, page_size_problems, token, token_problems
from jobs.config_service.rows import UnusableRow

ALL_LISTS = ["dcim/devices", "virtualization/virtual-machines"]
SELECTORS = ["tenant", "site", "role", "tag", "status"]
ADDRESSES = ["primary_ip", "primary_ip4", "primary_ip6"]
LABELS = {
    "labels.site": "site.slug",
    "labels.rack": "rack.name",
    "labels.role": "role.slug",
    "labels.tenant": "tenant.slug",
    "labels.platform": "platform.slug",
    "labels.cluster": "cluster.name",
}
PREFIX_LENGTH = re.compile(r"/[0-9]{1,3}\Z")


class NetBoxSource(Source):
    """Options: see docs/config-service.md."""

    OPTIONS = {
        "url": str,
        "token_variable": str,
        **dict.fromkeys(SELECTORS, str),
        "virtual_machines": bool,
        "address": str,
        "no_address": str,
        "fields": dict,
        "page_size": int,
    }

    def rows(self):
        return download(self._read_lists, self._headers())

    @classmethod
    def problems(cls, options):
        problems = base_url_problems(options) + token_problems(options) + fields_problems(options)
        problems += page_size_problems(options, 2, 1000)
        return problems + _selector_problems(options) + _address_problems(options)

    def _headers(self):
        if "token_variable" not in self.options:
            return {}
        value = token(self.options["token_variable"])
        return {"Authorization": f"{'Bearer' if value.startswith('nbt_') else 'Token'} {value}"}

    def _read_lists(self, reading):
        lists = ALL_LISTS if self.options.get("virtual_machines") else ALL_LISTS[:1]
        return [self._row(item) for path in lists for item in self._items(reading, path)]

    def _items(self, reading, path):
        """All items of one list. Its links are not followed: behind a proxy they often name another scheme or host."""
        items, counts, answer = [], [], {"next": True}
        while at(answer, "next"):
            answer = reading.page(self._address_of(path, offset_after(items)))
            items += added(items, list_at(answer, "results"), known=lambda item: at(item, "id"))
            counts.append(answer.get("count"))
        refuse_other_counts(counts, len(items))
        return items

    def _address_of(self, path, offset):
        chosen = {"status": "active", **{name: self.options[name] for name in SELECTORS if name in self.options}}
        query = [(name, value) for name, values in chosen.items() for value in _values(self.filled(values))]
        # In the order of their ids, so that what is added meanwhile comes last.
        page = [("ordering", "id"), ("limit", self.options.get("page_size", 500)), ("offset", offset)]
        query += [*page, ("exclude", "config_context")]
        return f"{self.options['url'].rstrip('/')}/api/{path}/?{urlencode(query)}"

    def _row(self, item):
        if not isinstance(item, dict):
            return item
        address = at(item, f"{self.options.get('address', 'primary_ip')}.address")
        labels = {"tags": joined(_tags(item))}
        row = mapped({"hostname": item.get("name"), "address": address, "labels": labels}, item, LABELS)
        row = mapped(row, item, self.options.get("fields"))
        if not row["address"] and self.options.get("no_address") != "hostname":
            return UnusableRow(row["hostname"], _("It has no primary IP address in NetBox."))
        return {**row, "address": _plain(row["address"])}


def _plain(address):
    """10.0.0.1 of 10.0.0.1/24."""
    return PREFIX_LENGTH.sub("", address) if isinstance(address, str) else address


def _values(text):
    return [value.strip() for value in text.split(",")]


def _tags(item):
    tags = item.get("tags")
    return [slug for tag in tags if isinstance(slug := at(tag, "slug"), str)] if isinstance(tags, list) else []


def _selector_problems(options):
    problems = []
    # A filter without a value is no filter to NetBox: it would give every machine there is.
    for name in SELECTORS:
        if not all(_values(options.get(name, "any"))):
            problems.append(format_lazy(_("“{name}” must be a slug, or several with commas between."), name=name))
    if not any(name in options for name in SELECTORS if name != "status"):
        problems.append(_("Choose the machines by at least one of “tenant”, “site”, “role” and “tag”."))
    return problems


def _address_problems(options):
    problems = []
    if options.get("address", "primary_ip") not in ADDRESSES:
        problems.append(_("“address” must be primary_ip, primary_ip4 or primary_ip6."))
    if options.get("no_address", "refuse") not in {"refuse", "hostname"}:
        problems.append(_("“no_address” must be refuse or hostname."))
    return problems

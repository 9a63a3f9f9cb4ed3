"""Machines from Consul's catalog: its nodes, or the nodes of one service."""

from urllib.parse import quote, urlencode

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.config_service.answers import fields_problems, list_at, mapped
from jobs.config_service.base import Source
from jobs.config_service.download import base_url_problems, download, token, token_problems

FIELDS = {"hostname": "Node", "address": "Address", "labels.site": "Datacenter"}
CHOICES = ["service", "filter", "dc"]


class ConsulSource(Source):
    """Options: see docs/config-service.md."""

    OPTIONS = {"url": str, "token_variable": str, **dict.fromkeys(CHOICES, str), "fields": dict}

    def rows(self):
        variable = self.options.get("token_variable")
        return download(self._read_list, {"X-Consul-Token": token(variable)} if variable else {})

    @classmethod
    def problems(cls, options):
        problems = base_url_problems(options) + token_problems(options) + fields_problems(options)
        # Without a value it would be no choice to Consul, which would give every node there is.
        empty = [name for name in CHOICES if not options.get(name, "any").strip()]
        problems += [format_lazy(_("“{name}” must not be empty."), name=name) for name in empty]
        if "service" not in options and "filter" not in options:
            problems.append(_("Choose the machines by “service” or “filter”."))
        return problems

    def _read_list(self, reading):
        items = list_at(reading.page(self._address()), "")
        return [self._row(item) for item in _one_per_node(items)]

    def _address(self):
        chosen = {name: self.filled(self.options[name]) for name in CHOICES if name in self.options}
        service = chosen.pop("service", None)
        path = "nodes" if service is None else f"service/{quote(service, safe='')}"
        return f"{self.options['url'].rstrip('/')}/v1/catalog/{path}?{urlencode(chosen)}"

    def _row(self, item):
        if not isinstance(item, dict):
            return item
        # A node has its own Meta; beside a service the node's is NodeMeta.
        row = {"labels": item.get("NodeMeta" if "service" in self.options else "Meta")}
        return mapped(row, item, FIELDS | self.options.get("fields", {}))


def _one_per_node(items):
    """`items` without those that only tell of another instance of the service on a node that came already."""
    seen = set()
    for item in items:
        node = (item.get("Node"), item.get("Address")) if isinstance(item, dict) else (None,)
        if not all(isinstance(value, str) for value in node):
            yield item
        elif node not in seen:
            seen.add(node)
            yield item

"""Machines from BlueKing CMDB: `list_biz_hosts`, or `list_biz_hosts_topo` for their sets and modules."""

import json

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
from jobs.config_service.base import Source, SourceError
from jobs.config_service.download import download, page_size_problems, token, token_problems, url_problems
from jobs.config_service.rows import shown

FIELDS = {"hostname": "bk_host_name", "address": "bk_host_innerip", "labels.cloud": "bk_cloud_id"}
MAX_PAGE_SIZE = 500
MAX_IDS = {"set_ids": 200, "module_ids": 500}
MESSAGE_LENGTH = 200


class BlueKingSource(Source):
    """Options: see docs/config-service.md."""

    OPTIONS = {
        "url": str,
        "business_id": int,
        "token_variable": str,
        "token_in": str,
        "set_ids": list,
        "module_ids": list,
        "fields": dict,
        "page_size": int,
    }

    def rows(self):
        credentials = _credentials(self.options["token_variable"])
        if self.options.get("token_in") == "body":
            return download(lambda reading: self._read_list(reading, credentials, credentials), {})
        headers = {"X-Bkapi-Authorization": json.dumps(credentials)}
        return download(lambda reading: self._read_list(reading, {}, credentials), headers)

    @classmethod
    def problems(cls, options):
        problems = url_problems(options) + fields_problems(options) + page_size_problems(options, 2, MAX_PAGE_SIZE)
        return problems + _token_problems(options) + _choice_problems(options)

    def _read_list(self, reading, body, secrets):
        """All hosts, page by page until one adds none; `body` is sent with every question."""
        items, counts, new = [], [], True
        while new:
            answer = reading.page(self.options["url"], {**body, **self._question(offset_after(items))})
            _refuse_failure(answer, secrets)
            new = added(items, list_at(answer, "data.info"), known=lambda item: at(_host(item), "bk_host_id"))
            items += new
            counts.append(at(answer, "data.count"))
        refuse_other_counts(counts, len(items))
        return [self._row(item) for item in items]

    def _question(self, start):
        # In the order of their ids, so that what is added meanwhile comes last.
        page = {"start": start, "limit": self.options.get("page_size", MAX_PAGE_SIZE), "sort": "bk_host_id"}
        attributes = sorted({path.split(".")[0] for path in self._fields().values()} | {"bk_host_id"})
        chosen = {f"bk_{name}": self.options[name] for name in MAX_IDS if name in self.options}
        return {"bk_biz_id": self.options["business_id"], **chosen, "fields": attributes, "page": page}

    def _fields(self):
        return FIELDS | self.options.get("fields", {})

    def _row(self, item):
        host = _host(item)
        if not isinstance(host, dict):
            return host
        sets = _objects(item.get("topo"))
        modules = [module for found in sets for module in _objects(found.get("module"))]
        labels = {"set": _names(sets, "bk_set_name"), "module": _names(modules, "bk_module_name")}
        row = mapped({"labels": labels}, host, self._fields())
        return {**row, "hostname": _first(row["hostname"]), "address": _first(row["address"])}


def _credentials(variable):
    """The JSON object that `variable` holds; SourceError when it is none with an app code and its secret."""
    try:
        found = json.loads(token(variable))
        is_usable = all(isinstance(value, str) for value in found.values()) and found["bk_app_code"]
        is_usable = is_usable and found["bk_app_secret"]
    except (ValueError, AttributeError, KeyError, RecursionError):
        is_usable = False
    if not is_usable:
        reason = _("{variable} must hold a JSON object of texts: bk_app_code, bk_app_secret and bk_username.")
        raise SourceError(format_lazy(reason, variable=variable), permanent=True)
    return found


def _refuse_failure(answer, secrets):
    """SourceError, with the message of BlueKing made harmless, unless it says that it answered."""
    if at(answer, "result") is True:
        return
    message = at(answer, "message")
    message = message if isinstance(message, str) else "?"
    for secret in filter(None, secrets.values()):
        message = message.replace(secret, "…")
    raise SourceError(format_lazy(_("BlueKing refuses: {message}"), message=shown(message, MESSAGE_LENGTH)))


def _host(item):
    """The host itself, which `list_biz_hosts_topo` gives beside where it is."""
    return item.get("host", item) if isinstance(item, dict) else item


def _objects(value):
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []


def _names(objects, key):
    return joined(sorted({found[key] for found in objects if isinstance(found.get(key), str)}))


def _first(value):
    """10.0.0.1 of 10.0.0.1,10.0.0.2: a host may have several inner addresses."""
    return value.split(",")[0].strip() if isinstance(value, str) else value


def _token_problems(options):
    problems = token_problems(options)
    if "token_variable" not in options:
        problems.append(_("“token_variable” must name the variable with the credentials of your BlueKing app."))
    elif not problems:
        try:
            _credentials(options["token_variable"])
        except SourceError as error:
            problems.extend(error.args)
    if options.get("token_in", "header") not in {"header", "body"}:
        problems.append(_("“token_in” must be header or body."))
    return problems


def _choice_problems(options):
    problems = []
    if options.get("business_id", 0) < 1:
        problems.append(_("“business_id” must be the number of the business in BlueKing (bk_biz_id)."))
    for name, most in MAX_IDS.items():
        ids = options.get(name, [1])
        if not 1 <= len(ids) <= most or not all(type(number) is int for number in ids):
            problems.append(format_lazy(_("“{name}” must be 1 to {most} numbers."), name=name, most=most))
        # Where BlueKing does not know a choice it leaves it out, and gives every machine.
        if name in options and "hosts_topo" in options.get("url", ""):
            problems.append(format_lazy(_("“{name}” goes with list_biz_hosts only."), name=name))
    return problems

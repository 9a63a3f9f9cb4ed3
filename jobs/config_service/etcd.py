"""Machines from etcd v3, below a prefix of keys, by its JSON gateway."""

import json
from base64 import b64decode, b64encode

from django.utils.translation import gettext_lazy as _

from jobs.config_service.answers import at, fields_problems, list_at, mapped
from jobs.config_service.base import Source, SourceError
from jobs.config_service.download import base_url_problems, download, page_size_problems, token, token_problems
from jobs.config_service.rows import UnusableRow


class EtcdSource(Source):
    """Options: see docs/config-service.md."""

    OPTIONS = {"url": str, "prefix": str, "token_variable": str, "fields": dict, "page_size": int}

    def rows(self):
        return download(self._read_list, {})

    @classmethod
    def problems(cls, options):
        problems = base_url_problems(options) + fields_problems(options) + page_size_problems(options, 1, 10_000)
        # /machines/pay would give the machines of /machines/payment too.
        if not options.get("prefix", "").endswith("/"):
            problems.append(_("“prefix” must be what the keys begin with, up to a “/”: /machines/{business}/."))
        return problems + _token_problems(options)

    def _read_list(self, reading):
        if "token_variable" in self.options:
            self._log_in(reading)
        return [self._row(key, value, reading.allowance) for key, value in self._pairs(reading)]

    def _log_in(self, reading):
        name, _colon, password = token(self.options["token_variable"]).partition(":")
        answer = reading.page(self._address("auth/authenticate"), {"name": name, "password": password})
        if not isinstance(at(answer, "token"), str):
            raise _no_answer()
        reading.session.headers["Authorization"] = answer["token"]

    def _pairs(self, reading):
        """Every key and value, page by page, as they were together at the revision of the first page."""
        prefix = self.filled(self.options["prefix"]).encode()
        question = {"range_end": _text(_end(prefix)), "limit": self.options.get("page_size", 1000)}
        key, more = prefix, True
        while more:
            answer = reading.page(self._address("kv/range"), {**question, "key": _text(key)})
            question.setdefault("revision", _revision(answer))
            found = _decoded(answer)
            yield from found
            more = answer.get("more")
            if more:
                key = found[-1][0] + b"\0" if found else key

    def _address(self, path):
        return f"{self.options['url'].rstrip('/')}/v3/{path}"

    def _row(self, key, value, allowance):
        """A JSON object is a row; anything else is the address of the host that the last part of the key names."""
        name = key.decode(errors="replace").rpartition("/")[2]
        allowance.spend(objects=value.count(b"{") + value.count(b"["))
        try:
            text = value.decode().strip()
            item = json.loads(text) if text.startswith("{") else {"address": text}
        except (ValueError, RecursionError):
            return UnusableRow(name, _("Its value is neither an address nor a complete JSON object."))
        return mapped({"hostname": name, **item}, item, self.options.get("fields"))


def _end(prefix):
    """The first key behind those that begin with `prefix`; no UTF-8 text ends in the byte 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _text(key):
    return b64encode(key).decode()


def _revision(answer):
    """The revision that a page is of: 64 bits, so that JSON has it as text."""
    revision = at(answer, "header.revision")
    if not isinstance(revision, str) or not revision.isdecimal():
        raise _no_answer()
    return revision


def _decoded(answer):
    """The keys and values of a page; a page without any has no `kvs` at all."""
    pairs = list_at(answer, "kvs") if "kvs" in answer else []
    try:
        return [
            (b64decode(pair["key"], validate=True), b64decode(pair.get("value", ""), validate=True)) for pair in pairs
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _no_answer() from None


def _no_answer():
    return SourceError(_("The answer is not one of etcd v3. See that “url” is etcd's own address."))


def _token_problems(options):
    problems = token_problems(options)
    if "token_variable" in options and not problems and ":" not in token(options["token_variable"]):
        problems.append(_("The variable that “token_variable” names must hold a name and a password: name:password."))
    return problems

"""Machines from a config service that answers JSON over HTTP, in one answer or page by page."""

import re
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from django.utils.translation import gettext_lazy as _

from jobs.config_service.answers import (
    added,
    at,
    fields_problems,
    list_at,
    mapped,
    offset_after,
    refuse_other_counts,
    with_value,
)
from jobs.config_service.base import Source, SourceError
from jobs.config_service.download import (
    DEFAULT_PORTS,
    VISIBLE_ASCII,
    download,
    page_size_problems,
    token,
    token_problems,
    url_problems,
)

HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")


class HttpJsonSource(Source):
    """Options: see docs/config-service.md. The whole list must come within settings.CONFIG_SERVICE_TIMEOUT seconds."""

    OPTIONS = {
        "url": str,
        "body": dict,
        "items": str,
        "fields": dict,
        "token_variable": str,
        "token_header": str,
        "token_format": str,
        "next": str,
        "count": str,
        "page_size": int,
        "limit": str,
        "offset": str,
    }

    def rows(self):
        return download(self._read_list, self._headers())

    @classmethod
    def problems(cls, options):
        problems = url_problems(options) + token_problems(options) + _header_problems(options)
        return problems + fields_problems(options) + page_size_problems(options, 2, 10_000) + _paging_problems(options)

    def _read_list(self, reading):
        url = self.options["url"].replace("{business}", quote(self.slug, safe=""))
        body = self.filled(self.options.get("body"))
        self._counts = []
        read = self._ranged_rows if "page_size" in self.options else self._linked_rows
        rows = read(reading, url, body)
        refuse_other_counts(self._counts, len(rows))
        return rows

    def _headers(self):
        if "token_variable" not in self.options:
            return {}
        token_format = self.options.get("token_format", "Bearer {token}")
        value = token_format.replace("{token}", token(self.options["token_variable"]))
        return {self.options.get("token_header", "Authorization"): value}

    def _linked_rows(self, reading, url, body):
        rows = []
        while url:
            answer = reading.page(url, body)
            rows += self._rows(answer)
            url = _pinned(url, at(answer, self.options.get("next", "next")))
        return rows

    def _ranged_rows(self, reading, url, body):
        """Rows until a page adds none: a short one may only mean that the service's own limit is lower than ours."""
        rows, new = [], True
        while new:
            page = self._rows(reading.page(*self._with_range(url, body, offset_after(rows))))
            new = added(rows, page, _known)
            rows += new
        return rows

    def _with_range(self, url, body, offset):
        limit_name, offset_name = self.options.get("limit", "limit"), self.options.get("offset", "offset")
        if body is not None:
            body = with_value(body, limit_name, self.options["page_size"])
            return url, with_value(body, offset_name, offset)
        parts = urlsplit(url)
        query = [*parse_qsl(parts.query, keep_blank_values=True), (limit_name, self.options["page_size"])]
        return parts._replace(query=urlencode([*query, (offset_name, offset)])).geturl(), None

    def _rows(self, answer):
        if "count" in self.options:
            self._counts.append(at(answer, self.options["count"]))
        items = list_at(answer, self.options.get("items", "machines"))
        return [mapped(item, item, self.options.get("fields")) for item in items]


def _known(row):
    """What a row is known by. Its other fields may change from page to page: when it was seen, how busy it is."""
    return [at(row, field) for field in ("hostname", "address", "port")]


def _pinned(url, link):
    """The address that `link` on the page `url` leads to, None when it is empty; SourceError when on another host."""
    if link is None or link == "":
        return None
    here = urlsplit(url)
    try:
        there = urlsplit(urljoin(url, link))
        is_same = _origin(there) == _origin(here) and "@" not in there.netloc
    except (AttributeError, TypeError, ValueError):
        is_same = False
    if not is_same:
        raise SourceError(
            _("The link to the next page leads to another host and was not followed. Correct the service's links.")
        )
    # Built on our own host: another parser may find another host in the same link.
    return here._replace(path=there.path, query=there.query, fragment="").geturl()


def _origin(parts):
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


def _header_problems(options):
    problems = []
    if not HEADER_NAME.fullmatch(options.get("token_header", "Authorization")):
        problems.append(_("“token_header” is not the name of a header."))
    token_format = options.get("token_format", "{token}")
    if "{token}" not in token_format or not VISIBLE_ASCII.fullmatch(token_format):
        problems.append(_("“token_format” must have {token} in it, as in “Bearer {token}”."))
    return problems


def _paging_problems(options):
    problems = []
    if "page_size" in options and "next" in options:
        problems.append(_("Choose one way of paging: “next” or “page_size”."))
    if "page_size" not in options and ("limit" in options or "offset" in options):
        problems.append(_("“limit” and “offset” name the parameters of paging by “page_size”: set that too."))
    return problems

"""Machines from a config service that answers JSON over HTTP, in one answer or page by page."""

import re
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from deploy_portal import env
from jobs.config_service.answers import at, list_at
from jobs.config_service.base import Source, SourceError
from jobs.config_service.download import download

OPTIONS = {
    "url": str,
    "items": str,
    "fields": dict,
    "token_variable": str,
    "token_header": str,
    "token_format": str,
    "next": str,
    "page_size": int,
    "limit": str,
    "offset": str,
}
FIELD = re.compile(r"hostname|address|port|user|labels(\.[A-Za-z0-9_.-]+)?")
VARIABLE = re.compile(r"[A-Z0-9_]+")
HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
VISIBLE_ASCII = re.compile(r"[!-~]([ -~]*[!-~])?")
DEFAULT_PORTS = {"http": 80, "https": 443}


class HttpJsonSource(Source):
    """Options: see docs/config-service.md. The whole list must come within settings.CONFIG_SERVICE_TIMEOUT seconds."""

    def rows(self):
        if problems := self.check(self.options):
            raise SourceError(" ".join(map(str, problems)), permanent=True)
        return download(self._read_list, self._headers())

    @classmethod
    def check(cls, options):
        if not isinstance(options, dict):
            return [_("The options must be a JSON object.")]
        problems = [
            format_lazy(_("There is no option “{name}”."), name=name) for name in options if name not in OPTIONS
        ]
        # bool is an int, and true is no page size
        mistyped = [name for name, kind in OPTIONS.items() if name in options and type(options[name]) is not kind]
        if mistyped:
            reason = _("Of the wrong type: {names}. “fields” is an object, “page_size” a number, the others text.")
            return [*problems, format_lazy(reason, names=", ".join(mistyped))]
        return problems + _url_problems(options) + _token_problems(options) + _shape_problems(options)

    def _read_list(self, page_at):
        url = self.options["url"].replace("{business}", quote(self.slug, safe=""))
        pages = self._counted_pages if "page_size" in self.options else self._linked_pages
        return [self._row(item) for page in pages(page_at, url) for item in page]

    def _headers(self):
        if "token_variable" not in self.options:
            return {}
        token_format = self.options.get("token_format", "Bearer {token}")
        token = _token(self.options["token_variable"])
        return {self.options.get("token_header", "Authorization"): token_format.replace("{token}", token)}

    def _linked_pages(self, page_at, url):
        while url:
            answer = page_at(url)
            yield self._items(answer)
            url = _pinned(url, at(answer, self.options.get("next", "next")))

    def _counted_pages(self, page_at, url):
        """Pages until an empty one: a short page may only mean that the service's own limit is lower than ours."""
        offset = 0
        while items := self._items(page_at(self._with_range(url, offset))):
            yield items
            offset += len(items)

    def _with_range(self, url, offset):
        limit_name, offset_name = self.options.get("limit", "limit"), self.options.get("offset", "offset")
        parts = urlsplit(url)
        query = [*parse_qsl(parts.query, keep_blank_values=True), (limit_name, self.options["page_size"])]
        return parts._replace(query=urlencode([*query, (offset_name, offset)])).geturl()

    def _items(self, answer):
        return list_at(answer, self.options.get("items", "machines"))

    def _row(self, item):
        """`item` with our fields taken from where the option `fields` finds them."""
        fields = self.options.get("fields")
        if not fields or not isinstance(item, dict):
            return item
        found = {field: at(item, path) for field, path in fields.items()}
        row = {**item, **{field: value for field, value in found.items() if not field.startswith("labels.")}}
        labels = {field[7:]: value for field, value in found.items() if field.startswith("labels.")}
        own = row.get("labels") or {}
        return {**row, "labels": {**own, **labels}} if labels and isinstance(own, dict) else row


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


def _token(variable):
    """The token in the environment variable `variable`, or in the file that `variable`_FILE names."""
    try:
        token = env.secret(variable)
    except ImproperlyConfigured:
        token = ""
    if not VISIBLE_ASCII.fullmatch(token):
        reason = _("{variable} holds no usable token. Set it, or {variable}_FILE, where the portal runs.")
        raise SourceError(format_lazy(reason, variable=variable), permanent=True)
    return token


def _url_problems(options):
    try:
        parts = urlsplit(options.get("url", ""))
        is_usable = parts.scheme in DEFAULT_PORTS and parts.hostname and parts.port != 0
    except ValueError:
        return [_("“url” is malformed.")]
    if not is_usable:
        return [_("“url” must be an http:// or https:// address, such as https://cmdb.example.com/{business}.")]
    if "@" in parts.netloc:
        return [_("“url” must hold no user and password. Put them into an environment variable: “token_variable”.")]
    return []


def _token_problems(options):
    problems = _variable_problems(options["token_variable"]) if "token_variable" in options else []
    if not HEADER_NAME.fullmatch(options.get("token_header", "Authorization")):
        problems.append(_("“token_header” is not the name of a header."))
    token_format = options.get("token_format", "{token}")
    if "{token}" not in token_format or not VISIBLE_ASCII.fullmatch(token_format):
        problems.append(_("“token_format” must have {token} in it, as in “Bearer {token}”."))
    return problems


def _variable_problems(variable):
    prefix = settings.CONFIG_SERVICE_TOKEN_PREFIX
    if not variable.startswith(prefix) or not VARIABLE.fullmatch(variable):
        return [format_lazy(_("“token_variable” must be {prefix} and then capitals, digits or “_”."), prefix=prefix)]
    try:
        _token(variable)
    except SourceError as error:
        return list(error.args)
    return []


def _shape_problems(options):
    problems = []
    fields = options.get("fields", {})
    if not all(FIELD.fullmatch(field) and isinstance(path, str) and path for field, path in fields.items()):
        problems.append(_("“fields” gives, for hostname, address, port, user, labels or labels.<name>, a dotted path."))
    if not 1 <= options.get("page_size", 1) <= 10_000:
        problems.append(_("“page_size” must be from 1 to 10,000."))
    if "page_size" in options and "next" in options:
        problems.append(_("Choose one way of paging: “next” or “page_size”."))
    if "page_size" not in options and ("limit" in options or "offset" in options):
        problems.append(_("“limit” and “offset” name the parameters of paging by “page_size”: set that too."))
    return problems

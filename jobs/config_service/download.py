"""Reads a list of pages over HTTP, bounded in time and size, whatever the peer does."""

import json
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from deploy_portal import env
from jobs.config_service.answers import Allowance, parse_json
from jobs.config_service.base import SourceError

MAX_PAGES = 1000
# Answers that stay as they are until ops change the address or the token
PERMANENT_STATUSES = {400, 401, 403, 404, 405, 410}
VARIABLE = re.compile(r"[A-Z0-9_]+")
VISIBLE_ASCII = re.compile(r"[!-~]([ -~]*[!-~])?")
DEFAULT_PORTS = {"http": 80, "https": 443}


def download(read, headers):
    """What `read(reading)` returns, which fetches its pages by a Reading that sends `headers`.

    Raises SourceError, also when all of it takes longer than settings.CONFIG_SERVICE_TIMEOUT seconds.
    """
    adapter = CuttableAdapter()
    # Only another thread can be left behind while it looks up a name or connects.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="config-service")
    try:
        return thread.submit(_in_session, read, headers, adapter).result(settings.CONFIG_SERVICE_TIMEOUT)
    except TimeoutError:
        raise _too_slow() from None
    finally:
        adapter.cut()
        thread.shutdown(wait=False)


def _in_session(read, headers, adapter):
    with requests.Session() as session:
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.trust_env = False  # no proxy of the environment may see the token, no .netrc may replace it
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        session.headers.update({"Accept": "application/json", "User-Agent": "deploy-portal", **headers})
        return read(Reading(session))


class Reading:
    """One reading of a list, page by page: what it has seen, and what it may still cost."""

    def __init__(self, session):
        self.session = session
        self.allowance = Allowance()
        self.pages = 0
        self.seen = set()

    def page(self, url, body=None):
        """The JSON at `url`, or what it answers to the object `body`, which is POSTed as JSON.

        Any failure is a SourceError, whose text has no address, token or answer in it.
        """
        self.pages += 1
        if self.pages > MAX_PAGES:
            raise SourceError(_("The list has more than 1,000 pages. Ask the service for larger ones."))
        self._refuse_repetition((url, json.dumps(body)))
        try:
            answer = self._answer(url, body)
        except requests.exceptions.SSLError:
            raise SourceError(
                _("The service's certificate was not accepted. Set REQUESTS_CA_BUNDLE for your own CA.")
            ) from None
        except requests.exceptions.Timeout:
            raise _too_slow() from None
        except (requests.exceptions.RequestException, HTTPError, OSError, ValueError):
            raise SourceError(
                _("The service could not be reached, or broke off its answer. See that it runs and can be reached.")
            ) from None
        # Two lists of one service, such as devices and virtual machines, may both be empty.
        self._refuse_repetition((urlsplit(url).path, sha256(answer).digest()))
        return parse_json(answer, self.allowance)

    def _answer(self, url, body):
        method, bundle = "GET" if body is None else "POST", self.session.verify
        if url.startswith("https:") and bundle is not True and not os.path.exists(bundle):
            raise requests.exceptions.SSLError  # of itself it is an error like that of a service which is away
        with self.session.request(
            method, url, json=body, stream=True, allow_redirects=False, timeout=settings.CONFIG_SERVICE_TIMEOUT
        ) as response:
            _refuse_status(response.status_code)
            answer = bytearray()
            for chunk in response.iter_content(65536):  # already unpacked, so that a small gzip cannot grow without end
                self.allowance.spend(size=len(chunk))
                answer += chunk
            return bytes(answer)

    def _refuse_repetition(self, mark):
        if mark in self.seen:
            raise SourceError(_("The service gave the same page twice. Check the options of paging."))
        self.seen.add(mark)


class CuttableAdapter(HTTPAdapter):
    """Knows its sockets, so that another thread can end a read: a peer that drips meets every read timeout."""

    def __init__(self):
        self.sockets = []
        self.is_cut = False
        super().__init__()

    def get_connection_with_tls_context(self, *args, **kwargs):
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = self._watched(type(pool).ConnectionCls)
        return pool

    def _watched(self, connection_class):
        adapter = self

        class WatchedConnection(connection_class):
            def connect(self):
                super().connect()
                adapter.sockets.append(self.sock)
                if adapter.is_cut:
                    adapter.cut()

        return WatchedConnection

    def cut(self):
        """Ends every connection, also one that is made only after this."""
        self.is_cut = True
        for sock in list(self.sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _too_slow():
    reason = _("The service did not give its whole list within {seconds} seconds. See why it is slow.")
    return SourceError(format_lazy(reason, seconds=settings.CONFIG_SERVICE_TIMEOUT))


def _refuse_status(status):
    if 300 <= status < 400:
        reason = _("The service redirects (status {status}), which is not followed. Give the final address as “url”.")
        raise SourceError(format_lazy(reason, status=status), permanent=True)
    if status in {401, 403}:
        reason = _("The service refuses the portal (status {status}). Check the token.")
        raise SourceError(format_lazy(reason, status=status), permanent=True)
    if status != 200:
        reason = _("The service answered with status {status} instead of 200. Check the address and the service's log.")
        raise SourceError(format_lazy(reason, status=status), permanent=status in PERMANENT_STATUSES)


def token(variable):
    """The token in the environment variable `variable`, or in the file that `variable`_FILE names."""
    try:
        value = env.secret(variable)
    except ImproperlyConfigured:
        value = ""
    if not VISIBLE_ASCII.fullmatch(value):
        reason = _("{variable} holds no usable token. Set it, or {variable}_FILE, where the portal runs.")
        raise SourceError(format_lazy(reason, variable=variable), permanent=True)
    return value


def token_problems(options):
    """What is wrong with the option `token_variable`, if it is there."""
    variable, prefix = options.get("token_variable"), settings.CONFIG_SERVICE_TOKEN_PREFIX
    if variable is None:
        return []
    if not variable.startswith(prefix) or not VARIABLE.fullmatch(variable):
        return [format_lazy(_("“token_variable” must be {prefix} and then capitals, digits or “_”."), prefix=prefix)]
    try:
        token(variable)
    except SourceError as error:
        return list(error.args)
    return []


def url_problems(options):
    """What is wrong with the option `url`."""
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


def base_url_problems(options):
    """What is wrong with the option `url`, to which the source adds its own paths."""
    if any(mark in options.get("url", "") for mark in "?#"):
        return [_("“url” must be the service's address alone, without “?” and “#”.")]
    return url_problems(options)


def page_size_problems(options, least, most):
    if least <= options.get("page_size", least) <= most:
        return []
    return [format_lazy(_("“page_size” must be from {least} to {most}."), least=least, most=f"{most:,}")]

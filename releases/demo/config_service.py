"""The demo's config service: serves the lists in FOLDER/machines.json, {slug: [rows]}, page by page.

    python -m releases.demo.config_service FOLDER --port PORT

Whoever asks must send the token in CONFIG_TOKEN_DEMO. One JSON line on stdout says where the service is; it stops on
SIGTERM, on SIGINT and when its stdin ends, so that it never outlives the process that started it.
"""

import argparse
import hmac
import json
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGE_SIZE = 100
TOKEN_VARIABLE = "CONFIG_TOKEN_DEMO"  # noqa: S105
PATH = re.compile(r"/businesses/([-\w]+)/machines", re.ASCII)
PAGE = re.compile(r"[1-9][0-9]{0,5}")


class ConfigService(ThreadingHTTPServer):
    """Listens on 127.0.0.1, at any free port when `port` is 0. An edit of the file counts from the next request."""

    def __init__(self, folder, port, token):
        self.file = folder / "machines.json"
        self.token = token
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, target, authorization):
        """(status, JSON value) for the path and query `target`."""
        if not hmac.compare_digest(authorization.encode(), f"Bearer {self.token}".encode()):
            return 401, {"error": f"Send the token of {TOKEN_VARIABLE}."}
        parts = urlsplit(target)
        path = PATH.fullmatch(parts.path)
        page = parse_qs(parts.query).get("page", ["1"])[0]
        if not path or not PAGE.fullmatch(page):
            return 404, {"error": "Ask for /businesses/<slug>/machines?page=1."}
        try:
            lists = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return 503, {"error": f"machines.json cannot be read: {error}"}
        if path[1] not in lists:
            return 404, {"error": "There is no such business."}
        return 200, _page(lists[path[1]], parts.path, int(page))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # else the body waits 40 ms for an acknowledgement of the headers

    def do_GET(self):
        status, value = self.server.answer(self.path, self.headers.get("Authorization", ""))
        body = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Says nothing: the demo's terminal is for people."""


def _page(rows, path, page):
    end = page * PAGE_SIZE
    following = f"{path}?page={page + 1}" if end < len(rows) else None
    return {"machines": rows[end - PAGE_SIZE : end], "next": following}


def _watch_stdin():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    """The command line; the module's docstring describes it."""
    parser = argparse.ArgumentParser(prog="releases.demo.config_service", description="Serves lists of machines.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="any free one when not given")
    arguments = parser.parse_args()
    token = os.environ.get(TOKEN_VARIABLE) or parser.error(f"Set {TOKEN_VARIABLE}.")
    for stopping in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stopping, lambda *_: sys.exit(0))
    threading.Thread(target=_watch_stdin, daemon=True).start()
    with ConfigService(arguments.folder, arguments.port, token) as service:
        print(json.dumps({"address": service.address}), flush=True)
        service.serve_forever()


if __name__ == "__main__":
    main()

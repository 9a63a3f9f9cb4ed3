"""A config service on loopback whose answers the test writes."""

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# How a list may move between two pages, so that the next one would skip or repeat a machine
MOVES = {
    "one left": lambda things: things.pop(0),
    "one left, another came": lambda things: things.append(things.pop(0)),
    "one came first": lambda things: things.insert(0, things[-1]),
    "all left": lambda things: things.clear(),
}


@dataclass
class Answer:
    """One answer: `body` is sent as it is when bytes, else as JSON."""

    body: object = b""
    status: int = 200
    headers: dict = field(default_factory=dict)

    def __call__(self, handler):
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        handler.send_response(self.status)
        for name, value in {"Content-Length": str(len(body)), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


def paged(things, page, change=None, most=1000):
    """An answer that gives `page(part, things)` of the list `things`, by limit and offset or by the body's page.

    `change(things)` happens after the first page. `most` is the service's own limit.
    """

    def answer(handler):
        body, query = handler.service.bodies[-1], parse_qs(urlsplit(handler.path).query)
        asked = body["page"] if body else {"limit": int(query["limit"][0]), "start": int(query["offset"][0])}
        part = things[asked["start"] :][: min(asked["limit"], most)]
        Answer(page(part, things))(handler)
        if asked["start"] == 0 and change:
            change(things)

    return answer


class ConfigServiceDouble:
    """Gives the scripted `answers` in turn, the last one again and again, and records `requests` as (path, headers).

    `bodies` holds what each request sent as JSON, None for a GET.

    An answer is an Answer, a value to be sent as JSON, or a function that is given the request's handler and may
    misbehave; such a function waits on `handler.service.gone` where it would hang, so that leaving the double ends it.
    With `tls`, an SSLContext, it speaks HTTPS.
    """

    def __init__(self, *answers, tls=None):
        self.answers = list(answers)
        self.requests = []
        self.bodies = []
        self.tls = tls
        self.gone = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if self.tls:
            self.server.socket = self.tls.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_):
        self.gone.set()
        self.server.shutdown()
        self.server.server_close()

    def give(self, rows):
        """From now on, `rows` is the whole list."""
        with self._lock:
            self.answers = [{"machines": rows}]

    def url(self, path="/machines"):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server.server_port}{path}"

    @property
    def paths(self):
        return [path for path, headers in self.requests]

    def _next_answer(self, path, headers, body):
        with self._lock:
            self.requests.append((path, headers))
            self.bodies.append(body)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if callable(answer) else Answer(answer)

    def _handler(self):
        double = self

        class Handler(BaseHTTPRequestHandler):
            service = double

            def handle(self):
                with suppress(OSError):  # the portal cuts an answer that is too slow or too large
                    super().handle()

            def do_GET(self):
                double._next_answer(self.path, dict(self.headers), None)(self)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                double._next_answer(self.path, dict(self.headers), body)(self)

            def log_message(self, *args):
                """The test's output is its own."""

        return Handler

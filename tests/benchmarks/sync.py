"""Taking a list of 100,000 machines, at first and unchanged, beside a bare bulk_create of the same rows, in one run:

    .venv/bin/python -m tests.benchmarks.sync [--machines 100000] [--pages 10 100]

The list comes over HTTP from a process of its own, in as many pages as told, and the whole of `sync_machines` is
measured: asking, checking each row, comparing, writing. The bare side writes machines and listings that lie ready in
memory. Prints the CPU time of either side, the ratios, and the peak of memory for each number of pages, in a process
of its own.
"""

import argparse
import json
import resource
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.machine_lists import enter, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument("--pages", type=int, nargs="+", default=[10, 100])
    options = parser.parse_args()
    print(f"{options.machines} machines, CPU")
    for pages in options.pages:
        _tell(pages, _alone(_measure, options.machines, pages))


def _alone(measure, *args):
    """What `measure` returns in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def _measure(machines, pages):
    with tempfile.TemporaryDirectory() as folder:
        enter(Path(folder))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            port = pool.submit(_serve, machines).result()
            first, unchanged = _sync(port, -(-machines // pages))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"first": first, "unchanged": unchanged, "peak": peak, "bare": _bare(machines)}


def _serve(machines):
    """Gives the list page by page, for as long as this process lives; returns the port."""
    from dataclasses import asdict

    listed = [asdict(row) | {"site": None} for row in rows(machines)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = parse_qs(urlsplit(self.path).query)
            offset, limit = (int(query[name][0]) for name in ("offset", "limit"))
            body = json.dumps({"machines": listed[offset : offset + limit]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """The output is the benchmark's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def _sync(port, page_size):
    from django.conf import settings

    from jobs.models import Business

    settings.CONFIG_SERVICE_TIMEOUT = 600
    options = {"url": f"http://127.0.0.1:{port}/machines", "page_size": page_size}
    business = Business.objects.create(slug="payment", name="Payment", source="http_json", source_options=options)
    return [_cpu(business.sync_machines) for _ in range(2)]


def _bare(machines):
    """A plain bulk_create of as many machines, and of their listings."""
    from django.db import transaction

    from jobs.models import Business, Listing, Machine

    business = Business.objects.create(slug="bare", name="Bare")
    fields = ("hostname", "address", "port", "user", "site", "labels")
    made = [Machine(**{name: getattr(row, name) for name in fields}) for row in rows(machines)]
    for machine in made:
        machine.hostname = f"bare-{machine.hostname}"

    @transaction.atomic
    def write():
        Machine.objects.bulk_create(made, batch_size=2000)
        Listing.objects.bulk_create([Listing(business=business, machine=one) for one in made], batch_size=2000)

    return _cpu(write)


def _cpu(work):
    began = time.process_time()
    work()
    return time.process_time() - began


def _tell(pages, measured):
    bare, first, unchanged = measured["bare"], measured["first"], measured["unchanged"]
    print(f"{pages:>4} pages: first {first:.1f} s, unchanged {unchanged:.1f} s, bare bulk_create {bare:.1f} s")
    print(f"   ratios: {first / bare:.2f} and {unchanged / bare:.2f}; peak {measured['peak']:.0f} MB")


if __name__ == "__main__":
    main()

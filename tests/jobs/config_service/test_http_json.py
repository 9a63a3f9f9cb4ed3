import gzip
import json
import logging
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jobs.config_service import download
from jobs.config_service.answers import MAX_BYTES, MAX_OBJECTS
from jobs.config_service.base import SourceError
from jobs.config_service.http_json import HttpJsonSource, _pinned
from tests.config_service import MOVES, Answer, ConfigServiceDouble, paged

TOKEN = "t0p-s3cret"
WEB1 = {"hostname": "web1", "address": "10.0.0.1"}
WEB2 = {"hostname": "web2", "address": "10.0.0.2"}
WEB3 = {"hostname": "web3"}


@pytest.fixture
def service():
    with ConfigServiceDouble() as service:
        yield service


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_CMDB", TOKEN)


def rows(service, **options):
    return HttpJsonSource("shop", {"url": service.url(), **options}).rows()


def refusal(service, **options):
    with pytest.raises(SourceError) as caught:
        rows(service, **options)
    return caught.value


# What works


def test_one_answer(service):
    service.give([WEB1, WEB2])
    assert rows(service) == [WEB1, WEB2]
    assert len(service.requests) == 1


def test_an_empty_list_is_a_list(service):
    service.give([])
    assert rows(service) == []


@pytest.mark.parametrize(
    ("items", "answer"),
    [("", [WEB1]), ("results", {"results": [WEB1]}), ("data.hosts", {"data": {"hosts": [WEB1]}})],
)
def test_items_says_where_the_list_is(service, items, answer):
    service.answers = [answer]
    assert rows(service, items=items) == [WEB1]


def test_business_in_the_url_is_quoted(service):
    service.give([])
    HttpJsonSource("a/b?c 业", {"url": service.url("/of/{business}/machines")}).rows()
    assert service.paths == ["/of/a%2Fb%3Fc%20%E4%B8%9A/machines"]


def test_next_links_absolute_relative_and_query_only(service):
    service.answers = [
        {"machines": [WEB1], "next": service.url("/machines?page=2")},
        {"machines": [WEB2], "next": "?page=3"},
        {"machines": [], "next": "/other?page=4"},
        {"machines": [{"hostname": "web3"}], "next": None},
    ]
    assert rows(service) == [WEB1, WEB2, {"hostname": "web3"}]
    assert service.paths == ["/machines", "/machines?page=2", "/machines?page=3", "/other?page=4"]


def test_next_may_be_elsewhere_in_the_answer(service):
    service.answers = [{"machines": [WEB1], "links": {"next": "/2"}}, {"machines": [WEB2], "links": {"next": ""}}]
    assert rows(service, next="links.next") == [WEB1, WEB2]


def test_limit_and_offset_go_on_until_a_page_adds_nothing(service):
    service.answers = [{"machines": [WEB1, WEB2]}, {"machines": [WEB2, WEB3]}, {"machines": [WEB3]}]
    assert rows(service, page_size=500, offset="start") == [WEB1, WEB2, WEB3]
    assert service.paths == [f"/machines?limit=500&start={start}" for start in (0, 1, 2)]


def listed(part, _all=()):
    return {"machines": part}


def machines(count):
    return [{"hostname": f"web{number}"} for number in range(count)]


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("most", [2, 3, 1000])
def test_every_page_whatever_the_limit_of_the_service(service, count, most):
    service.answers = [paged(machines(count), listed, most=most)]
    assert rows(service, page_size=3) == machines(count)


def test_what_else_changes_from_page_to_page_does_not_matter(service):
    service.answers = [paged(machines(5), listed, lambda things: [one.update(load=7) for one in things])]
    assert [row["hostname"] for row in rows(service, page_size=2)] == [f"web{number}" for number in range(5)]


def test_a_machine_that_leaves_behind_what_was_read_is_not_there(service):
    service.answers = [paged(machines(5), listed, lambda things: things.pop())]
    assert rows(service, page_size=2) == machines(4)


def test_limit_and_offset_keep_the_query_of_the_url(service):
    service.give([])
    rows(service, url=service.url("/machines?env=live&flag="), page_size=10, limit="count")
    assert service.paths == ["/machines?env=live&flag=&count=10&offset=0"]


@pytest.mark.parametrize("options", [{}, {"page_size": 2}])
def test_a_count_that_is_met(service, options):
    first, last = ([WEB1, WEB2], [WEB2, WEB3]) if options else ([WEB1], [WEB2, WEB3])
    service.answers = [
        {"machines": first, "meta": {"total": 3}, "next": "?page=2"},
        {"machines": last, "meta": {"total": 3}},
        {"machines": [WEB3], "meta": {"total": 3}},
    ]
    assert rows(service, count="meta.total", **options) == [WEB1, WEB2, WEB3]


def test_body_is_posted_with_the_business_in_it(service):
    service.give([WEB1])
    assert rows(service, body={"app": "{business}", "of": [{"env": "live {business}"}, 7]}) == [WEB1]
    assert service.bodies == [{"app": "shop", "of": [{"env": "live shop"}, 7]}]
    assert service.requests[0][1]["Content-Type"] == "application/json"


def test_an_empty_body_is_posted_too(service):
    service.give([])
    assert rows(service, body={}) == []
    assert service.bodies == [{}]


def test_start_and_limit_in_the_body_go_on_until_a_page_adds_nothing(service):
    service.answers = [{"machines": [WEB1, WEB2]}, {"machines": [WEB2, WEB3]}, {"machines": [WEB3]}]
    body = {"app": 7, "page": {"sort": "id", "limit": "x"}}
    assert len(rows(service, body=body, page_size=500, limit="page.limit", offset="page.start")) == 3
    assert service.paths == ["/machines"] * 3
    pages = [{"sort": "id", "limit": 500, "start": start} for start in (0, 1, 2)]
    assert service.bodies == [{"app": 7, "page": page} for page in pages]


def test_start_and_limit_at_the_top_of_the_body(service):
    service.give([])
    rows(service, body={}, page_size=10, offset="start")
    assert service.bodies == [{"limit": 10, "start": 0}]


def test_next_links_are_posted_the_same_body(service):
    service.answers = [{"machines": [WEB1], "next": "/2"}, {"machines": [WEB2]}]
    assert rows(service, body={"app": 7}) == [WEB1, WEB2]
    assert list(zip(service.paths, service.bodies, strict=True)) == [("/machines", {"app": 7}), ("/2", {"app": 7})]


def test_fields_take_values_from_where_they_are(service):
    service.give(
        [{"name": "web1", "ip": {"v4": "10.0.0.1"}, "port": 2222, "site": {"slug": "sh"}, "labels": {"a": "b"}}]
    )
    fields = {"hostname": "name", "address": "ip.v4", "user": "absent", "labels.site": "site.slug"}
    [row] = rows(service, fields=fields)
    assert [row[name] for name in ("hostname", "address", "port", "user")] == ["web1", "10.0.0.1", 2222, None]
    assert row["labels"] == {"a": "b", "site": "sh"}


def test_fields_leave_odd_rows_to_be_refused_one_by_one(service):
    service.give([7, {"hostname": "web1", "labels": [1]}])
    assert rows(service, fields={"labels.site": "site"}) == [7, {"hostname": "web1", "labels": [1]}]


def test_gzip_is_unpacked(service):
    packed = gzip.compress(json.dumps({"machines": [WEB1]}).encode())
    service.answers = [Answer(packed, headers={"Content-Encoding": "gzip"})]
    assert rows(service) == [WEB1]


# The token


def test_token_goes_into_the_header(service, token):
    service.give([])
    rows(service, token_variable="CONFIG_TOKEN_CMDB")
    rows(service, token_variable="CONFIG_TOKEN_CMDB", token_header="X-Auth", token_format="Token {token}")
    first, second = (headers for path, headers in service.requests)
    assert first["Authorization"] == f"Bearer {TOKEN}"
    assert second["X-Auth"] == f"Token {TOKEN}"
    assert "Authorization" not in second


def test_token_that_begins_with_a_dollar_is_sent_as_it_is(service, monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_CMDB", "$HOME")
    service.give([])
    rows(service, token_variable="CONFIG_TOKEN_CMDB")
    assert service.requests[0][1]["Authorization"] == "Bearer $HOME"


def test_token_from_a_file(service, monkeypatch, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("CONFIG_TOKEN_CMDB_FILE", str(tmp_path / "token"))
    service.give([])
    rows(service, token_variable="CONFIG_TOKEN_CMDB")
    assert service.requests[0][1]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("value", ["", "two\nlines", "中", "bell\a"])
def test_unusable_token_is_named_but_not_shown(service, monkeypatch, value):
    monkeypatch.setenv("CONFIG_TOKEN_CMDB", value)
    error = refusal(service, token_variable="CONFIG_TOKEN_CMDB")
    assert error.permanent
    assert str(error).startswith("CONFIG_TOKEN_CMDB holds no usable token.")
    assert not value or value not in str(error)
    assert service.requests == []


def test_no_other_variable_may_be_sent(service):
    error = refusal(service, token_variable="SECRET_KEY")
    assert "must be CONFIG_TOKEN_" in str(error)
    assert service.requests == []


@pytest.mark.parametrize(
    "answer", [Answer(status=401), Answer(status=500), Answer(b"garbage"), {"machines": [], "next": "//evil/"}]
)
def test_token_is_in_no_error_and_no_log(service, token, caplog, answer):
    caplog.set_level(logging.DEBUG)
    service.answers = [answer]
    error = refusal(service, token_variable="CONFIG_TOKEN_CMDB")
    assert service.requests[0][1]["Authorization"].endswith(TOKEN)
    assert TOKEN not in str(error) + repr(error) + caplog.text


def test_environment_proxies_and_netrc_are_not_used(service, monkeypatch, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.give([WEB1])
    assert rows(service) == [WEB1]
    assert "Authorization" not in service.requests[0][1]


# What is refused


@pytest.mark.parametrize(
    ("status", "words", "permanent"),
    [
        (301, "redirects (status 301)", True),
        (307, "redirects (status 307)", True),
        (401, "refuses the portal (status 401). Check the token", True),
        (403, "refuses the portal (status 403)", True),
        (404, "status 404 instead of 200", True),
        (204, "status 204 instead of 200", False),
        (429, "status 429 instead of 200", False),
        (500, "status 500 instead of 200", False),
    ],
)
def test_status(service, status, words, permanent):
    service.answers = [Answer(b"", status, {"Location": service.url("/elsewhere")})]
    error = refusal(service)
    assert words in str(error)
    assert error.permanent is permanent
    assert service.paths == ["/machines"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Please log in</html>",
        b'{"machines": [{"hostname": "web1"',
        b'{"machines": []} trailing',
        b"[" * 100_000,
        b'{"machines": [' + b"9" * 5000 + b"]}",
    ],
)
def test_200_with_garbage(service, body):
    service.answers = [Answer(body)]
    assert "not complete JSON" in str(refusal(service))


@pytest.mark.parametrize("body", [b'{"machines": ["\xff"]}', '{"machines": []}'.encode("utf-16")])
def test_not_utf8(service, body):
    service.answers = [Answer(body)]
    assert "not UTF-8" in str(refusal(service))


@pytest.mark.parametrize(
    "answer", [[WEB1], {}, {"error": "busy"}, {"machines": None}, {"machines": {"web1": WEB1}}, "text", 7, None]
)
def test_wrong_shape(service, answer):
    service.answers = [answer]
    assert "no list at machines" in str(refusal(service))


def test_an_object_where_the_list_should_be_at_the_top(service):
    service.answers = [{"machines": []}]
    assert "no list at its top level" in str(refusal(service, items=""))


@pytest.mark.parametrize(
    "second", [Answer(status=503), Answer(b"{"), {"next": None}, Answer(b"{}", 200, {"Content-Length": "9"})]
)
def test_half_a_list_is_no_list(service, second):
    service.answers = [{"machines": [WEB1], "next": "/2"}, second]
    refusal(service)
    assert service.paths == ["/machines", "/2"]


@pytest.mark.parametrize(
    "link",
    [
        "http://evil.example/2",
        "//evil.example/2",
        "https://127.0.0.1/2",
        "http://127.0.0.1:1/2",
        "http://user@127.0.0.1:{port}/2",
        "http://127.0.0.1:{port}@evil.example/2",
        "http://evil.example\\@127.0.0.1:{port}/2",
        "http://[/2",
        "http://127.0.0.1:port/2",
        "file:///etc/passwd",
        "javascript:alert(1)",
        ["/2"],
        {"href": "/2"},
        7,
    ],
)
def test_next_link_that_leads_elsewhere(service, link):
    if isinstance(link, str):
        link = link.replace("{port}", str(service.server.server_port))
    service.answers = [{"machines": [WEB1], "next": link}, {"machines": [WEB2]}]
    assert "another host" in str(refusal(service))
    assert service.paths == ["/machines"]


def test_a_link_may_name_the_port_that_goes_without_saying():
    assert _pinned("https://cmdb/machines", "https://cmdb:443/machines?page=2") == "https://cmdb/machines?page=2"


def test_cycle_of_next_links(service):
    service.answers = [
        {"machines": [WEB1], "next": "/2"},
        {"machines": [WEB2], "next": "/machines"},
        {"machines": [], "next": None},
    ]
    assert "same page twice" in str(refusal(service))
    assert service.paths == ["/machines", "/2"]


def test_service_that_ignores_the_offset(service):
    service.give([WEB1])
    assert "same page twice" in str(refusal(service, page_size=2))
    assert len(service.requests) == 2


def test_service_that_ignores_the_start_in_the_body(service):
    service.give([WEB1])
    assert "same page twice" in str(refusal(service, body={}, page_size=2))
    assert len(service.requests) == 2


def test_redirect_of_a_post(service):
    service.answers = [Answer(b"", 307, {"Location": service.url("/elsewhere")})]
    assert "redirects (status 307)" in str(refusal(service, body={}))
    assert service.paths == ["/machines"]


def test_half_a_list_that_was_posted_for(service):
    service.answers = [{"machines": [WEB1]}, Answer(status=503)]
    assert "status 503" in str(refusal(service, body={}, page_size=2))


@pytest.mark.parametrize("paging", [{}, {"body": {}, "limit": "page.limit", "offset": "page.start"}])
@pytest.mark.parametrize("change", MOVES.values(), ids=MOVES)
def test_a_list_that_moves_between_two_pages(service, paging, change):
    service.answers = [paged(machines(7), listed, change)]
    assert "changed between two pages. Ask again" in str(refusal(service, page_size=3, **paging))


@pytest.mark.parametrize(
    "answers",
    [
        [{"machines": [WEB1, WEB2], "total": 3}],  # cut
        [{"machines": [WEB1, WEB2], "total": 3, "next": "?page=3"}, {"machines": [], "total": 3}],  # the link skips
        [{"machines": [WEB1], "total": 3, "next": "?page=2"}, {"machines": [WEB3], "total": 2}],  # one went meanwhile
        [{"machines": [WEB1, WEB2]}],
        [{"machines": [WEB1, WEB2], "total": "2"}],
    ],
)
def test_another_number_of_machines_than_the_service_counts(service, answers):
    service.answers = answers
    assert "counts otherwise" in str(refusal(service, count="total"))


def test_another_number_by_limit_and_offset(service):
    service.answers = [paged(machines(5), lambda part, everything: {"machines": part, "total": len(everything) + 1})]
    assert "counts otherwise" in str(refusal(service, count="total", page_size=2))


def test_service_that_gives_one_row_a_page(service):
    service.answers = [paged(machines(3), listed, most=1)]
    assert "same page twice" in str(refusal(service, page_size=2))


def test_too_many_pages(service, monkeypatch):
    monkeypatch.setattr(download, "MAX_PAGES", 3)
    service.answers = [{"machines": [], "next": f"/{page}"} for page in range(2, 9)]
    assert "more than" in str(refusal(service))
    assert len(service.requests) == 3


def too_large(handler):
    """64 MB and a little, as fast as they are taken."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(MAX_BYTES // 2**20 + 1):
        handler.wfile.write(b" " * 2**20)


def test_too_large(service, settings):
    settings.CONFIG_SERVICE_TIMEOUT = 60
    service.answers = [too_large]
    assert "larger than 64 MB" in str(refusal(service))


def test_too_large_in_all(service, settings, monkeypatch):
    monkeypatch.setattr("jobs.config_service.answers.MAX_BYTES", 100_000)
    page = {"machines": [], "padding": "x" * 40_000}
    service.answers = [{**page, "next": f"/{number}"} for number in range(2, 9)]
    assert "larger than" in str(refusal(service))
    assert len(service.requests) == 3


def test_gzip_bomb(service, settings):
    settings.CONFIG_SERVICE_TIMEOUT = 60
    bomb = gzip.compress(gzip.compress(b" " * (MAX_BYTES * 4)))
    assert len(bomb) < 10_000
    service.answers = [Answer(bomb, headers={"Content-Encoding": "gzip, gzip"})]
    assert "larger than 64 MB" in str(refusal(service))


def test_objects_without_end(service, settings):
    settings.CONFIG_SERVICE_TIMEOUT = 60
    service.answers = [Answer(b'{"machines": [' + b"{}," * MAX_OBJECTS + b"{}]}")]
    assert "half a million objects" in str(refusal(service))


# A service that is down or slow


def silence(handler):
    handler.service.gone.wait(60)


def drip(opening):
    """Sends `opening` and then a byte every 20 ms, so that no single read ever waits long."""

    def answer(handler):
        handler.wfile.write(opening)
        while not handler.service.gone.wait(0.02):
            handler.wfile.write(b" ")

    return answer


def assert_no_thread_stays():
    for thread in threading.enumerate():
        if thread.name.startswith("config-service"):
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    "answer",
    [silence, drip(b"HTTP/1.0 200 OK\r\n\r\n"), drip(b"HTTP/1.0 200 OK\r\nX-Slow:"), drip(b"HTTP")],
    ids=["silence", "dripping body", "dripping header", "dripping status"],
)
def test_one_deadline_for_all(service, settings, answer):
    settings.CONFIG_SERVICE_TIMEOUT = 0.3
    service.answers = [answer]
    began = time.monotonic()
    assert "did not give its whole list within 0.3 seconds" in str(refusal(service))
    assert time.monotonic() - began < 20
    assert_no_thread_stays()


def test_deadline_counts_all_pages(service, settings):
    settings.CONFIG_SERVICE_TIMEOUT = 0.5

    def slow_page(handler):
        service.gone.wait(0.1)
        Answer({"machines": [], "next": f"/{len(service.requests)}"})(handler)

    service.answers = [slow_page]
    assert "whole list within 0.5 seconds" in str(refusal(service))
    assert len(service.requests) < 10


def test_connection_refused():
    # Bound, so that nobody else listens there meanwhile
    with socket.socket() as closed, pytest.raises(SourceError, match="could not be reached") as caught:
        closed.bind(("127.0.0.1", 0))
        HttpJsonSource("shop", {"url": f"http://127.0.0.1:{closed.getsockname()[1]}/x"}).rows()
    assert not caught.value.permanent


def test_name_that_does_not_exist():
    with pytest.raises(SourceError, match="could not be reached|whole list within"):
        HttpJsonSource("shop", {"url": "http://cmdb.invalid/x"}).rows()


def test_not_http(service):
    service.answers = [lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")]
    assert "could not be reached, or broke off" in str(refusal(service))


# HTTPS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The path of a certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "config service")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(pem)
    )
    return path


@pytest.fixture
def secure_service(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ConfigServiceDouble({"machines": [WEB1]}, tls=context) as service:
        yield service


def test_certificate_of_a_stranger(secure_service, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert "certificate was not accepted" in str(refusal(secure_service))
    assert secure_service.requests == []


def test_certificate_of_our_own_ca(secure_service, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert rows(secure_service) == [WEB1]


def test_a_bundle_that_is_not_there(secure_service, service, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/ca.pem")
    assert "REQUESTS_CA_BUNDLE" in str(refusal(secure_service))
    service.give([WEB1])
    assert rows(service) == [WEB1]


def test_deadline_over_tls(secure_service, certificate, settings, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    settings.CONFIG_SERVICE_TIMEOUT = 0.5
    secure_service.answers = [drip(b"HTTP/1.0 200 OK\r\nX-Slow:")]
    assert "within 0.5 seconds" in str(refusal(secure_service))
    assert_no_thread_stays()


def test_tls_with_a_plain_service(service):
    service.give([])
    assert "certificate was not accepted" in str(refusal(service, url=service.url().replace("http:", "https:")))


# What ops may write


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "“url” must be"),
        ([], "must be a JSON object"),
        ({"url": 7}, "“url” must be text"),
        ({"url": "ftp://cmdb/x"}, "“url” must be"),
        ({"url": "file:///etc/passwd"}, "“url” must be"),
        ({"url": "http:///x"}, "“url” must be"),
        ({"url": "http://[x"}, "malformed"),
        ({"url": "http://cmdb:99999/"}, "malformed"),
        ({"url": "https://ops:hunter2@cmdb/"}, "no user and password"),
        ({"url": "http://cmdb/", "urls": "x"}, "no option “urls”"),
        ({"url": "http://cmdb/", "token_variable": "SECRET_KEY"}, "must be CONFIG_TOKEN_"),
        ({"url": "http://cmdb/", "token_variable": "CONFIG_TOKEN_é"}, "must be CONFIG_TOKEN_"),
        ({"url": "http://cmdb/", "items": "\ud800"}, "cannot be stored"),
        ({"url": "http://cmdb/", "items": "\udfff"}, "cannot be stored"),
        ({"url": "http://cmdb/", "body": {"\0": 1}}, "cannot be stored"),
        ({"url": "http://cmdb/", "token_variable": "CONFIG_TOKEN_ABSENT"}, "CONFIG_TOKEN_ABSENT holds no usable token"),
        ({"url": "http://cmdb/", "token_header": "X\r\nY"}, "not the name of a header"),
        ({"url": "http://cmdb/", "token_format": "Bearer"}, "must have {token}"),
        ({"url": "http://cmdb/", "token_format": "{token}\r\nX: y"}, "must have {token}"),
        ({"url": "http://cmdb/", "fields": {"site": "site"}}, "“fields” gives"),
        ({"url": "http://cmdb/", "fields": {"hostname": 7}}, "“fields” gives"),
        ({"url": "http://cmdb/", "fields": {"hostname": ""}}, "“fields” gives"),
        ({"url": "http://cmdb/", "page_size": 1}, "from 2 to 10,000"),
        ({"url": "http://cmdb/", "page_size": True}, "“page_size” must be a number"),
        ({"url": "http://cmdb/", "body": "app=7"}, "“body” must be an object"),
        ({"url": "http://cmdb/", "page_size": 5, "next": "next"}, "one way of paging"),
        ({"url": "http://cmdb/", "limit": "count"}, "set that too"),
    ],
)
def test_check_says_what_is_wrong(options, words):
    [problem] = HttpJsonSource.check(options)
    assert words in str(problem)
    assert "hunter2" not in str(problem)
    with pytest.raises(SourceError) as caught:
        HttpJsonSource("shop", options).rows()
    assert caught.value.permanent


def test_check_of_what_works(token):
    assert HttpJsonSource.check({"url": "https://cmdb.example.com/{business}?a=b"}) == []
    assert (
        HttpJsonSource.check(
            {
                "url": "http://[::1]:8000/",
                "items": "results",
                "next": "paging.next",
                "token_variable": "CONFIG_TOKEN_CMDB",
                "fields": {"hostname": "name", "labels.site": "site.slug"},
            }
        )
        == []
    )


def test_check_tells_every_problem():
    problems = HttpJsonSource.check({"uri": "x", "page_size": 0, "token_format": "x"})
    assert len(problems) == 4

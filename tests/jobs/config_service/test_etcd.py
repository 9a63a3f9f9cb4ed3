"""etcd, a real one from Debian's package etcd-server; what it never answers is by a double. Its gateway is described in
etcd's documentation, docs/v3.5/dev-guide/api_grpc_gateway."""

import json
import os
import shutil
import socket
import subprocess
from base64 import b64encode

import pytest
import requests

from jobs.config_service.base import SourceError
from jobs.config_service.etcd import EtcdSource
from jobs.config_service.rows import clean_rows
from tests.config_service import Answer, ConfigServiceDouble
from tests.waiting import PATIENCE, wait_until

HEADER = {"cluster_id": "14841639068965178418", "member_id": "10276657743932975437", "revision": "7", "raft_term": "3"}


class Etcd:
    """One member on loopback that elects itself at once."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        peer = "http://127.0.0.1:0"
        options = {
            "data-dir": folder,
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "heartbeat-interval": 10,
            "election-timeout": 50,
        }
        command = ["etcd", *(f"--{name}={value}" for name, value in options.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.is_healthy)

    def is_healthy(self):
        try:
            return requests.get(f"{self.url}/health", timeout=1).json()["health"] == "true"
        except (requests.RequestException, ValueError):
            assert self.process.poll() is None
            return False

    def ask(self, path, token=None, **body):
        headers = {"Authorization": token} if token else {}
        answer = requests.post(f"{self.url}/v3/{path}", json=body, headers=headers, timeout=PATIENCE)
        answer.raise_for_status()
        return answer.json()

    def put(self, key, value):
        value = value if isinstance(value, bytes) else value.encode()
        self.ask("kv/put", key=coded(key), value=b64encode(value).decode())


def coded(text):
    return b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def member(tmp_path_factory):
    if not shutil.which("etcd"):
        reason = "not on PATH: etcd (Debian: etcd-server)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("etcd")
    etcd = Etcd(folder)
    yield etcd
    etcd.process.kill()
    etcd.process.wait()
    shutil.rmtree(folder)


@pytest.fixture
def etcd(member):
    """The member, without a key."""
    member.ask("kv/deleterange", key=coded("\0"), range_end=coded("\0"))
    return member


@pytest.fixture
def double():
    with ConfigServiceDouble({"header": HEADER}) as double:
        yield double


def rows(url, **options):
    return EtcdSource("shop", {"url": url, "prefix": "/machines/{business}/", **options}).rows()


def refusal(url, **options):
    with pytest.raises(SourceError) as caught:
        rows(url, **options)
    return caught.value


# The real one


def test_values_are_rows_or_addresses(etcd):
    etcd.put("/machines/shop/web1", json.dumps({"address": "10.0.0.1", "port": 2222, "labels": {"site": "上海"}}))
    etcd.put("/machines/shop/web2", "10.0.0.2\n")
    etcd.put("/machines/shop/r17/web3", "")
    etcd.put("/machines/shop/x", ' {"hostname": "web4", "address": "10.0.0.4"}')
    etcd.put("/machines/shopping/web5", "10.0.0.5")
    etcd.put("/machines/shop0", "10.0.0.6")
    machines, refused = clean_rows(rows(etcd.url), allow_loopback=False)
    found = [(machine.hostname, machine.address, machine.port, machine.site) for machine in machines]
    assert found == [
        ("web3", "web3", 22, ""),
        ("web1", "10.0.0.1", 2222, "上海"),
        ("web2", "10.0.0.2", 22, ""),
        ("web4", "10.0.0.4", 22, ""),
    ]
    assert refused == []


def test_no_machines(etcd):
    assert rows(etcd.url) == []


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 5, 10_000])
def test_every_page(etcd, page_size):
    names = ["a", "a\0", "b", "ÿ"]
    for name in names:
        etcd.put(f"/machines/shop/{name}", "10.0.0.1")
    assert [row["hostname"] for row in rows(f"{etcd.url}/", page_size=page_size)] == names


def test_all_pages_are_of_one_revision(etcd, monkeypatch):
    for name in "abc":
        etcd.put(f"/machines/shop/{name}", "10.0.0.1")
    pages = EtcdSource._pairs

    def changed_meanwhile(self, reading):
        for number, pair in enumerate(pages(self, reading)):
            yield pair
            if number == 0:
                etcd.ask("kv/deleterange", key=coded("/machines/shop/b"))
                etcd.put("/machines/shop/c", "10.0.0.9")
                etcd.put("/machines/shop/d", "10.0.0.4")

    monkeypatch.setattr(EtcdSource, "_pairs", changed_meanwhile)
    assert [(row["hostname"], row["address"]) for row in rows(etcd.url, page_size=1)] == [
        (name, "10.0.0.1") for name in "abc"
    ]
    monkeypatch.undo()
    assert [row["hostname"] for row in rows(etcd.url, page_size=1)] == ["a", "c", "d"]


def test_fields_of_its_own(etcd):
    etcd.put("/machines/shop/17", '{"fqdn": "web1", "net": {"ip": "10.0.0.1"}}')
    [row] = rows(etcd.url, fields={"hostname": "fqdn", "address": "net.ip", "labels.site": "dc"})
    assert (row["hostname"], row["address"], row["labels"]) == ("web1", "10.0.0.1", {"site": None})


def test_hostile_values_are_refused_one_by_one(etcd):
    hostile = {
        "a": "10.0.0.1;id",
        "b": b"\xff\xfe",
        "c": '{"address": "10.0.0.1"',
        "d": '{"address": ' + "[" * 50_000,
        "e": '["10.0.0.1"]',
        "f": "127.0.0.1",
        "g": "-oProxyCommand=x",
        "h": '{"hostname": null, "address": "10.0.0.1"}',
        "i;id": "10.0.0.1",
        "j/": "10.0.0.1",
    }
    for key, value in hostile.items():
        etcd.put(f"/machines/shop/{key}", value)
    etcd.put("/machines/shop/web1", "10.0.0.1")
    machines, refused = clean_rows(rows(etcd.url), allow_loopback=False)
    assert [machine.hostname for machine in machines] == ["web1"]
    assert len(refused) == len(hostile)
    assert [row.name for row in refused if "neither an address nor a complete" in row.reason] == ["b", "c", "d"]


def test_objects_without_end(etcd, monkeypatch):
    etcd.put("/machines/shop/web1", '{"x": [' + "{}," * 200 + "{}]}")
    monkeypatch.setattr("jobs.config_service.answers.MAX_OBJECTS", 100)
    assert "half a million objects" in str(refusal(etcd.url))


@pytest.fixture
def guarded(etcd):
    """The member, which now knows `portal`, who may read the shop's machines, and asks everybody who he is."""
    etcd.put("/machines/shop/web1", "10.0.0.1")
    for name in ("root", "portal"):
        etcd.ask("auth/user/add", name=name, password="pass:word")
        etcd.ask("auth/role/add", name=name)
        etcd.ask("auth/user/grant", user=name, role=name)
    keys = {"key": coded("/machines/shop/"), "range_end": coded("/machines/shop0")}
    etcd.ask("auth/role/grant", name="portal", perm={"permType": "READ", **keys})
    etcd.ask("auth/enable")
    yield etcd
    token = etcd.ask("auth/authenticate", name="root", password="pass:word")["token"]
    etcd.ask("auth/disable", token=token)
    for name in ("root", "portal"):
        etcd.ask("auth/user/delete", name=name)
        etcd.ask("auth/role/delete", role=name)


def test_name_and_password(guarded, monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_ETCD", "portal:pass:word")
    assert [row["hostname"] for row in rows(guarded.url, token_variable="CONFIG_TOKEN_ETCD")] == ["web1"]
    everything = refusal(guarded.url, token_variable="CONFIG_TOKEN_ETCD", prefix="/machines/")
    assert "refuses the portal (status 403)" in str(everything)
    assert "status 400" in str(refusal(guarded.url))
    monkeypatch.setenv("CONFIG_TOKEN_ETCD", "portal:wr0ng")
    wrong = refusal(guarded.url, token_variable="CONFIG_TOKEN_ETCD")
    assert "status 400" in str(wrong)
    assert wrong.permanent
    assert "wr0ng" not in str(wrong)


# What a real one never answers


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"kvs": []},
        {"header": {"revision": "x"}},
        {"header": {"revision": 7}},
        {"header": HEADER, "kvs": [7]},
        {"header": HEADER, "kvs": [{"value": "eA=="}]},
        {"header": HEADER, "kvs": [{"key": "L20=!"}]},
        {"header": HEADER, "kvs": [{"key": "L20=", "value": "eA==!"}]},
    ],
)
def test_no_answer_of_etcd(double, answer):
    double.answers = [answer]
    assert "not one of etcd v3" in str(refusal(double.url("")))


@pytest.mark.parametrize("pairs", [{}, 7, None])
def test_no_list_of_keys(double, pairs):
    double.answers = [{"header": HEADER, "kvs": pairs}]
    assert "no list at kvs" in str(refusal(double.url("")))


def test_more_of_nothing(double):
    double.answers = [{"header": HEADER, "more": True}]
    assert "same page twice" in str(refusal(double.url("")))


def test_half_a_list_is_no_list(double):
    pair = {"key": coded("/machines/shop/a"), "value": coded("10.0.0.1")}
    double.answers = [{"header": HEADER, "kvs": [pair], "more": True, "count": "2"}, Answer({"code": 11}, 400)]
    assert "status 400" in str(refusal(double.url(""), page_size=1))
    first, second = double.bodies
    assert first["limit"] == second["limit"] == 1
    assert "revision" not in first
    assert (second["revision"], second["key"]) == ("7", coded("/machines/shop/a\0"))


def test_a_token_that_is_none(double, monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_ETCD", "portal:s3cret")
    for token in (None, 7):
        double.answers = [{"header": HEADER, "token": token}]
        assert "not one of etcd v3" in str(refusal(double.url(""), token_variable="CONFIG_TOKEN_ETCD"))
    double.answers = [{"header": HEADER, "token": "a\r\nX: y"}]
    assert "could not be reached" in str(refusal(double.url(""), token_variable="CONFIG_TOKEN_ETCD"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prefix": "/m/"}, "“url” must be"),
        ({"url": "http://e:2379/#x", "prefix": "/m/"}, "address alone"),
        ({"url": "http://e:2379"}, "“prefix” must be"),
        ({"url": "http://e:2379", "prefix": ""}, "“prefix” must be"),
        ({"url": "http://e:2379", "prefix": "/m/{business}"}, "“prefix” must be"),
        ({"url": "http://e:2379", "prefix": "/m/", "page_size": 0}, "from 1 to 10,000"),
        ({"url": "http://e:2379", "prefix": "/m/", "fields": {"x": "y"}}, "“fields” gives"),
        ({"url": "http://e:2379", "prefix": "/m/", "revision": "7"}, "no option “revision”"),
        ({"url": "http://e:2379", "prefix": "/m/", "token_variable": "SECRET_KEY"}, "must be CONFIG_TOKEN_"),
        ({"url": "http://e:2379", "prefix": "/m/", "token_variable": "CONFIG_TOKEN_ETCD"}, "name:password"),
    ],
)
def test_check_says_what_is_wrong(options, words, monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_ETCD", "no-password")
    [problem] = EtcdSource.check(options)
    assert words in str(problem)
    with pytest.raises(SourceError) as caught:
        EtcdSource("shop", options).rows()
    assert caught.value.permanent

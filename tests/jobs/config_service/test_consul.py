"""Consul, by a double that answers as its documentation says: website/content/api-docs/catalog.mdx ("List Nodes",
"List Nodes for Service") of the consul repository."""

from urllib.parse import parse_qs, urlsplit

import pytest

from jobs.config_service.base import SourceError
from jobs.config_service.consul import ConsulSource
from jobs.config_service.rows import clean_rows
from tests.config_service import Answer, ConfigServiceDouble

TOKEN = "8f246b77-f3e1-ff88-5b48-8ec93abf3e05"


@pytest.fixture
def consul(monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_CONSUL", TOKEN)
    with ConfigServiceDouble([]) as consul:
        yield consul


def node(name="web1", address="10.1.10.11", **changes):
    return {
        "ID": "40e4a748-2192-161a-0510-9bf59fe950b5",
        "Node": name,
        "Address": address,
        "Datacenter": "dc1",
        "TaggedAddresses": {"lan": address, "wan": "203.0.113.9"},
        "Meta": {"rack": "r17", "ssh_port": "2222"},
        "CreateIndex": 9,
        "ModifyIndex": 10,
        **changes,
    }


def instance(name="web1", number=1, **changes):
    """A node as the catalog gives it for a service."""
    found = node(name, **changes)
    meta = found.pop("Meta")
    service = {
        "ServiceID": f"shop-{number}",
        "ServiceName": "shop",
        "ServiceAddress": "172.17.0.3",
        "ServicePort": 8000,
    }
    return {**found, "NodeMeta": meta, "ServiceMeta": {"rack": "none"}, "ServiceTags": ["live"], **service}


def rows(consul, **options):
    return ConsulSource("shop", {"url": consul.url("/"), **({"filter": 'Node != ""'} | options)}).rows()


def refusal(consul, **options):
    with pytest.raises(SourceError) as caught:
        rows(consul, **options)
    return caught.value


def test_a_node(consul):
    consul.answers = [[node(), node("web2", "10.1.10.12", Meta=None, Datacenter="dc2")]]
    machines, refused = clean_rows(rows(consul, fields={"port": "Meta.ssh_port"}), allow_loopback=False)
    first, second = machines
    assert (first.hostname, first.address, first.port, first.site) == ("web1", "10.1.10.11", 2222, "dc1")
    assert first.labels == {"rack": "r17", "ssh_port": "2222", "site": "dc1"}
    assert (second.port, second.labels) == (22, {"site": "dc2"})
    assert refused == []


def test_what_is_asked(consul):
    rows(consul, filter='Meta.business == "{business}" and Meta.a != "b&c"', dc="dc-{business}")
    [path] = consul.paths
    assert urlsplit(path).path == "/v1/catalog/nodes"
    asked = {"filter": ['Meta.business == "shop" and Meta.a != "b&c"'], "dc": ["dc-shop"]}
    assert parse_qs(urlsplit(path).query) == asked


def test_nodes_of_a_service_each_once(consul):
    consul.answers = [[instance(number=1), instance(number=2), instance("web2", 3, address="10.1.10.12")]]
    found = ConsulSource("shop", {"url": consul.url("/consul/"), "service": "of/{business} 业"}).rows()
    assert consul.paths == ["/consul/v1/catalog/service/of%2Fshop%20%E4%B8%9A"]
    assert [(row["hostname"], row["address"]) for row in found] == [("web1", "10.1.10.11"), ("web2", "10.1.10.12")]
    assert found[0]["labels"] == {"rack": "r17", "ssh_port": "2222", "site": "dc1"}


def test_token(consul):
    rows(consul, token_variable="CONFIG_TOKEN_CONSUL")
    rows(consul)
    (_path, with_token), (_path, without) = consul.requests
    assert with_token["X-Consul-Token"] == TOKEN
    assert "X-Consul-Token" not in without


def test_site_from_elsewhere(consul):
    consul.answers = [[node(Meta={"site": "ignored", "zone": "sh-1"})]]
    [row] = rows(consul, fields={"labels.site": "Meta.zone", "address": "TaggedAddresses.wan"})
    assert (row["address"], row["labels"]["site"]) == ("203.0.113.9", "sh-1")


def test_hostile_nodes_are_refused_one_by_one(consul):
    hostile = [
        7,
        None,
        node("-oProxyCommand=x"),
        node(["web"]),
        node("a", {"ip": "10.0.0.1"}),
        node("b", "127.0.0.1"),
        node("c", "10.0.0.3", Meta=["x"]),
        node("d", "10.0.0.4", Meta={"a b": "c"}),
    ]
    twice = node("web1", "10.9.9.9")
    consul.answers = [[*hostile, node(), twice]]
    machines, refused = clean_rows(rows(consul), allow_loopback=False)
    assert [machine.hostname for machine in machines] == ["web1"]
    assert [row.row_number for row in refused] == [1, 2, 3, 4, 5, 6, 7, 8, 10]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"nodes": []}, "no list at its top level"),
        (None, "no list at its top level"),
        (Answer(b"Permission denied", 403), "Check the token"),
        (Answer(b"No cluster leader", 500), "status 500"),
        (Answer(b'[{"Node": "web1"'), "not complete JSON"),
        (Answer(b"", 301, {"Location": "/ui/"}), "redirects"),
    ],
)
def test_half_a_list_is_no_list(consul, answer, words):
    consul.answers = [answer]
    error = refusal(consul, token_variable="CONFIG_TOKEN_CONSUL")
    assert words in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"service": "x"}, "“url” must be"),
        ({"url": "https://c:8501/?dc=x", "service": "x"}, "address alone"),
        ({"url": "https://c:8501"}, "by “service” or “filter”"),
        ({"url": "https://c:8501", "dc": "dc1"}, "by “service” or “filter”"),
        ({"url": "https://c:8501", "filter": " "}, "“filter” must not be empty"),
        ({"url": "https://c:8501", "service": ""}, "“service” must not be empty"),
        ({"url": "https://c:8501", "filter": ["x"]}, "“filter” must be text"),
        ({"url": "https://c:8501", "filter": "x", "tag": "y"}, "no option “tag”"),
        ({"url": "https://c:8501", "filter": "x", "fields": {"hostname": ""}}, "“fields” gives"),
        ({"url": "https://c:8501", "filter": "x", "token_variable": "CONFIG_TOKEN_NONE"}, "holds no usable token"),
    ],
)
def test_check_says_what_is_wrong(options, words):
    [problem] = ConsulSource.check(options)
    assert words in str(problem)
    with pytest.raises(SourceError) as caught:
        ConsulSource("shop", options).rows()
    assert caught.value.permanent

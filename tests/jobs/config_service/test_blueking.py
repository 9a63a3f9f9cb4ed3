"""BlueKing CMDB, by a double that answers as its documentation says: docs/apidoc/v3.9/zh_hans/list_biz_hosts.md and
docs/apidoc/v3.10/zh_hans/list_biz_hosts_topo.md of the bk-cmdb repository."""

import json
import logging

import pytest

from jobs.config_service.base import SourceError
from jobs.config_service.blueking import BlueKingSource
from jobs.config_service.rows import clean_rows
from tests.config_service import MOVES, Answer, ConfigServiceDouble, paged

CREDENTIALS = {"bk_app_code": "portal", "bk_app_secret": "t0p-s3cret", "bk_username": "deployer"}


@pytest.fixture
def blueking(monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_BK", json.dumps(CREDENTIALS))
    with ConfigServiceDouble(page()) as blueking:
        yield blueking


def host(number, **changes):
    """A host as `list_biz_hosts` gives it."""
    address = f"192.168.15.{number}"
    return {
        "bk_cloud_id": 0,
        "bk_host_id": number,
        "bk_host_innerip": address,
        "bk_host_name": f"web{number}",
        **changes,
    }


def with_topology(found, *topology):
    """A host as `list_biz_hosts_topo` gives it, in sets with their modules."""
    return {
        "host": found,
        "topo": [
            {
                "bk_set_id": 11,
                "bk_set_name": name,
                "module": [{"bk_module_id": 56, "bk_module_name": module} for module in modules],
            }
            for name, modules in topology
        ],
    }


def page(*hosts, count=None):
    data = {"count": len(hosts) if count is None else count, "info": list(hosts)}
    return {"result": True, "code": 0, "message": "success", "permission": None, "data": data}


def rows(blueking, **options):
    required = {"url": blueking.url("/list_biz_hosts/"), "business_id": 3, "token_variable": "CONFIG_TOKEN_BK"}
    return BlueKingSource("shop", required | options).rows()


def refusal(blueking, **options):
    with pytest.raises(SourceError) as caught:
        rows(blueking, **options)
    return caught.value


def test_hosts_come_page_by_page_until_one_adds_none(blueking):
    blueking.answers = [page(host(1), host(2), count=3), page(host(2), host(3), count=3), page(host(3), count=3)]
    machines, refused = clean_rows(rows(blueking), allow_loopback=False)
    assert [(machine.hostname, machine.address) for machine in machines] == [
        (f"web{number}", f"192.168.15.{number}") for number in (1, 2, 3)
    ]
    assert machines[0].labels == {"cloud": "0"}
    assert refused == []
    assert [body["page"]["start"] for body in blueking.bodies] == [0, 1, 2]


def part_of(part, everything):
    return page(*part, count=len(everything))


@pytest.mark.parametrize("count", range(8))
def test_every_page(blueking, count):
    hosts = [host(number) for number in range(count)]
    blueking.answers = [paged(hosts, part_of)]
    assert [row["hostname"] for row in rows(blueking, page_size=3)] == [f"web{number}" for number in range(count)]


@pytest.mark.parametrize("given", [lambda found: found, with_topology])
@pytest.mark.parametrize("change", MOVES.values(), ids=MOVES)
def test_a_list_that_moves_between_two_pages(blueking, given, change):
    blueking.answers = [paged([given(host(number)) for number in range(6)], part_of, change)]
    assert "changed between two pages. Ask again" in str(refusal(blueking, page_size=2))


@pytest.mark.parametrize("change", [list.pop, lambda things: things.append(host(9))])
def test_another_count_on_another_page(blueking, change):
    blueking.answers = [paged([host(number) for number in range(6)], part_of, change)]
    assert "counts otherwise: its list changed meanwhile, or is cut. Ask again" in str(refusal(blueking, page_size=2))


def test_what_is_asked(blueking):
    fields = {"labels.site": "bk_idc_name", "hostname": "bk_host_innerip"}
    rows(blueking, set_ids=[11], module_ids=[54, 56], fields=fields, page_size=100)
    assert blueking.paths == ["/list_biz_hosts/"]
    assert blueking.bodies == [
        {
            "bk_biz_id": 3,
            "bk_set_ids": [11],
            "bk_module_ids": [54, 56],
            "fields": ["bk_cloud_id", "bk_host_id", "bk_host_innerip", "bk_idc_name"],
            "page": {"start": 0, "limit": 100, "sort": "bk_host_id"},
        }
    ]


def test_credentials_in_the_header(blueking):
    rows(blueking)
    assert json.loads(blueking.requests[0][1]["X-Bkapi-Authorization"]) == CREDENTIALS
    assert CREDENTIALS["bk_app_secret"] not in json.dumps(blueking.bodies)


def test_credentials_in_the_body(blueking):
    rows(blueking, token_in="body")
    assert blueking.bodies[0].items() >= CREDENTIALS.items()
    assert blueking.bodies[0]["page"]["limit"] == 500
    assert "X-Bkapi-Authorization" not in blueking.requests[0][1]


def test_sets_and_modules_become_labels(blueking):
    several = with_topology(host(1), ("set2", ["m1"]), ("set1", ["m2", "m1"]))
    idle = with_topology(host(2), ("空闲机池", ["空闲机"]))
    blueking.answers = [page(several, idle, count=2), page(idle, count=2)]
    first, second = rows(blueking, url=blueking.url("/list_biz_hosts_topo/"))
    assert first["labels"] == {"set": "set1,set2", "module": "m1,m2", "cloud": 0}
    assert (second["labels"]["set"], second["labels"]["module"]) == ("空闲机池", "空闲机")


@pytest.mark.parametrize("label", ["set", "module"])
def test_as_many_sets_and_modules_as_a_label_holds(blueking, label):
    names = [f"{label}-{number:02}-支付业务" for number in range(40)]
    topology = [(name, ["m"]) for name in names] if label == "set" else [("s", names)]
    blueking.answers = [page(with_topology(host(1), *topology)), page(count=1)]
    [machine], _refused = clean_rows(rows(blueking), allow_loopback=False)
    held = machine.labels[label]
    assert held == ",".join(names[: len(held.split(","))])
    assert len(held) <= 255 < len(held) + len(names[0]) + 1


def test_of_several_addresses_the_first(blueking):
    blueking.answers = [page(host(1, bk_host_innerip="10.0.0.1, 10.0.0.2", bk_host_name=""), count=1), page(count=1)]
    [row] = rows(blueking, fields={"hostname": "bk_host_innerip"})
    assert row["hostname"] == row["address"] == "10.0.0.1"


def test_hostile_hosts_are_refused_one_by_one(blueking):
    hostile = [
        7,
        {"host": 7, "topo": []},
        host(1, bk_host_name="a;b"),
        host(2, bk_host_name=None),
        host(3, bk_host_innerip={"ip": "10.0.0.1"}),
        host(4, bk_host_innerip="127.0.0.1"),
        with_topology(host(5), ("\u202e", [])),
    ]
    odd = {**host(6), "topo": [7, {"bk_set_name": 7, "module": 7}, {"module": [None, {}]}]}
    blueking.answers = [page(*hostile, odd), page(odd, count=8)]
    machines, refused = clean_rows(rows(blueking), allow_loopback=False)
    assert [machine.hostname for machine in machines] == ["web6"]
    assert [row.row_number for row in refused] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("token_in", ["header", "body"])
def test_a_refusal_tells_its_message_made_harmless(blueking, token_in, caplog):
    caplog.set_level(logging.DEBUG)
    message = "app portal, secret t0p-s3cret: \x1b[31mno\u202e permission\n" + "x" * 999
    blueking.answers = [{"result": False, "code": 9900403, "message": message, "data": None}]
    error = refusal(blueking, token_in=token_in)
    assert str(error).startswith("BlueKing refuses: app …, secret …: �[31mno� permission�xxx")
    assert len(str(error)) < 250
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        {"result": False, "message": None},
        {"result": "true", "data": {"count": 0, "info": []}},
        {"count": 0, "info": []},
        [],
        7,
    ],
)
def test_what_does_not_say_that_it_answered(blueking, answer):
    blueking.answers = [answer]
    assert str(refusal(blueking)) == "BlueKing refuses: ?"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([page(host(1), count=2), page(count=2)], "gave 1 machines but counts otherwise"),
        ([page(host(1), count=2), Answer(status=504)], "status 504"),
        ([page(host(1), count=2), {"result": False, "message": "busy"}], "refuses: busy"),
        ([page(host(1))], "same page twice"),
        ([{"result": True, "data": {"count": 0}}], "no list at data.info"),
        ([Answer({"code": 1640101, "message": "App authentication failed"}, 401)], "Check the token"),
    ],
)
def test_half_a_list_is_no_list(blueking, answers, words):
    blueking.answers = answers
    assert words in str(refusal(blueking))


@pytest.mark.parametrize(
    "value",
    [
        *("portal:secret", "[]", "", '{"bk_app_code": "portal"}', '{"bk_app_code": "portal", "bk_app_secret": 7}'),
        *('{"bk_app_code": "portal", "bk_app_secret": ""}', '{"bk_app_code": "", "bk_app_secret": "t0p-s3cret"}'),
    ],
)
def test_unusable_credentials_are_named_but_not_shown(blueking, monkeypatch, value):
    monkeypatch.setenv("CONFIG_TOKEN_BK", value)
    error = refusal(blueking)
    assert error.permanent
    assert str(error).startswith("CONFIG_TOKEN_BK ")
    assert not value or value not in str(error)
    assert blueking.requests == []
    options = {"url": "https://bk.example/", "business_id": 3, "token_variable": "CONFIG_TOKEN_BK"}
    assert str(error) in map(str, BlueKingSource.check(options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "bk.example"}, "“url” must be"),
        ({"business_id": 0}, "bk_biz_id"),
        ({"business_id": "3"}, "“business_id” must be a number"),
        ({"token_variable": "SECRET_KEY"}, "must be CONFIG_TOKEN_"),
        ({"token_in": "query"}, "header or body"),
        ({"set_ids": []}, "“set_ids” must be 1 to 200 numbers"),
        ({"set_ids": [1] * 201}, "“set_ids” must be 1 to 200 numbers"),
        ({"module_ids": ["54"]}, "“module_ids” must be 1 to 500 numbers"),
        ({"module_ids": [True]}, "“module_ids” must be 1 to 500 numbers"),
        ({"url": "https://bk.example/list_biz_hosts_topo/", "set_ids": [1]}, "list_biz_hosts only"),
        ({"page_size": 501}, "from 2 to 500"),
        ({"fields": {"site": "x"}}, "“fields” gives"),
        ({"bk_biz_id": 3}, "no option “bk_biz_id”"),
    ],
)
def test_check_says_what_is_wrong(blueking, options, words):
    required = {"url": "https://bk.example/", "business_id": 3, "token_variable": "CONFIG_TOKEN_BK"}
    assert BlueKingSource.check(required) == []
    [problem] = BlueKingSource.check(required | options)
    assert words in str(problem)
    assert refusal(blueking, **options).permanent


def test_check_wants_a_business_and_credentials():
    problems = " ".join(map(str, BlueKingSource.check({"url": "https://bk.example/"})))
    assert "“business_id” must be" in problems
    assert "“token_variable” must name" in problems

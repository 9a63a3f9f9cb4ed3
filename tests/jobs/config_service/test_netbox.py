"""NetBox, by a double that answers as its documentation says: docs/integrations/rest-api.md ("Pagination",
"Authentication") of the netbox repository, and objects as demo.netbox.dev gives them at /api/dcim/devices/ and
/api/virtualization/virtual-machines/."""

import pytest

from jobs.config_service.base import SourceError
from jobs.config_service.netbox import NetBoxSource
from jobs.config_service.rows import clean_rows
from tests.config_service import MOVES, Answer, ConfigServiceDouble, paged

V1, V2 = "0123456789abcdef0123456789abcdef01234567", "nbt_Ab1Cd2Ef3Gh4.0123456789abcdefghij"


@pytest.fixture
def netbox(monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_NETBOX", V2)
    with ConfigServiceDouble(page()) as netbox:
        yield netbox


def nested(number, kind, name, slug=None):
    """A related object as NetBox puts it into another; racks and clusters have no slug."""
    brief = {"id": number, "url": f"https://netbox.example/api/{kind}/{number}/", "display": name, "name": name}
    return brief | ({"slug": slug} if slug else {})


def address(text, family=4):
    label = {"value": family, "label": f"IPv{family}"}
    return {"id": 7, "url": "https://netbox.example/api/ipam/ip-addresses/7/", "family": label, "address": text}


def device(name="web1", ip="10.0.0.1/24", **changes):
    return {
        "id": 88,
        "url": "https://netbox.example/api/dcim/devices/88/",
        "display": name,
        "name": name,
        "device_type": {"id": 11, "model": "R650", "slug": "r650", "manufacturer": nested(1, "dcim/x", "Dell", "dell")},
        "role": nested(6, "dcim/device-roles", "Web Server", "web-server"),
        "tenant": nested(13, "tenancy/tenants", "Shop", "shop"),
        "platform": nested(2, "dcim/platforms", "Debian 12", "debian-12"),
        "serial": "",
        "site": nested(21, "dcim/sites", "Shanghai 1", "sh-1"),
        "location": None,
        "rack": nested(41, "dcim/racks", "R 17"),
        "status": {"value": "active", "label": "Active"},
        "primary_ip": ip and address(ip),
        "primary_ip4": ip and address(ip),
        "primary_ip6": None,
        "cluster": None,
        "tags": [nested(3, "extras/tags", "Live", "live"), nested(4, "extras/tags", "PCI", "pci")],
        "custom_fields": {"ssh_port": 2222, "note": None},
        **changes,
    }


def page(*items, count=None, more=False):
    link = "https://netbox.example/api/dcim/devices/?limit=2&offset=2" if more else None
    return {"count": len(items) if count is None else count, "next": link, "previous": None, "results": list(items)}


def rows(netbox, **options):
    return NetBoxSource("shop", {"url": netbox.url("/"), "tenant": "{business}", **options}).rows()


def refusal(netbox, **options):
    with pytest.raises(SourceError) as caught:
        rows(netbox, **options)
    return caught.value


def test_a_device(netbox):
    netbox.answers = [page(device())]
    labels = {"site": "sh-1", "rack": "R 17", "role": "web-server", "tenant": "shop", "platform": "debian-12"}
    [machine], refused = clean_rows(rows(netbox), allow_loopback=False)
    assert (machine.hostname, machine.address, machine.port, machine.site) == ("web1", "10.0.0.1", 22, "sh-1")
    assert machine.labels == {**labels, "tags": "live,pci"}
    assert refused == []


def test_what_is_asked(netbox):
    rows(netbox)
    rows(
        netbox,
        url=netbox.url("/netbox/"),
        site="sh-1, sh-2",
        tag="live",
        role="web",
        status="active,staged",
        page_size=50,
    )
    page_of = "ordering=id&limit={}&offset=0&exclude=config_context"
    assert netbox.paths == [
        "/api/dcim/devices/?status=active&tenant=shop&" + page_of.format(500),
        "/netbox/api/dcim/devices/?status=active&status=staged&tenant=shop&site=sh-1&site=sh-2&role=web&tag=live&"
        + page_of.format(50),
    ]


@pytest.mark.parametrize(("value", "sent"), [(V1, f"Token {V1}"), (V2, f"Bearer {V2}")])
def test_the_token_tells_its_own_version(netbox, monkeypatch, value, sent):
    monkeypatch.setenv("CONFIG_TOKEN_NETBOX", value)
    rows(netbox, token_variable="CONFIG_TOKEN_NETBOX")
    rows(netbox)
    (_path, with_token), (_path, without) = netbox.requests
    assert with_token["Authorization"] == sent
    assert "Authorization" not in without


def test_pages_by_offset_whatever_host_the_links_name(netbox):
    netbox.answers = [page(device("a"), device("b"), count=3, more=True), page(device("b"), device("c"), count=3)]
    assert [row["hostname"] for row in rows(netbox, page_size=500)] == ["a", "b", "c"]
    assert [path.split("offset=")[1].split("&")[0] for path in netbox.paths] == ["0", "1"]


def devices(count):
    return [device(f"web{number}", id=number) for number in range(count)]


def part_of(part, everything):
    return page(*part, count=len(everything), more=bool(part) and part[-1] is not everything[-1])


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("most", [2, 1000])
def test_every_page_whatever_the_limit_of_netbox(netbox, count, most):
    netbox.answers = [paged(devices(count), part_of, most=most)]
    assert [row["hostname"] for row in rows(netbox, page_size=3)] == [f"web{number}" for number in range(count)]


@pytest.mark.parametrize("change", MOVES.values(), ids=MOVES)
def test_a_list_that_moves_between_two_pages(netbox, change):
    netbox.answers = [paged(devices(6), part_of, change)]
    assert "changed between two pages. Ask again" in str(refusal(netbox, page_size=2))


def test_a_list_of_devices_without_names_that_moves_between_two_pages(netbox):
    unnamed = [device(None, id=number) for number in range(6)]
    netbox.answers = [paged(unnamed, part_of, MOVES["one left, another came"])]
    assert "changed between two pages. Ask again" in str(refusal(netbox, page_size=2))


@pytest.mark.parametrize("tags", [None, 7, [7], [{"slug": 7}]])
def test_odd_tags(netbox, tags):
    netbox.answers = [page(device(tags=tags))]
    [row] = rows(netbox)
    assert (row["hostname"], row["labels"]["tags"]) == ("web1", None)


@pytest.mark.parametrize("change", [list.pop, lambda things: things.append(device(id=9))])
def test_another_count_on_another_page(netbox, change):
    netbox.answers = [paged(devices(6), part_of, change)]
    assert "counts otherwise: its list changed meanwhile, or is cut. Ask again" in str(refusal(netbox, page_size=2))


def test_virtual_machines_when_asked_for(netbox):
    vm = device("vm1", "10.0.1.1/32", cluster=nested(5, "virtualization/clusters", "kvm 1"), rack=None, tags=[])
    del vm["rack"]
    netbox.answers = [page(device()), page(vm)]
    _device, machine = rows(netbox, virtual_machines=True)
    assert [path.split("?")[0] for path in netbox.paths] == [
        "/api/dcim/devices/",
        "/api/virtualization/virtual-machines/",
    ]
    assert machine["hostname"] == "vm1"
    assert machine["labels"]["cluster"] == "kvm 1"
    assert machine["labels"]["rack"] is machine["labels"]["tags"] is None


def test_neither_devices_nor_virtual_machines(netbox):
    assert rows(netbox, virtual_machines=True) == []
    assert len(netbox.requests) == 2


def test_without_a_primary_address_the_row_is_refused_and_counted(netbox):
    netbox.answers = [page(device(), device("new", None))]
    machines, [refused] = clean_rows(rows(netbox), allow_loopback=False)
    assert [machine.hostname for machine in machines] == ["web1"]
    assert (refused.row_number, refused.name) == (2, "new")
    assert refused.reason == "It has no primary IP address in NetBox."


def test_without_a_primary_address_the_host_name_may_do(netbox):
    netbox.answers = [page(device("new.example.com", None))]
    [machine], _refused = clean_rows(rows(netbox, no_address="hostname"), allow_loopback=False)
    assert machine.address == "new.example.com"


@pytest.mark.parametrize(
    ("which", "found"), [("primary_ip", "2001:db8::1"), ("primary_ip4", "10.0.0.1"), ("primary_ip6", "2001:db8::1")]
)
def test_which_address(netbox, which, found):
    v6 = address("2001:db8::1/64", 6)
    netbox.answers = [page(device(primary_ip=v6, primary_ip6=v6))]
    assert rows(netbox, address=which)[0]["address"] == found


def test_as_many_tags_as_a_label_holds(netbox):
    slugs = [f"service-tag-{number:02}" for number in range(20)]
    netbox.answers = [page(device(tags=[nested(7, "extras/tags", slug, slug) for slug in slugs]))]
    [machine], _refused = clean_rows(rows(netbox), allow_loopback=False)
    assert machine.labels["tags"] == ",".join(slugs[:17])


def test_fields_of_its_own(netbox):
    netbox.answers = [page(device(custom_fields={"ssh_port": 2222, "ssh_ip": "10.9.9.9/24"}))]
    fields = {"port": "custom_fields.ssh_port", "address": "custom_fields.ssh_ip", "labels.model": "device_type.slug"}
    [row] = rows(netbox, fields=fields)
    assert (row["port"], row["address"]) == (2222, "10.9.9.9")
    assert row["labels"]["model"] == "r650"
    assert row["labels"]["site"] == "sh-1"


def test_hostile_objects_are_refused_one_by_one(netbox):
    hostile = [
        7,
        device("-oProxyCommand=x"),
        device(None),
        device("a", primary_ip=["10.0.0.9"]),
        device("b", primary_ip={"address": ["10.0.0.9"]}),
        device("c", "127.0.0.1/8"),
        device("d", "10.0.0.9/24;id"),
        device("e", site={"slug": "\u202e"}),
        device("f", "10.0.0.2/24", tags=[7, {"slug": 7}], site=7, rack="r"),
    ]
    netbox.answers = [page(*hostile, device())]
    machines, refused = clean_rows(rows(netbox), allow_loopback=False)
    assert [machine.hostname for machine in machines] == ["f", "web1"]
    assert [row.row_number for row in refused] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([page(device(), count=2)], "gave 1 machines but counts otherwise"),
        ([{"results": []}], "counts otherwise"),
        ([page(device(), count=9, more=True), page(count=9, more=True)], "same page twice"),
        ([page(device(), count=2, more=True), Answer(status=503)], "status 503"),
        ([page(device(), count=2, more=True), {"detail": "gone"}], "no list at results"),
        ([[device()]], "no list at results"),
        ([Answer({"tenant": ["Select a valid choice. x is not one of the available choices."]}, 400)], "status 400"),
        ([Answer({"detail": "Invalid v1 token"}, 403)], "refuses the portal (status 403). Check the token"),
        ([Answer(b"", 302, {"Location": "/login/"})], "redirects"),
    ],
)
def test_half_a_list_is_no_list(netbox, answers, words):
    netbox.answers = answers
    error = refusal(netbox, token_variable="CONFIG_TOKEN_NETBOX")
    assert words in str(error)
    assert V2 not in str(error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "https://n", "tenat": "x", "site": "y"}, "no option “tenat”"),
        ({"url": "https://n/?x=1", "tenant": "x"}, "address alone"),
        ({"url": "n.example", "tenant": "x"}, "“url” must be"),
        ({"url": "https://n"}, "at least one of"),
        ({"url": "https://n", "status": "active"}, "at least one of"),
        ({"url": "https://n", "tenant": ""}, "“tenant” must be a slug"),
        ({"url": "https://n", "tenant": "x", "site": "sh-1,"}, "“site” must be a slug"),
        ({"url": "https://n", "tenant": "x", "status": " "}, "“status” must be a slug"),
        ({"url": "https://n", "tenant": ["x"]}, "“tenant” must be text"),
        ({"url": "https://n", "tenant": "x", "virtual_machines": "yes"}, "must be true or false"),
        ({"url": "https://n", "tenant": "x", "address": "name"}, "“address” must be"),
        ({"url": "https://n", "tenant": "x", "no_address": "skip"}, "“no_address” must be"),
        ({"url": "https://n", "tenant": "x", "page_size": 1001}, "from 2 to 1,000"),
        ({"url": "https://n", "tenant": "x", "fields": {"name": "name"}}, "“fields” gives"),
        ({"url": "https://n", "tenant": "x", "token_variable": "SECRET_KEY"}, "must be CONFIG_TOKEN_"),
    ],
)
def test_check_says_what_is_wrong(options, words):
    [problem] = NetBoxSource.check(options)
    assert words in str(problem)
    with pytest.raises(SourceError) as caught:
        NetBoxSource("shop", options).rows()
    assert caught.value.permanent

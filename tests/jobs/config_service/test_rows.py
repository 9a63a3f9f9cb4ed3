import pytest
from django.utils import translation

from jobs.config_service.rows import MachineRow, Refused, UnusableRow, clean_rows

ODD_CHARACTER = "A host name has only a-z, 0-9, “.”, “-” and “_”; this one has the character U+{}."
MALFORMED = "The host name is malformed: a part is empty, too long, or begins or ends with “-”."
NO_NAME = "It has no host name, or one that is not text."
NO_MACHINE_HAS_IT = "The address is loopback, link-local, multicast, reserved or unspecified: no machine has it."
IN_DISGUISE = "The address is a number in disguise: write it as 10.0.0.1, or give a host name."
OWN_HOST = "The address is the portal's own host."
NEITHER = "The address is neither an IP address nor a host name."
PORT = "The port is not a whole number from 1 to 65535."
USER = "The user is not a login name: up to 32 of a-z, 0-9, “_” and “-”, first a letter or “_”."
LABEL_NAME = "A label's name is not 1 to 63 of A-Z, a-z, 0-9, “_”, “.” and “-”."
LABEL = "Label x is not a plain number or up to 255 visible characters."
WEB0 = {"hostname": "web0", "address": "10.0.0.10"}


def only(row, allow_loopback=False):
    """The one machine that `row` gives."""
    [machine], refused = clean_rows([row], allow_loopback)
    assert refused == []
    return machine


def reason(row, allow_loopback=False):
    """Why `row` is refused; a good row beside it is kept."""
    machines, [refused] = clean_rows([WEB0, row], allow_loopback)
    assert [machine.hostname for machine in machines] == ["web0"]
    assert refused.row_number == 2
    return refused.reason


def test_full_row():
    row = {
        "hostname": "Web1.Example.COM",
        "address": "10.0.0.1",
        "port": 2222,
        "user": "deploy",
        "labels": {"site": "上海", "rack": 7, "load": 0.5, "live": True, "spare": False, "note": None},
        "id": 17,
        "tags": ["ignored"],
    }
    labels = {"site": "上海", "rack": "7", "load": "0.5", "live": "true", "spare": "false"}
    assert only(row) == MachineRow("web1.example.com", "10.0.0.1", 2222, "deploy", labels, "上海")


@pytest.mark.parametrize(
    "row",
    [
        {"hostname": "web1"},
        {"hostname": "web1", "address": None, "port": None, "user": None, "labels": None},
        {"hostname": "web1", "address": "", "port": "", "user": "", "labels": {}},
        {"hostname": "web1", "address": "WEB1", "port": "22"},
    ],
)
def test_least_row(row):
    assert only(row) == MachineRow("web1", "web1", 22, "", {}, "")


@pytest.mark.parametrize("row", [None, 7, "web1", ["web1"], True, float("nan")])
def test_row_that_is_no_object(row):
    assert reason(row) == "The row is not an object."


@pytest.mark.parametrize("name", ["web_1", "_sip.example.com", "1", "10.0.0.5", "a" * 63, ".".join(["a" * 49] * 5)])
def test_host_name_taken(name):
    assert only({"hostname": name, "address": "10.0.0.1"}).hostname == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (None, NO_NAME),
        ("", NO_NAME),
        (7, NO_NAME),
        (True, NO_NAME),
        (["web1"], NO_NAME),
        ({"name": "web1"}, NO_NAME),
        ("-oProxyCommand=touch /tmp/x", ODD_CHARACTER.format("003D")),
        ("a;b", ODD_CHARACTER.format("003B")),
        ("$(id)", ODD_CHARACTER.format("0024")),
        ("user@web1", ODD_CHARACTER.format("0040")),
        ("web1:22", ODD_CHARACTER.format("003A")),
        ("../web1", ODD_CHARACTER.format("002F")),
        ("web 1", ODD_CHARACTER.format("0020")),
        ("web1\n", ODD_CHARACTER.format("000A")),
        ("web1\0", ODD_CHARACTER.format("0000")),
        ("wеb1", ODD_CHARACTER.format("0435")),
        ("web\u212a", ODD_CHARACTER.format("212A")),
        ("web１", ODD_CHARACTER.format("FF11")),
        ("上海1", ODD_CHARACTER.format("4E0A")),
        ("web\u202e1", ODD_CHARACTER.format("202E")),
        ("web\ud800", ODD_CHARACTER.format("D800")),
        ("<script>", ODD_CHARACTER.format("003C")),
        ("-web1", MALFORMED),
        ("web1-", MALFORMED),
        ("web1.-x", MALFORMED),
        (".web1", MALFORMED),
        ("web1.", MALFORMED),
        ("web1..x", MALFORMED),
        ("a" * 64, MALFORMED),
        (".".join(["a" * 50] * 5), MALFORMED),
        pytest.param("a" * 2**20, MALFORMED, id="1 MB"),
    ],
)
def test_host_name_refused(name, why):
    assert reason({"hostname": name, "address": "10.0.0.1"}) == why


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("100.64.0.1", "100.64.0.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fd00::1", "fd00::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("Web1.Example.com", "web1.example.com"),
        ("db-1", "db-1"),
        ("10.0.0.1.example.com", "10.0.0.1.example.com"),
        ("localhosts", "localhosts"),
    ],
)
def test_address_taken(address, kept):
    assert only({"hostname": "web1", "address": address}).address == kept


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (2130706433, "The address is not text."),
        (0, "The address is not text."),
        (False, "The address is not text."),
        ([], "The address is not text."),
        (["10.0.0.1"], "The address is not text."),
        ("0.0.0.0", NO_MACHINE_HAS_IT),
        ("0.1.2.3", NO_MACHINE_HAS_IT),
        ("127.0.0.1", NO_MACHINE_HAS_IT),
        ("127.255.255.254", NO_MACHINE_HAS_IT),
        ("169.254.169.254", NO_MACHINE_HAS_IT),
        ("224.0.0.1", NO_MACHINE_HAS_IT),
        ("240.0.0.1", NO_MACHINE_HAS_IT),
        ("255.255.255.255", NO_MACHINE_HAS_IT),
        ("::", NO_MACHINE_HAS_IT),
        ("::1", NO_MACHINE_HAS_IT),
        ("::127.0.0.1", NO_MACHINE_HAS_IT),
        ("::ffff:127.0.0.1", NO_MACHINE_HAS_IT),
        ("::ffff:7f00:1", NO_MACHINE_HAS_IT),
        ("::ffff:169.254.169.254", NO_MACHINE_HAS_IT),
        ("::ffff:0.0.0.0", NO_MACHINE_HAS_IT),
        ("fe80::1", NO_MACHINE_HAS_IT),
        ("ff02::1", NO_MACHINE_HAS_IT),
        ("2130706433", IN_DISGUISE),
        ("127.1", IN_DISGUISE),
        ("0177.0.0.1", IN_DISGUISE),
        ("10.0.0.01", IN_DISGUISE),
        ("10.0.0.256", IN_DISGUISE),
        ("0x7f000001", IN_DISGUISE),
        ("0X7F.0.0.0x1", IN_DISGUISE),
        ("127.0.0.0x", IN_DISGUISE),
        ("localhost", OWN_HOST),
        ("LocalHost", OWN_HOST),
        ("db.localhost", OWN_HOST),
        ("localhost.localdomain", OWN_HOST),
        ("localhost6", OWN_HOST),
        ("ip6-loopback", OWN_HOST),
        ("localhost.", NEITHER),
        ("-oProxyCommand=x", NEITHER),
        ("a;b", NEITHER),
        ("10.0.0.1:22", NEITHER),
        ("10.0.0.0/8", NEITHER),
        ("[::1]", NEITHER),
        ("fe80::1%eth0", NEITHER),
        ("2001:db8::1%;id", NEITHER),
        ("user@10.0.0.1", NEITHER),
        (" 10.0.0.1", NEITHER),
        ("10.0.0.1\n", NEITHER),
        ("１0.0.0.1", NEITHER),
        ("127。0。0。1", NEITHER),
        ("wеb1", NEITHER),
        pytest.param("x" * 2**20, NEITHER, id="1 MB"),
    ],
)
def test_address_refused(address, why):
    assert reason({"hostname": "web1", "address": address}) == why


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "db.localhost"])
def test_loopback_where_it_is_allowed(address):
    assert only({"hostname": "web1", "address": address}, allow_loopback=True)


@pytest.mark.parametrize("address", ["0.0.0.0", "169.254.1.1", "::", "fe80::1", "127.1", "2130706433"])
def test_allowing_loopback_allows_nothing_else(address):
    assert reason({"hostname": "web1", "address": address}, allow_loopback=True)


def test_host_name_that_stands_for_a_missing_address_is_judged_as_one():
    assert reason({"hostname": "localhost"}) == OWN_HOST
    assert reason({"hostname": "127.0.0.1"}) == NO_MACHINE_HAS_IT
    assert reason({"hostname": "127.1"}) == IN_DISGUISE


@pytest.mark.parametrize(("port", "kept"), [(1, 1), (65535, 65535), ("2222", 2222), (None, 22), ("", 22)])
def test_port_taken(port, kept):
    assert only({"hostname": "web1", "port": port}).port == kept


@pytest.mark.parametrize(
    "port",
    [
        0,
        -1,
        65536,
        10**400,
        True,
        False,
        22.0,
        float("nan"),
        float("inf"),
        "0",
        "022",
        "-1",
        "65536",
        "22 ",
        "2_2",
        "٢٢",
    ]
    + [pytest.param("9" * 5000, id="5000 nines"), "ssh", [22], {"port": 22}],
)
def test_port_refused(port):
    assert reason({"hostname": "web1", "port": port}) == PORT


@pytest.mark.parametrize("user", ["deploy", "_apt", "a-b_c9", "a" * 32])
def test_user_taken(user):
    assert only({"hostname": "web1", "user": user}).user == user


@pytest.mark.parametrize(
    "user", ["root;id", "Root", "-l", "9a", "a b", "a" * 33, "a\n", "用户", "a@b", "$(id)", "rооt", 0, 7, True, ["a"]]
)
def test_user_refused(user):
    assert reason({"hostname": "web1", "user": user}) == USER


@pytest.mark.parametrize("value", ["", "a b", "上海　一", "a\xa0b", "👩‍💻", "<script>", "{{7*7}}", "x" * 255])
def test_label_text_taken_as_it_is(value):
    assert only({"hostname": "web1", "labels": {"x": value}}).labels == {"x": value}


@pytest.mark.parametrize(
    "value",
    [
        "x" * 256,
        pytest.param("x" * 2**20, id="1 MB"),
        "a\nb",
        "a\tb",
        "\x1b[31m",
        "a\0",
        "\x85",
        "\u202eabc",
        "\u2066",
        "\u200b",
        "\u2028",
        "\ud800",
    ]
    + [
        "\ue000",
        float("nan"),
        float("inf"),
        -float("inf"),
        1e300,
        10**18,
        pytest.param(10**5000, id="5000 digits"),
        pytest.param(-(10**5000), id="minus 5000 digits"),
        [],
        ["a"],
        {"a": "b"},
    ],
)
def test_label_value_refused(value):
    assert reason({"hostname": "web1", "labels": {"x": value}}) == LABEL


@pytest.mark.parametrize(
    "key", ["", "a b", "a\n", "é", "a" * 64, pytest.param("a" * 2**20, id="1 MB"), "a/b", "<x>", 7, None]
)
def test_label_name_refused(key):
    assert reason({"hostname": "web1", "labels": {key: "x"}}) == LABEL_NAME


def test_labels_are_an_object_of_up_to_64():
    assert len(only({"hostname": "web1", "labels": {f"x{n}": n for n in range(64)}}).labels) == 64
    assert reason({"hostname": "web1", "labels": {f"x{n}": n for n in range(65)}}) == "It has more than 64 labels."
    for labels in ([], ["a"], "a", 7, True, 0, ""):
        assert reason({"hostname": "web1", "labels": labels}) == "The labels are not an object."


def test_site_is_text_whatever_it_was():
    assert only({"hostname": "web1", "labels": {"site": 7}}).site == "7"
    assert only({"hostname": "web1", "labels": {"site": None}}).site == ""
    assert only({"hostname": "web1", "site": "sh"}).site == ""


def test_duplicates_name_the_first():
    rows = [
        {"hostname": "web1", "address": "10.0.0.1"},
        {"hostname": "WEB1", "address": "10.0.0.2"},
        {"hostname": "web2", "address": "10.0.0.1"},
        {"hostname": "web3", "address": "::ffff:10.0.0.1", "port": "22"},
        {"hostname": "web4", "address": "10.0.0.1", "port": 2222},
        {"hostname": "web5", "address": "WEB6"},
        {"hostname": "web6"},
    ]
    machines, refused = clean_rows(rows, False)
    assert [machine.hostname for machine in machines] == ["web1", "web4", "web5"]
    assert refused == [
        Refused(2, "WEB1", "Row 1 has the same host name."),
        Refused(3, "web2", "Row 1 (web1) has the same address and port."),
        Refused(4, "web3", "Row 1 (web1) has the same address and port."),
        Refused(7, "web6", "Row 6 (web5) has the same address and port."),
    ]


@pytest.mark.parametrize(("name", "known_by"), [("web1", "web1"), ("a\nb", "a�b"), (None, ""), (7, "")])
def test_row_that_its_source_cannot_use(name, known_by):
    machines, refused = clean_rows([UnusableRow(name, "It has no address there."), WEB0], False)
    assert [machine.hostname for machine in machines] == ["web0"]
    assert refused == [Refused(1, known_by, "It has no address there.")]


def test_no_answer_can_make_a_row_unusable():
    assert only({"hostname": "web1", "reason": "x"}).hostname == "web1"


def test_refused_row_takes_no_name():
    machines, refused = clean_rows([{"hostname": "web1", "port": 0}, {"hostname": "web1"}], False)
    assert [machine.hostname for machine in machines] == ["web1"]
    assert [row.row_number for row in refused] == [1]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("wеb1", "wеb1"),
        ("a\x1b[31m\u202e\ud800", "a�[31m��"),
        pytest.param("x;" * 2**19, "x;" * 30, id="1 MB"),
        (None, ""),
        (7, ""),
        (["x"], ""),
    ],
)
def test_refused_name_is_short_and_printable(name, shown):
    [], [refused] = clean_rows([{"hostname": name}], False)
    assert refused.name == shown


def test_reasons_follow_the_language():
    why = reason(None)
    with translation.override("zh-hans"):
        assert why == "该行不是对象。"


def test_many_rows():
    rows = [
        {"hostname": f"web{n}", "address": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "labels": {"site": "sh"}}
        for n in range(20_000)
    ]
    machines, refused = clean_rows(rows + rows, False)
    assert len(machines) == len(refused) == 20_000

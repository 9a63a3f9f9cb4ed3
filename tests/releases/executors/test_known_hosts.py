"""By which host keys a machine is known; what is done with them is in test_ssh.py and test_connections.py."""

import base64
import hashlib
import hmac

import asyncssh
import pytest

from releases.executors.base import Order
from releases.executors.known_hosts import KnownHosts, KnownHostsFile, error_for

PRIVATE = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
OWN, OTHER = (key.convert_to_public() for key in PRIVATE)


def line(place, key, marker=""):
    return f"{marker}{place} {key.export_public_key().decode()}"


def hashed(place):
    salt = b"twenty bytes of salt"
    names = hmac.new(salt, place.encode(), hashlib.sha1).digest()
    return "|1|{}|{}".format(*(base64.b64encode(part).decode() for part in (salt, names)))


def order(port=22, address="10.0.0.1"):
    return Order("pay-1", address, port, "deploy", "", 1)


def keys(*lines, of=None, ip="10.0.0.1"):
    return tuple(map(set, KnownHosts("".join(lines)).keys_of(of or order(), ip)))


@pytest.mark.parametrize("place", ["pay-1", "[pay-1]:22", "10.0.0.1", "[10.0.0.1]:22", "pay-*", "other,pay-1"])
def test_by_name_and_by_address_with_and_without_the_port_of_ssh(place):
    assert keys(line(place, OWN)) == ({OWN}, set(), set())


@pytest.mark.parametrize("place", ["pay-1", "[pay-1]:2222", "10.0.0.1", "[10.0.0.1]:2222"])
def test_a_hashed_name_is_as_good(place):
    assert keys(line(hashed("other"), OTHER), line(hashed(place), OWN), of=order(2222)) == ({OWN}, set(), set())


@pytest.mark.parametrize("place", ["pay-2", "[pay-1]:22", "[10.0.0.1]:22", "10.0.0.2", "pay-2,", ",", "!"])
def test_others_are_not_known(place):
    assert keys(line(place, OWN), of=order(2222)) == (set(), set(), set())


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_comment_goes_on_behind_what_only_python_takes_for_the_end_of_a_line(end, settings, tmp_path):
    settings.SSH_KNOWN_HOSTS = tmp_path / "known_hosts"
    settings.SSH_KNOWN_HOSTS.write_bytes(f"{line('pay-2', OTHER).strip()} {end}{line('*', OWN)}".encode())
    assert not any(KnownHostsFile().read().keys_of(order(), "10.0.0.1"))


@pytest.mark.parametrize("more", [("[pay-1]:2222", "pay-1"), ("pay-1", "[10.0.0.1]:2222"), ("10.0.0.7", "pay-2")])
def test_what_binds_more(more):
    first, second = more
    of = order(2222, address="pay.example")
    assert keys(line(first, OWN), line(second, OTHER), of=of, ip="10.0.0.7") == ({OWN}, set(), set())


@pytest.mark.parametrize("marker", ["", "@cert-authority ", "\t@cert-authority\t"])
@pytest.mark.parametrize("port", [22, 2222])
@pytest.mark.parametrize("place", ["*,!pay-1", "!PAY-?,*", "*,!10.0.0.1", "10.0.0.*,!pay-*", "[*]:*,!pay-1"])
def test_a_machine_that_a_line_leaves_out_is_not_known_by_it(place, port, marker):
    assert keys(line(place, OWN, marker), of=order(port)) == (set(), set(), set())


def test_others_are_known_by_a_line_that_leaves_some_out():
    assert keys(line("*,!pay-2,![pay-1]:22", OWN), of=order(2222)) == ({OWN}, set(), set())


@pytest.mark.parametrize("place", ["PAY-1", "[Pay-1]:22", "P*", "2001:DB8::1"])
def test_upper_and_lower_case_are_one(place):
    of = order(address="2001:db8::1")
    assert keys(line(place, OWN), line(place, OTHER, "@revoked "), of=of) == ({OWN}, set(), {OTHER})


@pytest.mark.parametrize("marker", ["", "@revoked "])
@pytest.mark.parametrize("place", ["pay-1", "[pay-1]:22"])
def test_an_authority_for_all_leaves_what_else_is_known_at_port_22(place, marker):
    found, authorities, revoked = keys(line(place, OWN, marker), line("*", OTHER, "@cert-authority "))
    assert authorities == {OTHER}
    assert (revoked if marker else found) == {OWN}


@pytest.mark.parametrize("place", ["pay-1", "[pay-1]:2222", "10.0.0.1", "[10.0.0.1]:2222", "*", "[*]:2222", "10.0.0.7"])
def test_a_key_is_revoked_by_whatever_the_machine_is_called(place):
    lines = line("[pay-1]:2222", OWN), line(place, OWN, "@revoked ")
    assert keys(*lines, of=order(2222), ip="10.0.0.7") == ({OWN}, set(), {OWN})


def test_a_line_that_leaves_some_out_revokes_for_the_others():
    assert keys(line("pay-1", OWN), line("*,!pay-2", OWN, "@revoked ")) == ({OWN}, set(), {OWN})


@pytest.mark.parametrize(
    "other",
    [
        ("pay-2", "10.0.0.1", 2222, "10.0.0.1"),
        ("pay-1", "10.0.0.2", 2222, "10.0.0.1"),
        ("pay-1", "10.0.0.1", 22, "10.0.0.1"),
        ("pay-1", "10.0.0.1", 2222, "10.0.0.2"),
    ],
    ids=["name", "address", "port", "where it leads"],
)
def test_what_is_known_of_a_machine_is_not_said_of_one_that_shares_all_but(other):
    hostname, address, port, ip = other
    known_hosts = KnownHosts(line("[pay-1]:2222", OWN) + line("[10.0.0.2]:2222", OWN, "@revoked "))
    first, second = order(2222), Order(hostname, address, port, "deploy", "", 1)
    assert known_hosts.keys_of(first, "10.0.0.1") != known_hosts.keys_of(second, ip)


@pytest.mark.parametrize("marker", ["", "@cert-authority "])
def test_who_is_known_by_a_key_or_by_an_authority_and_shows_another_is_not_told_to_be_new(marker):
    known_hosts = KnownHosts(line("pay-1", OWN, marker))
    assert "find out why" in str(error_for(*known_hosts.keys_of(order(), "10.0.0.1")))


def test_a_machine_is_looked_up_once(monkeypatch):
    known_hosts = KnownHosts(line("pay-1", OWN))
    found = known_hosts.keys_of(order(), "10.0.0.1")
    monkeypatch.delattr(asyncssh.known_hosts.SSHKnownHosts, "match")
    assert known_hosts.keys_of(order(), "10.0.0.1") is found


@pytest.mark.parametrize("text", ["nonsense", "@unknown pay-1 ssh-ed25519 AAAA", "@revoked"])
def test_what_nobody_can_read_is_no_empty_list(text):
    with pytest.raises(ValueError, match=text.split()[0].strip("@")):
        KnownHosts(text)

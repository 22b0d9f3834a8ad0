"""Which addresses may be contacted, and that a second answer of DNS changes nothing."""

import socket

import aiohttp
import pytest

from shared.backends.addresses import (
    AddressRefused,
    HostRules,
    is_public,
    path_part,
    public_socket,
)
from shared.backends.http import get_json, new_http_client
from shared.errors import UpstreamBroken, UpstreamUnreachable
from tests.unit.backends.upstream import make_endpoint, saying, serve


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # cloud machines tell their secrets here
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a00:1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)  # fmt: skip
def test_addresses_that_are_public(address):
    assert is_public(address)


def test_an_id_stays_one_part_of_a_path():
    assert path_part("task-1") == "task-1"
    assert path_part("../v1/x?a#b%2f") == "..%2Fv1%2Fx%3Fa%23b%252f"
    for leading_elsewhere in (".", ".."):
        with pytest.raises(UpstreamBroken):
            path_part(leading_elsewhere)


def test_no_socket_for_a_private_address():
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))
    with pytest.raises(AddressRefused):
        public_socket(place)


def test_a_socket_for_a_public_address():
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))
    with public_socket(place) as made:
        assert made.family == socket.AF_INET


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_public_client_does_not_connect_to_private_addresses(host):
    async with serve(saying("{}")) as server, new_http_client(only_public=True) as http:
        endpoint = make_endpoint(server.url.replace("127.0.0.1", host))
        with pytest.raises(UpstreamUnreachable) as caught:
            await get_json(http, endpoint, "/card")
        assert caught.value.code == "address_refused"
        assert caught.value.fields["host"] == endpoint.host
        assert server.asked == []


async def test_a_name_that_changes_its_address_is_still_refused(monkeypatch):
    """What counts is the address that is connected to, not one looked up before."""
    answers = iter(["93.184.216.34", "127.0.0.1"])

    async def resolve(self, host, port=0, family=socket.AF_INET):
        found = {"hostname": host, "host": next(answers), "port": port}
        return [{**found, "family": family, "proto": 0, "flags": 0}]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    assert is_public(next(answers))
    async with serve(saying("{}")) as server, new_http_client(only_public=True) as http:
        endpoint = make_endpoint(server.url.replace("127.0.0.1", "rebound.example"))
        with pytest.raises(UpstreamUnreachable) as caught:
            await get_json(http, endpoint, "/card")
        assert caught.value.code == "address_refused"
        assert server.asked == []


async def test_the_public_client_uses_no_proxy(monkeypatch):
    """A proxy would be the only address that we see."""
    async with serve(saying("{}")) as proxy, new_http_client(only_public=True) as http:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(UpstreamUnreachable):
            await get_json(http, make_endpoint("http://127.0.0.1:9/"), "")
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("url", "trusted", "denied"),
    [
        ("http://agents.lan:9000/a", True, False),
        ("https://AGENTS.LAN./a", True, False),
        ("http://deep.in.lab.example/", True, False),
        ("http://bad.example/", False, True),
        ("http://other.example/", False, False),
        ("http://agents.lan@other.example/", False, False),
        ("file:///etc/passwd", False, True),
        ("gopher://agents.lan/", True, True),
    ],
)
def test_rules_for_hosts(url, trusted, denied):
    rules = HostRules(("agents.lan", "*.lab.example"), ("bad.example",))
    assert (rules.trusts(url), rules.denies(url)) == (trusted, denied)


def test_denying_all_hosts_leaves_those_that_are_named():
    rules = HostRules(("agents.lan",), ("*",))
    assert not rules.denies("http://agents.lan/")
    assert rules.denies("http://other.example/")

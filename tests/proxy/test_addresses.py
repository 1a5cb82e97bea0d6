"""Which addresses are reachable by everybody, in all the ways an address can be written."""

from __future__ import annotations

import pytest

from proxy.addresses import is_address, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "nothing", "",
    ],
)  # fmt: skip
def test_what_not_everybody_reaches_is_never_connected_to(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::6810:84e5", "64:ff9b::808:808"])
def test_the_open_internet_is_reached(address):
    assert is_public(address)


def test_an_address_is_no_name():
    assert all(map(is_address, ("127.0.0.1", "::1")))
    assert not any(map(is_address, ("hooks.example", "", "127.0.0.1.example")))

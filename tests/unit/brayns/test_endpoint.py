from __future__ import annotations

import ssl

import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.errors import InvalidSetting


@pytest.mark.parametrize(
    "text", ["r1i1n0:5000", "10.0.0.7:1", "r1i1n0.site.example.org:65535", "[::1]:5000", "[fe80::7]:80"]
)
def test_an_endpoint_is_spelled_as_it_was_read(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


def test_an_address_of_ipv6_stands_in_brackets_in_text_only() -> None:
    assert Endpoint.parse("[::1]:5000") == Endpoint("::1", 5000)
    assert f"{Endpoint('::1', 5000)}" == "[::1]:5000"


def test_what_stands_around_it_does_not_count() -> None:
    assert Endpoint.parse(" h:00080\n") == Endpoint("h", 80)


@pytest.mark.parametrize("bad", ["", "host", "host:", "host:0", "host:99999", "a b:5", "http://x:5", None, 7])
def test_what_is_no_endpoint_is_refused_by_its_name(bad: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^endpoint: write host:port, such as .*\n.* is not that"):
        Endpoint.parse(bad)


@pytest.mark.parametrize(
    "bad", ["a..b:5", ".:5", "x" * 64 + ":5", "h:٣", "h:5\n5", "a." * 130 + "b:5", f"[1{'0' * 64}]:5", "[127.0.0.1]:5"]
)
def test_an_endpoint_is_a_name_that_can_be_looked_up(bad: str) -> None:
    """Python's IDNA codec fails on such names with a UnicodeError, in the middle of a probe."""
    with pytest.raises(InvalidSetting, match="endpoint"):
        Endpoint.parse(bad)


def test_a_port_that_leads_to_a_service_keeps_what_its_clients_need() -> None:
    tls = ssl.create_default_context()
    near = Endpoint("r1i1n0", 5000, tls).at(4711)
    assert (str(near), near.ssl_context) == ("127.0.0.1:4711", tls)


def test_two_of_one_place_are_the_same_whatever_their_tls() -> None:
    """A TLS context has no value to be compared by."""
    assert Endpoint("h", 5, ssl.create_default_context()) == Endpoint("h", 5)

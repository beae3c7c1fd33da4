from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

pytest.importorskip("weaviate")

from tercet.core.schema import InputError
from tercet.retrieval.weaviate.address import grpc_of, parse_url, with_port
from tercet.retrieval.weaviate.client import check_name, weaviate_name


@given(st.text())
def test_any_text_becomes_a_name_that_is_taken_and_stays(text: str) -> None:
    name = weaviate_name(text)
    check_name(name)
    assert weaviate_name(name) == name or name.endswith("_") or "__" in name


@pytest.mark.parametrize("name", ["", "quickstart", "My-run", "1st", "A" * 300, "Ünit"])
def test_a_bad_name_is_refused_with_a_good_one(name: str) -> None:
    with pytest.raises(InputError, match="use '[A-Z]"):
        check_name(name)


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080/", "http://localhost:8080"),
        ("https://example.org", "https://example.org:443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("xyz.weaviate.network", "https://xyz.weaviate.network:443"),
        (
            "xyz.c0.europe-west3.gcp.weaviate.cloud",
            "https://xyz.c0.europe-west3.gcp.weaviate.cloud:443",
        ),
        ("https://xyz.weaviate.network:8443/", "https://xyz.weaviate.network:8443"),
    ],
)
def test_a_url_is_read(url: str, parsed: str) -> None:
    assert parse_url(url).geturl() == parsed
    assert with_port(parse_url(url), 1).geturl() == parsed.rpartition(":")[0] + ":1"


@pytest.mark.fault("collections as teams have them")
@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:50051"),
        ("https://weaviate.example.org", "https://weaviate.example.org:50051"),
        ("https://xyz.weaviate.network", "https://xyz.grpc.weaviate.network:443"),
        ("xyz.weaviate.network:443", "https://xyz.grpc.weaviate.network:443"),
        ("https://a.c0.gcp.weaviate.cloud", "https://grpc-a.c0.gcp.weaviate.cloud:443"),
    ],
)
def test_grpc_has_a_host_of_its_own_in_the_cloud(url: str, address: str) -> None:
    assert grpc_of(parse_url(url)).geturl() == address


@pytest.mark.parametrize(
    "url", ["", "ftp://host:1", "http://:80", "http://host:99999", "http://host/v1", "http://h?a=1"]
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="give http"):
        parse_url(url)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(InputError) as refused:
        parse_url("http://user:hunter2@host:8080")
    assert "hunter2" not in str(refused.value)

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

pytest.importorskip("weaviate")

from tercet.core.schema import InputError
from tercet.retrieval.weaviate.address import parse_url, with_port
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
    ],
)
def test_a_url_is_read(url: str, parsed: str) -> None:
    assert parse_url(url).geturl() == parsed
    assert with_port(parse_url(url), 1).geturl() == parsed.rpartition(":")[0] + ":1"


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

"""The studio answers whoever has its token, from its own page, to requests of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("gradio")
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from tercet.config.parsing import parse_yaml
from tercet.core.schema import InputError
from tercet.studio.guard import LARGEST, Guard

pytestmark = pytest.mark.fault("the studio from elsewhere")
HOST = "127.0.0.1:7860"


def app() -> FastAPI:
    answering = FastAPI()

    @answering.get("/{path:path}")
    def get(path: str) -> str:
        return path

    @answering.post("/{path:path}")
    async def post(path: str, request: Request) -> int:
        return len(await request.body())

    return answering


@pytest.fixture
def guard() -> Guard:
    return Guard(app(), 7860, ["studio.example.org"])


@pytest.fixture
def client(guard: Guard) -> Iterator[TestClient]:
    with TestClient(guard, base_url=f"http://{HOST}", follow_redirects=False) as client:
        yield client


def test_the_address_with_the_token_opens_it_and_loses_the_token(
    guard: Guard, client: TestClient
) -> None:
    assert client.get("/page").status_code == 403
    opened = client.get(f"/page?a=1&token={guard.token}")
    assert (opened.status_code, opened.headers["location"]) == (303, "/page?a=1")
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert client.get("/page").json() == "page"
    assert client.post("/page", content=b"xy").json() == 2


@pytest.mark.parametrize("path", ["//elsewhere.example", "/\\elsewhere.example"])
def test_it_redirects_to_no_other_host(guard: Guard, client: TestClient, path: str) -> None:
    opened = client.get(f"http://{HOST}{path}?token={guard.token}")
    assert opened.headers["location"].lstrip("/").count("/") == 0
    assert not opened.headers["location"].startswith(("//", "/\\", "http"))


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer x", "Basic x", "Bearer \u00e9"])
def test_another_token_opens_nothing(guard: Guard, client: TestClient, sent: str) -> None:
    given = {"Authorization": sent.encode()}
    for response in (client.get("/x", headers=given), client.post("/x", headers=given)):
        assert response.status_code == 403 and guard.token not in response.text
    assert client.get("/x?token=x").status_code == 403
    other = {"Cookie": f"tercet-7861={guard.token}"}
    assert client.get("/x", headers=other).status_code == 403


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"Origin": f"http://{HOST}"}, 200),
        ({"Origin": "https://studio.example.org"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_requests_of_other_sites_are_refused(
    guard: Guard, client: TestClient, headers: dict[str, str], code: int
) -> None:
    headers = headers | {"Authorization": f"Bearer {guard.token}"}
    for path in ("/gradio_api/upload", "/gradio_api/queue/join"):
        assert client.post(path, content=b"x", headers=headers).status_code == code
        assert client.put(path, content=b"x", headers=headers).status_code in (405, code)


def test_a_request_is_of_bounded_size(guard: Guard, client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {guard.token}"}
    blocks = [b"x" * (LARGEST // 4)] * 4
    assert client.post("/x", content=iter(blocks), headers=headers).json() == LARGEST
    assert client.post("/x", content=iter([*blocks, b"x"]), headers=headers).status_code == 413


def test_a_megabyte_of_yaml_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="at most 100,000 characters"):
        parse_yaml("[a, b]" * 170_000, "--training", lines=False)

"""Who may come in, and to what: the door alone, without the page behind it."""

import base64
from pathlib import Path

import httpx
import pytest

from pride_mm.serving.page.door import Door

FILES = Path("/private/folder")
HOSTS = ("127.0.0.1", "localhost")


async def _inside(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """Reads its request, and says that somebody has come in."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    if scope["path"] == "/assets/broken":
        raise ValueError("a quokka was sent")
    well = message["type"] == "http.request"
    await send({"type": "http.response.start", "status": 200 if well else 400, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def ask(door: Door, method: str = "GET", path: str = "/", body: bytes = b"", **headers: str) -> httpx.Response:
    import asyncio

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://127.0.0.1") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, content=body, headers=named)

    return asyncio.run(asked())


@pytest.fixture
def door() -> Door:
    return Door(_inside, FILES, None, HOSTS, 1)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", "/assets/index-Dphv.js"),
        ("GET", f"/gradio_api/file={FILES}/ab/clip.mp4"),
        ("GET", "/gradio_api/heartbeat/abc123"),
        ("GET", "/gradio_api/queue/data?session_hash=a"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/upload"),
    ],
)
def test_what_the_page_needs_is_answered(door: Door, method: str, path: str) -> None:
    reply = ask(door, method, path)
    assert (reply.status_code, reply.text) == (200, "in")
    assert "no therapist" in reply.headers["pride-notice"]
    assert "default-src 'self'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", f"/gradio_api/file={FILES}/../passwd"),
        ("GET", "/gradio_api/file=http://127.0.0.1:9/"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1:9/"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/vibe-code"),
        ("GET", "/monitoring"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/call/say"),
        ("POST", "/gradio_api/run-history/connect"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/login"),
        ("DELETE", "/"),
    ],
)
def test_all_else_that_gradio_can_do_is_closed(door: Door, method: str, path: str) -> None:
    reply = ask(door, method, path)
    assert (reply.status_code, reply.text) == (404, "Not found.\n")


def test_other_names_and_other_pages_do_not_come_in(door: Door) -> None:
    assert ask(door, host="evil.example").status_code == 421
    assert ask(door, host="localhost:7860").status_code == 200
    join = "/gradio_api/queue/join"
    assert ask(door, "POST", join, origin="http://evil.example").status_code == 403
    assert ask(door, "POST", join, origin="null").status_code == 403
    assert ask(door, "POST", join, origin="http://127.0.0.1").status_code == 200


def test_only_who_has_the_key_comes_in() -> None:
    door = Door(_inside, FILES, "the key", None, 1)

    def given(text: bytes, kind: str = "Basic") -> httpx.Response:
        return ask(door, authorization=f"{kind} {base64.b64encode(text).decode()}")

    assert given(b"anybody:the key").status_code == 200
    assert ask(door, authorization="Basic !").status_code == 401
    for reply in (ask(door), given(b"anybody:wrong"), given(b"the key"), given(b"anybody:the key", "Bearer")):
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Basic ")
        assert reply.text.startswith("The password is the key")


def test_what_is_too_large_is_refused_and_what_comes_late(door: Door) -> None:
    upload = "/gradio_api/upload"
    assert ask(door, "POST", upload, b"x" * (1 << 20)).status_code == 200
    assert ask(door, "POST", upload, b"x" * ((1 << 20) + 1)).text == "1 MiB are allowed.\n"
    assert ask(door, "POST", upload, b"x" * ((1 << 20) + 1), content_length="5").status_code == 400  # it lies
    door.draining = True
    assert (ask(door).status_code, ask(door).text) == (503, "This page is stopping.\n")


def test_of_an_error_its_place_is_logged_only(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(door, path="/assets/broken").status_code == 500
    assert "ValueError < _inside" in caplog.text
    assert "quokka" not in caplog.text

"""``pride serve``: OpenAI's own client talks to a real process, and what anybody sends leaves it alive."""

import base64
import io
import json
import os
import signal
import subprocess
import threading
import time
import wave
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest

from pride_mm.media import encode_flac, read_audio
from pride_mm.schema import Role, load_schema
from pride_mm.serving.predictor import Predictor
from pride_mm.serving.request import read_request
from tests.pride_mm.serving.served import Served, served

KEY = "a-key-of-the-tests"
SAID = "Once upon a time my quokka was ill."
ASK = [{"role": "user", "content": SAID}]
TURNS = [{"speaker": "user", "text": SAID}]


@pytest.fixture(scope="module")
def server(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = ("--max-mib", "3", "--max-clip", "30", "--max-tokens", "24", "--timeout", "200")
    with served(artifact, tmp_path_factory.mktemp("served"), *limits, key=KEY) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=200)


@pytest.fixture(scope="module")
def http(server: Served) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url.removesuffix("/v1"), headers=headers, timeout=200) as made:
        yield made


def ask(http: httpx.Client, content: Any = SAID, **more: Any) -> httpx.Response:
    body = {"model": "artifact", "messages": [{"role": "user", "content": content}], "max_tokens": 6, **more}
    return http.post("/v1/chat/completions", json=body)


def clip_part(data: bytes, name: str = "mp4") -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": f"data:video/{name};base64,{base64.b64encode(data).decode()}"}}


def sound_part(data: bytes, name: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": name}}


def sure(targets: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Of what a reply says of the heads, what ``predict`` would say."""
    return {head: pytest.approx(max(shares.values()), abs=1e-4) for head, shares in targets.items()}


def test_the_official_client_talks_to_it_streaming_and_not(client: openai.OpenAI, predictor: Predictor) -> None:
    whole = client.chat.completions.create(model="artifact", messages=ASK, max_tokens=12)
    alone = predictor.answer(read_request(predictor.request, {"dialogue": TURNS}), 12)
    assert whole.choices[0].message.content == alone.text
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.completion_tokens <= 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert sure(whole.pride["targets"]) == {head: share for head, (_, share) in alone.targets.items()}
    assert set(whole.pride["sources"]) == {"dialogue summary"}
    stream = client.chat.completions.create(
        model="artifact", messages=ASK, max_completion_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    *pieces, last, counted = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == alone.text
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.pride == whole.pride
    assert (counted.choices, counted.usage) == ([], whole.usage)
    assert len(pieces) > 3


def test_a_stream_is_written_as_openai_writes_it(http: httpx.Client) -> None:
    reply = ask(http, stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = reply.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_a_clip_and_a_sound_are_seen_and_heard_as_predict_does(
    client: openai.OpenAI, predictor: Predictor, clip: Path, tmp_path: Path
) -> None:
    seen = client.chat.completions.create(
        model="artifact",
        messages=[{"role": "user", "content": [{"type": "text", "text": SAID}, clip_part(clip.read_bytes())]}],
        max_tokens=8,
    )
    given = {"dialogue": TURNS, "video": str(clip), "audio": str(clip)}
    alone = predictor.answer(read_request(predictor.request, given), 8)
    assert seen.choices[0].message.content == alone.text
    assert sure(seen.pride["targets"]) == {head: share for head, (_, share) in alone.targets.items()}
    assert seen.pride["media"] == ["audio", "video"]
    assert set(seen.pride["sources"]) == {"video", "audio", "dialogue summary"}
    wav = tmp_path / "said.wav"
    wav.write_bytes(wave_of(read_audio(clip.read_bytes(), 16000, 2.0).numpy()))
    heard = client.chat.completions.create(
        model="artifact",
        messages=[{"role": "user", "content": [{"type": "text", "text": SAID}, sound_part(wav.read_bytes())]}],
        max_tokens=8,
    )
    alone = predictor.answer(read_request(predictor.request, {"dialogue": TURNS, "audio": str(wav)}), 8)
    assert sure(heard.pride["targets"]) == {head: share for head, (_, share) in alone.targets.items()}
    assert heard.pride["media"] == ["audio"]


def test_chance_has_a_seed(http: httpx.Client) -> None:
    def say(**how: Any) -> str:
        return str(ask(http, **how, max_tokens=16).json()["choices"][0]["message"]["content"])

    wild = {"temperature": 1.5, "top_p": 0.95}
    assert say(**wild, seed=3) == say(**wild, seed=3)
    assert len({say(**wild, seed=seed) for seed in range(4)}) > 1
    assert say(temperature=0) == say() == say(temperature=1.5, top_p=1e-6)


def test_models_health_metrics_and_the_notice(client: openai.OpenAI, http: httpx.Client) -> None:
    (card,) = client.models.list()
    assert card.id == "artifact"
    assert "no therapist" in card.pride["notice"]
    assert client.models.retrieve("artifact") == card
    assert "no therapist" in http.get("/health").headers["pride-notice"]
    assert "no therapist" in ask(http).headers["pride-notice"]
    page = http.get("/metrics").text
    for name in ("pride_requests_total{", "pride_request_seconds_bucket{", "pride_batch_size_bucket{", "pride_queue "):
        assert name in page
    assert 'pride_tokens_total{kind="written"}' in page


def test_who_is_in_danger_gets_the_referral(client: openai.OpenAI, predictor: Predictor) -> None:
    assert predictor.safety is not None
    asked = {"model": "artifact", "messages": [{"role": "user", "content": "I want to kill myself."}]}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == predictor.safety.referral.text.strip()
    assert whole.pride["concern"] == "suicide"
    said = "".join(
        piece.choices[0].delta.content or "" for piece in client.chat.completions.create(**asked, stream=True)
    )
    assert said == whole.choices[0].message.content


def test_only_who_has_the_key_comes_in(server: Served) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": KEY},
        {"Authorization": "Bearer ü".encode()},
    ):
        for path in ("/v1/models", "/metrics", "/nothing"):
            reply = httpx.get(server.url.removesuffix("/v1") + path, headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert httpx.get(server.url.removesuffix("/v1") + "/health").status_code == 200
    with pytest.raises(openai.AuthenticationError, match="Authorization: Bearer KEY"):
        openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0).models.list()


def error_of(reply: httpx.Response, status: int = 400) -> str:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    assert "quokka" not in reply.text
    return str(error["message"])


@pytest.mark.parametrize("name", [field.name for field in load_schema("pride").field if field.role is not Role.INPUT])
def test_what_is_no_input_is_refused_by_name(http: httpx.Client, name: str) -> None:
    note = "the quokka has died"
    for more in ({name: note}, {"pride": {name: note}}, {"messages": [{**ASK[0], name: note}]}):
        said = error_of(ask(http, **more))
        assert f"'{name}' is" in said
        assert "What experts note exists in training only" in said


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"model": "gpt-9"}, 404, "There is no such model here; there is 'artifact'"),
        ({"max_tokens": 25}, 400, "at most 24 tokens here, not 25"),
        ({"n": 2}, 400, "n: Input should be 1"),
        ({"tools": [{"quokka": 1}]}, 400, "'tools' is not supported"),
        ({"logprobs": True}, 400, "logprobs: Input should be False"),
        ({"temperature": 3}, 400, "temperature: Input should be less than or equal to 2"),
        ({"messages": []}, 400, "messages: List should have at least 1 item"),
        ({"messages": [*ASK, {"role": "assistant", "content": "I see."}]}, 400, "must be one of the user"),
        ({"messages": [{"role": "quokka", "content": "Hi"}]}, 400, "messages.0.role: Input should be 'system'"),
        ({"messages": [{"role": "user", "content": "quokka " * 4000}]}, 400, "28,000 characters; 20,000 are allowed"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "The last message is empty"),
    ],
)
def test_what_cannot_be_done_is_refused(http: httpx.Client, more: dict[str, Any], status: int, said: str) -> None:
    assert said in error_of(ask(http, **more), status)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            "image_url and others are not taken",
        ),
        ({"type": "video_url", "video_url": {"url": "http://127.0.0.1:9/quokka"}}, "nothing is fetched"),
        ({"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}, "nothing is fetched"),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4,quokka"}}, "nothing is fetched"),
        (sound_part(b"quokka", "exe"), "'exe' is no format of audio that is taken"),
        ({"type": "input_audio", "input_audio": {"data": "not base64!", "format": "wav"}}, "The audio is no base64"),
        (sound_part(b""), "The audio is empty"),
        (clip_part(b""), "The video is empty"),
    ],
)
def test_parts_that_are_not_taken(http: httpx.Client, part: dict[str, Any], said: str) -> None:
    assert said in error_of(ask(http, [{"type": "text", "text": SAID}, part]))


def test_what_is_no_request_at_all(http: httpx.Client) -> None:
    url, kind = "/v1/chat/completions", {"content-type": "application/json"}
    for body in (b"", b"{", b"quokka", b"[" * 100_000, b'{"model": "\xff"}'):
        assert error_of(http.post(url, content=body, headers=kind)) == "The body is no JSON."
    assert "an object" in error_of(http.post(url, content=b"[]", headers=kind))
    assert "is application/json" in error_of(http.post(url, content=b"{}", headers={"content-type": "text/plain"}), 415)
    squeezed = {**kind, "content-encoding": "gzip"}
    assert "not compressed" in error_of(http.post(url, content=b"{}", headers=squeezed), 415)
    assert error_of(http.get(url), 405) == "Method Not Allowed."
    assert error_of(http.get("/v1/quokkas"), 404) == "Not Found."
    large = b'{"model": "' + b"quokka" * 700_000
    assert "larger than the 3 MiB" in error_of(http.post(url, content=large, headers=kind), 413)

    def parts() -> Iterator[bytes]:
        yield large[:1000]
        yield large[1000:]

    assert "larger than the 3 MiB" in error_of(http.post(url, content=parts(), headers=kind), 413)


def wave_of(sound: Any, rate: int = 16000) -> bytes:
    """Sound as a WAV of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setparams((1, 2, rate, 0, "NONE", ""))
        made.writeframes((sound * 32767).astype("<i2").tobytes())
    return file.getvalue()


def _black(width: int, height: int, seconds: int) -> bytes:
    """A clip of one black picture a second: an hour of it is a few kilobytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as made:
        stream = made.add_stream("libx264", rate=1, options={"preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for number in range(seconds):
            frame.pts = number
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return file.getvalue()


def _zipped(data: bytes) -> bytes:
    """Both a clip and an archive."""
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("quokka.html", "<script>alert(1)</script>")
    return file.getvalue()


@pytest.fixture(scope="module")
def bad(clip: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Uploads that no server should trust, and what is said of them."""
    good = clip.read_bytes()
    tone = wave_of(np.sin(np.arange(16000) / 8) / 2)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    return {
        "truncated": (clip_part(good[: len(good) // 2]), "cannot be read"),
        "zeros": (clip_part(bytes(20_000)), "cannot be read"),
        "hour of pictures": (clip_part(_black(64, 64, 3600)), "lasts 3600 s; 30 s are allowed"),
        "hour of sound": (
            sound_part(encode_flac(np.zeros(3600 * 8000, np.float32), 8000), "flac"),
            "lasts 3600 s; 30 s are allowed",
        ),
        "8K": (clip_part(_black(7680, 4320, 1)), "has 7680x4320 pixels"),
        "sound as a clip": (clip_part(tone, "webm"), "is not what it is said to be: wav, not matroska"),
        "clip as a sound": (sound_part(good), "is not what it is said to be: mp4, not wav"),
        "archive besides": (clip_part(_zipped(good)), "is something else besides"),
        "page besides": (sound_part(tone[:44] + b"<html><script>" + tone[58:]), "is something else besides"),
        "playlist": (clip_part(playlist), "is something else besides"),
        "bomb": (clip_part(_bomb(good)), "cannot be read"),
    }


def _bomb(good: bytes) -> bytes:
    """A clip whose tables say that they hold four thousand million samples of as many bytes."""
    data = bytearray(good)
    for name in (b"stsz", b"stts", b"stsc", b"stco"):
        place = data.find(name)
        while place >= 0:
            data[place + 8 : place + 16] = b"\xff" * 8
            place = data.find(name, place + 4)
    return bytes(data)


BAD = [
    "truncated", "zeros", "hour of pictures", "hour of sound", "8K", "sound as a clip", "clip as a sound",
    "archive besides", "page besides", "playlist", "bomb",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_uploads_that_nobody_should_trust(
    http: httpx.Client, bad: dict[str, tuple[dict[str, Any], str]], name: str
) -> None:
    part, said = bad[name]
    begun = time.monotonic()
    assert said in error_of(ask(http, [{"type": "text", "text": SAID}, part]))
    assert time.monotonic() - begun < 30
    assert ask(http).status_code == 200  # it lives
    assert set(BAD) == set(bad)


def _decoders(server: Served) -> list[int]:
    """The processes that decode: the children of the process that forks them, which has no other."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    forks = {int(pid) for pid, parent, args in rows if int(parent) == server.process.pid and "forkserver" in args}
    return [int(pid) for pid, parent, _ in rows if int(parent) in forks]


def test_killed_decoders_are_replaced(server: Served, http: httpx.Client, clip: Path) -> None:
    assert ask(http, [clip_part(clip.read_bytes())]).status_code == 200  # one is there at least
    before = _decoders(server)
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for _ in range(3):
        answer = ask(http, [clip_part(clip.read_bytes())])
        assert answer.status_code == 200, answer.text
    assert not set(before) & set(_decoders(server))
    assert "pride_decoder_restarts 0" not in http.get("/metrics").text


def test_side_by_side_they_answer_as_alone(server: Served, http: httpx.Client) -> None:
    said = [f"Once upon a time there were {number} dogs" + " and a cat" * number for number in range(8)]
    alone = [ask(http, text, max_tokens=12).json()["choices"][0]["message"]["content"] for text in said]
    found: dict[int, str] = {}

    def one(number: int) -> None:
        with httpx.Client(base_url=http.base_url, headers=http.headers, timeout=60) as mine:
            found[number] = ask(mine, said[number], max_tokens=12).json()["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(8)] == alone
    sizes = [line for line in http.get("/metrics").text.splitlines() if line.startswith("pride_batch_size_bucket")]
    batches = {line.partition('le="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in sizes}
    assert batches["+Inf"] > batches["1.0"]  # some were answered side by side


def test_nothing_that_was_sent_is_in_the_log(server: Served, http: httpx.Client) -> None:
    """After all that is above: what was said, refused, broken."""
    ask(http, "A numbat in the log?", stream=True)
    http.get("/numbat?said=numbat")
    log = server.log.lower()
    assert "served at" in log
    for word in ("quokka", "numbat", "once upon", KEY, "127.0.0.1:9", "traceback"):
        assert word not in log, log


def _until(found: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_past_its_limits_it_says_when_to_come_again_and_it_stops_in_peace(artifact: Path, tmp_path: Path) -> None:
    body = {"model": "artifact", "messages": ASK, "stream": True, "max_tokens": 380}
    limits = ("--concurrent", "1", "--max-tokens", "380")
    with served(artifact, tmp_path, *limits) as made, httpx.Client(base_url=made.url, timeout=60) as http:
        assert http.get("/models", headers={"host": "evil.example"}).status_code == 421
        with http.stream("POST", "/chat/completions", json=body) as first:
            lines = first.iter_lines()
            next(lines)
            second = http.post("/chat/completions", json=body)
            assert (second.status_code, second.headers["retry-after"]) == (429, "1")
            assert second.json()["error"]["type"] == "rate_limit_error"
            made.process.send_signal(signal.SIGTERM)
            _until(lambda: http.get("/models").status_code == 503)
            third = http.post("/chat/completions", json=body)
            assert (third.status_code, third.json()["error"]["message"]) == (503, "This server is stopping.")
            said = [line for line in lines if line]
        assert said[-1] == "data: [DONE]"
        assert json.loads(said[-2].removeprefix("data: "))["choices"][0]["finish_reason"] in ("stop", "length")
        assert made.process.wait(60) == 0
    assert "Traceback" not in made.log

"""``pride app`` as people use it: in a headless Chromium, on a real process, with a camera and a microphone that the
browser makes up. The page asks nothing of anybody beyond this machine: each request is looked at.

With PRIDE_SCREENSHOTS=folder there are pictures of it.
"""

import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch

from pipelines.cli import run
from pride_mm.schema import Role, Schema, load_schema
from pride_mm.serving.export import export
from pride_mm.serving.predictor import Predictor
from pride_mm.serving.request import read_request
from pride_mm.student import Student, save_student
from pride_mm.student.backbone import load_backbone
from tests.browser import headless
from tests.pride_mm.serving.served import Served, started

pytest.importorskip("gradio", reason="the page is an extra")
pytestmark = pytest.mark.browser
SAID, THEN = "Once upon a time my quokka was ill.", "It is well again."
TOKENS = 8
PAGE = r"page is at (http\S+/)"
KEY = "a-key-of-the-tests"
SECONDS = 60_000  # as Playwright counts them: a decoder that starts takes its time
FAKE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless(*FAKE) as running:
        yield running


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    """A student that only reads, says other things, and may be told a topic."""
    fields = [
        {"name": "talk", "kind": "dialogue", "role": "input"},
        {"name": "topic", "kind": "choice", "role": "input", "options": ["work", "home"]},
        {"name": "note", "kind": "text", "role": "privileged", "step": "situation", "guideline": "What happened?"},
        {"name": "mood", "kind": "choice", "role": "target", "options": ["up", "down"]},
        {"name": "reply", "kind": "text", "role": "target", "step": "response", "required": True},
    ]
    backbone, tokenizer = load_backbone(small_model)
    torch.manual_seed(1)
    student = Student.from_backbone(backbone, Schema.model_validate({"name": "words", "field": fields}), layers=3)
    student.config.max_context = 96
    folder = tmp_path_factory.mktemp("other")
    save_student(folder / "student", student, tokenizer)
    return export(folder / "student", folder / "lynx", ["note"])


def app(work: Path, *arguments: Path | str, key: str | None = None) -> Any:
    given = [str(argument) for argument in arguments]
    return started(["app", *given, "--port", "0", "--max-tokens", str(TOKENS), "--max-clip", "30"], PAGE, work, key)


@pytest.fixture(scope="module")
def one(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with app(tmp_path_factory.mktemp("one"), artifact) as made:
        yield made


@pytest.fixture(scope="module")
def two(artifact: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    work = tmp_path_factory.mktemp("two")
    shutil.copytree(artifact, work / "ibex")
    with app(work, work / "ibex", other, "--votes", work / "votes.jsonl", key=KEY) as made:
        yield made


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens the page of a server; afterwards no request has left it."""
    contexts, strayed = [], []

    def open_page(server: Served, width: int = 1280, height: int = 800, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            permissions=["camera", "microphone"],
            http_credentials={"username": "anybody", "password": KEY},
        )
        context.set_default_timeout(SECONDS)
        contexts.append(context)
        ours = (server.url, "data:", f"blob:{server.url}")
        context.on("request", lambda asked: None if asked.url.startswith(ours) else strayed.append(asked.url))
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("#pride-box textarea, .pride-hint")
        assert "no therapist" in page.inner_text("[role=note]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert strayed == []


def say(page: Any, line: str = "") -> None:
    page.fill("#pride-box textarea", line)
    page.press("#pride-box textarea", "Enter")


def until(page: Any, selector: str, text: str, number: int = -1) -> None:
    """Wait for a text on the page."""
    from playwright.sync_api import expect

    expect(page.locator(selector).nth(number)).to_have_text(text, timeout=SECONDS)


def attach(page: Any, path: Path) -> None:
    page.set_input_files("#pride-box input[type=file]", str(path))
    page.wait_for_selector("#pride-box .thumbnail-item")


def reading(page: Any) -> dict[str, int]:
    """The bars on the page: percent by label."""
    rows = page.locator(".pride-reading li").all_inner_texts()
    return {row.split("\n")[0]: int(re.findall(r"(\d+) %", row)[0]) for row in rows}


def read_after(page: Any, source: str) -> dict[str, int]:
    """The bars of the answer in which the student looked at ``source``."""
    bars = f"[...document.querySelectorAll('.pride-reading li')].some(e => e.innerText.includes('{source}'))"
    page.wait_for_function(f"{bars} || document.querySelector('[role=alert]')")
    assert page.locator("[role=alert]").all_inner_texts() == []
    return reading(page)


def alone(predictor: Predictor, *lines: str, **others: str) -> str:
    """What a student answers to the last of some lines, in the words of ``predict``."""
    turns: list[dict[str, str]] = []
    text = ""
    for number, line in enumerate(lines, 1):
        turns.append({"speaker": "you", "text": line})
        given = {predictor.schema.dialogue.name: turns, **(others if number == len(lines) else {})}
        text = predictor.answer(read_request(predictor.request, given), TOKENS).text
        turns.append({"speaker": "student", "text": text})
    return text


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("PRIDE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_talk_its_answers_and_what_was_read(one: Served, opened: Open, predictor: Predictor) -> None:
    page = opened(one)
    say(page, SAID)
    until(page, "[data-testid=bot]", alone(predictor, SAID))
    bars = read_after(page, "dialogue summary")
    reads = predictor.read(read_request(predictor.request, {"dialogue": [{"speaker": "you", "text": SAID}]}))
    for head in predictor.schema.heads:
        for label, share in reads.targets[head.name].items():
            assert bars[label] == pytest.approx(100 * share, abs=1) or label == "neutral"  # of emotion and sentiment
        assert head.label in page.inner_text(".pride-reading")
    assert set(bars) >= {"dialogue summary", "nothing"}
    assert "video" not in bars
    say(page, THEN)  # the talk goes on
    until(page, "[data-testid=bot]", alone(predictor, SAID, THEN))
    picture(page, "app")
    page.click("#pride-reset")
    page.wait_for_selector("[data-testid=bot]", state="detached")
    assert page.locator(".pride-reading li").count() == 0
    say(page, THEN)
    until(page, "[data-testid=bot]", alone(predictor, THEN))
    for field in load_schema("pride").field:
        if field.role is Role.PRIVILEGED:
            assert field.name not in page.content()
            assert field.label not in page.content()


def test_what_is_said_is_text(one: Served, opened: Open) -> None:
    page = opened(one)
    markup = "<img src=x onerror='window.ran=1'> **bold** <script>window.ran=1</script>"
    say(page, markup)
    until(page, "[data-testid=user]", markup)
    assert page.locator("[data-testid=user] :is(img, b, strong, script)").count() == 0
    assert page.evaluate("window.ran") is None


def test_a_clip_is_seen_and_heard(one: Served, opened: Open, predictor: Predictor, clip: Path) -> None:
    page = opened(one)
    attach(page, clip)
    say(page, SAID)
    until(page, "[data-testid=user]", f"{SAID}\n[a clip]")
    until(page, "[data-testid=bot]", alone(predictor, SAID, video=str(clip), audio=str(clip)))
    assert set(read_after(page, "video")) >= {"video", "audio", "dialogue summary", "nothing"}
    assert page.locator("#pride-box .thumbnail-item").count() == 0


def test_the_microphone_and_the_camera(one: Served, opened: Open) -> None:
    page = opened(one)
    page.click("#pride-box [data-testid=microphone-button]")
    page.click("#pride-box .record-button")
    page.wait_for_timeout(2500)
    page.click("#pride-box .stop-button")
    page.click("#pride-box [aria-label='Attach audio']")
    page.wait_for_selector("#pride-box .thumbnail-item, #pride-box audio")
    page.click("#pride-box [data-testid=submit-button]")
    until(page, "[data-testid=user]", "[a sound]")
    assert "video" not in read_after(page, "audio")
    page.click("#pride-open-camera")
    page.click("#pride-camera button")
    page.wait_for_function("document.querySelector('[data-testid=webcam-video]')?.currentTime > 0.5")
    page.click("#pride-camera [aria-label='start recording']")
    page.wait_for_timeout(2500)  # a busy machine records nothing of a shorter time
    page.click("#pride-camera [aria-label='start recording']")
    page.wait_for_selector("#pride-camera [aria-label=Clear]")
    picture(page, "app-camera")
    say(page, "Look at me.")
    assert set(read_after(page, "video")) >= {"video", "audio"}
    until(page, "[data-testid=user]", "Look at me.\n[a clip]")
    page.wait_for_selector("#pride-camera", state="hidden")


def test_what_cannot_be_read_is_said_in_a_line(one: Served, opened: Open, clip: Path, tmp_path: Path) -> None:
    from tests.pride_mm.serving.test_server import _black

    page = opened(one)
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (tmp_path / "long.mp4").write_bytes(_black(64, 64, 3600))
    (tmp_path / "other.webm").write_bytes(clip.read_bytes())
    for name, why in (
        ("half.mp4", "The video cannot be read: it "),
        ("long.mp4", "The video cannot be read: it lasts 3600 s; 30 s are allowed."),
        ("other.webm", "The video cannot be read: it is not what it is said to be: mp4, not matroska."),
    ):
        attach(page, tmp_path / name)
        say(page, SAID)
        page.wait_for_function(f"(document.querySelector('[role=alert]')?.innerText ?? '').startsWith('{why}')")
        assert "\n" not in page.inner_text("[role=alert]")
        assert page.input_value("#pride-box textarea") == SAID  # it can be said again, without the clip
    picture(page, "app-refused")
    assert page.locator("[data-testid=user]").count() == 0
    page.press("#pride-box textarea", "Enter")
    page.wait_for_selector(".pride-reading li")
    assert page.locator("[role=alert]").count() == 0


def test_who_is_in_danger_gets_the_referral(one: Served, opened: Open, predictor: Predictor) -> None:
    assert predictor.safety is not None
    page = opened(one)
    say(page, "I want to kill myself.")
    until(page, "[data-testid=bot]", predictor.safety.referral.text.strip())
    assert "answered with a referral" in page.inner_text(".pride-reading")
    picture(page, "app-referral")


def test_two_students_are_blind_until_the_vote(two: Served, opened: Open, predictor: Predictor, other: Path) -> None:
    assert httpx.get(two.url).status_code == 401
    page = opened(two, scheme="dark")
    reader = Predictor.open(other)
    say(page, SAID)
    page.wait_for_selector(".pride-vote")
    answers = {"ibex": alone(predictor, SAID), "lynx": alone(reader, SAID)}
    shown = [page.locator(".pride-chat").nth(side).locator("[data-testid=bot]").inner_text() for side in (0, 1)]
    assert len(set(answers.values())) == 2
    assert sorted(shown) == sorted(answers.values())
    for word in ("lynx", "ibex", "dialogue summary", "mood"):
        assert word not in page.content()
    assert "nothing that was said" in page.inner_text(".pride-hint")
    picture(page, "app-two")
    page.click(".pride-vote >> nth=0")
    names = re.findall(r"A was (\w+), B was (\w+)", page.inner_text(".pride-who"))[0]
    assert [answers[name] for name in names] == shown
    assert page.locator(".pride-reading h2").all_inner_texts() == list(names)
    picture(page, "app-voted")
    vote = json.loads((two.file.parent / "votes.jsonl").read_text().splitlines()[-1])
    assert (vote["left"]["name"], vote["right"]["name"], vote["vote"], vote["turns"]) == (*names, "left", 1)
    weights = json.loads((other / "artifact.json").read_text())["files"]["model.safetensors"]
    assert vote["left" if names[0] == "lynx" else "right"]["weights"] == {"model.safetensors": weights}
    assert "quokka" not in json.dumps(vote)
    page.click("#pride-reset")
    page.wait_for_selector("[data-testid=bot]", state="detached")
    page.get_by_label("Topic").click()
    page.get_by_role("option", name="work").click()
    say(page, THEN)
    page.wait_for_selector(".pride-vote")
    assert alone(reader, THEN, topic="work") in page.locator("[data-testid=bot]").all_inner_texts()


def test_their_order_is_chance(two: Served, artifact: Path, other: Path) -> None:
    from pride_mm.serving.page.talk import Partner, Talk

    partners = [Partner(name, {}, None) for name in ("one", "two")]  # type: ignore[arg-type]
    assert {Talk.between(partners).sides[0].partner.name for _ in range(64)} == {"one", "two"}


def test_it_fits_a_phone(two: Served, opened: Open) -> None:
    page = opened(two, 390, 844)
    say(page, SAID)
    page.wait_for_selector(".pride-vote")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("scrollTo(0, 10_000)")
    assert page.evaluate("scrollY") > 0
    assert page.locator("[role=note]").bounding_box()["y"] >= 0  # that it is no therapist stays to be seen
    picture(page, "app-phone")


def test_a_student_that_reads_has_no_camera(other: Path, artifact: Path) -> None:
    from pride_mm.serving.page.blocks import Desk, build
    from pride_mm.serving.page.talk import Partner

    def parts(folder: Path) -> dict[str, dict[str, Any]]:
        answerer: Any = SimpleNamespace(predictor=Predictor.open(folder))
        partners = [Partner(folder.name, {}, answerer)]
        config = build(Desk(partners, 1, 1, lambda *_: None, lambda: None, lambda _: None)).get_config_file()
        found = [part["props"] for part in config["components"]]
        return {part.get("elem_id") or part.get("label") or "": part for part in found}

    reads, sees = parts(other), parts(artifact)
    assert (reads["pride-box"]["sources"], reads["pride-open-camera"]["visible"]) == ([], False)
    assert (sees["pride-box"]["sources"], sees["pride-open-camera"]["visible"]) == (["upload", "microphone"], True)
    assert "Topic" in reads
    assert "Topic" not in sees


def join(server: Served, file: dict[str, Any]) -> str:
    """Send a line with a file as a program would, and return all that comes of it."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        config = http.get("/config").json()
        say = next(one for one in config["dependencies"] if any(event == "submit" for _, event in one["targets"]))
        kind = {"meta": {"_type": "gradio.FileData"}}
        data = [None, {"text": "Hi", "files": [{**file, **kind}]}, None]
        body = {"fn_index": say["id"], "data": data, "session_hash": "quokka1", "event_data": None}
        assert http.post("/gradio_api/queue/join", json=body).status_code == 200
        said = ""
        with http.stream("GET", "/gradio_api/queue/data?session_hash=quokka1") as stream:
            for line in stream.iter_lines():
                said += line
                if "process_completed" in line:
                    return said
    raise AssertionError(said)


def test_nothing_is_fetched_and_no_other_file_is_read(one: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.5)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/clip.mp4"
        assert '"success":false' in join(one, {"path": address, "url": address})
        with pytest.raises(TimeoutError):
            listening.accept()
    assert '"success":false' in join(one, {"path": "/etc/hostname"})


def test_nothing_that_was_said_is_in_the_log(one: Served, two: Served) -> None:
    """After all that is above; uploads are gone, too."""
    for server in (one, two):
        log = server.log.lower()
        assert "page is at" in log
        for word in ("quokka", "once upon", "kill", "hostname", "clip.mp4", "traceback", KEY):
            assert word not in log, log


def test_at_its_end_it_counts_the_votes(two: Served, opened: Open) -> None:
    page = opened(two)  # being open, it holds up nothing
    say(page, SAID)
    page.click(".pride-vote >> nth=3")
    page.wait_for_selector(".pride-who")
    begun = time.monotonic()
    two.process.terminate()
    assert two.process.wait(60) == 0
    assert time.monotonic() - begun < 30
    assert "Traceback" not in two.log
    assert re.search(r"\d votes in .*votes.jsonl: ibex \d, lynx \d, tie 0, both bad 1\.", two.log)


def test_without_the_extra_it_says_what_to_install(
    artifact: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run(["app", str(artifact), "--port", "0"]) == 2
    assert capsys.readouterr().err == "The page needs the extra 'app': pip install 'pride-mm[app]'.\n"


def test_beyond_loopback_it_wants_a_key(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["app", str(artifact), "--host", "0.0.0.0"]) == 2
    assert "PRIDE_API_KEY" in capsys.readouterr().err

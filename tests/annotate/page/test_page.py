"""The labelling page as an expert uses it, in a real browser on a real server.

With PRIDE_SCREENSHOTS=folder the pictures of docs/annotating.md are taken along the way, of the embedded sample only.
"""

import io
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotate.exchange.project import Project
from annotate.server.local import LocalServer
from annotate.studio import Studio
from pride_mm.errors import BadSamples
from pride_mm.records import Item
from pride_mm.schema import Media, Schema, Turn
from tests.browser import option

pytestmark = [pytest.mark.label_studio, pytest.mark.browser]
KEY = b"k" * 32
MARKUP = '<img src=x onerror="window.ran=1"><script>window.ran=1</script><b class=evil>bold</b> {{7*7}} $dialogue &amp;'
OpenTask = Callable[..., Any]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Item:
    """A dialogue of the embedded sample with its clip: three turns, the listener's without times."""
    pytest.importorskip("espeakng_loader", reason="the demo's voice is an extra")
    from pipelines.sample.clip import draw, speak, write_clip
    from pipelines.sample.script import load_script
    from pipelines.sample.voice import Voice

    script = load_script()
    dialogue = next(one for one in script.dialogue if one.id == "demo_dog_lin")
    take = speak(script, dialogue, Voice())
    path = tmp_path_factory.mktemp("sample") / "clip.mp4"
    write_clip(path, draw(script, dialogue, take), take)
    turns = tuple(
        Turn(
            speaker=script.listener if number % 2 else dialogue.speaker.capitalize(),
            text=words,
            start=take.times.get(number, (None, None))[0],
            end=take.times.get(number, (None, None))[1],
        )
        for number, words in enumerate(dialogue.say)
    )
    clip = Media(path=str(path))
    return item(dialogue.id, video=clip, audio=clip, dialogue=turns)


def item(name: str, **inputs: Any) -> Item:
    return Item(id=name, corpus="t", group=name, inputs={}).model_copy(update={"inputs": inputs})


def pushed(studio: Studio, server: LocalServer, schema: Schema, *items: Item) -> Project:
    project = Project(studio, schema, f"Page {uuid.uuid4().hex[:6]}")
    bad = BadSamples()
    project.push(items, server.media_root, bad=bad)
    assert not list(bad)
    return project


def field(page: Any, title: str) -> Any:
    return page.locator(".pride-field").filter(has=page.get_by_role("heading", name=title, exact=True))


def players(page: Any) -> list[dict[str, Any]]:
    """The media that the page plays, each with its tag, time and whether it stands."""
    found: list[dict[str, Any]] = page.evaluate(
        "() => [...document.querySelectorAll('video, audio')]"
        ".map(m => ({tag: m.tagName, time: m.currentTime, paused: m.paused}))"
    )
    return found


def until(page: Any, condition: str, seconds: float = 20) -> None:
    from playwright.sync_api import TimeoutError

    try:
        page.wait_for_function(f"() => {condition}", timeout=seconds * 1000)
    except TimeoutError:
        raise AssertionError(f"not so after {seconds} s: {condition}; the players: {players(page)}") from None


def click_until(page: Any, selector: str, condition: str, tries: int = 4) -> None:
    """Click as a person does: again where Label Studio let it go by, since its players hadn't settled yet."""
    for left in reversed(range(tries)):
        page.locator(selector).click(delay=50)
        try:
            until(page, condition, 5)
        except AssertionError:
            if not left:
                raise
        else:
            return


PLAYS = "[...document.querySelectorAll('video, audio')].every(m => !m.paused && m.currentTime > 0.2)"
STANDS = "[...document.querySelectorAll('video, audio')].every(m => m.paused)"
LOADED = "[...document.querySelectorAll('video, audio')].every(m => m.readyState >= 2)"


def shoot(page: Any, name: str) -> None:
    """Keep a picture for the docs, in few colours so that it stays small."""
    folder = os.environ.get("PRIDE_SCREENSHOTS")
    if not folder:
        return
    from PIL import Image

    page.wait_for_timeout(500)
    Path(folder).mkdir(parents=True, exist_ok=True)
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(128, dither=Image.Dither.NONE).save(Path(folder) / f"{name}.png", optimize=True)


def submit(page: Any) -> None:
    page.locator(".lsf-controls button", has_text="Submit").first.click()


def scroll_to(page: Any, title: str) -> None:
    field(page, title).evaluate("box => box.scrollIntoView({block: 'start'})")


def test_an_expert_plays_annotates_and_submits(
    studio: Studio, server: LocalServer, pride: Schema, sample: Item, open_task: OpenTask
) -> None:
    talk = tuple(turn.model_copy(update={"text": "Another talk."}) for turn in sample.inputs["dialogue"])  # type: ignore[union-attr]
    project = pushed(studio, server, pride, sample, item("second", **{**sample.inputs, "dialogue": talk}))
    page = open_task(project.addresses[0])
    until(page, f"document.querySelectorAll('video, audio').length == 3 && {LOADED}")
    page.wait_for_timeout(1000)
    shoot(page, "page")

    # play by the keyboard: pictures, sound and transcript go together
    page.keyboard.press("Shift+Space")
    until(page, PLAYS)
    until(page, "document.querySelector('[data-testid=\"phrase:0\"] .reading-line')")
    shoot(page, "playing")
    page.keyboard.press("Shift+Space")
    until(page, STANDS)
    times = [player["time"] for player in players(page)]
    assert max(times) - min(times) < 0.4
    last = sample.inputs["dialogue"][2]  # type: ignore[index]
    moved = f"[...document.querySelectorAll('video, audio')].filter(m => Math.abs(m.currentTime - {last.start}) < 0.4)"
    click_until(page, "[data-testid='phrase:2']", f"{moved}.length >= 2 && {moved}.some(m => m.tagName == 'VIDEO')")

    # writing keeps the keyboard though the clip goes on and another turn begins
    back = "[...document.querySelectorAll('video, audio')].filter(m => m.currentTime < 1).length >= 2"
    click_until(page, "[data-testid='phrase:0']", back)
    feelings = field(page, "Feelings").locator("textarea")
    feelings.click()
    page.keyboard.press("Shift+Space")
    # by the clock, and not by the line that is lit: on a busy machine the last turn may be over when it is looked for
    until(page, f"[...document.querySelectorAll('video, audio')].some(m => m.currentTime > {last.start})")
    page.keyboard.type("sad 4")
    until(page, STANDS)
    assert feelings.input_value() == "sad 4"
    feelings.fill("Tired, and afraid of the evenings.\nShe speaks low & slow.")
    feelings.press("Shift+Enter")

    # a needed field is missing
    submit(page)
    asked = page.get_by_text("is still open.")
    asked.first.wait_for()
    shoot(page, "required")
    assert not project.pull(KEY).annotations
    page.get_by_role("button", name="OK").click()

    mood = field(page, "Emotion of each turn").locator(".pride-turn")
    assert mood.count() == 3
    option(mood.nth(0), "sad").click()
    option(mood.nth(2), "fearful").click()
    page.locator(".pride-page").click(position={"x": 5, "y": 5})
    for key in ("4", "q"):
        page.keyboard.press(key)
    drawn = draw_span(page, "9")
    shoot(page, "feelings")
    for title, note in NOTES.items():
        field(page, title).locator("textarea").fill(note)
    scroll_to(page, "Situation *")
    shoot(page, "situation")
    for title, level in LEVELS.items():
        option(field(page, title), level).click()
    scroll_to(page, "Expression of experience")
    shoot(page, "response")
    submit(page)
    deadline = time.monotonic() + 30
    while not (pulled := project.pull(KEY).annotations) and time.monotonic() < deadline:
        page.wait_for_timeout(300)
    (annotation,) = pulled
    until(page, "document.querySelector('.pride-clip')?.innerText.includes('Another talk.')")
    page.wait_for_selector(".pride-notes textarea")
    assert page.locator(".pride-page input:checked").count() == 0, "the next task begins empty"
    assert not [text for text in page.locator("textarea").all() if text.input_value()]
    seen = page.locator("body").inner_text()
    assert not [note for note in (*NOTES.values(), "Tired, and afraid", last.text) if note in seen]  # type: ignore[union-attr]
    (span,) = annotation.values.pop("shift")  # type: ignore[misc, arg-type]
    assert (span.start, span.end) == pytest.approx(drawn, abs=0.15)  # type: ignore[union-attr]
    assert span.label == "shift"  # type: ignore[union-attr]
    assert annotation.values == {
        "turn_emotion": ("sad", None, "fearful"),
        "feelings": "Tired, and afraid of the evenings.\nShe speaks low & slow.",
        "situation": NOTES["Situation *"],
        "analysis": NOTES["Psychological analysis"],
        "response": NOTES["Response"],
        "emotion": "sad",
        "sentiment": "negative",
        "expression": 1,
        "emotional_reaction": 2,
        "cognitive_reaction": 0,
    }
    assert annotation.origin == "expert"
    assert not page.strayed


NOTES = {
    "Situation *": "Her dog has died after fourteen years.",
    "Psychological analysis": "She looks for somebody who stays with the loss.",
    "Response": "Fourteen years is a long time. What was she like?",
}
LEVELS = {"Expression of experience": "1", "Emotional reaction needed": "2", "Cognitive reaction needed": "0"}


def draw_span(page: Any, key: str) -> tuple[float, float]:
    """Draw over the waveform from 30 to 60 % of it; returns (start, end) in seconds."""
    page.keyboard.press(key)
    wave = page.locator("#waveform-layer-main")
    box = wave.bounding_box()
    x, y = box["x"], box["y"] + box["height"] * 0.6
    page.mouse.move(x + box["width"] * 0.3, y)
    page.mouse.down()
    for share in (0.35, 0.5, 0.6):
        page.mouse.move(x + box["width"] * share, y, steps=4)
    page.mouse.up()
    seconds = page.evaluate("() => document.querySelector('video').duration")
    return 0.3 * seconds, 0.6 * seconds


def test_markup_is_text_and_every_script_is_readable(
    studio: Studio, server: LocalServer, pride: Schema, open_task: OpenTask
) -> None:
    """Also without any clip, in a narrow window: nothing runs, nothing sticks out, right-to-left stands right."""
    marked = pride.field[-1].model_copy(update={"title": MARKUP, "guideline": MARKUP})
    schema = pride.model_copy(update={"field": (*pride.field[:-1], marked)})
    talk = (
        Turn(speaker=MARKUP, text=MARKUP),
        Turn(speaker="מטופלת", text="אני לא ישנה כבר שבועיים."),
        Turn(speaker="来访者", text="我已经两个星期没有睡好觉了。" * 8),
        Turn(speaker="A" * 80, text="Donaudampfschifffahrtsgesellschaft" * 12),
    )
    page = open_task(pushed(studio, server, schema, item("words", dialogue=talk)).addresses[0])
    note = field(page, "Feelings").locator("textarea")
    note.fill(MARKUP)
    note.press("Shift+Enter")
    until(page, "document.body.innerText.includes('bold</b> {{7*7}}')")
    assert page.evaluate("() => window.ran") is None
    assert page.locator(".pride-page .evil, .pride-page img, .pride-page script").count() == 0
    assert page.locator(".pride-page").get_by_text("<b class=evil>bold</b>").count() >= 5, (
        "all of them are shown as text"
    )
    assert page.evaluate(
        "() => document.querySelector('.pride-page').scrollWidth <= document.querySelector('.pride-page').clientWidth"
    )
    start = page.locator(".pride-turn .lsf-richtext__line").nth(1)
    assert start.evaluate("line => getComputedStyle(line).unicodeBidi") == "plaintext"
    assert not page.strayed


@pytest.mark.parametrize("name", ["both", "sound", "silent", "words"])
def test_real_clips_play_and_stay_in_sight(
    studio: Studio, server: LocalServer, pride: Schema, items: list[Item], open_task: OpenTask, name: str
) -> None:
    (given,) = [one for one in items if one.id == name]
    project = pushed(studio, server, pride, given)
    width, height = (1600, 1000) if name == "silent" else (1280, 900)
    page = open_task(project.addresses[0], width, height)
    if name != "words":
        until(page, f"document.querySelectorAll('video, audio').length >= 2 && {LOADED}")
        page.wait_for_timeout(500)
        page.locator(".pride-clip button[aria-label='play']").first.click()
        until(page, "[...document.querySelectorAll('video, audio')].some(m => m.currentTime > 0.3)")
    scroll_to(page, "Response")
    page.wait_for_timeout(300)
    for part in (".pride-clip", "[data-testid='phrase:0']"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] >= 40
        assert box["y"] + box["height"] <= height, f"{part} left the window as the form was scrolled"
    assert given.id in page.locator(".pride-clip").inner_text()


def test_two_hundred_turns_are_usable(
    studio: Studio, server: LocalServer, pride: Schema, open_task: OpenTask, record_property: Callable[..., None]
) -> None:
    talk = tuple(Turn(speaker="ab"[n % 2], text=f"Turn {n}. " + "And so it went on. " * 6) for n in range(200))
    project = pushed(studio, server, pride, item("long", dialogue=talk))
    begin = time.monotonic()
    page = open_task(project.addresses[0], wait=120)
    record_property("seconds_to_form", time.monotonic() - begin)
    turns = page.locator(".pride-turn")
    assert turns.count() == 200
    begin = time.monotonic()
    option(turns.nth(150), "sad").click()
    until(page, "document.querySelectorAll('.pride-turn')[150].querySelector('input[name=sad]').checked")
    record_property("seconds_to_click", time.monotonic() - begin)
    assert page.locator(".pride-turn input:checked").count() == 1
    page.keyboard.press("4")
    until(page, "document.querySelectorAll('.pride-field input:checked').length == 2")
    assert page.locator(".pride-turn input:checked").count() == 1, "a turn's option has no key"

"""The page of a study as a rater uses it, in a real browser on a real server."""

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from annotate.studio import Studio
from annotate.study.plan import make_plan
from annotate.study.project import Study
from pride_mm.errors import BadSamples
from pride_mm.schema import Turn
from tests.annotate.study.test_plan import NAMES, pairs

pytestmark = [pytest.mark.label_studio, pytest.mark.browser]
MARKUP = '<img src=x onerror="window.ran=1"><b class=evil>bold</b>'


def test_a_rater_reads_two_answers_and_chooses_by_keyboard(studio: Studio, signed_in: Callable[..., Any]) -> None:
    talk = (Turn(speaker="Ana", text=MARKUP), Turn(speaker="Ben", text="אני עייף. And then my dog died."))
    given = [replace(pair, turns=talk) for pair in pairs(2)]
    plan = make_plan(given, f"Study {uuid.uuid4().hex[:6]}", NAMES, 2, 0, 2)
    study = Study(studio, plan)
    *_, address = study.push(given)
    page = signed_in(1280, 900)
    page.goto(f"{address}?labeling=1")
    page.wait_for_selector(".pride-answers", timeout=60_000)
    page.wait_for_selector(".pride-answer >> text=/Yes|No/")
    seen = page.locator(".pride-page").inner_text()
    assert "my dog died" in seen
    assert page.evaluate("() => window.ran") is None
    assert page.locator(".pride-page .evil").count() == 0
    a, b = (page.locator(".pride-answer").nth(n).bounding_box() for n in (0, 1))
    assert a["x"] + a["width"] <= b["x"], "side by side"
    page.locator(".pride-page").click(position={"x": 5, "y": 5})
    # Locators, since the server's content security policy refuses what waits for a function
    chosen = page.locator(".pride-field input:checked")
    for pressed, key in enumerate("1wdz", 1):
        page.keyboard.press(key)
        expect(chosen).to_have_count(pressed)
    if folder := os.environ.get("PRIDE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / "study.png")
    page.locator(".lsf-controls button", has_text="Submit").first.click()
    expect(chosen).to_have_count(0, timeout=30_000)
    (judged,) = study.pull(b"k" * 32, BadSamples()).judgements
    assert judged.said == {"empathy": "A", "relevance": "B", "fluency": "tie", "overall": "A"}
    assert not page.strayed

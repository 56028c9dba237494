"""What an expert does with drafts on the real page, and what the records say of it afterwards."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from annotate.consensus.rules import consensus
from annotate.drafts.predictions import add_draft, draft_results, show_drafts
from annotate.exchange.project import Project
from annotate.studio import Studio
from pride_mm.records import Item
from pride_mm.schema import Schema, Turn, Value
from tests.browser import option

pytestmark = [pytest.mark.label_studio, pytest.mark.browser]
DRAFTED: dict[str, Value] = {
    "turn_emotion": ("sad", "calm"),
    "feelings": "She is sad, and tired of it all.",
    "situation": "She lost her job last week.",
    "analysis": "She needs to be heard before anything else.",
    "expression": 1,
    "emotional_reaction": 2,
}


def field(page: Any, title: str) -> Any:
    return page.locator(".pride-field").filter(has=page.get_by_role("heading", name=title, exact=True))


def test_accepted_edited_thrown_away_and_written_without_are_four_records(
    studio: Studio, pride: Schema, open_task: Callable[..., Any]
) -> None:
    talk = (Turn(speaker="client", text="I lost my job last week."), Turn(speaker="helper", text="That is hard."))
    project = Project(studio, pride, f"P {uuid.uuid4().hex[:8]}")
    project.push([Item(id="one", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"dialogue": talk}})])
    (task,) = project.tasks()
    add_draft(project, task.number, draft_results(DRAFTED, task.context, ""), 0.5, "m-1")
    show_drafts(project, task.project, "m-1")
    page = open_task(project.addresses[0])
    page.get_by_text(str(DRAFTED["situation"])).first.wait_for()
    # drafts of each turn, too
    page.wait_for_function(
        "() => document.querySelectorAll('.pride-turn')[1]?.querySelector('input[name=calm]')?.checked"
    )

    # feelings and the warmth that is needed stay as they are; the situation is edited
    situation = field(page, "Situation *")
    situation.get_by_test_id("htx-textbox-edit-button").click()
    box = situation.locator("textarea").first
    box.fill("She lost her job last year.")
    box.press("Shift+Enter")
    page.keyboard.press("Escape")
    page.locator(".pride-page").click(position={"x": 5, "y": 5})
    # the analysis is thrown away and written anew
    analysis = field(page, "Psychological analysis")
    analysis.get_by_test_id("htx-textbox-delete-button").click()
    analysis.locator("textarea").fill("Shame more than grief.")
    analysis.locator("textarea").press("Shift+Enter")
    # what happens next had no draft
    future = field(page, "What happens next").locator("textarea")
    future.fill("She finds work in spring.")
    future.press("Shift+Enter")
    option(field(page, "Expression of experience"), "2").click()
    option(field(page, "Emotion of the clip *"), "sad").click()
    option(field(page, "Emotion of each turn").locator(".pride-turn").nth(1), "neutral").click()
    page.locator(".lsf-controls button", has_text="Submit").first.click()
    deadline = time.monotonic() + 30
    while not (pulled := project.pull(b"k" * 32).annotations) and time.monotonic() < deadline:
        page.wait_for_timeout(300)
    (annotation,) = pulled
    assert annotation.values["situation"] == "She lost her job last year."
    assert annotation.values["analysis"] == "Shame more than grief."
    became = {name: (draft.how, draft.change) for name, draft in annotation.drafts.items()}
    assert became["feelings"] == became["emotional_reaction"] == ("accepted", 0.0)
    how, share = became["situation"]
    assert how == "edited"
    assert 0 < share < 0.2, "four letters of a sentence"
    assert became["turn_emotion"] == ("edited", 0.5)
    assert became["expression"] == ("edited", 1.0)
    assert became["analysis"][0] == "written", "a draft that was thrown away is nobody's"
    assert became["analysis"][1] > 0.5
    assert became["future"] == ("written", 1.0)
    assert became["emotion"] == ("written", 1.0)
    assert {draft.model for draft in annotation.drafts.values()} == {"m-1"}
    assert annotation.by_expert().keys() == annotation.values.keys() - {"feelings", "emotional_reaction"}
    (notes,) = consensus(pride, [annotation])
    assert notes.drafts == {"feelings": "m-1", "emotional_reaction": "m-1"}

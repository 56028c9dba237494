"""A model's words are told from an expert's, whatever the marks on the page say."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from annotate.page.label_config import Page
from annotate.page.provenance import annotation_results, change, drafts_of, predictions_of
from annotate.page.results import Context, from_results, to_results
from pride_mm.errors import BadSamples
from pride_mm.records import Annotation, Draft
from pride_mm.schema import Kind, Schema, Span, Value

TURNS = 3
DRAFTED: dict[str, Value] = {
    "note": "She lost her job last week.",
    "cause": "é",
    "needs": ("rest", "help"),
    "warmth": 1,
    "mood": ("up", None, "down"),
}


@pytest.fixture
def context(every_kind: Schema) -> Context:
    return Context(Page(every_kind, ("voice",)), TURNS, 0.0)


def prediction(context: Context, values: dict[str, Value], number: int = 7, model: str = "m-1") -> dict[str, Any]:
    return {"id": number, "model_version": model, "result": to_results(values, context, "")}


def submitted(
    context: Context, values: dict[str, Value], origin: str | None = "prediction", parent: int | None = 7
) -> dict[str, Any]:
    """An annotation as the page sends it: what came from a draft keeps its mark."""
    results = to_results(values, context, "")
    for result in results:
        drafted = result["from_name"].split("-")[0] in DRAFTED
        result["origin"] = origin if origin and drafted else "manual"
    return {"result": results, "parent_prediction": parent}


def told(context: Context, annotation: dict[str, Any], *predictions: dict[str, Any]) -> dict[str, Draft]:
    bad = BadSamples(0)
    values = from_results(annotation["result"], context, "", bad)
    return drafts_of(annotation, values, predictions_of(predictions, context), context)


def test_what_was_left_as_it_was_is_accepted_in_every_kind(context: Context) -> None:
    drafts = told(context, submitted(context, DRAFTED), prediction(context, DRAFTED))
    assert drafts == dict.fromkeys(DRAFTED, Draft(model="m-1", how="accepted", change=0.0))


def test_how_much_was_edited_is_told_though_the_page_says_nothing_was(context: Context) -> None:
    edited: dict[str, Value] = {
        "note": "She lost her dog last week.",
        "cause": "$loss",
        "needs": ("rest",),
        "warmth": 2,
        "mood": ("up", "up", "down"),
    }
    drafts = told(context, submitted(context, edited), prediction(context, DRAFTED))
    assert {name: draft.how for name, draft in drafts.items()} == dict.fromkeys(DRAFTED, "edited")
    shares = {name: draft.change for name, draft in drafts.items()}
    assert shares["note"] == pytest.approx(2 / 27), "two of 27 characters: job, dog"
    assert shares["mood"] == pytest.approx(1 / 3)
    assert {shares[name] for name in ("cause", "needs", "warmth")} == {1.0}


def test_the_mark_changed_is_not_believed_where_nothing_did(context: Context) -> None:
    drafts = told(context, submitted(context, DRAFTED, "prediction-changed"), prediction(context, DRAFTED))
    assert {draft.how for draft in drafts.values()} == {"accepted"}


def test_a_field_without_a_draft_or_whose_draft_was_thrown_away_is_written(context: Context) -> None:
    values: dict[str, Value] = {"note": "He moved abroad.", "reply": "I hear you.", "depth": 40}
    drafts = told(context, submitted(context, values, origin=None), prediction(context, DRAFTED))
    assert {name: draft.how for name, draft in drafts.items()} == dict.fromkeys(values, "written")
    assert drafts["reply"].change == 1.0
    assert 0.5 < (drafts["note"].change or 0) < 1
    assert told(context, submitted(context, values, origin=None, parent=None), prediction(context, DRAFTED)) == {}


def test_a_copied_text_is_the_models_without_any_mark(context: Context) -> None:
    copied = submitted(context, {"note": f"  {DRAFTED['note']}\n", "warmth": 1}, origin=None, parent=None)
    drafts = told(context, copied, prediction(context, DRAFTED, 3, "m-0"))
    assert drafts == {"note": Draft(model="m-0", how="accepted", change=0.0)}, "a level may well be the same by chance"
    short = submitted(context, {"note": "Tired."}, origin=None, parent=None)
    assert not told(context, short, prediction(context, {"note": "Tired."}))


def test_the_parent_counts_and_all_predictions_where_it_is_gone(context: Context) -> None:
    other = {**DRAFTED, "warmth": 2}
    both = (prediction(context, DRAFTED), prediction(context, other, 8, "m-2"))
    given_twos = submitted(context, {"warmth": 2})
    assert told(context, given_twos, *both)["warmth"] == Draft(model="m-1", how="edited", change=1.0)
    given_twos["parent_prediction"] = None
    assert told(context, given_twos, *both)["warmth"] == Draft(model="m-2", how="accepted", change=0.0)
    assert told(context, given_twos)["warmth"] == Draft(model="unknown", how="accepted")
    changed = submitted(context, {"warmth": 2}, "prediction-changed")
    assert told(context, changed)["warmth"] == Draft(model="unknown", how="edited")


def test_a_field_refused_in_a_draft_is_no_draft(context: Context) -> None:
    broken = prediction(context, DRAFTED)
    for result in broken["result"]:
        if result["from_name"] == "warmth":
            result["value"]["choices"] = ["99"]
    broken["result"].append("nonsense")
    drafts = told(context, submitted(context, DRAFTED), broken)
    assert drafts["cause"].how == "accepted"
    assert drafts["warmth"] == Draft(model="m-1", how="accepted"), "its mark still says whose it is"


values_drawn = some.fixed_dictionaries(
    {},
    optional={
        "note": some.text(some.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
        "warmth": some.integers(-1, 2),
        "depth": some.integers(0, 100),
        "needs": some.lists(some.sampled_from(["rest", "help", "ear"]), min_size=1, unique=True).map(tuple),
        "mood": some.tuples(*[some.sampled_from(["up", "down", None])] * TURNS).filter(any),
        "moment": some.just((Span(start=0.1, end=0.7, label="shift"),)),
    },
)
draft_drawn = some.builds(
    Draft,
    model=some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
    how=some.sampled_from(["accepted", "edited", "written"]),
    change=some.none() | some.floats(0, 1),
)


def test_provenance_that_was_loaded_comes_back_equal(context: Context) -> None:
    @settings(deadline=None)
    @given(values_drawn, some.data())
    def back(values: dict[str, Value], data: some.DataObject) -> None:
        drafts = data.draw(some.fixed_dictionaries({}, optional=dict.fromkeys(values, draft_drawn)))
        annotation = Annotation(item="i", annotator="a", values=values, drafts=drafts)
        results = json.loads(json.dumps(annotation_results(annotation, context, "")))
        assert from_results(results, context, "", BadSamples(0)) == values
        assert told(context, {"result": results}, prediction(context, values)) == drafts or not drafts

    back()


def test_provenance_that_was_loaded_is_not_believed_after_an_edit(context: Context) -> None:
    accepted = Draft(model="m-1", how="accepted", change=0.0)
    annotation = Annotation(item="i", annotator="a", values=DRAFTED, drafts=dict.fromkeys(DRAFTED, accepted))
    results = annotation_results(annotation, context, "")
    edited = copy.deepcopy(results)
    for result in edited:
        if result["from_name"] == "note":
            result["value"]["text"] = ["She lost her keys."]
        if result["from_name"] == "mood-2":
            result["value"]["choices"] = ["up"]
    drafts = told(context, {"result": edited})
    assert drafts["note"] == drafts["mood"] == Draft(model="m-1", how="edited")
    assert drafts["warmth"] == accepted
    for result in edited:
        result["meta"] = {"draft": {"model": 3}, "text": ["somebody's remark"]}
        result["origin"] = "manual"
    assert told(context, {"result": edited}) == {}


def test_every_kind_can_be_compared(every_kind: Schema) -> None:
    samples: dict[str, tuple[Value, Value]] = {
        "note": ("one", "two"),
        "cause": ("é", "$loss"),
        "needs": (("rest",), ("ear",)),
        "depth": (1, 100),
        "mood": (("up",), ("down",)),
        "moment": ((Span(start=0, end=1, label="shift"),), (Span(start=0, end=2, label="shift"),)),
    }
    noted = {Kind.TEXT, Kind.CHOICE, Kind.CHOICES, Kind.SCALE, Kind.TURN_CHOICE, Kind.SPANS}
    assert {every_kind.get(name).kind for name in samples} == noted
    for name, (one, other) in samples.items():
        field = every_kind.get(name)
        assert change(field, one, one) == 0
        assert 0 < change(field, one, other) == change(field, other, one) <= 1
    assert change(every_kind.get("needs"), ("rest", "ear"), ("ear", "rest")) == 0, "no order among options"
    assert change(every_kind.get("mood"), ("up",), ("up", "up")) == 1
    assert change(every_kind.get("note"), "x" * 100_000, "y" * 100_000) == 1

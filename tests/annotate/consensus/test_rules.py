import random
from typing import Any

import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as some

from annotate.consensus.rules import consensus, left_open
from pride_mm.errors import UserError
from pride_mm.records import Annotation, Draft, Notes
from pride_mm.schema import Schema, Span, Value


def said(item: str, annotator: str, origin: str = "expert", **values: Value) -> Annotation:
    bare = Annotation.model_validate({"item": item, "annotator": annotator, "origin": origin, "values": {}})
    return bare.model_copy(update={"values": values})


def drafted(annotation: Annotation, *names: str, how: str = "accepted") -> Annotation:
    draft = Draft.model_validate({"model": "writer-1", "how": how, "change": 0.0 if how == "accepted" else 0.4})
    return annotation.model_copy(update={"drafts": dict.fromkeys(names, draft)})


def notes_of(schema: Schema, *annotations: Annotation, **options: Any) -> Notes:
    (notes,) = consensus(schema, annotations, **options)
    assert consensus(schema, annotations[::-1], **options) == [notes], "the order of the annotations does not matter"
    return notes


def test_consensus_says_how(every_kind: Schema) -> None:
    notes = notes_of(
        every_kind,
        said("i", "a", cause="é", warmth=0, needs=("rest", "ear"), mood=("up", "up", None), note="cold and tired",
             moment=(Span(start=0, end=2, label="shift"),)),
        said("i", "b", cause="é", warmth=2, needs=("rest",), mood=("up", "down", None), note="tired",
             moment=(Span(start=1, end=3, label="shift"),)),
        said("i", "c", cause="$loss", warmth=1, needs=("help",), mood=("up", "down", None), note="tired and cold it is",
             reply="I hear you."),
    )  # fmt: skip
    assert notes.privileged == {
        "note": "cold and tired",
        "cause": "é",
        "needs": ("rest",),
        "warmth": 1,
        "mood": ("up", "down", None),
        "moment": (Span(start=1, end=2, label="shift"),),
    }
    assert notes.targets == {"reply": "I hear you."}
    assert notes.how["cause"] == "majority 2/3"
    assert notes.how["warmth"] == "median of 3"
    assert notes.how["reply"] == "single: c"
    assert notes.how["note"] == "most central of 3: a"
    assert notes.how["moment"] == "marked by 2 of 2 or more", "who marked nothing said nothing"
    assert not left_open(every_kind, [notes])


def test_ties_and_low_agreement_are_left_open(every_kind: Schema) -> None:
    notes = notes_of(
        every_kind,
        said("i", "a", cause="é", mood=("up", "up"), note="short", warmth=0, depth=10, needs=("rest", "ear")),
        said("i", "b", cause="$loss", mood=("down", "up"), note="longer words", warmth=1, depth=90, needs=("rest",)),
    )
    assert notes.how["cause"] == "tie 1/2"
    assert notes.privileged["mood"] == (None, "up")
    assert notes.privileged["note"] == "longer words"
    assert notes.privileged["warmth"] == 0, "two neighbours on a scale are no disagreement"
    assert notes.how["depth"] == "the two middle ones of 2 are far apart"
    assert [(one.field.name, one.why) for one in left_open(every_kind, [notes])] == [
        ("cause", "tie 1/2"),
        ("needs", "majority of 2, each option; 1 of 3 options left open"),
        ("depth", "the two middle ones of 2 are far apart"),
        ("mood", "majority of 2, each turn; 1 of 2 turns left open"),
    ]
    three = [said("i", who, cause=value) for who, value in zip("abc", ("é", "é", "$loss"), strict=True)]
    assert notes_of(every_kind, *three, least=0.6).privileged == {"cause": "é"}
    assert notes_of(every_kind, *three, least=0.7).how == {"cause": "too few agree: 2/3"}


def test_the_adjudicators_word_wins(every_kind: Schema) -> None:
    given = [
        said("i", "a", cause="é", warmth=0, note="a word", mood=("up", "up", "down")),
        said("i", "b", cause="$loss", warmth=0, note="another word", mood=("up", "down", "down")),
        said("i", "judge", cause="$loss", note="the word", mood=(None, "down", None)),
    ]
    notes = notes_of(every_kind, *given, adjudicators=["judge"])
    assert notes.privileged == {"cause": "$loss", "warmth": 0, "note": "the word", "mood": ("up", "down", "down")}
    assert notes.how["cause"] == notes.how["note"] == "adjudicated: judge"
    assert notes.how["mood"] == "adjudicated: judge, 1 of 3 turns; the rest majority of 2, each turn"
    assert not left_open(every_kind, [notes])
    two = [*given, said("i", "chief", cause="é")]
    assert notes_of(every_kind, *two, adjudicators=["chief", "judge"]).how["cause"] == "adjudicated: chief"
    with pytest.raises(UserError, match="'nobody' annotated nothing here; the annotators are: a, b, judge"):
        consensus(every_kind, given, adjudicators=["nobody"])
    with pytest.raises(UserError, match="take one of: majority, reliability"):
        consensus(every_kind, given, by="luck")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must be from 0 to 1"):
        consensus(every_kind, given, least=2)


def test_reliability_outweighs_numbers(every_kind: Schema) -> None:
    """Two who answer at random against three who know: on the items where the two agree, the one who knows is right."""
    rng = random.Random(0)
    options = every_kind.by_name["cause"].options  # type: ignore[union-attr]
    given, truth = [], {}
    for n in range(80):
        item = f"i{n:02}"
        truth[item] = rng.choice(options)
        sure = ("a", "b", "c") if n < 60 else ("a",)
        given += [said(item, who, cause=truth[item]) for who in sure]
        wrong = rng.choice([o for o in options if o != truth[item]])
        given += [said(item, who, cause=wrong if n >= 60 else rng.choice(options)) for who in ("x", "y")]
    by = {name: consensus(every_kind, given, by=name) for name in ("majority", "reliability")}  # type: ignore[arg-type]
    right = {name: sum(n.privileged.get("cause") == truth[n.item] for n in notes) for name, notes in by.items()}
    assert right["majority"] == 60
    assert right["reliability"] == 80
    assert by["reliability"][-1].how["cause"].startswith("by reliability, probability ")
    assert consensus(every_kind, given[::-1], by="reliability") == by["reliability"]


def test_two_annotators_are_counted_since_neither_can_be_weighed(every_kind: Schema) -> None:
    given = [said(f"i{n}", who, cause="é") for n in range(6) for who in "ab"]
    assert {n.how["cause"] for n in consensus(every_kind, given, by="reliability")} == {"majority 2/2"}


def test_a_models_draft_stays_marked(every_kind: Schema) -> None:
    both = [drafted(said("i", who, cause="é", note="the model's"), "cause", "note") for who in "ab"]
    notes = notes_of(every_kind, *both)
    assert notes.drafts == {"cause": "writer-1", "note": "writer-1"}
    assert notes.how["cause"] == "majority 2/2; 2 of 2 left a model's draft as it was"
    own = [*both, said("i", "c", cause="é", note="my own")]
    notes = notes_of(every_kind, *own)
    assert notes.privileged["note"] == "my own", "an expert's words go before a draft that others let pass"
    assert "note" not in notes.drafts
    assert "cause" not in notes.drafts, "one came to it alone"
    edited = drafted(said("i", "a", note="changed"), "note", how="edited")
    assert not notes_of(every_kind, edited).drafts
    alone = notes_of(every_kind, both[0])
    assert alone.how["note"] == "single: a; left a model's draft as it was"


@settings(max_examples=50, deadline=None)
@given_by(some.data())
def test_the_order_does_not_matter(every_kind: Schema, data: some.DataObject) -> None:
    span = some.tuples(some.integers(0, 5), some.integers(6, 9)).map(
        lambda t: Span(start=t[0], end=t[1], label="shift")
    )
    values = some.fixed_dictionaries({}, optional={
        "cause": some.sampled_from(["$loss", "é"]),
        "needs": some.lists(some.sampled_from(["rest", "help", "ear"]), unique=True).map(tuple),
        "warmth": some.integers(-1, 2),
        "note": some.sampled_from(["one", "two words", "two other words"]),
        "mood": some.lists(some.sampled_from(["up", "down", None]), min_size=1, max_size=2).map(tuple),
        "moment": some.lists(span, max_size=2).map(tuple),
    })  # fmt: skip
    given = data.draw(some.lists(
        some.builds(lambda i, who, origin, of: said(i, who, origin, **of), some.sampled_from("ij"),
                    some.sampled_from("abcd"), some.sampled_from(["expert", "corpus", "model"]), values),
        max_size=10,
    ))  # fmt: skip
    shuffled = data.draw(some.permutations(given))
    by = data.draw(some.sampled_from(["majority", "reliability"]))
    assert consensus(every_kind, given, by=by) == consensus(every_kind, shuffled, by=by)

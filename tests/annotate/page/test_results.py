import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from annotate.exchange.project import Project
from annotate.page.label_config import CONTROLS, MANY_LEVELS, MEDIA, OBJECTS, Page
from annotate.page.results import READERS, WRITERS, Context, from_results, says_something, to_results
from annotate.server.local import LocalServer
from annotate.studio import Studio
from pride_mm.errors import BadSamples, SampleError
from pride_mm.records import Annotation, Draft, Item
from pride_mm.schema import Field, Kind, OptionsField, ScaleField, Schema, Span, Turn, Value

TURNS, FPS = 3, 25.0
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def spans(options: tuple[str, ...], grid: bool) -> st.SearchStrategy[tuple[Span, ...]]:
    if grid:
        time = st.integers(0, 5000)
        pair = st.tuples(time, st.integers(1, 500)).map(lambda p: (p[0] / FPS, (p[0] + p[1]) / FPS))
    else:
        time = st.floats(0, 1e5, allow_nan=False)
        pair = st.tuples(time, time).map(lambda p: (min(p), max(p)))
    one = st.tuples(pair, st.sampled_from(options)).map(lambda p: Span(start=p[0][0], end=p[0][1], label=p[1]))
    return st.lists(one, max_size=4).map(tuple)


def values_of(field: Field, grid: bool) -> st.SearchStrategy[Any]:
    if isinstance(field, ScaleField):
        return st.integers(field.low, field.high)
    if not isinstance(field, OptionsField):
        return TEXTS
    option = st.sampled_from(field.options)
    return {
        Kind.CHOICE: option,
        Kind.CHOICES: st.lists(option, unique=True).map(tuple),
        Kind.TURN_CHOICE: st.tuples(*[st.none() | option] * TURNS),
        Kind.SPANS: spans(field.options, grid),
    }[field.kind]


def test_every_kind_can_be_shown_or_asked_for() -> None:
    assert set(OBJECTS) | set(CONTROLS) == set(Kind), "a kind has no builder"
    assert set(WRITERS) == set(READERS) == set(CONTROLS)
    assert set(MEDIA) < set(OBJECTS)


@pytest.mark.parametrize("media", [("clip", "voice"), ("voice",), ("clip",)])
def test_every_value_comes_back_equal(every_kind: Schema, media: tuple[str, ...]) -> None:
    page = Page(every_kind, media)
    context = Context(page, TURNS, FPS)
    assert {field.kind for field in page.controls} == set(CONTROLS)
    ranges = [f.high - f.low for f in page.controls if isinstance(f, ScaleField)]
    assert min(ranges) < MANY_LEVELS <= max(ranges), "both forms of a scale are tried"

    @settings(deadline=None)
    @given(st.fixed_dictionaries({}, optional={f.name: values_of(f, "voice" not in media) for f in page.controls}))
    def back(values: dict[str, Value]) -> None:
        bad = BadSamples()
        results = json.loads(json.dumps(to_results(values, context, "here")))
        assert from_results(results, context, "here", bad) == {k: v for k, v in values.items() if says_something(v)}
        assert not list(bad)
        assert len({(r["from_name"], r["id"]) for r in results}) == len(results), "two results share an id"

    back()


def test_a_time_on_video_is_rounded_to_a_frame(every_kind: Schema) -> None:
    context = Context(Page(every_kind, ("clip",)), TURNS, FPS)
    given = {"moment": (Span(start=0.511, end=0.512, label="shift"), Span(start=1.0, end=1.0, label="pause"))}
    back = from_results(to_results(given, context, ""), context, "", BadSamples())["moment"]
    for one, other in zip(given["moment"], back, strict=True):  # type: ignore[arg-type]
        assert abs(one.start - other.start) <= 1 / FPS  # type: ignore[union-attr]
        assert 0 < other.end - other.start <= 1.001 / FPS  # type: ignore[union-attr]


def test_what_a_page_has_no_control_for_is_refused_by_name(every_kind: Schema) -> None:
    context = Context(Page(every_kind, ()), TURNS, 0.0)
    with pytest.raises(SampleError, match=r"item 7: moment: .*text has no control"):
        to_results({"moment": (Span(start=0, end=1, label="shift"),)}, context, "item 7")
    with pytest.raises(SampleError, match="mood: 2 entries for 3 turns"):
        to_results({"mood": ("up", "down")}, context, "item 7")
    with pytest.raises(SampleError, match="surrogate"):
        to_results({"note": "half \ud800"}, context, "item 7")


def choice(name: str, *chosen: str, to: str = "talk") -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": "choices", "value": {"choices": list(chosen)}}


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([choice("cause", "SECRET")], "cause: the given value is not one of"),
        ([choice("cause", "é", "é")], "cause: 2 options where one"),
        ([choice("warmth", "99")], "warmth: the given value is not a whole number from -1 to 2"),
        ([choice("warmth", "0"), choice("warmth", "1")], "warmth: given 2 times"),
        ([choice("warmth", "SECRET")], "warmth: "),
        ([choice("mood-7", "up")], "mood: turn 7 of 3"),
        ([choice("mood-x", "up")], "mood: "),
        ([choice("renamed", "up")], "renamed: not a control of this page"),
        ([{"from_name": "moment", "value": {"start": 3, "end": 1, "labels": ["shift"]}}], "moment: the given value"),
        ([{"from_name": "moment", "value": {"labels": ["shift"]}}], "moment: not in the form"),
        ([{"from_name": "note", "value": {"text": 3}}], "note: not in the form"),
        (["SECRET"], "a result without a value"),
    ],
)
def test_a_refused_result_names_place_and_field_and_keeps_the_rest(
    every_kind: Schema, results: list[Any], said: str
) -> None:
    bad = BadSamples()
    context = Context(Page(every_kind, ("voice",)), TURNS, FPS)
    kept = from_results([*results, choice("needs", "ear", "rest")], context, "task 3 (x), annotator a", bad)
    assert kept == {"needs": ("ear", "rest")}
    (error,) = bad
    assert f"task 3 (x), annotator a: {said}" in str(error)
    assert "SECRET" not in str(error)


def test_nothing_said_is_nothing(every_kind: Schema) -> None:
    context = Context(Page(every_kind, ("voice",)), TURNS, FPS)
    assert to_results({"needs": (), "mood": (None,) * 3, "moment": ()}, context, "") == []
    bad = BadSamples()
    empty = [choice("needs"), {"from_name": "note", "value": {"text": [" "]}}, choice("cause")]
    assert from_results(empty, context, "", bad) == {}
    assert not list(bad)


HARD = [
    "שלום, אני עייף", "أنا بخير", "我不知道。", "👩‍👩‍👧 🙂", "<img src=x onerror=alert(1)>", "{{idx}} $talk",
    " kept\n\n", "e\u0301\u202e", "\x00", "word " * 4000,
]  # fmt: skip
HOW = st.sampled_from(["accepted", "edited", "written"])
DRAFTS = st.builds(Draft, model=TEXTS, how=HOW, change=st.none() | st.floats(0, 1))


@pytest.mark.label_studio
def test_any_annotation_comes_back_equal_from_a_real_server(
    studio: Studio, server: LocalServer, every_kind: Schema, items: list[Item]
) -> None:
    voice = next(item for item in items if item.id == "sound").inputs["audio"]
    talk = tuple(Turn(speaker=f"s{turn}", text=HARD[turn]) for turn in range(TURNS))
    page = Page(every_kind, ("voice",))
    values = {field.name: values_of(field, False) for field in page.controls}
    values["note"] |= st.sampled_from(HARD)
    drafted = st.dictionaries(st.sampled_from(sorted(values)), DRAFTS)
    one = st.tuples(st.fixed_dictionaries({}, optional=values), drafted)

    # what fails is not shrunk: every example takes seconds on the server
    @settings(
        max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True,
        phases=[Phase.generate],
    )  # fmt: skip
    @given(st.lists(one, min_size=25, max_size=25))
    def back(given: list[tuple[dict[str, Value], dict[str, Draft]]]) -> None:
        name = f"T {uuid.uuid4().hex[:8]}"
        project = Project(studio, every_kind, name)
        wanted, pushed = [], []
        for number, (said, drafts) in enumerate(given):
            id_ = f"i-{number:02d}"
            inputs = {"talk": talk, "voice": voice}
            pushed.append(Item(id=id_, corpus="t", group=id_, inputs={}).model_copy(update={"inputs": inputs}))
            kept = {name: value for name, value in said.items() if says_something(value)}
            named = {name: draft for name, draft in drafts.items() if name in kept}
            bare = Annotation(item=id_, annotator=HARD[number % 6], values={})
            wanted.append(bare.model_copy(update={"values": kept, "drafts": named}))
        # one half with their items, in bulk; the other one by one, through the page's own way
        project.push(pushed, server.media_root, wanted[::2])
        project.push_annotations(wanted[1::2])
        found = {one.item: one for one in project.pull(b"k" * 32, BadSamples(0)).annotations}
        assert found.keys() == {one.item for one in wanted if one.values}
        for one in wanted:
            assert found.get(one.item, one) == one

    back()

"""ELAN files: what is written comes back, also after somebody worked on it in ELAN's way."""

import stat
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pympi.Elan import Eaf

from annotate.elan.read import read_elan
from annotate.elan.write import digest, rounded, write_elan
from pipelines.cli import run
from pride_mm.errors import BadSamples
from pride_mm.records import Annotation, Draft, Item, read_annotations, write_records
from pride_mm.schema import Field, Kind, Media, Schema, Span, Turn, Value

TALK = (
    Turn(speaker="client", text="I <b>can't</b> sleep & אני עייף", start=0.2, end=1.5),
    Turn(speaker="helper", text="What keeps you awake?"),
    Turn(speaker="client", text="我不知道。", start=1.4, end=3.0),
)


def item(name: str = "i-1", **inputs: Value) -> Item:
    return Item(id=name, corpus="t", group="g", inputs={}).model_copy(update={"inputs": inputs})


def annotated(annotator: str, values: dict[str, Value], origin: str = "expert", **drafts: Draft) -> Annotation:
    record = Annotation.model_validate({"item": "i-1", "annotator": annotator, "origin": origin, "values": {}})
    return record.model_copy(update={"values": values, "drafts": drafts})


def there_and_back(
    folder: Path, schema: Schema, given: list[Annotation], talk: tuple[Turn, ...] = TALK
) -> list[Annotation]:
    bad = BadSamples()
    assert write_elan(folder, schema, [item(talk=talk)], given, bad) == 1
    back = list(read_elan([folder / "i-1.eaf"], schema, bad))
    assert not list(bad)
    return back


# XML can hold every character but these; a line feed after a carriage return is kept, too
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1
)
texts = st.builds(
    lambda a, b: a + b, texts, st.sampled_from(["", " ", "\n", "\t", "\r\n", "<b>&amp;]]>", "אני"])
).filter(str.strip)


def values_of(field: Field) -> st.SearchStrategy[Value]:
    options = st.sampled_from(getattr(field, "options", ("",)))
    times = st.tuples(st.integers(0, 5000), st.integers(1, 3000))
    spans = st.builds(lambda t, label: Span(start=t[0] / 1000, end=sum(t) / 1000, label=label), times, options)
    return {
        Kind.TEXT: texts,
        Kind.CHOICE: options,
        Kind.CHOICES: st.sets(options, min_size=1).map(lambda chosen: tuple(sorted(chosen, key=field.options.index))),
        Kind.SCALE: st.integers(getattr(field, "low", 0), getattr(field, "high", 0)),
        Kind.TURN_CHOICE: st.lists(st.none() | options, min_size=3, max_size=3).filter(any).map(tuple),
        Kind.SPANS: st.lists(spans, min_size=1, max_size=6).map(tuple),
    }[field.kind]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_annotation_comes_back_equal(data: st.DataObject, every_kind: Schema, tmp_path: Path) -> None:
    fields = every_kind.privileged + every_kind.targets
    people = data.draw(
        st.lists(st.tuples(texts, st.sampled_from(["expert", "corpus", "model"])), min_size=1, max_size=3, unique=True)
    )
    wanted = []
    for annotator, origin in people:
        values = data.draw(st.fixed_dictionaries({}, optional={field.name: values_of(field) for field in fields}))
        if values:
            wanted.append(annotated(annotator, values, origin))
    back = there_and_back(tmp_path, every_kind, wanted)
    assert [(a.annotator, a.origin) for a in back] == [(a.annotator, a.origin) for a in wanted]
    for mine, theirs in zip(wanted, back, strict=True):
        assert theirs.values == {name: rounded(value) for name, value in mine.values.items()}


@pytest.fixture
def written(tmp_path: Path, every_kind: Schema) -> Path:
    values: dict[str, Value] = {
        "note": "She is tired.", "cause": "$loss", "needs": ("rest", "ear"), "warmth": 1, "depth": 77,
        "mood": ("down", None, "up"), "reply": "Stay.",
        "moment": (Span(start=0.5, end=1.25, label="shift"), Span(start=1.0, end=2.0, label="pause")),
    }  # fmt: skip
    drafts = {
        "note": Draft(model="m@1", how="accepted", change=0.0),
        "reply": Draft(model="m@1", how="edited", change=0.25),
        "moment": Draft(model="m@1", how="accepted", change=0.0),
    }
    there_and_back(
        tmp_path, every_kind, [annotated("expert-a", values, **drafts), annotated("expert-a", {"note": "x"}, "model")]
    )
    return tmp_path / "i-1.eaf"


def test_the_document_is_sound(written: Path) -> None:
    """What ELAN's schema asks for and pympi does not check: order of times, references, no overlap on a tier."""
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    root = ElementTree.parse(written).getroot()
    times = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE", "")) for slot in root.iter("TIME_SLOT")}
    assert list(times.values()) == sorted(times.values())
    kinds = {tag.get("LINGUISTIC_TYPE_ID"): tag for tag in root.iter("LINGUISTIC_TYPE")}
    words = {tag.get("CV_ID") for tag in root.iter("CONTROLLED_VOCABULARY")}
    ids = [tag.get("ANNOTATION_ID") for tag in root.iter() if tag.get("ANNOTATION_ID")]
    assert len(ids) == len(set(ids))
    order = [tag.tag for tag in root]
    assert order == sorted(
        order,
        key=[
            "HEADER",
            "TIME_ORDER",
            "TIER",
            "LINGUISTIC_TYPE",
            "LANGUAGE",
            "CONSTRAINT",
            "CONTROLLED_VOCABULARY",
        ].index,
    )
    for tier in root.iter("TIER"):
        kind = kinds[tier.get("LINGUISTIC_TYPE_REF")]
        assert kind.get("CONTROLLED_VOCABULARY_REF", "cause") in words
        assert (kind.get("CONSTRAINTS") == "Symbolic_Association") == (tier.get("PARENT_REF") == "talk")
        parts = [
            (times[a.get("TIME_SLOT_REF1")], times[a.get("TIME_SLOT_REF2")]) for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        assert all(start < end for start, end in parts)
        assert all(one[1] <= other[0] for one, other in pairwise(parts)), tier.get("TIER_ID")
    whole = [t for t in root.iter("TIER") if t.get("TIER_ID") == "note@expert-a"]
    assert [times[a.get("TIME_SLOT_REF2")] for a in whole[0].iter("ALIGNABLE_ANNOTATION")] == [max(times.values())]
    assert {t.get("TIER_ID") for t in root.iter("TIER")} >= {
        "talk",
        "needs+2@expert-a",
        "moment+2@expert-a",
        "note@expert-a [model]",
    }


def test_work_done_in_elan_comes_back(written: Path, every_kind: Schema) -> None:
    """A new annotation, a changed value, a tier of a new annotator, a value that is none, a tier that is no field's."""
    eaf = Eaf(str(written))
    eaf.add_annotation("moment@expert-a", 2500, 2750, "shift")
    (number, (start, end, _, svg)) = next(iter(eaf.tiers["note@expert-a"][0].items()))
    eaf.tiers["note@expert-a"][0][number] = (start, end, "She is afraid.", svg)
    eaf.add_tier("note@Dr. N", ling="note")
    eaf.add_annotation("note@Dr. N", 0, 900, "First part.")
    eaf.add_annotation("note@Dr. N", 900, 2000, "Second part.")
    eaf.add_tier("cause@Dr. N", ling="cause")
    eaf.add_annotation("cause@Dr. N", 0, 900, "SECRET not an option")
    eaf.add_tier("gaze")
    eaf.add_annotation("gaze", 0, 100, "left")
    changed = written.with_name("changed.eaf")
    eaf.to_file(str(changed))
    bad = BadSamples()
    mine, model, new = read_elan([changed], every_kind, bad)
    assert mine.item == "i-1"
    assert mine.values["note"] == "She is afraid."
    assert mine.values["moment"][-1] == Span(start=2.5, end=2.75, label="shift")  # type: ignore[index, misc]
    assert {name: (d.how, d.change) for name, d in mine.drafts.items()} == {
        "note": ("edited", None), "reply": ("edited", 0.25), "moment": ("edited", None),
    }  # fmt: skip
    assert (model.origin, new.annotator, new.origin) == ("model", "Dr. N", "expert")
    assert new.values == {"note": "First part.\nSecond part."}
    said = [str(error) for error in bad]
    assert said == [
        "changed.eaf: tier 'gaze': is no FIELD@ANNOTATOR of the schema; left alone",
        'changed.eaf: Dr. N: cause: the given value is not one of: $loss, a "b" <c>, é',
    ]


def test_drafts_keep_their_origin(written: Path, every_kind: Schema) -> None:
    (mine, _) = read_elan([written], every_kind, BadSamples())
    assert {name: (d.model, d.how, d.change) for name, d in mine.drafts.items()} == {
        "note": ("m@1", "accepted", 0.0), "reply": ("m@1", "edited", 0.25), "moment": ("m@1", "accepted", 0.0),
    }  # fmt: skip
    assert digest(("a", "b")) == digest(("b", "a"))


def levels(name: str) -> str:
    return f"&{name};" * 10


LEVELS = "".join(f"<!ENTITY {new} '{levels(old)}'>" for old, new in zip("abcdefghi", "bcdefghij", strict=True))
LAUGHS = f"<!DOCTYPE x [<!ENTITY a 'ha'>{LEVELS}]><ANNOTATION_DOCUMENT>&j;</ANNOTATION_DOCUMENT>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "document type"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><a>&a;</a>', "document type"),
        ("<a>", "not XML"),
        ("", "not XML"),
        ("<html/>", "no ELAN file"),
        ("\x80\x04pickle", "not XML"),
    ],
)
def test_what_is_no_elan_file_is_refused(tmp_path: Path, every_kind: Schema, text: str, said: str) -> None:
    path = tmp_path / "x.eaf"
    path.write_text(text)
    bad = BadSamples()
    assert not list(read_elan([path, tmp_path / "none.eaf"], every_kind, bad))
    assert said in str(next(iter(bad)))
    assert "none.eaf: cannot be read" in str(list(bad)[1])


def test_what_elan_cannot_hold_is_named(tmp_path: Path, every_kind: Schema) -> None:
    bad = BadSamples()
    values: dict[str, Value] = {"note": "SECRET \x00", "mood": ("up",), "warmth": 1}
    write_elan(tmp_path, every_kind, [item(talk=TALK)], [annotated("a", values)], bad)
    assert [str(error) for error in bad] == [
        "item i-1, annotator a: note: holds a character that XML cannot write (a control character)",
        "item i-1, annotator a: mood: 1 entries for 3 turns",
    ]
    (back,) = read_elan(tmp_path.glob("*.eaf"), every_kind, bad)
    assert back.values == {"warmth": 1}


def test_the_commands_link_the_clip(items: list[Item], pride: Schema, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(Path("items.jsonl"), items)
    record = Annotation(item="both", annotator="a", values={}).model_copy(
        update={"values": {"situation": "tired", "shift": (Span(start=0.5, end=1, label="shift"),)}}
    )
    write_records(Path("annotations.jsonl"), [record])
    assert run(["label", "elan", "write", "items.jsonl", "--annotations", "annotations.jsonl", "--out", "elan"]) == 0
    assert f"{len(items)} files" in capsys.readouterr().out
    eaf = Eaf("elan/both.eaf")
    (media,) = eaf.get_linked_files()
    clip = items[0].inputs["video"]
    assert isinstance(clip, Media)
    assert media["MEDIA_URL"] == Path(clip.path).as_uri()
    assert run(["label", "elan", "read", "elan", "--out", "back.jsonl"]) == 0
    assert list(read_annotations(Path("back.jsonl"), pride, BadSamples())) == [record]
    assert run(["label", "elan", "read", "nowhere"]) == 2
    assert "no .eaf" in capsys.readouterr().err

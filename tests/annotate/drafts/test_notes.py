"""From annotations to shards: what a model wrote is not taken for an expert's word on any step of the way."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run
from pride_mm.data.shards import Sample, ShardSet
from pride_mm.errors import BadSamples
from pride_mm.records import Annotation, Draft, Item, read_notes, write_records
from pride_mm.schema import Role, Schema, Turn, Value

MODEL = "m-1@ab"


def said(annotator: str, accepted: list[str], **values: Value) -> Annotation:
    drafts = dict.fromkeys(accepted, Draft(model=MODEL, how="accepted", change=0.0))
    bare = Annotation(item="one", annotator=annotator, values={}, drafts={})
    return bare.model_copy(update={"values": values, "drafts": drafts})


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Packs annotations of one item by the commands; returns what the shard has of it."""
    monkeypatch.chdir(tmp_path)
    talk = (Turn(speaker="client", text="I lost my job."), Turn(speaker="helper", text="Oh."))
    bare = Item(id="one", corpus="t", group="g", inputs={})
    own = {"inputs": {"dialogue": talk}, "targets": {"emotion": "calm", "response": "I am here."}}
    write_records(Path("items.jsonl"), [bare.model_copy(update=own)])

    def pack(annotations: list[Annotation], *options: str) -> Sample:
        write_records(Path("annotations.jsonl"), annotations)
        assert run(["label", "agree", "annotations.jsonl"]) == 0
        assert run(["pack", "items.jsonl", "--notes", "privileged.jsonl", "--out", "shards", *options]) == 0
        assert run(["check", "shards"]) == 0
        shards = ShardSet.open(Path("shards"))
        split, place = shards.find("one")
        return shards.samples(split, (Role.INPUT, Role.TARGET, Role.PRIVILEGED))[place]

    return pack


def test_drafts_that_all_accepted_are_left_out_and_what_one_came_to_alone_stays(packed: Any, pride: Schema) -> None:
    given = [
        said("a", ["feelings", "situation", "expression", "emotion"],
             feelings="Sad.", situation="A job was lost.", expression=1, emotion="sad", emotional_reaction=2),
        said("b", ["feelings", "emotion"],
             feelings="Sad.", situation="She lost her job and is ashamed.", expression=1, emotion="sad"),
    ]  # fmt: skip
    sample = packed(given)
    (notes,) = read_notes(Path("privileged.jsonl"), pride, BadSamples(0))
    assert notes.drafts == {"feelings": MODEL, "emotion": MODEL}
    assert sample.privileged == {
        "situation": "She lost her job and is ashamed.",  # her own, before a draft
        "expression": 1,  # the draft's, too, but one came to it alone
        "emotional_reaction": 2,
    }
    assert sample.targets["emotion"] == "calm", "the item's own, not the model's"
    assert not sample.drafts
    kept = packed(given, "--drafts")
    assert kept.privileged["feelings"] == "Sad."
    assert kept.drafts == {"feelings": MODEL}
    assert "left a model's draft as it was" in kept.reached["feelings"]
    assert kept.targets["emotion"] == "calm"


def test_an_edited_draft_is_an_experts_word(packed: Any) -> None:
    edited = said("a", [], situation="A job was lost, and with it her friends.", emotion="sad")
    drafts = {"situation": Draft(model=MODEL, how="edited", change=0.4)}
    sample = packed([edited.model_copy(update={"drafts": drafts})])
    assert sample.privileged["situation"] == edited.values["situation"]
    assert not sample.drafts
    assert sample.targets["emotion"] == "sad"

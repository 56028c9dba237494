"""Requests: inputs only, every mistake by its field."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pride_mm.errors import UserError
from pride_mm.schema import Media, Role, load_schema
from pride_mm.serving.request import load_inputs, read_request, request_model, values_of

SCHEMA = load_schema("pride").served()
MODEL = request_model(SCHEMA)
TURNS = [{"speaker": "a", "text": "I lost my job."}]


@pytest.mark.parametrize("name", [f.name for f in load_schema("pride").field if f.role is not Role.INPUT])
def test_what_is_no_input_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValidationError, match=f"'{name}' is no input of this student"):
        MODEL.model_validate({"dialogue": TURNS, name: "anything"})
    with pytest.raises(UserError, match=f"'{name}' is no input.*exists in training only"):
        read_request(MODEL, {"dialogue": TURNS, name: None})


def test_the_value_of_a_refused_field_is_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        read_request(MODEL, {"dialogue": TURNS, "situation": "her quokka died"})
    assert "quokka" not in str(caught.value)


def test_inputs_come_through_and_paths_lie_beside_the_file() -> None:
    request = read_request(MODEL, {"dialogue": TURNS, "video": "a.mp4", "audio": None}, Path("/clips"))
    values = values_of(request)
    assert set(values) == {"dialogue", "video"}
    assert values["video"] == Media(path="/clips/a.mp4")
    assert values["dialogue"][0].text == "I lost my job."  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "JSON object"),
        ({}, "dialogue: Field required"),
        ({"dialogue": []}, "dialogue: "),
        ({"dialogue": TURNS, "video": 3}, "video: 3 is not"),
        ({"dialogue": TURNS, "audio": {"path": "x", "start": -1}}, "audio: .*start"),
    ],
)
def test_mistakes_are_named(given: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_request(MODEL, given)


def test_media_are_read_as_they_lie_in_shards(clip: Path, tmp_path: Path) -> None:
    whole = load_inputs(SCHEMA, read_request(MODEL, {"dialogue": TURNS, "video": str(clip), "audio": str(clip)}))
    assert whole["video"] == clip.read_bytes() or whole["video"][4:8] == b"ftyp"  # type: ignore[index]
    assert whole["audio"][:4] == b"fLaC"  # type: ignore[index]
    with pytest.raises(UserError, match=r"Video: no file at .*gone\.mp4"):
        load_inputs(SCHEMA, read_request(MODEL, {"dialogue": TURNS, "video": str(tmp_path / "gone.mp4")}))
    (tmp_path / "bad.mp4").write_bytes(clip.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"Video: bad\.mp4 cannot be read"):
        load_inputs(SCHEMA, read_request(MODEL, {"dialogue": TURNS, "video": str(tmp_path / "bad.mp4")}))

import json
from collections import Counter
from itertools import pairwise

from pride_mm.schema import load_schema


def test_every_answer_of_a_supporter_is_an_item(take_in, data_dir) -> None:
    items, annotations, bad = take_in("esconv", data_dir / "esconv")
    assert not len(bad)
    assert len(items) == len(annotations) == 4513
    assert len({item.group for item in items}) == 395
    assert Counter(item.split for item in items) == {"test": 2323, "valid": 2190}
    strategies = set(load_schema("support").get("strategy").options)
    notes = {note.item: note.values for note in annotations}
    for item in items:
        turns, values = item.inputs["dialogue"], notes[item.id]
        assert turns[-1].speaker == "seeker"
        assert {turn.speaker for turn in turns} <= {"seeker", "supporter"}
        assert item.targets.keys() == {"response", "emotion", "strategy"}
        assert item.targets["strategy"] in strategies
        assert values["situation"]
        # a strategy for each of the supporter's turns, none for the seeker's
        given = [option is not None for option in values["strategies"]]
        assert given == [turn.speaker == "supporter" for turn in turns]
        assert values.get("distress", 3) in range(1, 6)
        assert item.targets["response"] not in str(values)


def test_tokenised_text_is_tidied(take_in, data_dir) -> None:
    items, annotations, _ = take_in("esconv", data_dir / "esconv", limit=1)
    assert items[0].inputs["dialogue"][1].text == "Hi. I had problems in the past and somehow right now."
    assert "didn't have such things" in items[-1].inputs["dialogue"][7].text
    assert annotations[0].values["distress"] == 4
    assert annotations[0].values["distress_after"] == 2


def test_the_original_form(take_in, data_dir) -> None:
    items, annotations, bad = take_in("esconv", data_dir / "esconv" / "FailedESConv.json")
    assert not len(bad)
    assert len(items) == len(annotations) == 1908
    assert len({item.group for item in items}) == 196
    assert {item.split for item in items} == {None}
    # turns of one person that follow each other are one
    for item in items:
        speakers = [turn.speaker for turn in item.inputs["dialogue"]]
        assert all(one != other for one, other in pairwise(speakers))


def test_bad_entries_are_named_and_the_rest_kept(take_in, data_dir, tmp_path) -> None:
    whole = json.loads((data_dir / "esconv" / "FailedESConv.json").read_text())[:6]
    secret = "a situation nobody may read"
    whole[1] |= {"situation": secret, "problem_type": "a problem nobody may read"}
    whole[2] |= {"dialog": [{"speaker": "speaker"}]}
    path = tmp_path / "ESConv.json"
    path.write_text(json.dumps(whole)[:-1] + ', "no object", {"situation": ')
    items, _, bad = take_in("esconv", path, max_bad=60)
    named = {(error.place, error.field) for error in bad}
    assert named == {
        ("ESConv.json: entry 2", "problem"),
        ("ESConv.json: entry 3", None),
        ("ESConv.json: entry 7", None),
        ("ESConv.json: entry 8", None),
    }
    assert "nobody may read" not in "".join(map(str, bad))
    assert {item.group for item in items} == {"ESConv 1", "ESConv 4", "ESConv 5", "ESConv 6"}

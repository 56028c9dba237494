import json
from collections import Counter


def test_the_chain_behind_each_answer_becomes_notes(take_in, data_dir) -> None:
    items, annotations, bad = take_in("escot", data_dir / "escot")
    assert not len(bad)
    assert Counter(item.split for item in items) == {"test": 341, "valid": 172}
    given = {
        f"escot_{x['id']}": x for n in ("test", "val") for x in json.loads((data_dir / f"escot/{n}.json").read_text())
    }
    for item, note in zip(items, annotations, strict=True):
        raw, chain = given[item.id]["original_data"], given[item.id]["cot_data"]
        assert [turn.text for turn in item.inputs["dialogue"]] == [turn["content"].strip() for turn in raw["dialog"]]
        assert item.targets == {"response": raw["response"].strip(), "strategy": chain["recognized_strategy"]}
        assert note.values == {
            "feelings": chain["emotion"].strip(),
            "stimulus": chain["emotion_stimuli"].strip(),
            "appraisal": chain["individual_appraisal"].strip(),
            "strategy_reason": chain["strategy_reason"].strip(),
        }


def test_both_support_corpora_are_of_one_schema(take_in, data_dir) -> None:
    from pipelines.sources.corpus import load_corpus

    assert load_corpus("escot").schema_name == load_corpus("esconv").schema_name

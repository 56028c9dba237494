"""The whole evaluation on two real, tiny students and real samples."""

import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.evaluate import evaluate
from pride_mm.evaluation.gold import read_gold, shuffled
from pride_mm.evaluation.predictions import Examinee
from pride_mm.evaluation.report import write_report
from pride_mm.evaluation.results import Evaluation, scores_json
from pride_mm.student import load_student
from pride_mm.training.checkpoint import student_folder

NOTE_WORD = "quokkas"


@pytest.fixture(scope="module")
def found(runs: list[Path], opened: ShardSet) -> Evaluation:
    return evaluate(runs, opened, "test", samples=6)


def test_every_row_stands_in_the_table(found: Evaluation) -> None:
    rows = {row.name: row for row in found.contenders}
    assert list(rows)[:2] == ["one", "two<b>"]
    assert {"constant answer", "shuffled human", "human", "most common class"} <= set(rows)
    assert rows["human"].scores["rouge_l"].value == pytest.approx(100)
    assert {"perplexity", "bits_per_byte", "bleu", "emotion.accuracy", "emotion.macro_f1"} <= set(rows["one"].scores)
    assert rows["one"].scores["emotion.accuracy"].n == 14
    assert rows["one"].scores["bleu"].n == 6
    assert (found.samples, found.with_response, found.generated) == (14, 12, 6)
    assert "pride teach" in found.measured["teacher"]


def test_everyone_gets_every_metric_of_texts(found: Evaluation) -> None:
    texts = {"bleu_1", "bleu_2", "bleu_3", "bleu", "chrf", "rouge_1", "rouge_2", "rouge_l", "meteor"}
    for row in found.contenders:
        if row.name != "most common class":
            assert texts | {"distinct_1", "distinct_2", "empty"} <= set(row.scores)
    rows = {row.name: row.scores for row in found.contenders}
    assert "emotion.calibration_error" in rows["one"]
    # four of the six that it learnt from are sad, eight of the fourteen that it is asked are
    assert rows["most common class"]["emotion.calibration_error"].n == 14
    assert rows["most common class"]["emotion.calibration_error"].value == pytest.approx(100 * (4 / 6 - 8 / 14))
    assert sum(each.count for each in found.runs[0].heads["emotion"].bins) == 14


def test_what_was_not_measured_is_named(found: Evaluation, tmp_path: Path) -> None:
    assert set(found.missing) >= {"embedding", "bert_score", "empathy"}
    assert "give --bert-score FOLDER" in scores_json(found)["missing"]["bert_score"]
    write_report(tmp_path / "report.html", found)
    assert "bert_score (no model was given: give --bert-score FOLDER)" in (tmp_path / "report.html").read_text()


def test_perplexity_is_that_of_plain_cross_entropy(found: Evaluation, runs: list[Path], opened: ShardSet) -> None:
    student, tokenizer, _ = load_student(student_folder(runs[0]))
    examinee = Examinee(student, tokenizer, opened.schema, 12)
    reader = opened.samples("test")
    nats, tokens = 0.0, 0
    for sample in reader:
        response = (batch := examinee.collator([sample])).targets["response"]
        if not response.mask.any():
            continue
        ids = torch.cat([batch.inputs["dialogue"].values, response.values], 1)
        sources = student.encode(batch.inputs)
        with torch.no_grad():
            logits = student(ids, **student.remember(sources)).logits[:, :-1]
        count = int(response.mask.sum())
        nats += float(torch.nn.functional.cross_entropy(logits[0, -count:], ids[0, -count:], reduction="sum"))
        tokens += count
    score = found.contenders[0].scores["perplexity"]
    assert score.n == tokens
    assert score.value == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_no_student_leaks_and_the_overlap_is_there(found: Evaluation) -> None:
    assert found.clean
    assert found.overlap["situation"].samples == 6
    assert set(found.runs[0].attention) == {"audio", "dialogue summary"}


def test_without_the_notes_tar_all_scores_are_the_same(
    found: Evaluation, runs: list[Path], shards: Path, tmp_path: Path
) -> None:
    shutil.copytree(shards, tmp_path / "bare")
    for tar in (tmp_path / "bare").glob("*.privileged.tar"):
        tar.unlink()
    bare = evaluate(runs[:1], ShardSet.open(tmp_path / "bare"), "test", samples=6)
    assert bare.runs[0].likelihood == found.runs[0].likelihood
    assert bare.runs[0].answers == found.runs[0].answers
    assert bare.contenders[0] == found.contenders[0]
    assert bare.overlap == {}


def test_differences_are_held_against_the_first_run(found: Evaluation) -> None:
    assert {(d.run, d.base) for d in found.differences} == {("two<b>", "one")}
    one, two = (row.scores["perplexity"].value for row in found.contenders[:2])
    difference = next(d for d in found.differences if d.metric == "perplexity")
    assert difference.score.value == pytest.approx(two - one)


def test_scores_are_plain_json_without_a_note(found: Evaluation) -> None:
    text = json.dumps(scores_json(found), allow_nan=False)
    assert NOTE_WORD not in text
    assert json.loads(text)["privileged_fields"][0] == "turn_emotion"


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "link", "object", "embed"):
            self.found.append((tag, ""))
        self.found += [
            (tag, value)
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset") and value and not value.startswith("#")
        ]


def test_the_report_is_self_contained_and_escapes(found: Evaluation, tmp_path: Path) -> None:
    wild = tuple(replace(e, response='<script>alert("x")</script>', key="<i>k</i>") for e in found.examples)
    write_report(tmp_path / "report.html", replace(found, examples=wild))
    text = (tmp_path / "report.html").read_text()
    parser = _Links()
    parser.feed(text)
    assert parser.found == []
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)
    assert "<script" not in text
    assert "two<b>" not in text
    assert "two&lt;b&gt;" in text
    assert NOTE_WORD not in text
    assert text.count("<svg") >= 4


def test_an_empty_answer_is_named_in_the_report(found: Evaluation, tmp_path: Path) -> None:
    row = replace(found.contenders[0], empty=("ed_3",))
    write_report(tmp_path / "report.html", replace(found, contenders=(row, *found.contenders[1:])))
    assert "left 1 of 6 without an answer" in (tmp_path / "report.html").read_text()


def test_shuffled_humans_answer_somebody_else(opened: ShardSet) -> None:
    gold = read_gold(opened, "test", BadSamples())
    keys = list(gold.responses)
    answers = shuffled(keys, gold)
    by_text = {text: key for key, text in gold.responses.items()}
    assert all(gold.groups[by_text[text]] != gold.groups[key] for key, text in zip(keys, answers, strict=True))


def test_what_is_no_run_is_refused(opened: ShardSet, tmp_path: Path, runs: list[Path]) -> None:
    with pytest.raises(UserError, match=r"is not a run: it has no settings\.json"):
        evaluate([tmp_path], opened, "test")
    with pytest.raises(UserError, match="same name"):
        evaluate([runs[0], runs[0]], opened, "test")
    with pytest.raises(UserError, match="No split 'nope'"):
        evaluate(runs[:1], opened, "nope")


def test_a_student_of_another_schema_is_refused(opened: ShardSet, runs: list[Path]) -> None:
    later = opened.schema.model_copy(update={"version": 2})
    other = ShardSet(opened.storage, opened.manifest.model_copy(update={"contract": later}))
    with pytest.raises(UserError, match="was trained with another schema"):
        evaluate(runs[:1], other, "test")


def test_a_broken_clip_is_counted_once_and_left_out(runs: list[Path], shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    tar = copy / "test-000000.tar"
    data = tar.read_bytes()
    at = data.index(b"fLaC")
    tar.write_bytes(data[:at] + b"nope" + bytes(2000) + data[at + 2004 :])
    bad = BadSamples()
    found = evaluate(runs, ShardSet.open(copy), "test", samples=6, bad=bad)
    assert len(bad) == 1
    assert bad.errors[0].place in ("rav_0", "rav_1")
    assert bad.errors[0].place not in found.runs[0].answers
    assert found.runs[0].heads["emotion"].accuracy.n == 13
    assert len(found.bad) == 1

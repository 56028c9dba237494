"""An ablation on real dialogues with real trainings: resumed, compared, and looked at as its user does."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run
from pipelines.trials import BOUNDS, run_ablation
from pipelines.workers import processes
from pride_mm.config import CONFIGS
from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.evaluation.ablation.arms import TeacherChoice, load_ablation
from pride_mm.evaluation.ablation.findings import Findings
from pride_mm.evaluation.ablation.report import findings_json, write_ablation
from pride_mm.evaluation.ablation.teachers import Lecture, give_lecture, link_view, view_name
from pride_mm.evaluation.ablation.trials import Design
from pride_mm.evaluation.evaluate import evaluate
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.scoring import weights_sha256
from tests.pride_mm.evaluation.conftest import NOTE


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    """Four arms of a run on the small model; the one of pictures means nothing to shards without any."""
    path = tmp_path_factory.mktemp("toml") / "small.toml"
    path.write_text(
        f"""
        name = "small"
        description = "What is tried in this test."
        run = "whole"
        seeds = [1, 2]
        answers = 4
        change.student = {{ backbone = "{small_model}", layers = 2, video.name = "none", audio.name = "none" }}
        change.optim = {{ epochs = 1, norms_every = 0 }}
        change.data = {{ batch_size = 4, max_context = 64, max_response = 12 }}
        change.answers = 0
        teacher = {{ models = ["{small_model}"], top_k = 8, max_prompt = 1024 }}
        [[arm]]
        name = "plain"
        title = "fine-tuning alone"
        matched = "compute"
        change = {{ loss = {{ kd = 0.0, mmd = 0.0, prior = 0.0, privileged = 0.0 }} }}
        [[arm]]
        name = "shuffled"
        title = "a teacher with notes of others"
        teacher = {{ notes = "shuffled" }}
        """
    )
    return path


def ablate(toml: Path, shards: Path, out: Path, workers: int = 1) -> Findings:
    design = Design.of(load_ablation(toml), ShardSet.open(shards), out)
    with processes(workers, BOUNDS) as hands:
        return run_ablation(design, hands)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="module")
def found(toml: Path, shards: Path, work: Path) -> Findings:
    return ablate(toml, shards, work)


def test_every_arm_has_been_trained_from_every_seed(found: Findings, work: Path) -> None:
    assert [arm.name for arm in found.arms] == ["full", "plain", "shuffled"]
    assert {path.name for path in (work / "runs").iterdir()} == {
        f"{arm}-{seed}" for arm in ("full", "plain", "shuffled") for seed in (1, 2)
    }
    settings = json.loads((work / "runs/plain-2/settings.json").read_text())
    assert (settings["seed"], settings["loss"]["kd"]) == (2, 0.0)


def test_as_much_computing_is_more_epochs(found: Findings) -> None:
    assert found.arms[0].epochs == found.arms[2].epochs == 1
    assert found.arms[1].epochs >= 2  # no pass with notes, no teacher that reads


def test_its_figures_are_those_of_an_evaluation(found: Findings, shards: Path, work: Path) -> None:
    compared = evaluate([work / "runs/full-1", work / "runs/full-2"], ShardSet.open(shards), "test", 4)
    scores = [row.scores for row in compared.contenders if row.what == "run"]
    for name in ("perplexity", "emotion.accuracy", "emotion.macro_f1", "bleu", "rouge_l", "meteor"):
        mean = sum(one[name].value for one in scores) / 2
        assert found.base.values[name][0] == pytest.approx(mean), name
    beside = {row.name: row for row in found.beside}
    assert {"teacher, with notes", "teacher, with notes of others", "shuffled human", "human"} <= set(beside)
    assert beside["human"].values["rouge_l"][0] == pytest.approx(100)
    assert beside["teacher, with notes"].parameters == 260_032


def test_each_arm_has_an_effect_with_an_interval(found: Findings) -> None:
    effect = found.arms[1].effects["perplexity"]
    assert effect.low <= effect.value <= effect.high
    assert len(effect.by_seed) == 2
    assert effect.adjusted >= effect.p
    assert not found.base.effects
    answered = found.arms[1].effects["rouge_l"]
    assert answered.value == pytest.approx(found.arms[1].values["rouge_l"][0] - found.base.values["rouge_l"][0])
    assert answered.groups <= 4  # of as many answers


@pytest.mark.parametrize("passes", [0, 2])
def test_its_teacher_may_learn_the_corpus_first(passes: int, shards: Path, work: Path, small_model: Path) -> None:
    choice = TeacherChoice(models=(str(small_model),), prompt="notes_only", top_k=8, adapt=passes)
    lecture = Lecture(work / view_name(choice, str(small_model)), str(small_model), choice, 12, 0, 1)
    link_view(ShardSet.open(shards), lecture.view)
    taught = give_lecture(lecture)
    kept = lecture.view / "teacher-adapter" / "adaptation.json"
    assert kept.is_file() == bool(passes)
    before = weights_sha256(load_backbone(small_model)[0])
    assert (taught.weights_sha256 == before) == (not passes)
    link_view(ShardSet.open(shards), lecture.view)  # the same shards: what it has learnt stays
    assert kept.is_file() == bool(passes)


def test_run_again_it_trains_nothing_and_says_the_same(found: Findings, toml: Path, shards: Path, work: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (work / "runs").rglob("*") if path.is_file()}
    said = {path: path.read_bytes() for path in (work / "predictions").iterdir()}
    again = ablate(toml, shards, work)
    assert findings_json(again) == findings_json(found)
    assert {path: path.stat().st_mtime_ns for path in (work / "runs").rglob("*") if path.is_file()} == before
    assert {path: path.read_bytes() for path in (work / "predictions").iterdir()} == said


def test_the_command_shows_a_table_and_a_verdict_a_line(
    found: Findings, toml: Path, shards: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ablate", str(shards), "--arms", str(toml), "--only", "shuffled", "--out", str(work)]) == 0
    shown = capsys.readouterr().out
    assert "a teacher with notes of others: " in shown
    assert "fine-tuning alone" not in shown
    table = [line for line in shown.splitlines() if ": " not in line and "ablation.html" not in line]
    assert len(table) >= 3
    assert max(len(line) for line in table) <= 80
    page = (work / "ablation.html").read_text()
    assert "Holm" in page
    assert "<script" not in page
    assert NOTE not in page + (work / "ablation.json").read_text()


def test_the_page_of_one_arm_has_no_picture_of_differences(found: Findings, tmp_path: Path) -> None:
    from dataclasses import replace

    write_ablation(tmp_path / "page.html", replace(found, arms=found.arms[:1]))
    assert "What each change does" not in (tmp_path / "page.html").read_text()


def test_what_these_shards_do_not_have_is_left_out_by_name(toml: Path, shards: Path) -> None:
    from pipelines.pack import pack
    from pride_mm.schema import load_schema

    del toml
    work = shards.parent / "text"
    item: dict[str, Any] = {"id": "x", "corpus": "c", "group": "g", "split": "train", "targets": {"response": "Oh."}}
    item["inputs"] = {"dialogue": [{"speaker": "a", "text": "Hi"}]}
    work.mkdir()
    (work / "items.jsonl").write_text(json.dumps(item) + "\n")
    pack([work / "items.jsonl"], load_schema("empathetic_dialogues"), work / "out", workers=1)
    design = Design.of(load_ablation("method"), ShardSet.open(work / "out"), work)
    assert set(design.left_out) == {"text", "text_audio", "text_video"}
    assert "plain" in {arm.name for arm in design.arms}


@pytest.mark.parametrize("path", sorted((CONFIGS / "ablation").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_ablations_load_and_change_something(path: Path) -> None:
    found = load_ablation(path)
    assert found.description
    assert len(found.seeds) >= 3
    assert all(found.settings_of(arm, 1).name == f"{arm.name}-1" for arm in found.arms)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "x"\n[[arm]]\nname = "same"\ntitle = "t"', "arm 'same' changes nothing"),
        ('name = "x"\n[[arm]]\nname = "a"\ntitle = "t"\nchange = { optim = { lrr = 1.0 } }', "optim.lrr"),
        ('name = "x"\n[[arm]]\nname = "full"\ntitle = "t"', "two arms are called full"),
        ('name = "x"\nseeds = [1, 1]', "a seed is given twice"),
        ('name = "x"\nsedes = [1]', "did you mean 'seeds'"),
        ('name = "x"\n[[arm]]\nname = "a"\ntitle = "t"\nteacher = { notes = "some" }', "arm 'a', teacher: notes"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        load_ablation(tmp_path / "x.toml")
    with pytest.raises(UserError, match=r"No arm nope in 'method': choose of plain"):
        load_ablation("method").chosen(["nope"])

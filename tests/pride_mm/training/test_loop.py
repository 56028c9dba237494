"""The loop on real clips with a real small model: every term, resuming, and what is never in a checkpoint."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTModel

from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, TooManyBadSamples, UserError
from pride_mm.losses.alignment import DualAlignment
from pride_mm.student import load_student
from pride_mm.student.backbone import cut_layers, load_backbone
from pride_mm.teacher.cache import teach
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher
from pride_mm.training import checkpoint, loop
from pride_mm.training.history import read_history
from pride_mm.training.settings import (
    AdaptedEncoder,
    CheckpointSettings,
    DataSettings,
    LoraSettings,
    OptimSettings,
    RunSettings,
    StudentSettings,
)

ALL_TERMS = {"total", "cross_entropy", "reverse_kl", "heads", "mmd", "prior", "privileged"}


VIT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 16,
}  # fmt: skip


def settings(small_model: Path, **changes: object) -> RunSettings:
    given = {
        "name": "run",
        "student": StudentSettings(backbone=str(small_model), layers=2, latents=4),
        "data": DataSettings(batch_size=5, max_context=96, max_response=12),
        "optim": OptimSettings(epochs=2, warmup=2),
        "loss": DualAlignment(privileged=0.5),
    }
    return RunSettings(**(given | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, taught: Path, small_model: Path) -> Path:
    out = tmp_path_factory.mktemp("runs")
    return loop.train(settings(small_model), ShardSet.open(taught), out).run


def test_every_term_is_in_the_history_and_the_loss_falls(finished):
    lines = read_history(finished / "metrics.jsonl")
    train = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in train] == [1, 2, 3, 4, 5, 6]
    assert set().union(*(line["terms"] for line in train)) >= ALL_TERMS
    assert train[-1]["terms"]["cross_entropy"] < train[0]["terms"]["cross_entropy"]
    valid = [line["terms"] for line in lines if line["split"] == "valid"]
    assert len(valid) == 2
    assert {"cross_entropy", "total", "accuracy.emotion", "privileged"} <= set(valid[0])


def test_a_checkpoint_holds_no_teacher_and_its_student_nothing_privileged(finished):
    folder = checkpoint.student_folder(finished)
    student, _, schema = load_student(folder)
    assert not schema.privileged
    names = list(load_file(folder / "model.safetensors"))
    assert not [
        name for name in names if "teacher" in name or "path" in name or "privileged" in name or "queue" in name
    ]
    text = "".join(path.read_text() for path in folder.glob("*.json") if "tokenizer" not in path.name)
    assert "situation" not in text
    assert not list(finished.rglob("*.bin")) + list(finished.rglob("*.pt")) + list(finished.rglob("*.pkl"))
    assert student.config.max_context == 96


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Break off behind so many steps, as a kill does."""
    whole = loop._Loop._train_step

    def stopped(self, batch):
        if self.step == steps:
            raise KeyboardInterrupt
        return whole(self, batch)

    monkeypatch.setattr(loop._Loop, "_train_step", stopped)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_stopped_anywhere_it_ends_as_if_never_stopped(finished, tmp_path, taught, small_model, monkeypatch, steps):
    often = settings(small_model, checkpoint=CheckpointSettings(steps=1))
    stop_after(monkeypatch, steps)
    with pytest.raises(KeyboardInterrupt):
        loop.train(often, ShardSet.open(taught), tmp_path)
    monkeypatch.undo()
    assert [int(found.name[-8:]) for found in checkpoint.checkpoints(tmp_path / "run")][-1] == steps
    outcome = loop.train(settings(small_model), ShardSet.open(taught), tmp_path)
    assert outcome.resumed
    ours, theirs = (
        checkpoint.checkpoints(run)[-1] / "student" / "model.safetensors" for run in (outcome.run, finished)
    )
    ours, theirs = load_file(ours), load_file(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    terms = [
        [line["terms"]["total"] for line in read_history(run / "metrics.jsonl")] for run in (outcome.run, finished)
    ]
    assert terms[0] == terms[1]


def test_parts_and_recomputing_change_memory_and_not_the_training(finished, taught, small_model, tmp_path):
    given = settings(
        small_model,
        data=DataSettings(batch_size=5, at_once=2, max_context=96, max_response=12),
        student=StudentSettings(backbone=str(small_model), layers=2, latents=4, recompute=True),
    )
    run = loop.train(given, ShardSet.open(taught), tmp_path).run
    ours, theirs = ([line["terms"] for line in read_history(one / "metrics.jsonl")] for one in (run, finished))
    for mine, other in zip(ours, theirs, strict=True):
        times = {"data_wait"}
        assert mine.keys() == other.keys()
        assert {name: mine[name] for name in mine.keys() - times} == pytest.approx(
            {name: other[name] for name in other.keys() - times}, rel=2e-3, abs=2e-4
        )


def test_norms_of_each_term_and_the_gap_are_in_the_history(finished):
    lines = read_history(finished / "metrics.jsonl")
    first, second = [line["terms"] for line in lines if line["split"] == "train"][:2]
    assert {name for name in first if name.startswith("gradient_norm.")} == {
        f"gradient_norm.{name}" for name in ("ce", "kd", "heads", "mmd", "prior", "privileged")
    }
    assert not any(name.startswith("gradient_norm.") for name in second)
    valid = next(line["terms"] for line in lines if line["split"] == "valid")
    assert valid["gap"] == pytest.approx(valid["cross_entropy"] - valid["privileged"], abs=1e-6)


@pytest.fixture(scope="module")
def with_adapters(tmp_path_factory, taught, small_model):
    folder = tmp_path_factory.mktemp("lora")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT)).save_pretrained(folder / "vit")
    student = StudentSettings(
        backbone=str(small_model),
        layers=2,
        latents=4,
        lora=LoraSettings(rank=4, targets=("q_proj", "down_proj")),
        video=AdaptedEncoder(
            name="transformers", model=str(folder / "vit"), lora=LoraSettings(rank=2, targets=("q_proj",))
        ),
    )
    given = settings(small_model, student=student, name="lora")
    return given, loop.train(given, ShardSet.open(taught), folder).run


def test_adapters_are_merged_into_what_is_saved_and_nothing_else_of_the_backbone_moves(with_adapters, small_model):
    folder = checkpoint.checkpoints(with_adapters[1])[-1]
    plain = load_student(folder / "student")[0]
    start, kept = cut_layers(load_backbone(small_model)[0], 2)[1], plain.backbone.state_dict()
    moved = {name for name, value in kept.items() if not torch.equal(value, start[name])}
    assert moved == {name for name in kept if name.endswith(("q_proj.weight", "down_proj.weight"))}
    video = plain.encoders["video"].body.state_dict()
    before = ViTModel.from_pretrained(with_adapters[1].parent / "vit").state_dict()
    assert [name for name, value in video.items() if not torch.equal(value, before[name])] == [
        "layers.0.attention.q_proj.weight"
    ]
    adapters = [name for name in load_file(folder / "training.safetensors") if name.startswith("adapter.")]
    assert len(adapters) == 2 * 2 * 2 + 2, "down and up, of two layers and two kinds, and of the encoder's"
    assert not any("lora" in settings for settings in plain.config.encoders.values())


def test_a_run_with_adapters_ends_as_if_never_stopped(with_adapters, tmp_path, taught, monkeypatch):
    given, finished = with_adapters
    stop_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        loop.train(given, ShardSet.open(taught), tmp_path)
    monkeypatch.undo()
    run = loop.train(given, ShardSet.open(taught), tmp_path).run
    ours, theirs = (load_file(checkpoint.checkpoints(one)[-1] / "training.safetensors") for one in (run, finished))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_adapters_of_no_layer_are_refused_by_name(taught, small_model, tmp_path):
    lora = LoraSettings(targets=("c_attn",))
    given = settings(small_model, student=StudentSettings(backbone=str(small_model), layers=2, lora=lora))
    with pytest.raises(UserError, match=r"student\.lora\.targets c_attn fits no layer: choose of .*q_proj"):
        loop.train(given, ShardSet.open(taught), tmp_path)
    audio = AdaptedEncoder(name="logmel", lora=lora)
    given = settings(small_model, student=StudentSettings(backbone=str(small_model), layers=2, audio=audio))
    with pytest.raises(UserError, match=r"student\.audio\.lora\.targets c_attn fits no layer: choose of projection"):
        loop.train(given, ShardSet.open(taught), tmp_path)
    with pytest.raises(ValueError, match="leave one of them out"):
        AdaptedEncoder(name="logmel", trained=False, lora=lora)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_it_trains_the_same(taught, small_model, tmp_path):
    losses, student = {}, StudentSettings(backbone=str(small_model), layers=1, latents=4)
    for compiled in (False, True):
        given = settings(
            small_model, name=f"compiled-{compiled}", student=student.model_copy(update={"compile": compiled})
        )
        run = loop.train(given, ShardSet.open(taught), tmp_path).run
        losses[compiled] = [line["terms"]["total"] for line in read_history(run / "metrics.jsonl")]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    student, *_ = load_student(checkpoint.student_folder(run))
    assert not [name for name, _ in student.named_parameters() if "orig_mod" in name]


def test_without_a_compiler_nothing_is_compiled(taught, small_model, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    compiled = StudentSettings(backbone=str(small_model), compile=True)
    with pytest.raises(UserError, match=r"wants a C\+\+ compiler.*install g\+\+"):
        loop.train(settings(small_model, student=compiled), ShardSet.open(taught), tmp_path)


def test_kernels_that_are_not_there_are_refused_by_name(taught, small_model, tmp_path):
    student = StudentSettings(backbone=str(small_model), layers=1, attention_kernel="flash_attention_2")
    with pytest.raises(UserError, match=r"attention_kernel=flash_attention_2 is not to be had here .*for sdpa"):
        loop.train(settings(small_model, student=student), ShardSet.open(taught), tmp_path)


def test_kernels_change_no_loss(taught, small_model, tmp_path):
    found = []
    for name, more in (("plain", {}), ("changed", {"attention_kernel": "eager"})):
        student = StudentSettings(backbone=str(small_model), layers=1, latents=4, **more)
        loss, optim = DualAlignment(kd=0, mmd=0, prior=0, privileged=0), OptimSettings(epochs=1, norms_every=0)
        given = settings(small_model, student=student, name=name, loss=loss, optim=optim)
        run = loop.train(given, ShardSet.open(taught), tmp_path).run
        found.append([line["terms"]["cross_entropy"] for line in read_history(run / "metrics.jsonl")])
        load_student(checkpoint.student_folder(run))
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_other_settings_under_the_same_name_are_refused(finished, taught, small_model):
    with pytest.raises(UserError, match=r"these differ: order, seed\)"):
        loop.train(settings(small_model, seed=5), ShardSet.open(taught), finished.parent)


def test_a_finished_run_is_left_as_it_is(finished, taught, small_model):
    before = (finished / "metrics.jsonl").read_bytes()
    outcome = loop.train(settings(small_model), ShardSet.open(taught), finished.parent)
    assert outcome.steps == 6
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_plain_training_reads_neither_notes_nor_teacher(tmp_path, bare_shards, small_model):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    for tar in folder.glob("*.privileged.tar"):
        tar.unlink()
    plain = DualAlignment(kd=0, mmd=0, prior=0, privileged=0)
    outcome = loop.train(settings(small_model, loss=plain), ShardSet.open(folder), tmp_path / "runs")
    terms = read_history(outcome.run / "metrics.jsonl")[0]["terms"]
    assert terms["reverse_kl"] == 0
    assert "prior" not in terms


def test_batches_of_a_token_budget_train_and_lengths_are_kept(tmp_path, bare_shards, small_model):
    plain = DualAlignment(kd=0, mmd=0, prior=0, privileged=0)
    data = DataSettings(batch_size=8, tokens=240, max_context=96, max_response=12, workers=2)
    outcome = loop.train(settings(small_model, loss=plain, data=data), ShardSet.open(bare_shards), tmp_path)
    assert (outcome.run / "lengths.safetensors").is_file()
    train = [line for line in read_history(outcome.run / "metrics.jsonl") if line["split"] == "train"]
    assert len(train) == outcome.steps > 2
    assert not len(outcome.bad)


def test_a_clip_that_does_not_decode_is_named_and_bounded(tmp_path, bare_shards, small_model):
    folder = tmp_path / "shards"
    shutil.copytree(bare_shards, folder)
    reader = ShardSet.open(folder).samples("train")
    clip = next(sample.inputs["video"] for sample in reader if "video" in sample.inputs)
    for tar in folder.glob("train-*.tar"):
        tar.write_bytes(tar.read_bytes().replace(clip, bytes(len(clip))))
    plain = {"loss": DualAlignment(kd=0, mmd=0, prior=0, privileged=0)}
    with pytest.raises(TooManyBadSamples, match=r"train-000000\.tar: clip: video"):
        loop.train(settings(small_model, **plain), ShardSet.open(folder), tmp_path)
    data = DataSettings(batch_size=5, max_context=96, max_response=12, max_bad=1)
    outcome = loop.train(settings(small_model, name="other", data=data, **plain), ShardSet.open(folder), tmp_path)
    assert [bad.field for bad in outcome.bad] == ["video"]


def test_without_the_teachers_cache_it_says_what_to_do(tmp_path, bare_shards, small_model):
    with pytest.raises(UserError, match="pride teach"):
        loop.train(settings(small_model), ShardSet.open(bare_shards), tmp_path)


@pytest.mark.parametrize("harm", ["state", "cut", "flipped"])
def test_what_is_broken_is_passed_over_and_said(finished, taught, small_model, tmp_path, caplog, harm):
    """Half-written, cut short, or with one bit of a weight turned: the checkpoint before it is gone on from."""
    kept = settings(small_model, checkpoint=CheckpointSettings(keep=9))
    run = loop.train(kept, ShardSet.open(taught), tmp_path).run
    last = checkpoint.checkpoints(run)[-1]
    weights = last / "student" / "model.safetensors"
    if harm == "state":
        (last / "state.json").write_text("{")
    elif harm == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(data)
    (run / "checkpoint-00000099.partial").mkdir()
    assert loop.train(kept, ShardSet.open(taught), tmp_path).resumed
    assert f"{last.name} is broken" in caplog.text
    assert (run / f"broken-{last.name}").is_dir()
    assert not list(run.glob("*.partial"))
    ours, theirs = (load_file(checkpoint.checkpoints(one)[-1] / "training.safetensors") for one in (run, finished))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("steps", [1, 3])
def test_asked_to_stop_it_saves_and_ends_well(finished, taught, small_model, tmp_path, steps):
    """Within an epoch and, at the second one, with its last step."""

    def ask(done, total, note):
        if done == steps - 1 or done == steps == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    outcome = loop.train(settings(small_model), ShardSet.open(taught), tmp_path, ask)
    assert signal.getsignal(signal.SIGTERM) == before
    assert (outcome.finished, outcome.steps) == (False, max(steps, 2))
    assert checkpoint.read_state(checkpoint.checkpoints(outcome.run)[-1]).step == outcome.steps
    again = loop.train(settings(small_model), ShardSet.open(taught), tmp_path)
    assert (again.finished, again.resumed) == (True, True)
    ours, theirs = (
        load_file(checkpoint.checkpoints(one)[-1] / "training.safetensors") for one in (again.run, finished)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(taught, small_model, tmp_path, monkeypatch):
    whole, calls = checkpoint.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    often = settings(small_model, checkpoint=CheckpointSettings(steps=1))
    with pytest.raises(UserError, match=r"the disk is full. The newest one is checkpoint-00000001; make room"):
        loop.train(often, ShardSet.open(taught), tmp_path)
    assert not list((tmp_path / "run").glob("*.partial"))
    monkeypatch.undo()
    assert loop.train(often, ShardSet.open(taught), tmp_path).resumed


def poison(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = loop.take_gradient

    def poisoned(distillation, batch, progress, number, *rest):
        losses = whole(distillation, batch, progress, number, *rest)
        if number == step:
            next(p for p in distillation.parameters() if p.grad is not None).grad[0] = float("nan")
        return losses

    monkeypatch.setattr(loop, "take_gradient", poisoned)


def test_a_step_that_is_no_number_stops_or_is_left_out_and_its_samples_are_named(
    taught, small_model, tmp_path, monkeypatch
):
    poison(monkeypatch, 3)
    with pytest.raises(UserError, match=r"no number at step 4 \(samples .*ed_.*not_finite=skip"):
        loop.train(settings(small_model), ShardSet.open(taught), tmp_path)
    skipping = settings(small_model, name="skip", optim=OptimSettings(epochs=2, warmup=2, not_finite="skip"))
    outcome = loop.train(skipping, ShardSet.open(taught), tmp_path)
    assert outcome.steps == 6
    (line,) = [json.loads(line) for line in (outcome.run / "not_finite.jsonl").read_text().splitlines()]
    assert line["step"] == 4
    assert len(line["keys"]) == 5
    assert all(value.isfinite().all() for value in checkpoint.load_tensors(checkpoint.best(outcome.run)).values())


def test_it_ends_early_when_nothing_gets_better(taught, small_model, tmp_path):
    still = OptimSettings(epochs=9, lr=1e-12, fresh_lr=1e-12, weight_decay=0.0, patience=2)
    outcome = loop.train(settings(small_model, optim=still), ShardSet.open(taught), tmp_path)
    assert outcome.finished
    assert 3 * 3 <= outcome.steps < 9 * 3
    assert loop.train(settings(small_model, optim=still), ShardSet.open(taught), tmp_path).steps == outcome.steps


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="No checkpoint"):
        checkpoint.best(tmp_path)


@pytest.fixture(scope="module")
def with_states(tmp_path_factory: pytest.TempPathFactory, bare_shards: Path, small_model: Path) -> Path:
    folder = shutil.copytree(bare_shards, tmp_path_factory.mktemp("states") / "shards")
    shards = ShardSet.open(folder)
    prompt = Prompt.load(shards.schema, "empathy_reasoning", limit=1024)
    teach(shards, Teacher(*load_backbone(small_model), top_k=0), prompt, BadSamples(0), "small", 12)
    return folder


def test_cached_states_are_a_teacher_over_the_whole_vocabulary(with_states, taught, small_model, tmp_path):
    """Its top 16 as buckets are a little less of a divergence than all that it says, to the same student."""
    first = {}
    for name, shards in (("states", with_states), ("topk", taught)):
        run = loop.train(settings(small_model, name=name), ShardSet.open(shards), tmp_path).run
        first[name] = read_history(run / "metrics.jsonl")[0]["terms"]
    assert first["topk"]["cross_entropy"] == pytest.approx(first["states"]["cross_entropy"], rel=1e-4)
    assert 0 < first["topk"]["reverse_kl"] < first["states"]["reverse_kl"]


def test_a_temperature_wants_states(with_states, taught, small_model, tmp_path):
    hot = settings(small_model, loss=DualAlignment(temperature=2.0, privileged=0.0))
    with pytest.raises(UserError, match="--top-k 0"):
        loop.train(hot, ShardSet.open(taught), tmp_path)
    run = loop.train(hot, ShardSet.open(with_states), tmp_path).run
    assert all(
        line["terms"]["reverse_kl"] > 0 for line in read_history(run / "metrics.jsonl") if line["split"] == "train"
    )
    head = load_file(with_states / "teacher_head.safetensors")["weight"].shape
    for path in run.rglob("training.safetensors"):
        assert head not in [tensor.shape for tensor in load_file(path).values()]


def test_two_sets_are_mixed_by_weight_and_both_validated(taught, with_states, small_model, tmp_path):
    one, other = ShardSet.open(taught), ShardSet.open(with_states)
    plain = DualAlignment(kd=0, mmd=0, prior=0, privileged=0)
    data = DataSettings(batch_size=5, max_context=96, max_response=12, weights=(1.0, 0.5))
    run = loop.train(settings(small_model, loss=plain, data=data), [one, other], tmp_path).run
    lines = [line for line in read_history(run / "metrics.jsonl") if line["split"] == "train"]
    assert len(lines) == 2 * 5  # 14 and half of 14, by 5
    alone = loop.train(settings(small_model, name="alone", loss=plain), one, tmp_path).run
    assert len([line for line in read_history(alone / "metrics.jsonl") if line["split"] == "train"]) == 2 * 3


def test_other_shards_under_the_same_name_are_refused(taught, with_states, bare_shards, small_model, tmp_path):
    plain = DualAlignment(kd=0, mmd=0, prior=0, privileged=0)
    given = settings(small_model, loss=plain, data=DataSettings(batch_size=5, max_context=96, max_response=12))
    one, other = ShardSet.open(taught), ShardSet.open(bare_shards)
    loop.train(given, [one, other], tmp_path)
    assert loop.train(given, [one, other], tmp_path).resumed
    for sets in ([one], [one, other, other]):
        with pytest.raises(UserError, match=r"these differ: order\)"):
            loop.train(given, sets, tmp_path)


def test_sets_that_do_not_fit_each_other_are_refused_by_name(taught, with_states, small_model, tmp_path):
    sets = [ShardSet.open(taught), ShardSet.open(with_states)]
    with pytest.raises(UserError, match=r"taught by 'small'.*or with other options: run 'pride teach' alike"):
        loop.train(settings(small_model), sets, tmp_path)
    data = DataSettings(batch_size=5, max_context=96, max_response=12, weights=(1.0,))
    with pytest.raises(UserError, match=r"data\.weights has 1 numbers and there are 2 sets"):
        loop.train(settings(small_model, name="b", data=data), sets, tmp_path)


def test_responses_that_a_teacher_writes_anew_are_measured_anew(bare_shards, small_model, tmp_path):
    """Two items have no response: first it writes none, then its own, and the same run goes on with them."""
    folder, measured = tmp_path / "shards", []
    shutil.copytree(bare_shards, folder)
    shards = ShardSet.open(folder)
    prompt, teacher = Prompt.load(shards.schema, "empathy_reasoning", 1024), Teacher(*load_backbone(small_model))
    data = DataSettings(batch_size=8, tokens=240, max_context=96, max_response=12)
    for write_missing in (False, True, True):
        cache = teach(shards, teacher, prompt, BadSamples(0), "small", 12, write_missing=write_missing)
        assert cache.counts.written == 2 * write_missing
        run = loop.train(settings(small_model, data=data), shards, tmp_path / "runs").run
        measured.append(load_file(run / "lengths.safetensors")["lengths"])
    assert sorted((measured[1] - measured[0]).tolist())[:-2] == [0] * (len(measured[0]) - 2)
    assert 2 <= int((measured[1] - measured[0]).sum()) <= 24
    assert measured[2].equal(measured[1])


@pytest.mark.parametrize("divergence", ["reverse_kl", "universal"])
def test_a_student_of_another_family_learns_from_the_teacher(taught, small_model, other_family, tmp_path, divergence):
    """Of other tokens; what the teacher wrote is distilled, too."""
    many = OptimSettings(epochs=20, warmup=2, fresh_lr=1e-2, lr=1e-2)
    loss = DualAlignment(ce=0.0, divergence=divergence, privileged=0.0, prior=0.0, mmd=0.1)
    student = StudentSettings(backbone=str(other_family), latents=4, freeze_vocabulary=False)
    given = settings(small_model, student=student, loss=loss, optim=many)
    run = loop.train(given, ShardSet.open(taught), tmp_path).run
    terms = [line["terms"] for line in read_history(run / "metrics.jsonl") if line["split"] == "train"]
    first, last = (sum(one[divergence] for one in part) for part in (terms[:3], terms[-3:]))
    assert 0 < last < 0.9 * first
    assert {"mmd", divergence} <= set(terms[0])


def test_a_teacher_of_states_has_no_likeliest_tokens_to_compare(with_states, small_model, tmp_path):
    with pytest.raises(UserError, match="universal compares the likeliest"):
        loop.train(
            settings(small_model, loss=DualAlignment(divergence="universal")), ShardSet.open(with_states), tmp_path
        )

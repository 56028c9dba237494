"""Features of frozen encoders: the same bits as without a cache, encoded once, never another encoder's."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTModel

from pride_mm.data.batch import Padded
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.shards import ShardSet
from pride_mm.student import EncoderSettings, Student
from pride_mm.student.backbone import load_backbone
from pride_mm.training.checkpoint import checkpoints
from pride_mm.training.features import FeatureCache
from pride_mm.training.loop import train
from pride_mm.training.settings import AdaptedEncoder, DataSettings, OptimSettings, RunSettings, StudentSettings

VIT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory, bare_shards, small_model):
    """A student whose video encoder is frozen, and a batch of which two rows have video."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT)).save_pretrained(folder)
    shards = ShardSet.open(bare_shards)
    model, tokenizer = load_backbone(small_model)
    frozen = EncoderSettings(name="transformers", model=str(folder), trained=False)
    student = Student.from_backbone(model, shards.schema, 1, {"video": frozen}, latents=4)
    samples = [sample for sample in shards.samples("train") if sample.key in ("clip", "sound", "ed_0")]
    batch = Collator(InputCollator(shards.schema, tokenizer, "", 96), 12, 16)(samples)
    given = batch.inputs["video"]
    filled = torch.where(given.present[:, None, None, None, None], given.values, 99)
    mask = given.mask | (torch.arange(len(batch)) == 0)[:, None]
    return student, replace(batch, inputs={**batch.inputs, "video": Padded(filled, mask)})


def answers(student, batch):
    out = student.train().respond(batch.inputs, batch.targets["response"])
    return out.hidden, out.sources.latents, out.sources.mask


def test_the_same_bits_written_and_read(parts, tmp_path):
    student, batch = parts
    first, later = (FeatureCache(tmp_path, student, 2**20) for _ in range(2))
    written, read, again = first.fill(batch), first.fill(batch), later.fill(batch)
    assert (first.encoded, later.encoded) == (2, 0)
    assert list(first.encoders) == ["video"], "log-mel is trained"
    assert written.inputs["video"].values.shape == (3, 8, 32)
    bare = answers(student, batch)
    for other in (written, read, again):
        assert all(torch.equal(a, b) for a, b in zip(bare, answers(student, other), strict=True))
    assert batch.inputs["video"].values.dim() == 5


def test_what_learns_gets_the_same_gradient(parts, tmp_path):
    student, batch = parts
    found = []
    for given in (batch, FeatureCache(tmp_path, student, 2**20).fill(batch)):
        student.zero_grad()
        answers(student, given)[1].square().sum().backward()
        found.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
    assert found[0]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_another_encoder_is_another_key(parts, tmp_path):
    student, batch = parts
    FeatureCache(tmp_path, student, 2**20).fill(batch)
    weight = next(student.encoders["video"].body.parameters())
    with torch.no_grad():
        weight.add_(1)
        other = FeatureCache(tmp_path, student, 2**20)
        other.fill(batch)
        weight.sub_(1)
    assert other.encoded == 2


def test_the_disk_is_bounded(parts, tmp_path):
    student, batch = parts
    one = 8 * 32 * 4
    cache = FeatureCache(tmp_path, student, 2 * one - 1)
    cache.fill(batch)
    assert len(list(tmp_path.glob("*/*"))) == 1
    cache.fill(batch)
    assert cache.encoded == 3, "the one that isn't kept is encoded again"
    assert FeatureCache(tmp_path / "none", student, 0).fill(batch) is batch


def test_trained_encoders_are_left_alone(parts, tmp_path):
    student, batch = parts
    body = student.encoders["video"].body
    body.requires_grad_(True)
    assert FeatureCache(tmp_path, student, 2**20).fill(batch) is batch
    body.requires_grad_(False)


def test_a_run_with_features_ends_as_one_without(tmp_path, taught, small_model):
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT)).save_pretrained(tmp_path / "vit")
    video = AdaptedEncoder(name="transformers", model=str(tmp_path / "vit"), trained=False)
    ended = []
    for gib in (0.0, 0.1):
        settings = RunSettings(
            name=f"run{int(gib > 0)}",
            student=StudentSettings(backbone=str(small_model), layers=1, latents=4, video=video),
            data=DataSettings(batch_size=7, max_context=96, max_response=12, features_gib=gib),
            optim=OptimSettings(epochs=3, warmup=2),
        )
        run = train(settings, ShardSet.open(taught), tmp_path).run
        ended.append(load_file(checkpoints(run)[-1] / "training.safetensors"))
    assert len(list(run.glob("features/*/*.safetensors"))) == 1, "one clip, read in three epochs"
    for name, value in ended[0].items():
        torch.testing.assert_close(ended[1][name], value, rtol=0, atol=0)

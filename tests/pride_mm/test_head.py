"""A head taken apart makes the logits that the model makes, in every form that backbones have."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, PhiConfig

from pride_mm.errors import UserError
from pride_mm.head import Head
from pride_mm.losses.fused import fused_objective
from pride_mm.losses.teachers import SparseTeacher

SHAPE = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA = LlamaConfig(**SHAPE, tie_word_embeddings=False)


def build(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.05),
        CohereConfig(**SHAPE, logit_scale=0.25),
        GraniteConfig(**SHAPE, logits_scaling=8.0),
        PhiConfig(**SHAPE),
    ],
    ids=lambda config: config.model_type,
)
def test_makes_the_models_logits(config):
    model = build(config)
    if model.get_output_embeddings().bias is not None:
        nn.init.normal_(model.get_output_embeddings().bias)
    ids = torch.arange(12).reshape(2, 6)
    states = model.base_model(ids).last_hidden_state
    torch.testing.assert_close(Head.of_model(model).logits(states), model(ids).logits)


def test_logits_that_are_more_than_the_heads_are_refused():
    model = build(LLAMA)
    model.get_output_embeddings().register_forward_hook(lambda _layer, _given, logits: logits * 0.5)
    with pytest.raises(UserError, match="'llama' are more than its head's product"):
        Head.of_model(model)


def test_a_layer_that_is_not_linear_is_refused():
    with pytest.raises(UserError, match="Sequential is not understood"):
        Head.of(nn.Sequential(nn.Linear(4, 8)))


def test_a_vocabulary_that_the_head_lacks_is_refused():
    with pytest.raises(UserError, match="40 logits, fewer than the 41"):
        Head.of_model(build(LLAMA), vocabulary=41)


def adapted(**settings):
    model = get_peft_model(build(LLAMA), LoraConfig(target_modules=["lm_head"], r=3, lora_alpha=7, **settings))
    layer = model.get_output_embeddings()
    nn.init.normal_(layer.lora_B["default"].weight)
    return model, layer


def test_an_adapter_of_peft_on_the_head_learns_as_by_autograd():
    model, layer = adapted()
    ids = torch.arange(12)[None]
    states = model.base_model.model.model(ids).last_hidden_state[0].detach()
    head = Head.of(layer, model.config)
    torch.testing.assert_close(head.logits(states), layer(states))
    labels, mask = torch.arange(12), torch.ones(12, dtype=torch.bool)
    teacher = SparseTeacher.from_logits(torch.randn(12, 40), 40)
    fused_objective(states, head, labels, mask, teacher, chunk=5).total.backward()
    parts = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    got = [part.grad.clone() for part in parts]
    assert layer.base_layer.weight.grad is None
    log_p = layer(states).log_softmax(-1)
    q = torch.zeros(12, 40).scatter(1, teacher.ids, teacher.log_probs)
    loss = -log_p.gather(1, labels[:, None]).mean() + (log_p.exp() * (log_p - q)).sum(-1).mean()
    torch.testing.assert_close(got, list(torch.autograd.grad(loss, parts)), rtol=1e-4, atol=1e-6)


def test_an_adapter_that_is_switched_off_or_merged_counts_as_it_should():
    model, layer = adapted()
    states = torch.randn(3, 16)
    with model.disable_adapter():
        torch.testing.assert_close(Head.of(layer).logits(states), layer(states))
    expected = layer(states)
    layer.merge()
    torch.testing.assert_close(Head.of(layer).logits(states), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lora_dropout": 0.1}, "dropout"), ({"use_dora": True}, "DoRA"), ({"lora_bias": True}, "bias")],
)
def test_an_adapter_that_the_fused_loss_cannot_do_is_refused(settings, message):
    _, layer = adapted(**settings)
    with pytest.raises(UserError, match=message):
        Head.of(layer.train())

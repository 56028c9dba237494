"""Text that attends to the sources again, before layers of the common shapes of backbone."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig, LlamaConfig, Qwen3Config

from pride_mm.errors import UserError
from pride_mm.student import Student

SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BACKBONES = [kind(**SHAPE) for kind in (LlamaConfig, Qwen3Config, Gemma2Config, GraniteConfig)]


@pytest.mark.parametrize("config", BACKBONES, ids=lambda config: config.model_type)
def test_attending_deeper_changes_nothing_until_its_gates_open_and_is_recomputed_alike(
    config, schema, inputs, response
):
    torch.manual_seed(0)
    backbone = AutoModelForCausalLM.from_config(config)
    plain, deeper = (Student.from_backbone(backbone, schema, attended_layers=layers).eval() for layers in ((), (1, 3)))
    plain.load_state_dict(deeper.state_dict(), strict=False)
    assert torch.equal(plain.respond(inputs, response).hidden, deeper.respond(inputs, response).hidden)
    for attention in deeper.layer_attentions.values():
        torch.nn.init.ones_(attention.gate)
    opened = deeper.respond(inputs, response).hidden
    assert not torch.equal(plain.respond(inputs, response).hidden, opened)
    gradients = []
    for recompute in (False, True):
        if recompute:
            deeper.backbone.activation_checkpointing_enable({"use_reentrant": False})
        deeper.zero_grad()
        deeper.train().respond(inputs, response).hidden[response.mask].square().sum().backward()
        gradients.append([attention.key_value.weight.grad.clone() for attention in deeper.layer_attentions.values()])
    for one, other in zip(*gradients, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layers", [(0,), (3,), (2, 1), (1, 1)])
def test_layers_that_are_not_there_cannot_be_attended_before(small_backbone, schema, layers):
    with pytest.raises(UserError, match="Allowed are rising numbers from 1 to 2"):
        Student.from_backbone(small_backbone[0], schema, layers=3, attended_layers=layers)
    with pytest.raises(UserError, match="fusion=concat"):
        Student.from_backbone(small_backbone[0], schema, layers=3, attended_layers=(1,), fusion="concat")

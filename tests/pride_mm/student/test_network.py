"""The student: absent is absent, no leak from the response, generation with a cache equals full recomputation."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pride_mm.data.batch import Batch, Padded
from pride_mm.errors import UserError
from pride_mm.student import PREDICTED, Student

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def rows(inputs, index):
    return {name: Padded(given.values[index], given.mask[index]) for name, given in inputs.items()}


def test_shapes_and_names(student, inputs, response):
    out = student.respond(inputs, response)
    assert out.hidden.shape == (4, 6, 64)
    assert {name: tuple(scores.shape) for name, scores in out.logits.items()} == {
        "emotion": (4, 8),
        "sentiment": (4, 3),
    }
    assert out.sources.names == ("video", "audio", PREDICTED)
    assert out.sources.latents.shape == (4, 24, 64)
    assert out.attention.shape == (4, 3)
    assert out.sources.present("video").tolist() == [True, True, False, False]
    assert out.sources.present("audio").tolist() == [True, True, True, False]


def test_absent_is_exactly_zero_and_never_nan(student, inputs, response):
    inputs["video"].values[2:] = 77
    inputs["audio"].values[3] = torch.nan
    student.train()
    out = student.respond(inputs, response)
    assert torch.equal(out.sources.of("video")[2:], torch.zeros(2, 8, 64))
    assert torch.equal(out.sources.of("audio")[3], torch.zeros(8, 64))
    assert (out.attention[2:, 0] == 0).all()
    assert out.hidden.isfinite().all()
    (out.hidden.square().sum() + sum(s.sum() for s in out.logits.values())).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_media_missing_equals_media_absent(student, inputs, response):
    everything_absent = {
        name: given if name == "dialogue" else replace(given, mask=torch.zeros_like(given.mask))
        for name, given in inputs.items()
    }
    alone = student.respond({"dialogue": inputs["dialogue"]}, response)
    absent = student.respond(everything_absent, response)
    assert torch.equal(alone.hidden, absent.hidden)
    assert alone.hidden.isfinite().all()


def test_sources_matter(student, inputs, response):
    with_all = student.respond(inputs, response).hidden
    without = student.respond({"dialogue": inputs["dialogue"]}, response).hidden
    assert not torch.allclose(with_all[0], without[0], atol=1e-3)
    torch.testing.assert_close(with_all[3], without[3], **CLOSE)


@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_a_row_is_the_same_alone(student, inputs, response, row):
    together = student.respond(inputs, response)
    alone = student.respond(rows(inputs, [row]), Padded(response.values[[row]], response.mask[[row]]))
    real = response.mask[row]
    torch.testing.assert_close(together.hidden[row][real], alone.hidden[0][real], **CLOSE)
    torch.testing.assert_close(together.logits["emotion"][row], alone.logits["emotion"][0], **CLOSE)
    torch.testing.assert_close(together.attention[row], alone.attention[0], **CLOSE)


def test_padding_does_not_matter(student, inputs, response):
    row = rows(inputs, [1])
    short = Padded(row["dialogue"].values[:, 4:], row["dialogue"].mask[:, 4:])
    answer = Padded(response.values[[1]], response.mask[[1]])
    padded, tight = student.respond(row, answer), student.respond({**row, "dialogue": short}, answer)
    torch.testing.assert_close(padded.hidden, tight.hidden, **CLOSE)


def test_hidden_predicts_the_next_token_of_the_response(student, inputs, response):
    """At each place the state has seen the context and the tokens before it, not the token itself."""
    changed = response.values.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 500
    before = student.respond(inputs, response)
    after = student.respond(inputs, Padded(changed, response.mask))
    assert torch.equal(before.hidden[:, :4], after.hidden[:, :4])
    assert not torch.equal(before.hidden[1, 4], after.hidden[1, 4])
    assert torch.equal(before.sources.latents, after.sources.latents)
    assert all(torch.equal(before.logits[name], after.logits[name]) for name in before.logits)


def test_heads_need_no_response(student, inputs, response):
    scores, out = student.read_targets(inputs), student.respond(inputs, response)
    torch.testing.assert_close(scores, out.logits, **CLOSE)


def test_a_shut_gate_is_the_backbone(small_backbone, schema, inputs, response):
    backbone = small_backbone[0]
    student = Student.from_backbone(backbone, schema).eval()
    row = rows(inputs, [0])
    out = student.respond(row, Padded(response.values[[0]], torch.ones(1, 6, dtype=torch.bool)))
    ids = torch.cat([row["dialogue"].values, response.values[[0]]], 1)
    with torch.no_grad():
        logits = backbone(ids).logits[:, 8:14]
    torch.testing.assert_close(student.head.logits(out.hidden), logits, **CLOSE)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_answers_equal_full_recomputation(small_backbone, schema, student, inputs, layers):
    deeper = [layer for layer in student.config.attended_layers if layer < layers]
    cut = Student.from_backbone(
        small_backbone[0], schema, layers=layers, fusion=student.config.fusion, attended_layers=deeper
    ).eval()
    gone = ("backbone.", *(f"layer_attentions.{layer}." for layer in student.config.attended_layers[len(deeper) :]))
    own = {name: value for name, value in student.state_dict().items() if not name.startswith(gone)}
    assert not cut.load_state_dict(own, strict=False).unexpected_keys
    with torch.no_grad():
        answer = cut.answer(inputs, max_new_tokens=12, eos_token_id=None)
        assert answer.shape == (4, 12)
        out = cut.respond(inputs, Padded(answer, torch.ones_like(answer, dtype=torch.bool)))
        assert torch.equal(cut.head.logits(out.hidden).argmax(-1), answer)


def test_beams_and_samples_carry_their_sources(student, inputs):
    greedy = student.answer(inputs, max_new_tokens=5, eos_token_id=None)
    assert student.answer(inputs, max_new_tokens=5, num_beams=2, eos_token_id=None).shape == greedy.shape
    many = student.answer(inputs, max_new_tokens=5, do_sample=True, top_k=1, num_return_sequences=2, eos_token_id=None)
    assert torch.equal(many[::2], greedy)
    assert torch.equal(many[1::2], greedy)


def test_logits_are_made_of_no_token_of_the_prompt_but_its_last(student, inputs):
    lengths = []
    hook = student.get_output_embeddings().register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[1]))
    student.answer(inputs, max_new_tokens=3, eos_token_id=None)
    hook.remove()
    assert lengths == [1, 1, 1]


def test_answers_end_at_the_end_token(student, inputs):
    first = int(student.answer(rows(inputs, [0]), max_new_tokens=3, eos_token_id=None)[0, 0])
    assert student.answer(rows(inputs, [0]), max_new_tokens=9, eos_token_id=first).shape == (1, 1)


def test_a_name_that_is_no_input_is_refused(student, inputs, response):
    for wrong in ({**inputs, "situation": inputs["dialogue"]}, {"video": inputs["video"]}):
        with pytest.raises(UserError, match="inputs are video, audio, dialogue"):
            student.respond(wrong, response)


class Tripwire:
    """Raises when anything is asked of it."""

    def __getattribute__(self, name):
        raise AssertionError(f"privileged information was touched: {name}")

    def __iter__(self):
        raise AssertionError("privileged information was touched")


def test_deploying_never_touches_notes(student, inputs, response):
    """Equal by bit with notes gone, there, altered and NaN, and with a tripwire in their place."""
    note = Padded(torch.full((4, 3), 7), torch.ones(4, 3, dtype=torch.bool))
    nan = Padded(torch.full((4, 3), torch.nan), note.mask)
    altered = Padded(note.values + 1, note.mask)
    outs = []
    for privileged in (None, {"situation": note}, {"situation": altered}, {"situation": nan}, Tripwire()):
        batch = Batch(("a", "b", "c", "d"), inputs, {"response": response}, privileged)
        out = student.respond(batch.inputs, batch.targets["response"])
        outs.append((out.hidden, *out.logits.values(), student.answer(batch.inputs, max_new_tokens=4)))
    assert all(torch.equal(a, b) for out in outs[1:] for a, b in zip(outs[0], out, strict=True))


def test_a_reading_that_adds_nothing_is_the_deploy_pass(student, inputs, response):
    plain = student.respond(inputs, response)
    assert torch.equal(student.respond(inputs, response, torch.zeros_like).hidden, plain.hidden)
    assert not torch.equal(student.respond(inputs, response, torch.ones_like).hidden, plain.hidden)


def test_no_source_with_no_dialogue_is_nan(student, inputs, response):
    empty = {"dialogue": replace(inputs["dialogue"], mask=torch.zeros_like(inputs["dialogue"].mask))}
    out = student.respond(empty, response)
    assert (out.attention == 0).all()
    assert out.hidden[response.mask].isfinite().all()


def test_deploying_costs_the_same_with_notes_as_without(student, inputs, response):
    note = Padded(torch.full((4, 3), 7), torch.ones(4, 3, dtype=torch.bool))
    counted = []
    for privileged in (None, {"situation": note}):
        batch = Batch(("a", "b", "c", "d"), inputs, {"response": response}, privileged)
        with FlopCounterMode(display=False) as flops:
            student.respond(batch.inputs, batch.targets["response"])
        counted.append(flops.get_total_flops())
    assert counted[0] == counted[1] > 0


def test_what_is_read_off_the_dialogue_knows_nothing_of_the_response(student, inputs, response):
    """The privileged latents are predicted from the context; a response in them would leak into its own prediction."""
    other = replace(response, values=(response.values + 5) % 500)
    one, two = student.respond(inputs, response), student.respond(inputs, other)
    assert torch.equal(one.sources.predicted, two.sources.predicted)
    assert torch.equal(one.hidden[:, 0], two.hidden[:, 0])
    assert all(torch.equal(logits, two.logits[name]) for name, logits in one.logits.items())
    assert not torch.equal(one.hidden, two.hidden)

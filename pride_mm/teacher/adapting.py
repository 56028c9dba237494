"""A teacher that first learns how the experts of a corpus answer: LoRA (PEFT's) on dialogue and notes to response.

What was learnt is kept beside the shards and taken again by whoever asks for the same; what was stopped begins anew.
"""

import copy
import hashlib
import itertools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pride_mm.data.conversation import response_ids
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.files import write_json
from pride_mm.head import Head
from pride_mm.losses.fused import fused_objective
from pride_mm.progress import Progress, silent
from pride_mm.schema import Frozen, Role
from pride_mm.teacher.asking import NotesRead, as_read
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import weights_sha256
from pride_mm.teacher.senses import Senses

FOLDER = "teacher-adapter"
_RECORD = "adaptation.json"
_RANK, _RATE, _WARM_UP, _CLIP = 16, 2e-4, 10, 1.0

Pair = tuple[list[int], list[int]]
"""The tokens of a prompt and of its response."""


class Adaptation(Frozen):
    """What a teacher has learnt, and from what. ``before`` and ``after`` are the nats a token of the validation
    split's responses; None where there are none.
    """

    teacher_sha256: str
    pairs_sha256: str
    epochs: int
    pairs: int
    before: float | None = None
    after: float | None = None


def refuse_senses(name: str, senses: Senses | None) -> None:
    """Raise UserError where a teacher sees or hears: what is learnt here is to read."""
    if senses and senses.fields:
        raise UserError(f"To adapt is for models that read only, and '{name}' sees or hears: leave adapt out.")


def adapt(
    model: Any,
    tokenizer: Any,
    prompt: Prompt,
    shards: ShardSet,
    bad: BadSamples,
    epochs: int,
    max_response: int = 48,
    batch_size: int = 8,
    notes: NotesRead = "given",
    progress: Progress = silent,
) -> tuple[Any, Adaptation]:
    """A copy of a teacher that has learnt the train split's responses from their prompts, with its record.

    Args:
        model: a causal language model; it stays as it is.
        tokenizer: its tokenizer.
        prompt: makes prompts of samples, as for teaching.
        shards: with their ``.privileged.tar``; the adapter is kept in their folder.
        bad: counts samples whose prompt is refused.
        epochs: passes over the train split.
        max_response: tokens of a response.
        batch_size: samples a step.
        notes: what the teacher reads.
        progress: called after each step.

    Raises:
        UserError: PEFT isn't installed, or no sample for training has a response.
    """
    try:
        from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError:
        raise UserError("To adapt a teacher needs PEFT: install 'pride-mm[lora]', or leave --adapt out.") from None
    pairs = {
        split: read_pairs(tokenizer, prompt, shards, split, bad, max_response, notes) for split in ("train", "valid")
    }
    prompt.shortened = 0  # what was cut here is cut, and counted, again when it is taught
    if not pairs["train"]:
        raise UserError("--adapt: no sample of the train split has a response to learn from; leave it out.")
    wanted = Adaptation(
        teacher_sha256=weights_sha256(model),
        pairs_sha256=hashlib.sha256(json.dumps([pairs, batch_size]).encode()).hexdigest(),
        epochs=epochs,
        pairs=len(pairs["train"]),
    )
    folder = shards.folder / FOLDER
    model, found = copy.deepcopy(model), _record(folder)
    if found is not None and found.model_copy(update={"before": None, "after": None}) == wanted:
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload(), found
    before = _nats(model, pairs["valid"], batch_size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        with warnings.catch_warnings():  # PEFT asks transformers by an older name
            warnings.simplefilter("ignore", FutureWarning)
            adapted = get_peft_model(model, config)
        _learn(adapted, pairs["train"], epochs, batch_size, progress)
    (folder / _RECORD).unlink(missing_ok=True)
    adapted.save_pretrained(str(folder), save_embedding_layers=False)  # they are the base's
    merged = adapted.merge_and_unload()
    record = wanted.model_copy(update={"before": before, "after": _nats(merged, pairs["valid"], batch_size)})
    write_json(folder / _RECORD, record.model_dump(mode="json"))
    return merged, record


def _record(folder: Path) -> Adaptation | None:
    try:
        return Adaptation.model_validate_json((folder / _RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def read_pairs(
    tokenizer: Any, prompt: Prompt, shards: ShardSet, split: str, bad: BadSamples, max_response: int, notes: NotesRead
) -> list[Pair]:
    """Of the samples that have an expert's response."""
    if split not in shards.splits:
        return []
    reader = shards.samples(split, (Role.INPUT, Role.TARGET, Role.PRIVILEGED), media=False)
    found, start, response = [], 0, prompt.schema.response.name
    for shard in shards.shards(split):
        samples = [reader[place] for place in range(start, start + shard.samples)]
        start += shard.samples
        for sample in as_read(samples, notes):
            if response in sample.targets:
                with bad.counting():
                    ids = response_ids(tokenizer, str(sample.targets[response]), max_response)[0]
                    found.append((prompt.ids(tokenizer, sample), ids))
    return found


def _learn(model: Any, pairs: Sequence[Pair], epochs: int, batch_size: int, progress: Progress) -> None:
    """AdamW with a linear warm-up and a linear decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0.0)
    total = epochs * -(-len(pairs) // batch_size)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / min(_WARM_UP, total), (total - step) / total)
    )
    orders = (torch.randperm(len(pairs)).split(batch_size) for _ in range(epochs))
    model.train()
    for step, places in enumerate(itertools.chain.from_iterable(orders), 1):
        loss = response_loss(model, [pairs[place] for place in places.tolist()])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
        optimizer.step()
        rate.step()
        optimizer.zero_grad(set_to_none=True)
        progress(step, total, f"loss {loss.item():.3f}")
    model.eval()


@torch.no_grad()
def _nats(model: Any, pairs: Sequence[Pair], batch_size: int) -> float | None:
    """Cross-entropy of the responses, a token."""
    model.eval()
    batches = [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]
    counts = [sum(len(response) for _, response in batch) for batch in batches]
    losses = [float(response_loss(model, batch)) * count for batch, count in zip(batches, counts, strict=True)]
    return sum(losses) / sum(counts) if pairs else None


def response_loss(model: Any, batch: Sequence[Pair]) -> Tensor:
    """Mean cross-entropy of the response tokens; the logits of nothing else are made."""
    rows = [torch.tensor(prompt + response) for prompt, response in batch]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)  # causal: padding is never seen
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(model.device)
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    states = plain.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    spans = [(len(prompt) - 1, len(prompt) + len(response) - 1) for prompt, response in batch]
    hidden = torch.cat([states[row, start:end] for row, (start, end) in enumerate(spans)])
    labels = torch.cat([ids[row, start + 1 : end + 1] for row, (start, end) in enumerate(spans)])
    head = Head.of(plain.get_output_embeddings(), plain.config)
    return fused_objective(hidden, head, labels, torch.ones_like(labels, dtype=torch.bool)).total

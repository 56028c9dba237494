"""What an answer costs: parameters, and milliseconds a generated token, of all contenders side by side.

All answer the same prompts in turn, in one process, one prompt at a time, after a warm-up that is not counted; every
answer has the same number of tokens, so that nobody is quick by saying little. Reading the prompt is in it. The figure
is this machine's on this day: compare within one table only.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pride_mm.data.batch import Padded
from pride_mm.data.collate import InputCollator
from pride_mm.data.shards import Sample
from pride_mm.evaluation.predictions import Examinee
from pride_mm.progress import Progress, silent
from pride_mm.student.backbone import load_backbone

TOKENS, PROMPTS = 16, 8
Answer = Callable[[Sample], Callable[[], Any]]


@dataclass(frozen=True)
class Cost:
    """Of one contender: ``milliseconds`` a token is the median over the prompts."""

    parameters: int
    milliseconds: float


@dataclass(frozen=True)
class Answerer:
    """Who answers: ``prepare`` reads a sample's prompt off the clock, and gives what is timed."""

    parameters: int
    prepare: Answer


def student_answerer(examinee: Examinee) -> Answerer:
    """A student, which sees and hears, too."""
    student = examinee.student

    def prepare(sample: Sample) -> Callable[[], Any]:
        inputs = examinee.collator([sample]).to(examinee.device).inputs
        return lambda: student.answer(inputs, TOKENS, min_new_tokens=TOKENS)

    return Answerer(sum(weight.numel() for weight in student.parameters()), prepare)


def teacher_answerer(name: str, examinee: Examinee) -> Answerer:
    """A teacher by its name or folder: it reads the same dialogue as words, without notes and without its own prompt.

    Raises:
        UserError: nothing of that name is here.
    """
    model, tokenizer = load_backbone(name)
    model.eval().to(examinee.device)
    given = examinee.collator.inputs
    collate = InputCollator(examinee.schema, tokenizer, given.system, given.max_context)

    def prepare(sample: Sample) -> Callable[[], Any]:
        ids = torch.tensor([collate.context(sample.inputs)], device=examinee.device)
        prompt = Padded(ids, torch.ones_like(ids, dtype=torch.bool))
        options = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}
        return lambda: model.generate(input_ids=prompt.values, attention_mask=prompt.mask.long(), **options)

    return Answerer(sum(weight.numel() for weight in model.parameters()), prepare)


def cost_signature(teacher: str | None) -> str:
    """How it was measured."""
    return (
        f"milliseconds a token: median over {PROMPTS} prompts of {TOKENS} generated tokens each, one at a time, all in "
        f"turn after a warm-up, the reading of the prompt included; {torch.get_num_threads()} threads of this machine. "
        + ("The teacher was not timed: --teacher names one." if teacher is None else f"The teacher is {teacher}.")
    )


@torch.inference_mode()
def costs(answerers: Mapping[str, Answerer], samples: Sequence[Sample], progress: Progress = silent) -> dict[str, Cost]:
    """Time every answerer on every sample, in turn; by name. Nothing where there is no sample."""
    if not samples:
        return {}
    spent: dict[str, list[float]] = {name: [] for name in answerers}
    samples = samples[:PROMPTS]
    for one in answerers.values():
        one.prepare(samples[0])()
    for number, sample in enumerate(samples):
        for name, one in answerers.items():
            answer = one.prepare(sample)
            spent[name].append(_seconds(answer))
        progress(number + 1, len(samples), "timing")
    return {
        name: Cost(one.parameters, 1000 * statistics.median(spent[name]) / TOKENS) for name, one in answerers.items()
    }


def _seconds(answer: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    answer()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun

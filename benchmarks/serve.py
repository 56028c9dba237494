"""An artifact that talks beside the plain backbone inside it: what the method costs where it is used.

``python -m benchmarks.serve [--quick] [--data DIR]``. A student of SmolLM2-135M with all its layers (six with
``--quick``) is exported and opened; its backbone alone is saved as ``transformers`` would. Both answer the same real
dialogues of EmpatheticDialogues, text only, one at a time, by ``transformers``' own greedy ``generate``, in turns;
the artifact's time holds the reading of its sources. Beside them the same artifact exported with ``--dtype bfloat16``
and with ``--quantize int8``. CPU seconds count, which neighbours lengthen less; the ratio of FLOP is exact. The first
token has a run of its own; tokens a second are of the rest. Peak memory is that of a process that loads one contender
and answers. Perplexity is of the experts' responses to these dialogues.
"""

import argparse
import json
import math
import multiprocessing
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step import BACKBONE, data_dir

NEW_TOKENS = 48
SIZES = {False: (None, 10), True: (6, 3)}
"""Layers and dialogues, by whether it is to be quick."""
EXPORTS: dict[str, dict[str, Any]] = {
    "artifact": {},
    "bfloat16": {"width": "bfloat16"},
    "int8": {"quantization": "int8"},
}
SCHEMA = "empathetic_dialogues"
Talk = Callable[[Any, int], None]


def _dialogues(data: Path, work: Path, count: int) -> list[Any]:
    from pipelines.cli import run

    run(["ingest", SCHEMA, str(data / "train.jsonl"), "--out", str(work), "--limit", str(count)])
    return [json.loads(line) for line in (work / "items.jsonl").read_text().splitlines()]


def _write(work: Path, layers: int | None) -> None:
    """The artifacts and the plain backbone, from the same weights."""
    from pride_mm.schema import load_schema
    from pride_mm.serving.export import export
    from pride_mm.student import Student, save_student
    from pride_mm.student.backbone import load_backbone

    backbone, tokenizer = load_backbone(BACKBONE)
    student = Student.from_backbone(backbone, load_schema(SCHEMA), layers)
    save_student(work / "student", student, tokenizer)
    student.backbone.generation_config = backbone.generation_config
    student.backbone.save_pretrained(work / "plain")
    for name, options in EXPORTS.items():
        export(work / "student", work / name, **options)


def _length(tokens: int) -> dict[str, Any]:
    return {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}


def _open(work: Path, name: str) -> tuple[Any, Talk]:
    """A contender, and how it answers."""
    if name != "plain":
        from pride_mm.serving.predictor import Predictor

        predictor = Predictor.open(work / name)
        predictor.student.requires_grad_(False)  # the counter of FLOP wants it
        return predictor, lambda inputs, tokens: predictor.student.answer(inputs, **_length(tokens))
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(work / name, dtype=torch.float32).eval().requires_grad_(False)

    @torch.no_grad()
    def talk(inputs: Any, tokens: int) -> None:
        (text,) = inputs.values()
        model.generate(input_ids=text.values, attention_mask=text.mask.long(), **_length(tokens))

    return model, talk


def _seconds(talk: Talk, inputs: Any, tokens: int) -> float:
    begun = time.process_time()
    talk(inputs, tokens)
    return time.process_time() - begun


def _flop(talk: Talk, inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        talk(inputs, NEW_TOKENS)
    return counter.get_total_flops()


def _peak(work: Path, name: str) -> float:
    """MiB of a process that loads one contender and answers a prompt as long as a dialogue may be."""
    command = [sys.executable, "-m", "benchmarks.serve", "--peak", name, str(work)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _talk_once(name: str, work: Path) -> None:
    from pride_mm.data.batch import Padded
    from pride_mm.schema import load_schema

    ids = torch.arange(128)[None]
    text = {load_schema(SCHEMA).dialogue.name: Padded(ids, torch.ones_like(ids, dtype=torch.bool))}
    _open(work, name)[1](text, 8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@torch.no_grad()
def _loss(predictor: Any, inputs: Any, response: str) -> tuple[float, int]:
    """Nats of an expert's response, and its tokens."""
    from pride_mm.data.conversation import response_ids

    student, (text,) = predictor.student, inputs.values()
    ids = torch.tensor([response_ids(predictor.tokenizer, response, 64)[0]])
    both = torch.cat([text.values, ids], 1)
    logits = student(both, **student.remember(student.encode(inputs))).logits[0, -len(ids[0]) - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0], reduction="sum")), len(ids[0])


def _measure(work: Path, items: list[Any]) -> dict[str, dict[str, Any]]:
    """Seconds of the first token, of each of the rest and of the whole, dialogue by dialogue; and what is exact."""
    opened = {name: _open(work, name) for name in ("plain", *EXPORTS)}
    found: dict[str, dict[str, Any]] = {name: {"first": [], "rest": [], "whole": [], "flop": 0} for name in opened}
    asked, losses = opened["artifact"][0], {name: [0.0, 0] for name in EXPORTS}
    for turn, item in enumerate(items):
        inputs = asked._inputs([asked.request(**item["inputs"])])
        order = [*opened][turn % len(opened) :] + [*opened][: turn % len(opened)]
        first = {name: _seconds(opened[name][1], inputs, 1) for name in order}
        whole = {name: _seconds(opened[name][1], inputs, NEW_TOKENS) for name in order}
        for name in opened:
            if not turn:  # the first dialogue warms up
                found[name]["flop"] = _flop(opened[name][1], inputs) if name in ("artifact", "plain") else 0
                continue
            found[name]["first"].append(first[name])
            found[name]["rest"].append((whole[name] - first[name]) / (NEW_TOKENS - 1))
            found[name]["whole"].append(whole[name])
        for name, sums in losses.items():
            (response,) = (value for value in item["targets"].values() if isinstance(value, str) and " " in value)
            sums[:] = [a + b for a, b in zip(sums, _loss(opened[name][0], inputs, response), strict=True)]
        print(f"{turn + 1} of {len(items)} dialogues", file=sys.stderr)
    for name, (nats, tokens) in losses.items():
        found[name]["perplexity"] = math.exp(nats / tokens)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three dialogues, six layers")
    parser.add_argument("--data", type=Path, help="the folder above EmpatheticDialogues; default: PRIDE_DATA")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        _talk_once(given.peak[0], Path(given.peak[1]))
        return
    from pride_mm.memory import keep_freed_memory

    keep_freed_memory()
    layers, count = SIZES[given.quick]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        items = _dialogues(data_dir(given.data), work, count + 1)
        _write(work, layers)
        found = _measure(work, items)
        for name, part in found.items():
            part["peak"] = _peak(work, name)
            part["size"] = (work / name / "model.safetensors").stat().st_size / 2**20
    _show(found)


def _show(found: dict[str, dict[str, Any]]) -> None:
    print(f"{'':10}first token   tokens/s   {NEW_TOKENS} tokens   file MiB   peak MiB   perplexity")
    for name, part in found.items():
        first, rest, whole = (statistics.median(part[key]) for key in ("first", "rest", "whole"))
        line = f"{name:10}{first:9.3f} s{1 / rest:12.1f}{whole:10.2f} s{part['size']:11.0f}{part['peak']:11.0f}"
        print(f"{line}{part['perplexity']:13.2f}" if "perplexity" in part else line)

    def ratio(ours: str, theirs: str, key: str) -> float:
        return statistics.median(a / b for a, b in zip(found[ours][key], found[theirs][key], strict=True))

    ratios = {
        "artifact_vs_backbone": ratio("artifact", "plain", "whole"),
        "first_token_vs_backbone": ratio("artifact", "plain", "first"),
        "later_tokens_vs_backbone": ratio("artifact", "plain", "rest"),
        "flop_vs_backbone": found["artifact"]["flop"] / found["plain"]["flop"],
        "memory_vs_backbone": found["artifact"]["peak"] / found["plain"]["peak"],
    }
    for name in list(EXPORTS)[1:]:
        ratios[f"{name}_vs_artifact"] = ratio(name, "artifact", "whole")
        ratios[f"{name}_perplexity"] = found[name]["perplexity"] / found["artifact"]["perplexity"]
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    versions = {"python": sys.version.split()[0]} | {name: version(name) for name in ("torch", "transformers")}
    rounded = {name: round(value, 3) for name, value in ratios.items()}
    print(json.dumps({"benchmark": "serve", "ratios": rounded, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()

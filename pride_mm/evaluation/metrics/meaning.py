"""How close in meaning what was written is to the gold texts, by models that lie on this machine.

An empty text means nothing: it counts as zero, and is named where the answers are.
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pride_mm.embedding import Embedder
from pride_mm.errors import UserError
from pride_mm.progress import Progress, silent


class Vectors:
    """Texts to their embeddings (N, D); a text that was met before is not embedded again."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._known: dict[str, NDArray[np.float64]] = {}

    def learn(self, texts: Sequence[str], progress: Progress = silent) -> None:
        """Embed what is new."""
        new = sorted(set(texts) - set(self._known))
        if new:
            self._known |= dict(zip(new, self.embedder(new, progress), strict=True))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        self.learn(texts)
        return np.stack([self._known[text] for text in texts])

    @property
    def signature(self) -> str:
        from transformers import __version__

        return (
            f"mean over responses of the cosine of sentence embeddings: {self.embedder.name} "
            f"(sha256 {self.embedder.sha256[:12]}), transformers {__version__}, its own tokenizer, at most "
            f"{self.embedder.longest} tokens, mean of the last hidden states"
        )


def similarity(vectors: Vectors, texts: Sequence[str], gold: Sequence[str]) -> list[float]:
    """Cosine of each text and its gold text, -1 to 1."""
    if not texts:
        return []
    cosines = (vectors(texts) * vectors(gold)).sum(-1).tolist()
    return [cosine if text.strip() else 0.0 for cosine, text in zip(cosines, texts, strict=True)]


class BertScore:
    """BERTScore by the library of that name, with a model that lies in a folder.

    The layer is the one that the library recommends for a model of the folder's name, else the last. Scores are not
    rescaled, and no words are weighted.

    Raises:
        UserError: there is no model in the folder, or none that the library can use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "config.json").is_file():
            raise UserError(
                f"No model for BERTScore in {folder}: it has no config.json. Give --bert-score the folder of a "
                "Hugging Face encoder with its tokenizer."
            )
        import transformers
        from bert_score import BERTScorer
        from bert_score.utils import model2layers

        try:
            config = transformers.AutoConfig.from_pretrained(folder)
            layers = model2layers.get(folder.resolve().name, getattr(config, "num_hidden_layers", None))
            with contextlib.redirect_stdout(io.StringIO()):
                self._scorer: Any = BERTScorer(model_type=str(folder), num_layers=layers, device="cpu")
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"BERTScore cannot use {folder}: {reason}. Give a Hugging Face encoder such as roberta-large."
            ) from None

    @property
    def signature(self) -> str:
        # without the path, which is this machine's own
        name = str(self._scorer.hash).replace(str(self.folder), self.folder.resolve().name)
        return f"F1, mean over responses, its model's own tokenizer; {name}"

    def __call__(self, texts: Sequence[str], gold: Sequence[str]) -> list[float]:
        """F1 of each text, at most 1."""
        spoken = [place for place, text in enumerate(texts) if text.strip()]
        scores = [0.0] * len(texts)
        if spoken:
            _, _, f1 = self._scorer.score([texts[place] for place in spoken], [gold[place] for place in spoken])
            for place, value in zip(spoken, f1.tolist(), strict=True):
                scores[place] = value
        return scores

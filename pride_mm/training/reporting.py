"""What a run says of each step: agreed on by the ranks, written down, and told to whoever watches."""

import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from pride_mm.data.batch import Batch
from pride_mm.training.history import History
from pride_mm.training.ranks import sum_over_ranks
from pride_mm.training.session import Session


class Report:
    """The lines of a run's ``metrics.jsonl``, and the same numbers for its trackers.

    Args:
        session: whose steps they are of.
        run: the run's folder.
    """

    def __init__(self, session: Session, run: Path) -> None:
        self._session, self._main = session, session.accelerator.is_main_process
        self._history = History(run / "metrics.jsonl")

    def rewind(self, step: int) -> None:
        """Forget what came after ``step``: a resumed run says it again."""
        if self._main:
            self._history.rewind(step)

    def agree(
        self, terms: Mapping[str, float], flags: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The terms' means and the flags' sums over the ranks; tokens are counted together as well."""
        accelerator = self._session.accelerator
        summed = sum_over_ranks({**terms, **flags}, accelerator.device, [*self._names(), *flags])
        means = {name: one if name == "tokens" else one / accelerator.num_processes for name, one in summed.items()}
        return {name: means[name] for name in means if name not in flags}, {name: summed[name] for name in flags}

    def _names(self) -> list[str]:
        """What a step's line may hold."""
        terms = self._session.distillation.term_names
        return [*terms, "gradient_norm", *(f"gradient_norm.{name}" for name in terms), "data_wait", "tokens"]

    def note(self, step: int, split: str, terms: Mapping[str, float], seconds: float) -> str:
        """Write a line; returns what fits behind a bar of progress."""
        rate, memory = float(self._session.scheduler.get_last_lr()[0]), _memory_mib()
        if self._main:
            self._history.add(step, split, terms, rate, seconds, memory)
            told = {**terms, "lr": rate, "seconds": seconds, "memory_mib": memory}
            self._session.accelerator.log({f"{split}/{name}": value for name, value in told.items()}, step)
        speed, waiting = terms.get("tokens", 0.0) / seconds, terms.get("data_wait", 0.0) / seconds
        return f"loss {terms['total']:.3f}  {speed:,.0f} tokens/s  {waiting:.0%} waiting  {memory / 1024:.1f} GiB"


def count_tokens(session: Session, batch: Batch) -> float:
    """Real tokens of context and response."""
    schema = session.distillation.schema
    return float(batch.inputs[schema.dialogue.name].mask.sum() + batch.targets[schema.response.name].mask.sum())


def _memory_mib() -> float:
    """The most that this process has taken: of its GPU, where it has one, or of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

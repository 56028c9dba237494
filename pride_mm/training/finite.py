"""Steps whose loss or gradient is no number."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pride_mm.data.batch import Batch
from pride_mm.errors import UserError

NOT_FINITE = "not_finite.jsonl"


def set_aside(run: Path, step: int, batch: Batch, losses: Mapping[str, Tensor], stop: bool) -> None:
    """Write down whose step it was: all ranks come here together, having one gradient, each with its own samples.

    Raises:
        UserError: where such a step is to ``stop`` the run.
    """
    bad = [name for name, value in losses.items() if not math.isfinite(float(value))]
    with (run / NOT_FINITE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "keys": batch.keys, "terms": bad}) + "\n")
    if stop:
        raise UserError(
            f"The loss or its gradient is no number at step {step} (samples {', '.join(batch.keys)}; "
            f"terms: {', '.join(bad) or 'none, it is the gradient'}): lower optim.lr, look at these samples with "
            f"'pride show', or leave out such steps with optim.not_finite=skip."
        )

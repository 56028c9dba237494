"""What the commands that compare two contenders share: their options, and what they say of the pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import complain, name_bad

if TYPE_CHECKING:
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples
    from pride_mm.evaluation.pairs import Pair

First = Annotated[str, typer.Argument(help="The contender whose wins are counted: a run in the scores, or 'human'.")]
Second = Annotated[str, typer.Argument(help="The contender it is held against.")]
Shards = Annotated[Path, typer.Option(help="Folder of shards that was scored.")]
MaxBad = Annotated[int, typer.Option(min=0, help="Broken samples allowed.")]


def pairs_of(scores: Path, shards: "ShardSet", contenders: tuple[str, str], bad: "BadSamples") -> "Sequence[Pair]":
    """The pairs of two contenders; what is broken or empty among them is named."""
    from pride_mm.evaluation.pairs import empty_answers, read_pairs

    pairs = read_pairs(scores, shards, contenders, bad)
    name_bad(bad)
    for line in empty_answers(pairs, contenders):
        complain(line)
    return pairs

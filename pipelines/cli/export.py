"""``pride export``."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.terminal import say

if TYPE_CHECKING:
    from pride_mm.data.shards import ShardSet
    from pride_mm.serving.card import Corpus


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="Folder of the artifact.")] = Path("artifact"),
    scores: Annotated[Path | None, typer.Option(help="A scores.json for the model card.")] = None,
    shards: Annotated[
        list[str] | None, typer.Option(help="Shards it was trained on: corpora and names of notes for the card.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Width of the weights: float32 or bfloat16.")] = "float32",
    quantize: Annotated[str, typer.Option(help="int8: what answers on a CPU computes in int8. Or none.")] = "none",
    onnx: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Write the encoder of this input as ONNX, too; given again, of several."),
    ] = None,
) -> None:
    """Write a run's best student as an artifact that cannot take privileged input.

    Example: pride export runs/privileged --out artifact --scores report/scores.json --shards shards
    """
    from typing import cast

    from pride_mm.data.shards import ShardSet
    from pride_mm.serving.export import export as write_artifact
    from pride_mm.serving.quantize import Quantization, Width, check_quantization
    from pride_mm.training.checkpoint import student_folder

    check_quantization(quantize)
    given = None if scores is None else _scores(scores)
    sets = [ShardSet.open(place) for place in shards or ()]
    privileged = list(dict.fromkeys(field.name for one in sets for field in one.schema.privileged))
    write_artifact(
        student_folder(run),
        out,
        privileged or (given or {}).get("privileged_fields", []),
        given,
        _corpora(sets),
        cast(Width, dtype),
        cast(Quantization, quantize),
        onnx or (),
    )
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"{out}: {size / 2**20:.1f} MiB, no parameter and no field for notes in it.")
    say(f"Try: pride chat {out}")


def _scores(path: Path) -> dict[str, Any]:
    from pride_mm.errors import UserError

    try:
        given = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{path} is no scores.json; `pride eval` writes one.") from None
    if not isinstance(given, dict) or given.get("format") != 1:
        raise UserError(f"{path} is no scores.json of this version; `pride eval` writes one.")
    return given


def _corpora(sets: "Sequence[ShardSet]") -> "list[Corpus]":
    """What the training splits hold, with the licences that ``configs/corpus`` knows."""
    from pipelines.sources.corpus import load_corpus
    from pride_mm.config import CONFIGS
    from pride_mm.schema import Role
    from pride_mm.serving.card import Corpus

    counts: Counter[str] = Counter()
    for shards in sets:
        if "train" in shards.splits:
            counts.update(sample.corpus for sample in shards.samples("train", (Role.INPUT,), media=False))
    known = [load_corpus(path) for path in sorted((CONFIGS / "corpus").glob("*.toml"))]
    licences = {corpus.corpus: corpus.licence for corpus in known}
    return [Corpus(name, count, licences.get(name, "")) for name, count in sorted(counts.items())]

"""``pride eval scorer``."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.terminal import complain, name_bad, progress, say


def scorer(
    path: Annotated[str, typer.Argument(help="Folder or file of the corpus whose answers people have rated.")],
    out: Annotated[Path, typer.Option(help="Folder for the scorer.")] = Path("empathy"),
    corpus: Annotated[str, typer.Option(help="Name in configs/corpus, or a TOML of your own.")] = "epitome",
    encoder: Annotated[
        str | None, typer.Option(help="Folder of a sentence encoder; default: the one installed.")
    ] = None,
    max_bad: Annotated[int, typer.Option(min=0, help="Bad rows that are allowed.")] = 10,
) -> None:
    """Learn to read levels of empathy off answers that people have rated, as 'pride eval score' can use them.

    Every scale among the corpus's notes is learnt. A fifth of the posts is held out: how well it reads the answers to
    those is printed beside two ways of knowing nothing, and goes with it into each report.

    Example: pride eval scorer data/epitome_reddit --out empathy
    """
    from pipelines.sources.rated import rated
    from pride_mm.embedding import Embedder, installed_encoder
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.evaluation.comparison import NO_ENCODER
    from pride_mm.evaluation.metrics.empathy import save_scorer, train_scorer
    from pride_mm.evaluation.metrics.meaning import Vectors

    source = encoder or installed_encoder()
    if source is None:
        raise UserError(f"A scorer reads sentence embeddings: {NO_ENCODER}.")
    bad = BadSamples(max_bad)
    found = rated(corpus, path, bad)
    vectors = Vectors(Embedder(source))
    with progress("embedding") as tick:
        vectors.learn([text for one in found.answers for text in (one.post, one.response)], tick)
    learnt = train_scorer(found.answers, found.titles, vectors, found.corpus)
    save_scorer(out, learnt)
    name_bad(bad)
    say(f"{learnt.trained:,} rated answers; macro-F1 on held-out posts (commonest level; a rule: '?')")
    for scale in learnt.scales.values():
        q = scale.quality
        say(f"  {scale.title}: {q.f1:.1f} ({q.common_f1:.1f}; {q.rule_f1:.1f}), accuracy {q.accuracy:.1f}, n {q.n:,}")
        if q.f1 <= max(q.common_f1, q.rule_f1):
            complain(f"  {scale.title} is read no better than that: don't build on it.")
    say(f"the scorer is {out}")

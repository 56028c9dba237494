"""``report.html``: one self-contained page that a person reads, on screen or in print.

It shows inputs, targets and answers; of notes it shows names of fields and rates, never a word.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pride_mm.evaluation import figures
from pride_mm.evaluation.metrics import Score
from pride_mm.evaluation.results import Contender, Difference, Evaluation
from pride_mm.page import write_page

_TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"


@dataclass(frozen=True)
class Metric:
    """One row of the table of scores. ``better`` is +1 where more is better, -1 where less is, 0 where neither."""

    key: str
    title: str
    better: int
    digits: int = 1


def metrics(evaluation: Evaluation) -> list[Metric]:
    """The metrics that at least one contender has a score for."""
    known = [
        Metric("perplexity", "Perplexity", -1, 2),
        Metric("bits_per_byte", "Bits per byte", -1, 3),
        Metric("bleu_1", "BLEU-1", 1),
        Metric("bleu_2", "BLEU-2", 1),
        Metric("bleu_3", "BLEU-3", 1),
        Metric("bleu", "BLEU-4", 1),
        Metric("chrf", "chrF", 1),
        Metric("rouge_1", "ROUGE-1", 1),
        Metric("rouge_2", "ROUGE-2", 1),
        Metric("rouge_l", "ROUGE-L", 1),
        Metric("meteor", "METEOR", 1),
        Metric("bert_score", "BERTScore", 1, 3),
        Metric("embedding", "Sentence similarity", 1, 3),
        Metric("distinct_1", "Distinct-1", 0),
        Metric("distinct_2", "Distinct-2", 0),
        Metric("empty", "Empty", -1, 0),
    ]
    for name, title in evaluation.titles.items():
        known += [
            Metric(f"{name}.accuracy", f"{title}, accuracy", 1),
            Metric(f"{name}.macro_f1", f"{title}, macro-F1", 1),
            Metric(f"{name}.calibration_error", f"{title}, calibration error", -1),
        ]
    scored = dict.fromkeys(key for one in evaluation.contenders for key in one.scores)
    for name, title in evaluation.scales.items():
        known.append(Metric(f"empathy.{name}", f"{title}, mean level", 0, 2))
        start = f"empathy.{name}."
        known += [Metric(key, f"{title}, level {key[len(start) :]}, %", 0) for key in scored if key.startswith(start)]
    return [metric for metric in known if any(metric.key in one.scores for one in evaluation.contenders)]


def best(evaluation: Evaluation, metric: Metric) -> set[str]:
    """The students that lead in a metric; nobody where there is one student only, or none is better."""
    scores = {
        c.name: c.scores[metric.key].value for c in evaluation.contenders if c.what == "run" and metric.key in c.scores
    }
    if len(scores) < 2 or not metric.better:
        return set()
    lead = max(scores.values(), key=lambda value: metric.better * value)
    leaders = {name for name, value in scores.items() if value == lead}
    return leaders if len(leaders) < len(scores) else set()


def number(value: float, digits: int) -> str:
    """A number as the table shows it."""
    return f"{value:,.{digits}f}"


def sentence(evaluation: Evaluation) -> str:
    """What was compared, in one sentence."""
    names = [run.name for run in evaluation.runs]
    who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    others = [row.name for row in evaluation.contenders if row.what != "run"]
    return (
        f"{'The student' if len(names) == 1 else 'The students'} {who} answered the {evaluation.split} split of "
        f"'{evaluation.schema}' without any expert's notes ({evaluation.samples:,} samples of {evaluation.groups:,} "
        f"groups, {evaluation.with_response:,} with a gold response), beside {', '.join(others)}."
    )


def _scores(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each metric; a cell, or None, for each contender."""
    rows = []
    for metric in metrics(evaluation):
        leaders = best(evaluation, metric)
        known = [contender.scores[metric.key] for contender in evaluation.contenders if metric.key in contender.scores]
        cells = []
        for contender in evaluation.contenders:
            score = contender.scores.get(metric.key)
            cells.append(score and _cell(contender, score, metric, contender.name in leaders))
        sizes = sorted({(score.n, score.unit) for score in known})
        rows.append({"metric": metric, "size": ", ".join(f"{n:,} {unit}" for n, unit in sizes), "cells": cells})
    return rows


def _cell(contender: Contender, score: Score, metric: Metric, lead: bool) -> dict[str, Any]:
    return {
        "text": number(score.value, metric.digits),
        "range": _range(score, metric.digits),
        "best": contender.what == "run" and lead,
    }


def _range(score: Score, digits: int) -> str:
    if score.interval is None:
        return ""
    return f"{number(score.interval.low, digits)} to {number(score.interval.high, digits)}"


def verdict(difference: Difference) -> str:
    """What a difference says, in words."""
    if difference.better is None:
        if difference.score.interval is None:
            return "not enough groups to tell"
        return "no difference that this test set can show"
    return f"{difference.run if difference.better else difference.base} is better"


def _differences(evaluation: Evaluation) -> list[dict[str, str]]:
    titles = {metric.key: metric.title for metric in metrics(evaluation)}
    return [
        {
            "metric": titles[d.metric],
            "pair": f"{d.run} − {d.base}",
            "value": f"{d.score.value:+.2f}",
            "range": "" if d.score.interval is None else f"{d.score.interval.low:+.2f} to {d.score.interval.high:+.2f}",
            "n": f"{d.score.n:,} {d.score.unit}"
            + ("" if d.score.interval is None else f", {d.score.interval.groups:,} groups"),
            "verdict": verdict(d),
        }
        for d in evaluation.differences
    ]


def _costs(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Two rows under the scores: parameters, and milliseconds a token; a cell for each contender."""
    known = [evaluation.costs.get(one.name) for one in evaluation.contenders]
    return [
        {
            "title": "Parameters",
            "note": "of the whole model",
            "cells": [_millions(one.parameters) if one else "–" for one in known],
        },
        {
            "title": "Milliseconds a token",
            "note": "one prompt at a time",
            "cells": [number(one.milliseconds, 1) if one else "–" for one in known],
        },
    ]


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 100_000 else f"{count:,}"


def _gates(evaluation: Evaluation) -> list[dict[str, Any]]:
    """What each run lets in, in numbers and words."""
    rows = []
    for run in evaluation.runs:
        noted = run.gates.noted
        places = [f"{value:+.3f}" + (f" (layer {at})" if at else "") for at, value in sorted(run.gates.text.items())]
        joined = noted is not None and noted.gate is None
        rows.append(
            {
                "run": run.name,
                "text": ", ".join(places) or "none: the sources stand before the text",
                "gate": f"{noted.gate:+.3f}" if noted is not None and noted.gate is not None else "–",
                "gain": f"{noted.gain:+.3f}" if noted is not None and noted.gain is not None else "–",
                "said": f"{noted.samples:,} samples with notes" + (", in one softmax with the sources" * joined)
                if noted is not None
                else f"no: {run.gates.why}",
            }
        )
    return rows


def _extremes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """What each run gained and lost most against the base."""
    return [
        {
            "run": run.name,
            "base": evaluation.runs[0].name,
            "gains": [one for one in evaluation.extremes if one.run == run.name and one.gain > 0],
            "losses": [one for one in evaluation.extremes if one.run == run.name and one.gain < 0],
        }
        for run in evaluation.runs[1:]
    ]


def _calibration(evaluation: Evaluation, head: str) -> list[dict[str, str]]:
    """A line for each run: how sure it is, how often it is right, and the error."""
    known = [(run.name, run.calibration[head]) for run in evaluation.runs if head in run.calibration]
    return [
        {
            "run": name,
            "confidence": number(100 * one.confidence, 1),
            "accuracy": number(100 * one.accuracy, 1),
            "error": number(one.error.value, 1),
            "range": _range(one.error, 1),
            "n": f"{one.error.n:,}",
        }
        for name, one in known
    ]


def _settings(evaluation: Evaluation) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for run in evaluation.runs for name in run.settings))
    rows: list[dict[str, Any]] = [
        {"name": name, "values": [str(run.settings.get(name, "—")) for run in evaluation.runs]} for name in names
    ]
    for row in rows:
        row["differs"] = len(set(row["values"])) > 1
    return sorted(rows, key=lambda row: not row["differs"])


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Write the page, whole or not at all."""
    runs = evaluation.runs
    write_page(
        path,
        _TEMPLATE,
        title=f"Evaluation: {', '.join(run.name for run in runs)}",
        evaluation=evaluation,
        sentence=sentence(evaluation),
        scores=_scores(evaluation),
        costs=_costs(evaluation),
        differences=_differences(evaluation),
        empty=[(row.name, row.empty) for row in evaluation.contenders if row.empty],
        curves=figures.curves(runs),
        attention=figures.attention(runs),
        noted=figures.noted(runs),
        gates=_gates(evaluation),
        extremes=_extremes(evaluation),
        heads=[
            {
                "title": title,
                "accuracy": figures.class_accuracy(runs, name),
                "reliability": figures.reliability(runs, name),
                "calibration": _calibration(evaluation, name),
                "confusion": [figures.confusion(run.name, run.heads[name]) for run in runs if name in run.heads],
            }
            for name, title in evaluation.titles.items()
            if any(name in run.heads for run in runs)
        ],
        settings=_settings(evaluation),
        colours={run.name: figures.COLOURS[place % len(figures.COLOURS)] for place, run in enumerate(runs)},
    )

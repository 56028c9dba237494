"""The model card of an artifact. Of privileged fields it has names, never a value."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pride_mm.schema import ChoiceField, Field, ScaleField, Schema, classes
from pride_mm.serving.safety import NOT_THERAPY
from pride_mm.student import Student

_LIMITS = f"""## Limits

- {NOT_THERAPY} It must not be relied on by a person in distress: whoever deploys it refers such a person
  to people who can help.
- It learnt from the people and situations in its training data; it reads others less well.
- The emotion it names is a guess about a display, not knowledge of what someone feels.
- It was scored by automatic metrics, which say little about whether an answer helps.

## Licence

The code is Apache-2.0. The weights descend from the base model and the training corpora: their licences
hold too, and several public corpora of emotional speech allow research only. Check them before you ship.
"""

_USE = """## Use

```
pride chat ARTIFACT
pride serve ARTIFACT
pride predict ARTIFACT requests.jsonl --out answers.jsonl
```

In Python, with `pride-mm` installed:

```python
from pathlib import Path
from pride_mm.serving.predictor import Predictor
from pride_mm.serving.request import read_request

predictor = Predictor.open(Path("ARTIFACT"))
request = read_request(predictor.request, {REQUEST})
print(predictor.answer(request).text)
```

`transformers` loads it, too: after `import pride_mm.student`, `AutoModelForCausalLM.from_pretrained("ARTIFACT")` has
`generate`. That way nobody looks for damage in it, or at what a person in danger says.
"""


@dataclass(frozen=True)
class Corpus:
    """What a student was trained on: its name, how many samples of it, and its licence, empty where none is known."""

    name: str
    samples: int
    licence: str = ""


def model_card(
    student: Student,
    schema: Schema,
    privileged: Sequence[str] = (),
    scores: dict[str, Any] | None = None,
    corpora: Sequence[Corpus] = (),
) -> str:
    """The card as Markdown with front matter that model hubs read."""
    text = student.config.get_text_config()
    parameters = sum(weight.numel() for weight in student.parameters())
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["empathetic-dialogue", "multimodal", "distillation", "pride-mm"],
    }
    request = json.dumps({schema.dialogue.name: [{"speaker": "A", "text": "I lost my job today."}]})
    return "\n".join(
        [
            "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in front.items()) + "---",
            "",
            "# Empathetic dialogue student",
            "",
            f"Distilled with privileged information by PRIDE-MM (method: arXiv 2606.23124). {NOT_THERAPY}",
            "",
            f"- Base: `{text.model_type}`, {text.num_hidden_layers} layers, width {text.hidden_size}",
            f"- Parameters: {parameters:,}, {str(student.dtype).removeprefix('torch.')}",
            f"- Schema: `{schema.name}`, version {schema.version}",
            "",
            "## What it takes and gives",
            "",
            *_fields("Inputs", schema.inputs),
            *_fields("Outputs", schema.targets),
            *_data(corpora),
            "## What only training saw",
            "",
            _training(privileged),
            "",
            *_scores(scores),
            _USE.replace("{REQUEST}", request),
            _LIMITS,
        ]
    )


def _fields(title: str, fields: Sequence[Field]) -> list[str]:
    lines = [f"{title}:", ""]
    for field in fields:
        options = f": {', '.join(classes(field))}" if isinstance(field, ChoiceField | ScaleField) else ""
        lines.append(f"- `{field.name}` ({field.kind}){options}")
    return [*lines, ""]


def _data(corpora: Sequence[Corpus]) -> list[str]:
    if not corpora:
        return []
    rows = [f"| {corpus.name} | {corpus.samples:,} | {corpus.licence or 'not known here'} |" for corpus in corpora]
    return ["## Data", "", "| corpus | samples in training | licence |", "|---|---|---|", *rows, ""]


def _training(privileged: Sequence[str]) -> str:
    named = ", ".join(f"`{name}`" for name in privileged)
    which = f"Privileged fields of the training data: {named}. " if named else ""
    return which + (
        "What experts noted was there in training only. The network has no parameter for it, and a request that "
        "carries it is refused."
    )


def _scores(scores: dict[str, Any] | None) -> list[str]:
    if not scores:
        return []
    shown = list(dict.fromkeys(name for row in scores["contenders"] for name in row["scores"]))
    lines = [
        "## Scores",
        "",
        f"On {scores['samples']:,} samples of {scores['groups']:,} groups ({scores['split']} split), without notes.",
        "",
        "| | " + " | ".join(name.replace("_", " ") for name in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for row in scores["contenders"]:
        cells = [_cell(row["scores"].get(name)) for name in shown]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    leaks = [run for run in scores["runs"] if run["leakage"] is not None]
    if leaks:
        clean = all(run["leakage"]["clean"] for run in leaks)
        lines += [
            "",
            f"Predictions equal by bit with notes present, altered, NaN and gone: {'yes' if clean else '**no**'}.",
        ]
    return [*lines, ""]


def _cell(score: dict[str, Any] | None) -> str:
    return "–" if score is None or score["value"] is None else f"{score['value']:.2f}"

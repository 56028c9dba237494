"""What the page shows of a conversation: bubbles as text, readings as bars. All that goes into HTML is escaped."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from pride_mm.schema import Schema
from pride_mm.serving.conversation import USER
from pride_mm.serving.page.talk import Side, Talk
from pride_mm.serving.page.votes import WORDS
from pride_mm.serving.predictor import Reading
from pride_mm.serving.safety import NOT_THERAPY

_SILENT = "(no answer)"
_WAITING = "…"


def header(names: list[str]) -> Markup:
    """The bar on top, which stays there: what this is, whom one talks to, and that it is no therapist."""
    whom = names[0] if len(names) == 1 else "two students, blind"
    return Markup('<header class="pride-bar"><b>PRIDE-MM</b><span>{}</span><em role="note">{}</em></header>').format(
        whom, NOT_THERAPY
    )


def alert(line: str) -> Markup:
    """One line that says what went wrong; nothing where nothing did."""
    return Markup('<p class="pride-alert" role="alert">{}</p>').format(line) if line else Markup()


def bubbles(talk: Talk, side: Side) -> list[dict[str, Any]]:
    """The messages of one side, as a chatbot shows them: it takes for HTML what it isn't told to take for Markdown."""
    return [{**message, "content": str(escape(message["content"]))} for message in _messages(talk, side)]


def _messages(talk: Talk, side: Side) -> list[dict[str, Any]]:
    lines = iter(talk.shown)
    said: list[tuple[str, str]] = []
    for turn in side.turns:
        ours = turn.speaker == USER
        said.append(("user", _with(turn.text, next(lines))) if ours else ("assistant", turn.text))
    if talk.saying is not None:
        said += [("user", _with(talk.saying, next(lines))), ("assistant", side.saying or _WAITING)]
    shown = []
    for (role, text), (follows, _) in pairwise([*said, ("user", "")]):
        shown.append({"role": role, "content": text})
        if role == follows == "user":
            shown.append({"role": "assistant", "content": _SILENT})
    return shown


def _with(line: str, upload: str) -> str:
    return "\n".join(part for part in (line, f"[{upload}]" if upload else "") if part)


def reading(schema: Schema, read: Reading | None, title: str = "") -> Markup:
    """What a student read in the last line, and where it looked, as bars."""
    top = Markup("<h2>{}</h2>").format(title) if title else Markup()
    if read is None:
        return _panel(top + Markup("<p>What the student reads in your words appears here with its answer.</p>"))
    if not (read.targets or read.sources):
        return _panel(top + Markup("<p>No student has read this: it was answered with a referral.</p>"))
    charts = [_bars(schema.get(head).label, shares) for head, shares in read.targets.items()]
    sources = _bars("Where it looked", read.looked_at(schema), marked=False)
    hint = Markup("<p>The share of its words' attention; less than why it said so.</p>")
    return _panel(top + Markup().join(charts) + sources + hint)


def _panel(inside: Markup) -> Markup:
    return Markup('<section class="pride-reading">{}</section>').format(inside)


def _bars(title: str, shares: Mapping[str, float], marked: bool = True) -> Markup:
    """One chart; the largest is marked where it is what was read."""
    row = Markup(
        '<li{mark}><span>{label}</span><i aria-hidden="true"><b style="width:{share:.1f}%"></b></i>'
        "<output>{share:.0f} %</output></li>"
    )
    first = Markup(' class="first"')
    rows = [
        row.format(mark=first if marked and number == 0 else "", label=label, share=100 * min(max(share, 0.0), 1.0))
        for number, (label, share) in enumerate(shares.items())
    ]
    return Markup("<h3>{}</h3><ul>{}</ul>").format(title, Markup().join(rows))


def hint(talk: Talk) -> Markup:
    """What is known of two students: nothing before the vote, and then who was who."""
    if talk.vote is None:
        return Markup(
            '<p class="pride-hint">A and B are two students, in an order drawn for this conversation. Vote, and you '
            "see who is who, and what each has read. Of a vote are kept: the time, the two names and the hashes of "
            "their weights, who stood where, the vote, and the number of lines; nothing that was said.</p>"
        )
    left, right = (side.partner.name for side in talk.sides)
    return Markup('<p class="pride-hint pride-who" role="status">{}. A was <b>{}</b>, B was <b>{}</b>.</p>').format(
        WORDS[talk.vote], left, right
    )

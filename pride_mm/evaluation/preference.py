"""Which of two contenders is preferred, and how sure that is: the same count for people and for models.

Every pair of answers weighs the same, however many raters it had. Intervals are a bootstrap over dialogues; the sign
test asks in how many dialogues the first did better than the second. No correction is made for there being
several aspects.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pride_mm.evaluation.bootstrap import LEVEL, interval
from pride_mm.evaluation.metrics import Score

Side = Literal["A", "B", "tie"]
SIDES: tuple[Side, ...] = ("A", "B", "tie")
ASPECTS = {
    "empathy": "Which answer understands better how the person feels, and shows it?",
    "relevance": "Which answer fits better to what was said?",
    "fluency": "Which answer is better written: natural, correct, easy to read?",
    "overall": "All in all, which answer is better?",
}
"""What is asked of each pair, by people and by models alike: empathy, relevance and fluency as in the empathetic
dialogue literature since Rashkin et al. (2019), and a preference."""


@dataclass(frozen=True)
class Opinion:
    """What was said of one pair: shares of raters for the first, for neither and for the second, 1 together."""

    key: str
    group: str
    win: float
    tie: float
    loss: float


@dataclass(frozen=True)
class Preference:
    """How the first contender fares against the second.

    Attributes:
        win, tie, loss: shares of the pairs.
        rate: wins and half of the ties; 0.5 is even.
        better, worse: dialogues in which the first was preferred more often, less often.
        p: of a two-sided sign test on these.
    """

    win: Score
    tie: Score
    loss: Score
    rate: Score
    better: int
    worse: int
    p: float


def opinion(key: str, group: str, verdicts: Sequence[float]) -> Opinion:
    """The raters of one pair together: each said 1 for the first, 0 for neither, -1 for the second."""
    win, loss = (sum(verdict == side for verdict in verdicts) / len(verdicts) for side in (1, -1))
    return Opinion(key, group, win, 1 - win - loss, loss)


def preference(opinions: Sequence[Opinion]) -> Preference | None:
    """Rates with 95 % intervals, and the sign test; None of no opinion."""
    if not opinions:
        return None
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    groups, pairs = [one.group for one in opinions], [1.0] * len(opinions)
    net: defaultdict[str, float] = defaultdict(float)
    for one in opinions:
        net[one.group] += one.win - one.loss

    def share(each: list[float]) -> Score:
        around = interval(groups, [each, pairs], lambda sums: sums[:, 0] / sums[:, 1])
        return Score(sum(each) / len(each), len(each), "pairs", around)

    better, worse = (sum(sign * each > 1e-9 for each in net.values()) for sign in (1, -1))
    return Preference(
        win=share([one.win for one in opinions]),
        tie=share([one.tie for one in opinions]),
        loss=share([one.loss for one in opinions]),
        rate=share([one.win + one.tie / 2 for one in opinions]),
        better=better,
        worse=worse,
        p=float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
    )


HEAD = f"{'':<12}{'win':>6}{'tie':>7}{'loss':>7}{f'win rate ({LEVEL:.0%})':>25}{'p':>8}{'pairs':>7}"


def row(name: str, found: Preference | None) -> str:
    """One line of a table under ``HEAD``, 72 columns wide."""
    if found is None:
        return f"{name:<12}nothing was said of it"
    around = found.rate.interval
    rate = f"{found.rate.value:.1%}" + (f" ({around.low:.1%}-{around.high:.1%})" if around else " (too few)")
    shares = f"{found.win.value:>6.0%}{found.tie.value:>7.0%}{found.loss.value:>7.0%}"
    return f"{name:<12}{shares}{rate:>25}{found.p:>8.3f}{found.rate.n:>7}"

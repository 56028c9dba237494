"""Compare runs on one split: the same samples, the same decoding, no notes for anyone but the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pride_mm.data.seal import can_open
from pride_mm.data.shards import ShardReader, ShardSet
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.evaluation import metrics
from pride_mm.evaluation.baselines import baselines, head_row
from pride_mm.evaluation.calibration import calibration
from pride_mm.evaluation.comparison import Comparison, Instruments
from pride_mm.evaluation.cost import Cost, cost_signature, costs, student_answerer, teacher_answerer
from pride_mm.evaluation.examined import asked, examine, load_examinee
from pride_mm.evaluation.examples import example, extremes
from pride_mm.evaluation.gates import gates
from pride_mm.evaluation.gold import read_gold, spread
from pride_mm.evaluation.leakage import Leakage, Overlap, OverlapCounter, check_leakage
from pride_mm.evaluation.predictions import DECODINGS, Decoding, Examinee, labelled, read_samples
from pride_mm.evaluation.results import Contender, Difference, Evaluation, Example, Extreme, Run
from pride_mm.evaluation.settings import read_settings
from pride_mm.evaluation.taught import TEACHERS, taught_likelihood
from pride_mm.progress import Progress, silent
from pride_mm.schema import Role, classes
from pride_mm.teacher.cache import open_cache
from pride_mm.training.checkpoint import best
from pride_mm.training.history import read_history

SHOWN = 8
LEAK_SAMPLES = 8


@dataclass
class _Session:
    """One evaluation on its way."""

    shards: ShardSet
    split: str
    samples: int
    bad: BadSamples
    progress: Progress
    kept: Path | None = None
    decoding: Decoding = "greedy"
    instruments: Instruments = field(default_factory=Instruments)

    def __post_init__(self) -> None:
        self.schema = self.shards.schema
        self.gold = read_gold(self.shards, self.split, self.bad)
        if not self.gold.keys:
            raise UserError(f"The split '{self.split}' of {self.shards.place} has no samples to evaluate on.")
        self.train = read_gold(self.shards, "train", self.bad) if self.shards.splits.get("train") else None
        self.reader = self.shards.samples(self.split)
        self.why_no_teacher = ""
        self.taught: dict[str, metrics.Likelihood] = {}
        place = {key: number for number, key in enumerate(self.reader.keys)}
        self.asked = asked(self.gold, self.samples)
        # Samples without a gold response are met too: only sound and face may tell there.
        self.shown = read_samples(self.reader, [place[key] for key in spread(self.gold.keys, SHOWN)], BadSamples(SHOWN))

    def run(self, folder: Path, name: str) -> Run:
        """Evaluate one run's best checkpoint."""
        examinee = load_examinee(folder, self.shards)
        broken = BadSamples(len(self.reader))
        found = examine(
            examinee,
            self.shards,
            self.split,
            self.gold,
            list(dict.fromkeys([*self.asked, *(sample.key for sample in self.shown)])),
            None if self.kept is None else self.kept / f"{name}.jsonl",
            broken,
            self.decoding,
            lambda done, total=None, note="": self.progress(done, total, f"{name}: {note}"),
        )
        self._count(broken)
        self.asked = [key for key in self.asked if key in found.seen]
        self.shown = [sample for sample in self.shown if sample.key in found.seen]
        heads = {}
        read = found.read
        for head, keys in labelled(read, self.gold).items():
            scores = metrics.head_scores(
                keys,
                self.gold.group_of(keys),
                [self.gold.labels[head][key] for key in keys],
                [read[head][key] for key in keys],
                classes(self.schema.get(head)),  # type: ignore[arg-type]
                [max(found.probabilities[head][key]) for key in keys],
            )
            if scores is not None:
                heads[head] = scores
        return Run(
            name=name,
            checkpoint=best(folder).name,
            parameters=sum(weight.numel() for weight in examinee.student.parameters()),
            settings=read_settings(folder),
            history=_history(folder),
            likelihood=found.likelihood,
            heads=heads,
            answers=found.answers,
            attention=found.attention,
            leakage=self._leakage(examinee),
            gates=gates(examinee, best(folder), self._with_notes(), read_settings(folder)),
            calibration={
                name: known
                for name, rows in found.probabilities.items()
                if (known := calibration(rows, self.gold.labels[name], self.gold.groups)) is not None
            },
        )

    def _count(self, broken: BadSamples) -> None:
        """Count what is broken once, though every run meets it."""
        known = {error.place for error in self.bad}
        for error in broken:
            if error.place not in known:
                self.bad.add(error)

    def _leakage(self, examinee: Examinee) -> Leakage | None:
        if not self.schema.privileged:
            return None
        keys = spread(self.gold.keys, LEAK_SAMPLES)
        reader = self._with_notes() or self.reader
        place = {key: number for number, key in enumerate(reader.keys)}
        samples = read_samples(reader, [place[key] for key in keys], BadSamples(len(keys)))
        samples = [sample for sample in samples if examinee.fine([sample])]
        return check_leakage(self.schema, samples, examinee.collator, examinee.everything) if samples else None

    def _with_notes(self) -> ShardReader | None:
        """The split with its notes, or None at a site that was not given them, or their key."""
        if not can_open(self.shards.manifest.sealed, self.shards.place):
            return None
        try:
            return self.shards.samples(self.split, (Role.INPUT, Role.TARGET, Role.PRIVILEGED))
        except UserError:
            return None

    def overlap(self) -> dict[str, Overlap]:
        """How much of the notes stands in inputs and responses."""
        counter = OverlapCounter(self.schema)
        reader = self._with_notes() if self.schema.privileged else None
        if reader is None:
            return {}
        for place in range(len(reader)):
            try:
                counter.add(reader[place])
            except SampleError:
                continue  # named already where the split was scored
        return counter.result()

    # ---- the table ----------------------------------------------------------------------------

    @property
    def answered(self) -> list[str]:
        """The keys whose generated answers are compared with gold ones."""
        return [key for key in self.asked if key in self.gold.responses]

    def contender(self, run: Run) -> Contender:
        scores = {
            "perplexity": metrics.perplexity(run.likelihood),
            "bits_per_byte": metrics.bits_per_byte(run.likelihood),
        }
        found = self.comparison.written([run.answers[key] for key in self.answered]) if self.answered else None
        for head, read in run.heads.items():
            scores |= head_row(head, read)
        known = {name: score for name, score in scores.items() if score is not None}
        return Contender(run.name, "run", known | (found.scores if found else {}), found.empty if found else ())

    @cached_property
    def comparison(self) -> Comparison:
        """What texts are held against, once all runs have said which samples they cannot read."""
        keys, name = self.answered, self.schema.dialogue.name
        reader = self.shards.samples(self.split, (Role.INPUT,), media=False)
        place = {key: number for number, key in enumerate(reader.keys)}
        turns: list[Any] = [reader[place[key]].inputs.get(name) for key in keys]
        posts = [given[-1].text if given else "" for given in turns]
        return Comparison(
            keys, self.gold.group_of(keys), posts, [self.gold.responses[key] for key in keys], self.instruments
        )

    def missing(self, runs: Sequence[Run]) -> dict[str, str]:
        """Why what could have been measured was not, by metric."""
        found = dict(self.instruments.missing)
        if not self.answered:
            words = f"no sample of '{self.split}' has a gold response"
            names = ("perplexity", "bits_per_byte", "bleu", "chrf", "rouge", "meteor", "distinct")
            found |= dict.fromkeys((*names, *self.instruments.missing), words)
        for head in self.schema.heads:
            lacking = [run.name for run in runs if head.name not in run.heads]
            if not self.gold.labels[head.name]:
                found[head.name] = f"no sample of '{self.split}' has this label"
            elif lacking:
                found[head.name] = f"nothing is read by {', '.join(lacking)}"
        return found

    def teacher(self, like: metrics.Likelihood) -> Contender | None:
        """The teacher's own likelihood of the gold responses that the students scored, from its cache."""
        try:
            record = open_cache(self.shards)
            given = taught_likelihood(self.shards, self.split, like, self.gold)
        except UserError as error:
            self.why_no_teacher = str(error)
            return None
        if given is None:
            return None
        scores = {"perplexity": metrics.perplexity(given), "bits_per_byte": metrics.bits_per_byte(given)}
        self.taught[TEACHERS[record.notes]] = given
        return Contender(
            TEACHERS[record.notes], "teacher", {name: score for name, score in scores.items() if score is not None}
        )

    def differences(self, base: Run, run: Run) -> list[Difference]:
        found = [("perplexity", metrics.perplexity_difference(run.likelihood, base.likelihood), -1)]
        for head in run.heads:
            if head in base.heads:
                score = metrics.accuracy_difference(
                    run.heads[head], base.heads[head], self.gold.labels[head], self.gold.groups
                )
                found.append((f"{head}.accuracy", score, 1))
        return [
            Difference(metric, run.name, base.name, score, _better(score, sign))
            for metric, score, sign in found
            if score is not None
        ]

    def examples(self, runs: Sequence[Run]) -> tuple[Example, ...]:
        answers = {run.name: run.answers for run in runs}
        return tuple(example(one, self.schema, self.gold, runs, answers, self._likelihoods(runs)) for one in self.shown)

    def _likelihoods(self, runs: Sequence[Run]) -> dict[str, metrics.Likelihood]:
        return {run.name: run.likelihood for run in runs} | self.taught

    def extremes(self, runs: Sequence[Run], students: Mapping[str, Examinee]) -> tuple[Extreme, ...]:
        """The samples on which each run differs most from the first one, answered by all."""
        chosen = [(run, key, gain) for run in runs[1:] for key, gain in extremes(run.likelihood, runs[0].likelihood)]
        place = {key: number for number, key in enumerate(self.reader.keys)}
        keys = list(dict.fromkeys(key for _, key, _ in chosen))
        read = {one.key: one for one in read_samples(self.reader, [place[key] for key in keys], BadSamples(len(keys)))}
        answers = {run.name: dict(run.answers) for run in runs}
        for number, (name, student) in enumerate(students.items()):
            for sample in read.values():
                if sample.key not in answers[name]:
                    answers[name] |= student.answer([sample], self.decoding)
            self.progress(number + 1, len(students), f"{name}: answering where runs differ most")
        known = self._likelihoods(runs)
        return tuple(
            Extreme(run.name, runs[0].name, gain, example(read[key], self.schema, self.gold, runs, answers, known))
            for run, key, gain in chosen
            if key in read
        )

    def costs(self, students: Mapping[str, Examinee], teacher: str | None, named: str) -> dict[str, Cost]:
        """Of the students, and of a teacher that can be had here; what is timed is timed in turn."""
        answerers = {name: student_answerer(student) for name, student in students.items()}
        if teacher is not None:
            answerers[named] = teacher_answerer(teacher, next(iter(students.values())))
        return costs(answerers, self.shown, self.progress)


def evaluate(
    runs: Sequence[Path],
    shards: ShardSet,
    split: str,
    samples: int = 100,
    bad: BadSamples | None = None,
    progress: Progress = silent,
    kept: Path | None = None,
    decoding: Decoding = "greedy",
    instruments: Instruments | None = None,
    teacher: str | None = None,
) -> Evaluation:
    """Compare the best checkpoints of some runs; the first is the base that the others are held against.

    Args:
        runs: folders ``runs/NAME``.
        shards: the shards they were trained on, or others of the same schema.
        split: what to evaluate on.
        samples: how many answers to generate.
        bad: counts samples that cannot be read.
        progress: called with a note that names run and step.
        kept: a folder where what each run says is kept, so that an evaluation that was killed goes on.
        decoding: how answers are chosen.
        instruments: the models that some metrics need; without them these metrics are named as missing.
        teacher: name or folder of the teacher, whose cost is measured beside the students'; all are in memory for that.

    Raises:
        UserError: not a run, a run of another schema, or an empty split.
    """
    counted = bad if bad is not None else BadSamples()
    session = _Session(shards, split, samples, counted, progress, kept, decoding, instruments or Instruments())
    names = _names(runs)
    for folder in runs:
        read_settings(folder)
    found = [session.run(folder, name) for folder, name in zip(runs, names, strict=True)]
    taught = session.teacher(found[0].likelihood)
    if taught is None and teacher is not None:
        taught = Contender("teacher", "teacher", {})
    students = {name: load_examinee(folder, shards) for folder, name in zip(runs, names, strict=True)}
    spent = session.costs(students, teacher, taught.name if taught else "")
    rows = [
        *(session.contender(run) for run in found),
        *([taught] if taught else []),
        *baselines(shards.schema, session.train, session.gold, session.answered, session.comparison.written),
    ]
    return Evaluation(
        schema=shards.schema.name,
        split=split,
        samples=len(session.gold.keys),
        groups=len(set(session.gold.groups.values())),
        with_response=len(session.gold.responses),
        generated=len(session.answered),
        runs=tuple(found),
        contenders=tuple(rows),
        differences=tuple(d for run in found[1:] for d in session.differences(found[0], run)),
        overlap=session.overlap(),
        examples=session.examples(found),
        extremes=session.extremes(found, students),
        costs=spent,
        measured=metrics.signatures(len(session.answered))
        | session.instruments.signatures()
        | {"decoding": DECODINGS[decoding]}
        | ({"teacher": f"not scored. {session.why_no_teacher}"} if session.why_no_teacher else {})
        | {"cost": cost_signature(teacher)},
        privileged=tuple(field.name for field in shards.schema.privileged),
        bad=tuple(str(error) for error in counted),
        missing=session.missing(found),
        scales={name: scale.title for name, scale in session.instruments.scales.items()},
        titles={head.name: head.label for head in shards.schema.heads},
    )


def _better(score: metrics.Score, sign: int) -> bool | None:
    if score.interval is None or not score.interval.excludes_zero:
        return None
    return sign * score.value > 0


def _names(runs: Sequence[Path]) -> list[str]:
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise UserError(
            f"Two runs have the same name ({', '.join(names)}): rename a folder, the report needs to tell them."
        )
    return names


def _history(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return read_history(path) if path.is_file() else []

"""The whole way as a list of commands: what ``make demo`` runs, each as a person would type it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pride_mm.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """One corpus of the demo: its description, where it lies below the data's folder, and how much of it is taken."""

    name: str
    path: str | None = None
    limit: int | None = None
    quick: int | None = None


EMBEDDED = (Corpus("demo"),)

REAL = (
    Corpus("empathetic_dialogues_clips", "empathetic_dialogues/train.jsonl", 100, 30),
    Corpus("empathetic_dialogues_clips", "empathetic_dialogues/valid.jsonl", 20, 8),
    Corpus("empathetic_dialogues_clips", "empathetic_dialogues/test.jsonl", 40, 10),
    Corpus("mosi", "mosi_mini/manifest.csv", 100, 40),
    Corpus("ravdess", "ravdess/manifest.csv", None, 60),
)

SAY = "I lost my job today, and I don't know how to tell my family."


@dataclass(frozen=True)
class Step:
    """A heading and the commands under it."""

    title: str
    commands: tuple[tuple[str, ...], ...]
    needs_server: bool = False


@dataclass(frozen=True)
class Demo:
    """Where everything of one demo goes, and its steps."""

    out: Path
    data: Path | None = None
    quick: bool = False

    @property
    def corpora(self) -> tuple[tuple[Corpus, Path], ...]:
        """Each corpus and the folder its items go to."""
        chosen = REAL if self.data else EMBEDDED
        return tuple((corpus, self.out / "corpus" / _folder(corpus)) for corpus in chosen)

    @property
    def label_studio(self) -> Path:
        return self.out / "label-studio"

    @property
    def report(self) -> Path:
        return self.out / "report" / "report.html"

    @property
    def artifact(self) -> Path:
        return self.out / "artifact"

    def check(self) -> None:
        """Raise UserError where the real data is not where it was said to be."""
        for corpus, _ in self.corpora:
            if self.data and corpus.path and not (self.data / corpus.path).is_file():
                raise UserError(
                    f"No {corpus.path} in {self.data}: --data takes the folder that holds empathetic_dialogues, "
                    f"mosi_mini and ravdess. Without --data the embedded sample is used."
                )

    def steps(self) -> Iterator[Step]:
        """The demo in order; each step is made when the one before it is done, since it looks at what that left."""
        out, shards, runs = self.out, str(self.out / "shards"), str(self.out / "runs")
        notes, pulled = str(out / "privileged.jsonl"), str(out / "annotations.jsonl")
        studio = ("--data-dir", str(self.label_studio))
        bad = ("--max-bad", "50") if self.data else ()
        yield Step("Ingest the corpus", tuple(self._ingest(corpus, folder) for corpus, folder in self.corpora))
        pushes = tuple(self._push(folder, studio) for corpus, folder in self.corpora)
        pull = ("label", "pull", "--out", pulled, *studio)
        agree = ("label", "agree", pulled, "--out", notes, "--report", str(out / "agreement.html"))
        yield Step("Annotate in Label Studio", (*pushes, pull, agree), needs_server=True)
        items = tuple(str(folder / "items.jsonl") for _, folder in self.corpora)
        pack = ("pack", *items, "--notes", notes, "--out", shards, *bad)
        show = ("show", shards, "--notes", "--out", str(out / "sample.html"))
        yield Step("Pack, check and look", (pack, ("check", shards), show))
        yield Step("Teach: a teacher that has read the notes", (("teach", shards),))
        trains = tuple(
            ("train", run, "--shards", shards, "--out", runs, *self._settings()) for run in ("plain", "privileged")
        )
        yield Step("Train: without and with privileged information", trains)
        samples = ("--samples", "8" if self.quick else "24")
        both = tuple(str(out / "runs" / run) for run in ("plain", "privileged"))
        evaluate = ("eval", *both, "--shards", shards, "--split", "test", "--out", str(self.report.parent), *samples)
        export = ("export", both[1], "--out", str(self.artifact), "--scores", str(self.report.parent / "scores.json"))
        yield Step("Evaluate and export", (evaluate, export))
        yield Step("Talk to the student", (("chat", str(self.artifact), "--say", SAY),))

    def _ingest(self, corpus: Corpus, folder: Path) -> tuple[str, ...]:
        path = (str(self.data / corpus.path),) if self.data and corpus.path else ()
        limit = corpus.quick if self.quick else corpus.limit
        limits = ("--limit", str(limit)) if limit else ()
        return ("ingest", corpus.name, *path, "--out", str(folder), *limits)

    def _push(self, folder: Path, studio: tuple[str, ...]) -> tuple[str, ...]:
        annotations = folder / "annotations.jsonl"
        noted = ("--annotations", str(annotations)) if annotations.is_file() else ()
        return ("label", "push", str(folder / "items.jsonl"), *noted, *studio)

    def _settings(self) -> tuple[str, ...]:
        epochs = 2 if self.quick or self.data else 15
        return ("--set", f"optim.epochs={epochs}")

    def next_commands(self) -> tuple[str, ...]:
        """What to try after the demo."""
        return (
            f"pride chat {self.artifact}",
            f"pride label serve --data-dir {self.label_studio}",
            f"pride show {self.out / 'shards'} --notes --out sample.html",
            "pride ingest clips manifest.csv --out mine",
        )


def _folder(corpus: Corpus) -> str:
    return corpus.name if corpus.path is None else Path(corpus.path).with_suffix("").as_posix().replace("/", "-")

"""``pride`` as people type it: what its help promises is there, and a mistake is one clear line."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.cli import app, run

PRIDE = Path(sys.executable).with_name("pride")
TOP = {
    "ablate",
    "demo",
    "ingest",
    "gate",
    "pack",
    "check",
    "show",
    "stats",
    "audit",
    "teach",
    "plan",
    "train",
    "runs",
    "eval",
    "export",
    "chat",
    "predict",
    "serve",
    "app",
    "label",
}
EVAL = {"score", "scorer", "leakage", "judge", "study push", "study pull"}
LABEL = {"serve", "push", "draft", "assist", "order", "pull", "watch", "status", "agree", "adjudicate"} | {
    "experts add", "experts assign", "elan read", "elan write",
}  # fmt: skip


def commands(group: Any = None, typed: str = "") -> dict[str, Any]:
    """Every command by what is typed for it."""
    found: dict[str, Any] = {}
    for name, command in (group or typer.main.get_command(app)).commands.items():
        here = f"{typed} {name}".strip()
        found |= commands(command, here) if hasattr(command, "commands") else {here: command}
    return found


COMMANDS = commands()


def example_of(command: Any) -> list[str]:
    """The words of the command's example line, behind ``pride``."""
    lines = [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("Example: ")]
    assert len(lines) == 1, f"the help of '{command.name}' needs one line 'Example: pride ...'"
    pride, *words = shlex.split(lines[0].removeprefix("Example: "))
    assert pride == "pride"
    return words


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to type in, with a few things that are not what a command needs."""
    monkeypatch.chdir(tmp_path)
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "PRIDE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "folder").mkdir()
    Path("bytes").write_bytes(b"\xff\xfe\x00")
    Path("half.jsonl").write_text('{"id": "half')
    dialogue = '[{"speaker": "a", "text": "Hi"}]'
    Path("items.jsonl").write_text(
        f'{{"id": "x", "corpus": "c", "group": "g", "inputs": {{"dialogue": {dialogue}}}, "targets": {{}}}}\n'
    )
    Path("annotations.jsonl").write_text('{"item": "x", "annotator": "a", "values": {"expression": 1}}\n')
    return tmp_path


def test_help_lists_the_commands_and_answers_at_once() -> None:
    took = []  # seconds of the processor: a busy machine is no fault of the command's
    for _ in range(3):
        begun = os.times()
        shown = subprocess.run([PRIDE, "--help"], capture_output=True, text=True, check=True).stdout
        ended = os.times()
        took.append(ended.children_user + ended.children_system - begun.children_user - begun.children_system)
    listed = set(re.findall(r"^  ([a-z]+)  ", shown.partition("Commands:")[2], re.MULTILINE))
    assert listed == TOP
    inner = {f"label {name}" for name in LABEL} | {f"eval {name}" for name in EVAL}
    assert set(COMMANDS) == (TOP - {"label", "eval"}) | inner
    assert min(took) < 1


def test_help_imports_nothing_heavy() -> None:
    look = "import sys, pipelines.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "transformers", "label_studio_sdk", "av", "decord", "matplotlib", "datasets", "sklearn", "numpy"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_the_command_takes(name: str) -> None:
    words = example_of(COMMANDS[name])
    assert words[: len(name.split())] == name.split()
    # parsed as if typed: an option or an argument that isn't there fails here
    COMMANDS[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_no_command_or_option_that_is_not_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*name.split(), "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    options = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", shown)) <= options | {"--help"}
    named = re.findall(r"pride ((?:label |eval )?[a-z]+)", shown.partition("Example:")[0].partition("[OPTIONS]")[2])
    assert set(named) <= {" ".join(known.split()[:2]) for known in COMMANDS} | {"eval"}


TRAIN = "train plain --shards folder"
MISTAKES = [
    ("nope", "No such command 'nope'"),
    ("label nope", "No such command 'nope'"),
    ("eval nope --shards nope", "No folder nope; `pride pack` makes one"),  # which scores
    ("eval scorer nope", "nope"),
    ("eval scorer folder --corpus nope", "No corpus 'nope'"),
    ("eval scorer folder --corpus empathetic_dialogues", "has no scale among its notes: nothing is rated"),
    ("check", "(?i)missing argument 'shards'"),
    ("check shards --nope", "No such option"),
    ("label serve --port 99999", "'--port'"),
    ("ingest nope", "No corpus 'nope': give a path to a .toml file, or one of: .*mosi"),
    ("ingest bytes", "bytes is not text in UTF-8"),
    ("ingest demo --schema nope", "No schema 'nope': .*pride"),
    ("ingest demo nope", "No script at nope"),
    ("ingest mosi nope.csv", "No manifest at nope.csv: give a file ending in .csv"),
    ("ingest clips nope.csv", "No manifest at nope.csv"),
    ("ingest clips", "need the path of their manifest"),
    ("ingest mosi folder", "holds 0 manifests"),
    ("ingest ravdess bytes", "bytes is no manifest: give a file that ends in"),
    ("gate nope.jsonl --out out", "No file nope.jsonl. `pride ingest` makes"),
    ("gate items.jsonl --out items.jsonl", "give the kept items another name"),
    ("gate items.jsonl --out out --set face.share=2", "face.share: .*less than or equal to 1"),
    ("gate items.jsonl --out out --settings nope", "No quality 'nope': .*default, look"),
    ("pack nope.jsonl --out out", "No file nope.jsonl. `pride ingest` makes"),
    ("pack folder --out out", "No file folder"),
    ("pack --out out", "Give at least one file of items"),
    ("pack --only input --out out", "--only takes 'privileged', not 'input'"),
    ("pack --only privileged --out nope", "No folder nope; `pride pack` makes one"),
    ("pack items.jsonl --settings nope --out out", "No pack 'nope': .*copy, frames, proxy"),
    ("pack items.jsonl --set video.mode=nope --out out", "1 mistake in (.|\n)*video.mode"),
    ("pack items.jsonl --out nope://there/set", "nope://there/set cannot be written to"),
    ("pack half.jsonl --out out", r"Nothing to pack(.|\n)*half.jsonl:1: not JSON"),
    ("pack items.jsonl --notes nope --out out", "No file nope. `pride label agree` makes"),
    ("pack items.jsonl --schema nope --out out", "No schema 'nope'"),
    ("pack items.jsonl --schema bytes --out out", "bytes is not text in UTF-8"),
    ("pack items.jsonl --out bytes", "File exists: bytes. Give another path"),
    *[
        (f"{words} {shards}", said)
        for words in (
            "check",
            "show",
            "stats",
            "teach",
            "train plain --shards",
            "eval score folder --shards",
            "eval leakage --shards",
        )
        for shards, said in (
            ("nope", "No folder nope; `pride pack` makes one"),
            ("bytes", "No folder bytes"),
            ("folder", "folder is not complete: it has no manifest.json. Run `pride pack` again"),
        )
    ],
    ("ablate nope", "No folder nope; `pride pack` makes one"),
    ("ablate folder --arms nope", "No ablation 'nope': .*method"),
    ("ablate folder --set seeds=[1,1]", "a seed is given twice"),
    ("ablate folder --only nope", "No arm nope in 'method': choose of plain"),
    ("audit nope", "No file or folder nope; `pride ingest` makes records"),
    ("audit folder", "folder holds neither shards nor files of records"),
    ("audit items.jsonl --names nope", "--names takes a spaCy model that finds people, .* not 'nope'"),
    ("audit items.jsonl --redact .", r"--redact \. would write over items.jsonl: give another folder"),
    ("plan nope --shards folder", "No run 'nope': .*plain, privileged"),
    ("plan plain --shards folder --mfu 0.5", "--mfu is a part of --tflops: give that as well"),
    ("train nope --shards folder", "No run 'nope': .*plain, privileged"),
    ("train bytes --shards folder", "bytes is not text in UTF-8"),
    (f"{TRAIN} --set optim.epoch=2", r"1 mistake in .*\n  optim.epoch: no such setting; did you mean 'epochs'\?"),
    (f"{TRAIN} --set optim.epochs=few --set sede=1", r"2 mistakes in (.|\n)*did you mean 'seed'"),
    (f"{TRAIN} --set epochs", "--set takes key=value, not 'epochs'"),
    *[
        (f"export {given}", f"No checkpoint in {given}: give the folder of a run")
        for given in ("nope", "folder", "bytes")
    ],
    *[(f"export folder --scores {given}", f"{given} is no scores.json") for given in ("nope", "folder", "bytes")],
    *[(f"runs {given}", f"No run in {given}: give the folder") for given in ("nope", "folder", "bytes")],
    ("export folder --shards nope", "No folder nope"),
    ("export folder --quantize int3", "No quantization 'int3': choose one of none, int8"),
    ("chat nope --say Hi", "No artifact at nope; `pride export RUN --out nope` makes one"),
    ("chat folder --say Hi", "folder is no artifact: artifact.json is missing"),
    ("chat bytes --say Hi", "No artifact at bytes"),
    ("chat folder --say Hi --safety nope", "No safety 'nope': .*crisis"),
    ("predict folder nope", "No file nope"),
    ("serve nope --port 0", "No artifact at nope"),
    ("serve folder --port 0", "folder is no artifact"),
    (
        "serve folder --host 0.0.0.0",
        "put one in the environment as PRIDE_API_KEY, listen on 127.0.0.1, or say --insecure",
    ),
    ("serve folder --host nowhere.invalid --insecure", "Nothing can listen at nowhere.invalid"),
    ("serve folder --port 0 --safety nope", "No safety 'nope': .*crisis"),
    ("app nope --port 0", "No artifact at nope"),
    ("app folder nope --port 0", "folder is no artifact"),
    ("app folder --host 0.0.0.0", "put one in the environment as PRIDE_API_KEY"),
    ("predict nope items.jsonl", "No artifact at nope"),
    ("predict folder items.jsonl", "folder is no artifact"),
    ("eval judge a b --shards folder --server http://far.example/v1 --model m", "unencrypted: use https.*--insecure"),
    ("eval judge a b --shards nope --server http://127.0.0.1:9/v1 --model m", "No folder nope"),
    ("eval judge a b --shards folder --server nope --model m", "The server's address is none"),
    ("eval study push nope a b --shards nope", "No folder nope"),
    ("eval study pull", "No key at study.key: 'pride eval study push' wrote it"),
    ("eval study pull --key half.jsonl", "half.jsonl is not the key of a study"),
    ("label push nope", "No file nope; 'pride ingest' writes items"),
    ("label push items.jsonl --annotations nope", "No file nope"),
    ("label push items.jsonl --schema nope", "No schema 'nope'"),
    ("label push items.jsonl", "No Label Studio in label-studio: start one with"),
    ("label push items.jsonl --data-dir bytes", "No Label Studio in bytes"),
    *[
        (f"label {words}", "No Label Studio in label-studio")
        for words in (
            "pull",
            "assist",
            "order",
            "watch",
            "status",
            "experts add ana",
            "experts assign items.jsonl",
            "draft items.jsonl --server http://127.0.0.1:9/v1 --model m",
        )
    ],
    ("label watch --out out.parquet", "out.parquet: what is kept current is a file of JSON lines"),
    ("label experts assign nope", "No file nope"),
    ("label experts assign items.jsonl --list nope", "No file nope"),
    ("label elan write nope", "No file nope"),
    ("label elan read nope", "There is no .eaf file at nope"),
    ("label adjudicate nope items.jsonl", "No file nope"),
    ("label serve --database mysql://a:hush@b/c", "That is no address of a PostgreSQL"),
    ("label serve --data-dir bytes", "File exists: .*bytes. Give another path"),
    ("label agree nope", "No file nope"),
    ("label agree half.jsonl", r"no good annotation in half.jsonl.\n  half.jsonl:1: not JSON"),
    ("label agree annotations.jsonl --schema nope", "No schema 'nope'"),
    ("label agree annotations.jsonl --out bytes/x", "File exists: bytes|Not a directory: bytes"),
    ("label agree annotations.jsonl --report folder", "Is a directory: folder. Give another path"),
    ("demo --out bytes", "Not a directory: bytes. Give another path"),
    ("demo --out out --data nope", "in nope: --data takes the folder that holds"),
]


@pytest.mark.parametrize(("line", "said"), MISTAKES, ids=[line for line, _ in MISTAKES])
@pytest.mark.usefixtures("typed")
def test_a_mistake_exits_2_and_says_what_to_do(line: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(line)) == 2
    shown = capfd.readouterr().err
    assert re.search(said, shown), shown
    assert "Traceback" not in shown
    assert not list(Path().rglob("*.partial"))


def test_every_command_is_tried_with_a_mistake() -> None:
    tried = {next(known for known in COMMANDS if f"{line} ".startswith(f"{known} ")) for line, _ in MISTAKES[3:]}
    assert set(COMMANDS) == tried


def test_in_a_process_of_its_own_there_is_no_traceback(typed: Path) -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run([PRIDE, "check", "nope"], cwd=typed, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "No folder nope; `pride pack` makes one.\n"


def test_a_bug_is_not_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise FileNotFoundError("no path in this one")

    monkeypatch.setattr("pipelines.look.check.check", broken)
    with pytest.raises(FileNotFoundError, match="no path in this one"):
        run(["check", "shards"])


def test_stopped_it_exits_130(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.look.check.check", stopped)
    assert run(["check", "shards"]) == 130
    assert "Stopped. Nothing half-written" in capfd.readouterr().err

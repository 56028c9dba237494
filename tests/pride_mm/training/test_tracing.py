"""``pride train --profile``: a trace of a real run, which changes nothing in it and tells nothing of its data."""

import gzip
import json

import pytest

from pipelines.cli import run as pride
from pride_mm.data.shards import ShardSet
from pride_mm.training import loop
from pride_mm.training.history import read_history
from pride_mm.training.settings import OptimSettings
from pride_mm.training.tracing import PICTURE, PROFILE, STEPS, TRACE
from tests.pride_mm.conftest import NOTE
from tests.pride_mm.training.test_loop import settings


@pytest.fixture(scope="module")
def long(small_model):
    return settings(small_model, optim=OptimSettings(epochs=3, warmup=2))


@pytest.fixture(scope="module")
def profiled(long, taught, tmp_path_factory):
    return loop.train(long, ShardSet.open(taught), tmp_path_factory.mktemp("runs"), profiled=True).run


def test_the_trace_has_the_parts_of_so_many_steps(profiled):
    with gzip.open(profiled / TRACE, "rt") as file:
        events = json.load(file)["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert len({name for name in names if name.startswith("ProfilerStep#")}) == STEPS
    for part in ("wait", "forward", "backward", "update", "validate", "save"):
        assert f"pride.{part}" in names
    assert any(event["name"] == "aten::mm" for event in events)


def test_the_parts_are_the_step(profiled):
    about = json.loads((profiled / PROFILE).read_text())
    assert about["steps"] == STEPS
    assert sum(about["parts"].values()) == pytest.approx(about["seconds"], rel=1e-6)
    assert about["parts"]["forward"] > 0
    assert about["parts"]["backward"] > 0
    assert sum(about["operators"].values()) <= 1.05 * about["seconds"] * 2  # two threads may work at a time
    assert (profiled / PICTURE).read_text().startswith("<svg")


def test_no_note_and_no_word_of_a_dialogue_is_in_it(profiled):
    with gzip.open(profiled / TRACE, "rt") as file:
        text = file.read() + (profiled / PROFILE).read_text() + (profiled / PICTURE).read_text()
    assert NOTE not in text
    assert "ed_12" not in text


def test_it_trains_the_same(long, profiled, taught, tmp_path):
    plain = loop.train(long, ShardSet.open(taught), tmp_path).run
    assert not (plain / TRACE).exists()
    ours, theirs = (
        [
            {name: value for name, value in line["terms"].items() if name != "data_wait"}
            for line in read_history(run / "metrics.jsonl")
        ]
        for run in (profiled, plain)
    )
    assert ours == theirs


@pytest.mark.parametrize(("epochs", "said"), [(1, "Too few steps to look at"), (3, "ui.perfetto.dev")])
def test_the_command_says_where_to_look(small_model, taught, tmp_path, capsys, epochs, said):
    path = tmp_path / "run.toml"
    path.write_text(
        f'name = "run"\nstudent = {{ backbone = "{small_model}", layers = 2, latents = 4 }}\n'
        f"data = {{ batch_size = 5, max_context = 96, max_response = 12 }}\noptim = {{ epochs = {epochs} }}\n"
    )
    assert pride(["train", str(path), "--shards", str(taught), "--out", str(tmp_path), "--profile"]) == 0
    found = capsys.readouterr()
    assert said in found.out + found.err

"""Training on notes that are encrypted is training on the same notes."""

import shutil
from pathlib import Path

import pytest

from pipelines.pack import rejoin_notes
from pride_mm.data.seal import NOTES_KEY
from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.losses.alignment import DualAlignment
from pride_mm.training import loop
from pride_mm.training.history import read_history
from pride_mm.training.settings import DataSettings, OptimSettings, RunSettings, StudentSettings

# the rest is seconds and memory
NAMES = ("total", "cross_entropy", "reverse_kl", "heads", "mmd", "prior", "privileged", "privileged_reverse_kl")


def test_encrypted_notes_train_the_same_student(
    taught: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = Path(shutil.copytree(taught, tmp_path / "sealed"))
    monkeypatch.setenv(NOTES_KEY, "ab" * 32)
    assert rejoin_notes(sealed, [], encrypt=True).teacher_removed == 0
    settings = RunSettings(
        name="run",
        student=StudentSettings(backbone=str(small_model), layers=1, latents=4),
        data=DataSettings(batch_size=7, max_context=96, max_response=12, workers=1),
        optim=OptimSettings(epochs=1, warmup=1),
        loss=DualAlignment(privileged=0.5),
    )
    terms = []
    for shards in (taught, sealed):
        run = loop.train(settings, ShardSet.open(shards), tmp_path / f"runs-{shards.name}").run
        lines = [line["terms"] for line in read_history(run / "metrics.jsonl")]
        terms.append([{name: line[name] for name in NAMES if name in line} for line in lines])
    assert terms[0] == terms[1]
    assert all(line["privileged"] > 0 for line in terms[0])
    monkeypatch.delenv(NOTES_KEY)
    with pytest.raises(UserError, match="are encrypted: put the key"):
        loop.train(settings, ShardSet.open(sealed), tmp_path / "without")

"""Embeddings by a real encoder of random weights: what is promised holds for any encoder."""

from pathlib import Path

import numpy
import pytest

from pipelines.cli import run
from pride_mm.embedding import Embedder
from pride_mm.errors import UserError
from pride_mm.records import Annotation, write_records

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "i", "feel", "alone", "tired", "and", "cold", "at"]
WORDS += ["night", "work", "help"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=40, **shape)).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=40).save_pretrained(folder)
    return folder


def test_embeddings_are_unit_vectors_of_the_text_alone(encoder: Path) -> None:
    embed = Embedder(str(encoder))
    texts = ["i feel alone", "work", "i feel alone and cold at night", "help " * 200, "work"]
    together = embed(texts)
    assert together.shape == (5, 16)
    assert numpy.allclose(numpy.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert (together[1] == together[4]).all()
    alone = numpy.concatenate([embed([text]) for text in texts])
    assert numpy.allclose(together, alone, atol=1e-5), "what stands beside a text, and padding, do not matter"
    assert together[0] @ together[1] < 1 - 1e-6


def test_no_such_encoder_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No text encoder '.*nothing'.*\nGive the folder of a Hugging Face encoder"):
        Embedder(str(tmp_path / "nothing"))


def test_agree_compares_texts_by_meaning(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["i feel alone", "tired and cold", "cold at night", "work", "help at night", "alone at work"]
    given = [
        Annotation(item=f"i{n}", annotator=who, values={}).model_copy(update={"values": {"situation": text}})
        for n, text in enumerate(texts) for who in ("ana", "ben")
    ]  # fmt: skip
    write_records(Path("annotations.jsonl"), given)
    assert run(["label", "agree", "annotations.jsonl", "--encoder", str(encoder)]) == 0
    page = Path("agreement.html").read_text()
    assert f"cosine of sentence embeddings ({encoder.name}); between different items" in page
    assert run(["label", "agree", "annotations.jsonl", "--encoder", "./nowhere"]) == 2
    assert "No text encoder './nowhere'" in capsys.readouterr().err

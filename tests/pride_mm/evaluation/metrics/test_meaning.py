"""Likeness in meaning, by the encoder that is installed, and by the library that BERTScore comes from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pride_mm.embedding import Embedder, installed_encoder
from pride_mm.errors import UserError
from pride_mm.evaluation.metrics.meaning import BertScore, Vectors, similarity

SAID = ["I am so happy for you!", "The train leaves at nine.", " "]
GOLD = ["I am really glad for you.", "I am sorry that your dog died.", "What happened then?"]


def test_what_means_the_same_is_closer(vectors: Vectors) -> None:
    like, unlike, empty = similarity(vectors, SAID, GOLD)
    assert like > 0.5 > 0.2 > unlike
    assert empty == 0
    assert similarity(vectors, GOLD, GOLD) == pytest.approx([1, 1, 1])
    assert vectors.embedder.sha256[:12] in vectors.signature
    assert "all-MiniLM-L6-v2" in vectors.signature
    assert "/" not in vectors.signature


def test_it_is_the_mean_of_the_encoders_last_states(vectors: Vectors) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(vectors.embedder.source)
    model = AutoModel.from_pretrained(vectors.embedder.source)
    with torch.inference_mode():
        pooled = model(**tokenizer(SAID[0], return_tensors="pt")).last_hidden_state.mean(1)[0]
    assert vectors([SAID[0]])[0] == pytest.approx(torch.nn.functional.normalize(pooled, dim=0).numpy(), abs=1e-5)


def test_a_text_is_embedded_once(vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    first = vectors(SAID)
    monkeypatch.setattr(Embedder, "__call__", lambda *_: pytest.fail("embedded again"))
    assert (vectors([SAID[1], SAID[0]]) == first[[1, 0]]).all()


def test_bert_score_is_the_librarys_and_an_empty_text_is_zero(vectors: Vectors) -> None:
    from bert_score import score

    folder = installed_encoder()
    assert folder
    ours = BertScore(Path(folder))
    _, _, theirs = score(SAID[:2], GOLD[:2], model_type=folder, num_layers=6, device="cpu")
    assert ours(SAID, GOLD) == pytest.approx([*theirs.tolist(), 0.0])
    assert ours(GOLD, GOLD) == pytest.approx([1, 1, 1], abs=1e-5)
    assert np.all(np.array(ours(SAID, GOLD)) < 1)
    assert "_L6_no-idf_version=" in ours.signature
    assert str(Path(folder).parent) not in ours.signature


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No model for BERTScore in .*no config\.json\. Give --bert-score the folder"):
        BertScore(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"BERTScore cannot use .*: .*Give a Hugging Face encoder"):
        BertScore(tmp_path)

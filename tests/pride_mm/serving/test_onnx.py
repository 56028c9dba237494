"""Encoders as ONNX: they hear and see of a real clip what the student does, in a runtime without PyTorch."""

from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig

from pride_mm.data.batch import Padded
from pride_mm.errors import UserError
from pride_mm.serving.artifact import check_files
from pride_mm.serving.export import export
from pride_mm.serving.onnx import OneRow, write_onnx
from pride_mm.serving.predictor import Predictor
from pride_mm.student import load_student
from pride_mm.student.config import EncoderSettings
from pride_mm.student.encoders import build_encoder

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX is an extra")
pytest.importorskip("onnxscript", reason="ONNX is an extra")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, student_folder: Path) -> Path:
    return export(
        student_folder, tmp_path_factory.mktemp("onnx") / "artifact", width="bfloat16", onnx=["video", "audio"]
    )


@pytest.mark.parametrize("name", ["video", "audio"])
def test_they_give_the_tokens_of_the_student(name: str, programs: Path, clip: Path) -> None:
    predictor = Predictor.open(programs)
    said = [{"speaker": "a", "text": "Look."}]
    given = predictor._inputs([predictor.request(dialogue=said, video=str(clip), audio=str(clip))])[name]
    assert isinstance(given, Padded)
    values = given.values[0][given.mask[0]]
    session = onnxruntime.InferenceSession(str(programs / f"encoder-{name}.onnx"))
    (tokens,) = session.run(["tokens"], {"values": values.numpy()})
    with torch.no_grad():
        wanted = OneRow(predictor.student.encoders[name].float())(values)
    assert len(wanted) > 1
    torch.testing.assert_close(torch.from_numpy(tokens), wanted, rtol=1e-4, atol=1e-4)


def test_they_belong_to_the_artifact_and_name_no_file_of_this_machine(programs: Path) -> None:
    assert {"encoder-video.onnx", "encoder-audio.onnx"} <= set(check_files(programs).files)
    Predictor.open(programs)
    for path in programs.glob("*.onnx"):
        data = path.read_bytes()
        assert b"site-packages" not in data
        assert str(Path(__file__).parents[3]).encode() not in data


def test_what_has_no_encoder_is_named(student_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"an encoder of the student \(video, audio\), not 'dialogue'"):
        export(student_folder, tmp_path / "artifact", onnx=["dialogue"])
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_traced_is_named(student_folder: Path, tmp_path: Path) -> None:
    student, _, schema = load_student(student_folder)
    config = WhisperConfig(d_model=48, encoder_layers=1, encoder_ffn_dim=32).to_dict()
    whisper = EncoderSettings(name="transformers", config={**config, "model_type": "whisper"})
    student.encoders["audio"] = build_encoder(schema.get("audio"), whisper, 32)
    with pytest.raises(UserError, match=r"PyTorch can't trace the encoder of 'audio' \(\w+\): leave it out"):
        write_onnx(student, "audio", tmp_path)
    assert not list(tmp_path.iterdir())

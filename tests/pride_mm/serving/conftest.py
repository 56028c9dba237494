"""A tiny student on a real backbone, exported."""

from pathlib import Path

import pytest
import torch

from pride_mm.schema import load_schema
from pride_mm.serving.export import export
from pride_mm.serving.predictor import Predictor
from pride_mm.student import Student, save_student
from pride_mm.student.backbone import load_backbone

torch.set_num_threads(1)  # this student is too small to be split over threads


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    backbone, tokenizer = load_backbone(small_model)
    torch.manual_seed(0)
    student = Student.from_backbone(backbone, load_schema("pride"), layers=2)
    student.config.system, student.config.max_context = "Be kind.", 96
    with torch.no_grad():
        student.attention.gate.fill_(1.0)
        student.attention.out.weight.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("run") / "student"
    save_student(folder, student, tokenizer)
    return folder


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory, student_folder: Path) -> Path:
    return export(student_folder, tmp_path_factory.mktemp("export") / "artifact", ["situation", "feelings"])


@pytest.fixture(scope="session")
def predictor(artifact: Path) -> Predictor:
    return Predictor.open(artifact)


@pytest.fixture(scope="session")
def clip(data_dir: Path) -> Path:
    return min((data_dir / "mosi_mini").rglob("*.mp4"), key=lambda path: path.stat().st_size)

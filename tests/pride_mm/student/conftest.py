"""A small student on a real backbone, with gates opened so that its sources matter, and inputs with gaps."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pride_mm.data.batch import Padded
from pride_mm.schema import Schema, load_schema
from pride_mm.student import Student
from pride_mm.student.backbone import load_backbone


@pytest.fixture(scope="session")
def schema() -> Schema:
    return load_schema("pride")


@pytest.fixture(scope="session")
def small_backbone(small_model: Path):
    return load_backbone(small_model)


@pytest.fixture
def student(opened: Student) -> Student:
    return copy.deepcopy(opened)


@pytest.fixture(
    scope="session",
    params=[("multi_source", ()), ("hierarchical", ()), ("concat", ()), ("multi_source", (1, 2))],
    ids=["multi_source", "hierarchical", "concat", "deeper"],
)
def opened(small_backbone, schema: Schema, request: pytest.FixtureRequest) -> Student:
    torch.manual_seed(0)
    fusion, deeper = request.param
    student = Student.from_backbone(small_backbone[0], schema, layers=3, fusion=fusion, attended_layers=deeper).eval()
    with torch.no_grad():
        for attention in (student.attention, *student.layer_attentions.values()):
            for name, parameter in attention.named_parameters():
                if name == "gate":
                    parameter.fill_(1.0)
                elif name in ("out.weight", "source", "null", "rank.weight"):
                    parameter.normal_(std=0.5)
    return student


def padded(values: Tensor, gone: list) -> Padded:
    mask = torch.ones(values.shape[:2], dtype=torch.bool)
    for where in gone:
        mask[where] = False
    return Padded(values, mask)


@pytest.fixture
def inputs() -> dict[str, Padded]:
    """Row 0 has all, row 1 a shorter context and sound, row 2 no video, row 3 neither video nor audio."""
    make = torch.Generator().manual_seed(0)
    sound = 0.1 * torch.randn(4, 24_000, generator=make)
    return {
        "dialogue": padded(torch.randint(3, 500, (4, 9), generator=make), [(1, slice(0, 4))]),
        "video": padded(torch.randint(0, 256, (4, 8, 3, 96, 96), dtype=torch.uint8, generator=make), [2, 3]),
        "audio": padded(sound, [(1, slice(11_000, None)), 3]),
    }


@pytest.fixture
def response() -> Padded:
    make = torch.Generator().manual_seed(1)
    return padded(torch.randint(3, 500, (4, 6), generator=make), [(0, slice(3, None))])

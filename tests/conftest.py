"""What all tests share: where the real data is, and shapes checked at run time."""

import os
import signal
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # these models are too small to be split over threads
# A shell's background job ignores Ctrl-C and hands that on; the tests that press it want it to be heard.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data: ``PRIDE_DATA``, or the folder ``shared/data`` beside the checkout."""
    given = Path(os.environ.get("PRIDE_DATA", ROOT.parent / "shared" / "data"))
    if not given.is_dir():
        pytest.skip(f"needs the real data: set PRIDE_DATA to its folder (looked at {given})")
    return given.resolve()


@pytest.fixture(scope="session")
def small_model(data_dir: Path) -> Path:
    """A real causal language model of 260k parameters in Hugging Face form."""
    return data_dir / "stories260k-hf"

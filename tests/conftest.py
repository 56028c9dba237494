"""What all tests share: where the real data is, and shapes checked at run time."""

import contextlib
import faulthandler
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # these models are too small to be split over threads
# A shell's background job ignores Ctrl-C and hands that on; the tests that press it want it to be heard.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


_TERMINAL = pytest.StashKey[int]()
_TRY, _TEST = 240.0, 900.0  # seconds


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TERMINAL] = os.dup(sys.__stderr__.fileno())  # before pytest takes it
    faulthandler.enable(config.stash[_TERMINAL])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Twice more at most, and said: Label Studio's page and Ray's processes lose races that are not ours to win."""
    for item in items:
        if any(item.get_closest_marker(name) for name in ("browser", "cluster")):
            item.add_marker(pytest.mark.flaky(reruns=2))
            item.add_marker(pytest.mark.timeout(_TRY, func_only=True))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process, with the stack of each thread, where a test with its fixtures and tries doesn't end.

    The clock of pytest-timeout stops at the first failure: what hangs after one would hang for ever.
    """
    faulthandler.dump_traceback_later(_TEST, exit=True, file=item.config.stash[_TERMINAL])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why what passed in a later try failed in an earlier one."""
    for report in terminalreporter.getreports("rerun"):
        said = [line for line in report.longreprtext.splitlines() if line.startswith("E ")] or [""]
        terminalreporter.write_line(f"{report.nodeid} was tried again: {said[0].removeprefix('E ').strip()}")


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


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 API on loopback; its address is in the environment where every S3 client looks for it."""
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    given = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        _answers(port, log)
        yield given["AWS_ENDPOINT_URL"]
    finally:
        server.terminate()
        server.wait()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _answers(port: int, log: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"the S3 server didn't start: {log.read_text()[-500:]}")


@pytest.fixture
def s3(s3_server: str) -> str:
    """A new, empty bucket as ``s3://NAME``."""
    import botocore.session

    name = f"b{uuid.uuid4().hex[:16]}"
    botocore.session.Session().create_client("s3", endpoint_url=s3_server).create_bucket(Bucket=name)
    return f"s3://{name}"

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pride_mm.data.remote import NoRangesError, Remote
from pride_mm.data.storage import ReadSettings
from pride_mm.errors import UserError
from tests.pride_mm.data.range_server import RangeServer, serving

ONCE = ReadSettings(retries=0, timeout=20)
DATA = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    (tmp_path / "x.bin").write_bytes(DATA)
    with serving(tmp_path) as running:
        yield running


def test_files_and_parts_of_them(server: RangeServer) -> None:
    remote = Remote(f"{server.url}/", ONCE)
    assert remote.place == server.url
    assert remote.read("x.bin") == DATA
    assert remote.read("y.bin") is None
    spans = [(0, 5), (300, 301), (9000, len(DATA)), *((n, n + 7) for n in range(100))]
    assert remote.ranges("x.bin", spans) == [DATA[start:end] for start, end in spans]
    with pytest.raises(FileNotFoundError):
        remote.ranges("y.bin", [(0, 1)])
    with pytest.raises(UserError, match="bytes came where 900 were asked for"):
        remote.ranges("x.bin", [(9800, 10700)])


def test_a_server_that_gives_whole_files_only(server: RangeServer) -> None:
    server.ranges = False
    remote = Remote(server.url, ONCE)
    with pytest.raises(NoRangesError) as caught:
        remote.ranges("x.bin", [(0, 5), (5, 10)])
    assert caught.value.data == DATA
    assert (remote.ranged, len(server.asked)) == (False, 1)


def test_only_what_failed_is_asked_for_again(server: RangeServer) -> None:
    remote = Remote(server.url, ReadSettings(retries=1, timeout=5))
    remote.ranges("x.bin", [(0, 1)])
    server.asked.clear()
    server.refusals = [500, 503]
    spans = [(n, n + 9) for n in range(20)]
    assert remote.ranges("x.bin", spans) == [DATA[start:end] for start, end in spans]
    assert len(server.asked) == 22


@pytest.mark.parametrize("status", [401, 403])
def test_no_permission(server: RangeServer, status: int) -> None:
    server.refusals = [status]
    with pytest.raises(UserError, match=r"x\.bin may not be read, the server refuses it") as caught:
        Remote(server.url, ReadSettings()).read("x.bin")
    assert "secret" not in str(caught.value)
    assert len(server.asked) == 1


def test_a_server_that_is_silent_and_one_that_is_not_there(server: RangeServer) -> None:
    server.pause = 5
    with pytest.raises(
        UserError, match=r"x\.bin could not be read, tried 1 times \(\w*Timeout\w*\): check the network"
    ):
        Remote(server.url, ReadSettings(retries=0, timeout=0.5)).read("x.bin")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
        with pytest.raises(UserError, match=r"tried 1 times \(\w*Connect\w*\)"):
            Remote(nowhere, ONCE).read("x.bin")


def test_s3(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{s3}/a/x.bin", DATA)
    remote = Remote(f"{s3}/a", ReadSettings(retries=0, timeout=10))
    assert remote.read("x.bin") == DATA
    assert remote.ranges("x.bin", [(1, 4), (9000, 9100)]) == [DATA[1:4], DATA[9000:9100]]
    assert remote.read("y.bin") is None
    with pytest.raises(UserError, match=r"There is no bucket 'nobody-has-it'.*AWS_ENDPOINT_URL"):
        Remote("s3://nobody-has-it/a", ReadSettings(retries=0, timeout=10)).read("x.bin")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(UserError, match=r"tried 1 times \(EndpointConnectionError\)"):
            Remote(f"{s3}/a", ONCE).read("x.bin")


def test_s3_without_credentials(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="the server refuses it: set AWS_ACCESS_KEY_ID"):
        Remote(f"{s3}/a", ONCE).read("x.bin")

"""On a real Ray cluster of two nodes, and to a real S3 API."""

import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.cli import run
from pipelines.pack import PackSettings, pack
from pipelines.pack.tools import tool_versions
from pipelines.ray_workers import _same_versions, ray_workers
from pipelines.workers import Bounds, Lost, Workers
from pride_mm.errors import SampleError, UserError
from pride_mm.files import write_bytes
from pride_mm.media import VideoPacking
from pride_mm.schema import Schema

pytestmark = pytest.mark.cluster
Lines = Callable[..., Path]
SETTINGS = PackSettings(shard_samples=5, video=VideoPacking(short_side=64))


@contextlib.contextmanager
def cluster(*cpus: int, **head: Any) -> Iterator[Any]:
    """Nodes with so many CPUs each; one that dies is noticed in seconds, not half a minute.

    Not in fewer: a node that a busy machine lets wait is thought to be dead, and takes this process with it.
    """
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8, "health_check_timeout_ms": 5000}
    small = {"object_store_memory": 80 << 20, "include_dashboard": False}
    ends = signal.getsignal(signal.SIGTERM)
    nodes = Cluster(True, head_node_args={"num_cpus": cpus[0], "_system_config": quick, **small, **head})
    try:
        for number in cpus[1:]:
            nodes.add_node(num_cpus=number, object_store_memory=80 << 20)
        yield nodes
    finally:
        nodes.shutdown()
        signal.signal(signal.SIGTERM, ends)  # Ray's would be in all that other tests fork


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    with cluster(1, 1) as nodes:
        yield nodes


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def rays_worker() -> int:
    """Of the process that this runs in: its parent is the fork server, whose parent is Ray's worker."""
    return parent(os.getppid())


def misbehave(what: str) -> str:
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hangs":
        signal.pause()
    if what == "eats":
        return str(len([bytearray(1 << 20) for _ in range(4096)]))
    if what == "poison":
        os.kill(rays_worker(), signal.SIGKILL)
        time.sleep(60)
    return what * 200_000 if what == "l" else what


def where(number: int) -> tuple[int, int]:
    time.sleep(0.3)
    return number, parent(rays_worker())


def fail(number: int) -> int:
    if number == 3:
        raise SampleError("place", "field", f"reason {number}")
    return number


def test_results_in_order_from_both_nodes_and_few_ahead(two_nodes: Any) -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    with ray_workers(two_nodes.address) as workers:
        results = workers.run(where, tasks())
        first = next(results)
        assert len(taken) <= 9
        places = [first, *results]
    assert [number for number, _ in places] == list(range(40))
    assert len({raylet for _, raylet in places}) == 2


def test_a_task_that_ends_its_process_or_its_worker_costs_only_itself(
    two_nodes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whats = ["a", "killed", "l", "poison", "b", "eats", "hangs", *"cdef"]
    with ray_workers(two_nodes.address, Bounds(seconds=10, memory=256 << 20), tries=2) as workers:
        results = list(workers.run(misbehave, whats))
    lost = {result.task: result.reason for result in results if isinstance(result, Lost)}
    assert lost == {
        "killed": "was ended by SIGKILL",
        "poison": "died with its machine or Ray's worker, 2 times",
        "eats": "needed more than 0.25 GiB of memory",
        "hangs": "took longer than 10 s",
    }
    assert "".join(result[0] for result in results if not isinstance(result, Lost)) == "albcdef"
    assert [record.args[:2] for record in caplog.records if record.name == "pipelines.ray_workers"] == [(1, 2), (2, 2)]


def test_an_exception_comes_out_in_its_place(two_nodes: Any) -> None:
    ends = signal.getsignal(signal.SIGTERM)
    with ray_workers(two_nodes.address) as workers:
        results = workers.run(fail, range(20))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(SampleError, match="place: field: reason 3") as caught:
            next(results)
        assert "in fail" in "".join(caught.value.__notes__)
        assert list(workers.run(partial(pow, 2), [5])) == [32], "the cluster goes on"
    assert signal.getsignal(signal.SIGTERM) == ends


def hashes_of(files: Any, root: str) -> dict[str, str]:
    return {path.rpartition("/")[2]: hashlib.sha256(files.cat_file(path)).hexdigest() for path in files.ls(root, False)}


def at_work(node: Any, struck: Path) -> int | None:
    """The process of one of a node's workers that holds a task."""
    raylet = node.all_processes["raylet"][0].process.pid
    for marker in struck.parent.glob("held-*"):
        with contextlib.suppress(OSError):
            if parent(worker := int(marker.name.removeprefix("held-"))) == raylet:
                return worker
    return None


def held(function: Callable[[Any], Any], struck: Path, task: tuple[int, Any]) -> Any:
    """All but the first tasks wait until the blow has fallen: when it does, every CPU is in the middle of one."""
    until = time.monotonic() + 90
    if task[0] >= 2 and not struck.exists():
        worker = rays_worker()
        (struck.parent / f"held-{worker}").touch()
        while not struck.exists() and time.monotonic() < until:
            time.sleep(0.02)
        if struck.read_text() == str(worker):
            time.sleep(60)  # a worker outlives its node by a moment, in which it could still be done
    return function(task[1])


@contextlib.contextmanager
def held_workers(address: str, struck: Path) -> Iterator[Workers]:
    with ray_workers(address, Bounds(seconds=120)) as workers:

        class Held:
            def run(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
                return workers.run(partial(held, function, struck), enumerate(tasks))

        yield Held()


def soon_at_work(node: Any, struck: Path) -> int:
    until = time.monotonic() + 60
    while (worker := at_work(node, struck)) is None:
        assert time.monotonic() < until, "no task on this node"
        time.sleep(0.02)
    return worker


def test_a_worker_and_a_node_killed_in_the_middle_cost_nothing_but_time(
    two_nodes: Any,
    s3: str,
    clip_items: list[dict[str, Any]],
    note_lines: list[dict[str, Any]],
    schema: Schema,
    write_lines: Lines,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import fsspec

    items = write_lines(tmp_path / "items.jsonl", _many(clip_items))
    notes = write_lines(tmp_path / "notes.jsonl", note_lines)
    pack([items], schema, tmp_path / "here", [notes], SETTINGS, max_bad=0)
    third = two_nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
    struck, done_then = tmp_path / "struck", []

    def strike(done: int, total: int | None, _: str) -> None:
        if total and done and not done_then:
            doomed = soon_at_work(third, struck)
            two_nodes.remove_node(third, allow_graceful=False)
            os.kill(soon_at_work(two_nodes.head_node, struck), signal.SIGKILL)
            done_then.append(done)
            write_bytes(struck, str(doomed).encode())

    url, work = f"{s3}/set", tmp_path / "work"
    there = held_workers(two_nodes.address, struck)
    result = pack([items], schema, url, [notes], SETTINGS, max_bad=0, workers=there, work=work, progress=strike)
    assert done_then
    assert done_then[0] <= 2
    tried = [record.getMessage() for record in caplog.records if record.name == "pipelines.ray_workers"]
    assert 2 <= len(tried) <= 20, tried
    assert not result.bad
    files, root = fsspec.core.url_to_fs(url)
    assert hashes_of(files, root) == hashes_of(fsspec.filesystem("file"), str(tmp_path / "here"))
    assert not work.exists()


def _many(clip_items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each item three times, under other keys."""
    return [{**item, "id": f"{item['id']}_{time}"} for item in clip_items for time in range(3)]


def test_pride_pack_on_a_cluster(
    two_nodes: Any, packed: Path, clip_items: list[dict[str, Any]], write_lines: Lines, tmp_path: Path
) -> None:
    items = write_lines(tmp_path / "items.jsonl", clip_items[:3])
    command = ["pack", str(items), "--settings", "copy", "--out"]
    assert run([*command, str(tmp_path / "here")]) == 0
    assert run([*command, str(tmp_path / "there"), "--ray", two_nodes.address]) == 0
    here, there = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("here", "there"))
    assert here == there


def test_what_does_not_fit_is_named(two_nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"No Ray cluster at 'nowhere://x'.*Give 'auto', 'local', host:port"):
        ray_workers("nowhere://x").__enter__()
    module = ModuleType("only_here")
    exec("def double(number):\n    return 2 * number", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with ray_workers(two_nodes.address) as workers:
        with pytest.raises(UserError, match="connected to a Ray cluster already"):
            ray_workers(two_nodes.address).__enter__()
        with pytest.raises(UserError, match=r"cannot run this program.*only_here.*Install the same pride-mm"):
            list(workers.run(module.double, [1]))
    _same_versions(tool_versions())
    with pytest.raises(UserError, match=r"av is .* on a node of the cluster, and 0\.1 here"):
        _same_versions({**tool_versions(), "av": "0.1"})


@pytest.mark.slow
def test_through_rays_client_and_nodes_that_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    # the client's server has half a minute to start, which a busy machine doesn't keep
    monkeypatch.setenv("RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", "90")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with cluster(0, ray_client_server_port=port) as nodes:
        with ray_workers(nodes.address, patience=1) as workers, pytest.raises(UserError, match="no CPU for 1 s"):
            list(workers.run(partial(pow, 2), range(4)))
        nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
        with contextlib.ExitStack() as block:
            address = f"ray://127.0.0.1:{port}"
            try:
                workers = block.enter_context(ray_workers(address))
            except UserError:
                # Ray's proxy forks with threads of gRPC at work, and now and then loses its child
                workers = block.enter_context(ray_workers(address))
            assert list(workers.run(partial(pow, 2), range(12))) == [2**number for number in range(12)]

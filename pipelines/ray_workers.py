"""A function run over many tasks on a Ray cluster: a worker or a node that is killed costs nothing but another try.

Each of Ray's workers gives its tasks to a process of its own, bounded as those here are: what a task does to that
process (abort, hang, eat memory) is the task's own fault, and is not tried again. Where a whole worker or node
is gone, its tasks are given to others, a bounded number of times: one that ends whatever it is given to must not go
round for ever. Ray itself is told to try nothing again: it counts no tries of a task that was out of memory.

Functions, tasks and results are made by this program, never by data. Every node needs the same version of it, and
what tasks name by a path (media) must be there at the same path.
"""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from pipelines.pack.tools import tool_versions
from pipelines.workers import Bounds, Lost, Workers, processes
from pride_mm.errors import UserError

TRIES = 4
_BOUNDS = Bounds()
_OPEN = ExitStack()  # of a worker: what ends with it
_log = logging.getLogger(__name__)
_AHEAD, _LEAST = 3, 8  # tasks that are on their way, for each CPU and at least
_STEP = 5.0  # seconds: so often the cluster is looked at


@contextmanager
def ray_workers(
    address: str, bounds: Bounds = _BOUNDS, *, tries: int = TRIES, patience: float = 300.0
) -> Iterator[Workers]:
    """The workers of a cluster for as long as the block lasts; one task a CPU at a time.

    Args:
        address: ``auto`` (the cluster this machine is in), ``host:port``, ``ray://host:port``, or ``local`` (start
            one here).
        bounds: what one task may take.
        tries: on how many workers a task may be when they die, before it is `Lost`.
        patience: seconds for which the cluster may have no CPU at all.

    Raises:
        UserError: there is no such cluster, it has no CPU for too long, or its nodes have another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
    try:
        import ray
    except ImportError:
        raise UserError("Ray isn't installed. Install 'pride-mm[cluster]' here and on each node.") from None
    if ray.is_initialized():
        raise UserError("This program is connected to a Ray cluster already: it can use one at a time.")
    # a runtime environment of one's own would be built on each node; ours is installed there
    local = {"include_dashboard": False} if address == "local" else {}
    ends = signal.getsignal(signal.SIGTERM)  # Ray takes it, and would keep it
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", **local)
    except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(
            f"No Ray cluster at '{address}': {_said(error, 0, -1)}. Give 'auto', 'local', host:port or "
            f"ray://host:port; `ray start --head` starts one."
        ) from None
    try:
        yield _Cluster(ray, bounds, tries, patience)
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)


class _Job:
    """A task on its way: ``done`` is the node that it was done on, ``result`` what came of it (Ray's references)."""

    def __init__(self, task: Any) -> None:
        self.task, self.tries = task, 0
        self.done: Any = None
        self.result: Any = None


class _Cluster:
    """Workers on the cluster that this program is connected to."""

    def __init__(self, ray: Any, bounds: Bounds, tries: int, patience: float) -> None:
        self._ray, self._bounds, self._tries, self._patience = ray, bounds, tries, patience
        errors = ray.exceptions
        self._gone = (
            errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.OutOfMemoryError,
            errors.LocalRayletDiedError,
        )  # fmt: skip
        self._work = ray.remote(num_cpus=1, max_retries=0, num_returns=2)(_work)
        self._cpus, self._looked, self._had_cpus = 0.0, -_STEP, time.monotonic()

    def run(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        order: deque[_Job] = deque()
        try:
            for task in tasks:
                order.append(_Job(task))
                self._send(order[-1], function)
                while len(order) >= self._ahead():
                    yield self._finished(order, function)
            while order:
                yield self._finished(order, function)
        finally:
            for job in order:
                if job.done is not None:
                    self._ray.cancel(job.done, force=True)

    def _send(self, job: _Job, function: Callable[[Any], Any]) -> None:
        job.tries += 1
        job.done, job.result = self._work.remote(function, job.task, self._bounds, tool_versions())

    def _ahead(self) -> int:
        """How many tasks are on their way at once: a cluster that grows or shrinks is noticed."""
        self._look()
        return max(int(_AHEAD * self._cpus), _LEAST)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < _STEP:
            return
        self._looked, self._cpus = now, self._ray.cluster_resources().get("CPU", 0.0)
        if self._cpus:
            self._had_cpus = now
        elif now - self._had_cpus >= self._patience:
            raise UserError(
                f"The Ray cluster has had no CPU for {self._patience:g} s. See `ray status`; add nodes, and run the "
                f"same command again: it goes on from there."
            )

    def _finished(self, order: deque[_Job], function: Callable[[Any], Any]) -> Any:
        """The outcome of the first job, which leaves ``order`` only with it: until then it would be cancelled."""
        job = order[0]
        while job.done is not None:
            try:
                while not self._ray.wait([job.result], timeout=_STEP)[0]:
                    self._look()
                well, value = self._ray.get(job.result)
            except self._gone as error:
                self._send_again(order, function, _said(error, 0))
                continue
            except self._ray.exceptions.RayTaskError as error:
                # what the function itself raises comes as an outcome: this is a node that cannot even begin
                raise _unfit(error) from None
            order.popleft()
            if not well:
                raise value
            # the inner workers made a Lost of their copy of the task
            return Lost(job.task, value.reason) if isinstance(value, Lost) else value
        order.popleft()
        return Lost(job.task, f"died with its machine or Ray's worker, {job.tries} times")

    def _send_again(self, order: deque[_Job], function: Callable[[Any], Any], reason: str) -> None:
        """Send the first job again, and every other one that is gone as well: a node takes all of its with it."""
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        sent = [job for job in order if job.done is not None]
        done = set(self._ray.wait([job.done for job in sent], num_returns=len(sent), timeout=0)[0])
        for job in sent:
            if job is order[0] or (job.done in done and self._node_of(job) not in alive):
                _log.warning("Ray: a task was lost in try %d of %d: %s", job.tries, self._tries, reason)
                if job.tries < self._tries:
                    self._send(job, function)
                else:
                    job.done = job.result = None

    def _node_of(self, job: _Job) -> str | None:
        """Where a job that is done was done; None where it was ended."""
        try:
            return self._ray.get(job.done)
        except self._gone:
            return None
        except self._ray.exceptions.RayTaskError as error:
            raise _unfit(error) from None


def _work(
    function: Callable[[Any], Any], task: Any, bounds: Bounds, versions: dict[str, str]
) -> tuple[str, tuple[bool, Any]]:
    """On a worker: (the node, (well, the result or the exception))."""
    import ray

    _same_versions(versions)
    try:
        outcome = True, next(iter(_process(bounds).run(function, [task])))
    except Exception as error:  # noqa: BLE001 - it is raised again where the result is waited for
        outcome = False, error
    return ray.get_runtime_context().get_node_id(), outcome


@cache
def _process(bounds: Bounds) -> Workers:
    """This worker's process; it ends when the worker does."""
    return _OPEN.enter_context(processes(1, bounds))


def _same_versions(versions: dict[str, str]) -> None:
    """Other versions would make other bytes, without a word."""
    here = tool_versions()
    for name in sorted({*versions, *here}):
        if versions.get(name) != here.get(name):
            raise UserError(f"{name} is {here.get(name)} on a node of the cluster, and {versions.get(name)} here")


def _unfit(error: Exception) -> UserError:
    cause = getattr(error, "cause", None) or error
    return UserError(f"A node cannot run this program: {_said(cause, -1)}. Install the same pride-mm on each node.")


def _said(error: BaseException, *lines: int) -> str:
    """The lines of a message that say what happened; between them Ray tells of its logs, or gives a traceback."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(dict.fromkeys(said[line].strip().rstrip(".") for line in lines))

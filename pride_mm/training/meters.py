"""How much something computes, and the most memory that its tensors take at one time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_MEMORY = "[memory]"
"""How PyTorch's profiler calls its records of what is allocated and freed."""


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Bytes beyond those that are taken when it begins."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        run()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == _MEMORY]
    taken = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        most = max(most, taken)
    return most


class _FlopCounter(TorchDispatchMode):
    """By PyTorch's own formulas; its ``FlopCounterMode`` fails where modules pass tensors that need no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func._overloadpacket not in flop_registry:
            with self:  # what is made of products, where nothing takes it apart before
                parts = func.decompose(*args, **given)
            if parts is not NotImplemented:
                return parts
        made = func(*args, **given)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **given, out_val=made)
        return made


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of products and convolutions; a multiplication and its addition are two."""
    # attention as the products it is made of: formulas there are for some of its kernels only
    with _FlopCounter() as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.flops

"""The processes that torchrun, or whoever sets the same environment, has started together."""

import os
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous


def is_first() -> bool:
    """Whether this process is the one that writes and speaks; true where there is no other."""
    return int(os.environ.get("RANK", 0)) == 0


def join_processes(backend: str, **options: Any) -> None:
    """Find the others, by the environment.

    Started again by torchrun, they find in its store where the processes before them listened (torch 2.11); each
    start therefore has a part of the store to itself. Where whoever started them has brought them together already, as
    Ray Train does, nothing is to be done.

    Args:
        backend: gloo, or nccl.
        options: as of ``torch.distributed.init_process_group``.
    """
    if dist.is_initialized():
        return
    started = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    patience = {"timeout": options["timeout"]} if isinstance(options.get("timeout"), timedelta) else {}
    store, rank, world = next(rendezvous("env://", **patience))
    own = PrefixStore(f"start-{started}", store)
    dist.init_process_group(backend, store=own, rank=rank, world_size=world, **options)

"""Freed memory that is kept instead of given back to the system.

glibc returns every large block to the kernel when it is freed, and a training step frees and takes
gigabytes. On a virtual machine the page faults of taking them anew cost more than the arithmetic: ``y = 2 * x``
over 200 MB was measured at 2.2 GB/s, and at 16 GB/s with the memory kept.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed; False where the C library is another one.

    For programs, not for libraries: it is a decision about the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_ARENA_MAX: 1}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def give_back_freed_memory() -> None:
    """Hand to the system what is free but held; nothing where the C library is another one.

    Decoders take aligned blocks, which glibc before 2.38 does not find again once they are freed among others (its bug
    14581): a process that decodes clips grows by up to half a megabyte each, without a leak, until it is told this.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)

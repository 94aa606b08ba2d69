"""What the limits of a process itself leave it of the memory, on Linux: those of `ulimit`.

`ulimit -v` (RLIMIT_AS) limits what a process maps, `ulimit -d` (RLIMIT_DATA) what of that is its own
and can be written. Neither looks at what is resident: libraries that were mapped and never read,
and memory that was asked for and never written, count as taken. So what is mapped now is subtracted,
which is more than what the process holds; what steps take, they map as well.
"""

from __future__ import annotations

import sys

import psutil


def left_by_limits() -> int | None:
    """Return the bytes that this process may still map; None where it has no limit."""
    if sys.platform != "linux":
        return None
    import resource

    mapped = psutil.Process().memory_info()
    kinds = {resource.RLIMIT_AS: mapped.vms, resource.RLIMIT_DATA: mapped.data}
    limits = {kind: resource.getrlimit(kind)[0] for kind in kinds}
    rooms = [limits[k] - kinds[k] for k in kinds if limits[k] != resource.RLIM_INFINITY]
    return max(0, min(rooms)) if rooms else None

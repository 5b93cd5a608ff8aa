"""How much memory this process takes and may take, on the CPU; the standard library only. Sizes in GiB."""

import math
import sys
from contextlib import suppress
from pathlib import Path

GIB = 1 << 30
_UNLIMITED = 1 << 60  # cgroup version 1 writes a number near 2^63 where there is no limit


def resident() -> float:
    """Memory of this process that is resident now; raises OSError where the system does not say."""
    return _status("VmRSS")


def peak() -> float:
    """The most that was resident since `reset_peak`, or since the start where that could not be done."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Begin to measure the peak anew, where the system lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def available_memory() -> float:
    """What can still be had, of the machine and of the group of processes (container, batch job) this one is in; infinite where nothing says."""
    return min(_of_the_machine(), *(_of_the_group(Path(root), *names) for root, names in _GROUPS.items()))


def confine(more: float) -> None:
    """Let this process fail rather than the machine: what goes `more` beyond its present memory is refused by malloc (Linux).

    And should memory run out all the same, it is this process that the kernel ends.
    """
    if sys.platform != "linux":
        return
    import resource

    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (int((_status("VmData") + more) * GIB), hard))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


_GROUPS = {  # the file of the limit, that of the use, and what of the use is files that the kernel drops where it needs the room
    "/sys/fs/cgroup": ("memory.max", "memory.current", "inactive_file"),
    "/sys/fs/cgroup/memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _of_the_machine() -> float:
    try:
        text = Path("/proc/meminfo").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable")) * 1024 / GIB
    except (OSError, StopIteration, ValueError):
        return math.inf


def _of_the_group(root: Path, limit: str, usage: str, dropped: str) -> float:
    """The same of the group whose files are in `root`, as a process in a container sees its own, or in the group's own folder below it."""
    left = math.inf
    for folder in {root, root / _own_group(root).lstrip("/")}:
        with suppress(OSError, ValueError, StopIteration):
            most, used = (int((folder / name).read_text()) for name in (limit, usage))  # "max" is no number: no limit
            stat = (folder / "memory.stat").read_text().splitlines()
            files = next(int(line.split()[1]) for line in stat if line.startswith(f"{dropped} "))
            if most < _UNLIMITED:
                left = min(left, (most - used + files) / GIB)
    return max(0.0, left)


def _own_group(root: Path) -> str:
    """The path of this process's group in the hierarchy at `root`; "" where it is not told."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(",") if root.name == "memory" else not controllers:
                return path
    return ""


def _status(name: str) -> float:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:")) * 1024 / GIB

"""Runs as processes of this machine: as many at a time as fit, each pinned to cores of its own."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from equipot.study.plan import Plan, Run, run_config, run_folder
from equipot.study.progress import StudyProgress
from equipot.study.spec import ExecutorSpec
from equipot.study.state import DONE, FAILED, INTERRUPTED, read_status, write_status
from equipot.study.worker import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNTOUCHED
from equipot.train.memory import available_memory

log = logging.getLogger("equipot.study")
OUTPUT = "worker.log"
MEMORY = 1.5  # GiB reckoned for a run of which nothing is said
GRACE = 120.0  # seconds in which a run that was asked to stop writes its state
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Slot(NamedTuple):
    """A place for one run: its cores, and its GPU where it needs one."""

    cores: tuple[int, ...]
    gpu: str | None


class Worker(NamedTuple):
    run: Run
    process: subprocess.Popen
    slot: Slot


def execute(out: Path, plan: Plan, pending: list[Run], options: ExecutorSpec, progress: StudyProgress) -> None:
    """Run what is pending. Runs that fail are left behind with their reason. Raises KeyboardInterrupt when asked to stop, all runs stopped."""
    gpus = visible_gpus() if needs_gpu(out, plan, pending) else None
    free = slots(options, len(pending), gpus)
    log.info("%d at a time, %d of %d cores each", len(free), options.threads, len(cores()))
    queue, working = list(pending), []
    with terminated_as_interrupted():
        try:
            while queue or working:
                while queue and free:
                    slot = free.pop(0)
                    run = queue.pop(0)
                    working.append(Worker(run, _start(out, run, slot, options.threads), slot))
                    progress.started(run)
                for worker in [w for w in working if w.process.poll() is not None]:
                    working.remove(worker)
                    free.append(worker.slot)
                    progress.ended(worker.run, outcome(out, worker.run, worker.process.returncode, worker.process.pid))
                progress.tick()
                time.sleep(0.1)
        except KeyboardInterrupt:
            progress.close()
            log.info("stopping: the runs under way write their state; once more stops them at once")
            _stop(working)
            raise


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def visible_gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [g for g in named.split(",") if g] if named is not None else [str(i) for i in range(torch.cuda.device_count())]


def needs_gpu(out: Path, plan: Plan, pending: list[Run]) -> bool:
    """Whether some run will train on a GPU."""
    devices = {run_config(out, plan, run).train.device for run in pending}
    if any(device.startswith("cuda") for device in devices):
        return True
    import torch

    return "auto" in devices and torch.cuda.is_available()


def slots(
    options: ExecutorSpec,
    n_runs: int,
    gpus: list[str] | None = None,
    available: Callable[[], list[int]] = cores,
    memory: Callable[[], float] = available_memory,
) -> list[Slot]:
    """Places for runs: by cores, memory and GPUs, at least one; or as many as were asked for, on the cores there are."""
    here = available()
    shares = [gpu for _ in range(int(1.0 / (options.gpus or 1.0))) for gpu in gpus or []]  # a second run on a GPU when all have one
    if options.workers is not None:
        n = options.workers
    else:
        n = min(len(here) // options.threads, int(min(memory() / (options.memory or MEMORY), 1e6)))
        n = min(n, len(shares)) if shares else n
    n = max(1, min(n, n_runs))
    take = min(options.threads, len(here))
    chosen = [tuple(here[(i * take + k) % len(here)] for k in range(take)) for i in range(n)]
    return [Slot(c, shares[i % len(shares)] if shares else None) for i, c in enumerate(chosen)]


def _start(out: Path, run: Run, slot: Slot, threads: int) -> subprocess.Popen:
    folder = run_folder(out, run)
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    if slot.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
    words = [sys.executable, "-m", "equipot.study.worker", str(out), run.name]
    words += ["--cores", ",".join(map(str, slot.cores)), "--parent", str(os.getpid())]
    with open(folder / OUTPUT, "ab") as output:  # a session of its own: Ctrl-C reaches the study alone, which passes it on
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True)


def outcome(out: Path, run: Run, returncode: int, pid: int) -> dict[str, Any]:
    """The status of a run whose process is over; it is `failed` where that process, and not one before it, did not come to write one."""
    folder = run_folder(out, run)
    status = read_status(folder)
    own = status.get("pid") == pid
    if own and returncode in (EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED) and status.get("status") in (DONE, FAILED, INTERRUPTED):
        return status
    if returncode == EXIT_UNTOUCHED:  # the run was not touched: another process is at it
        return {"status": FAILED, "reason": _last_line(folder / OUTPUT).removeprefix("equipot: ")}
    if returncode < 0:
        name = signal.Signals(-returncode).name
        reason = f"killed by {name}" + (": out of memory?" if name == "SIGKILL" else "")
    else:
        reason = f"the process ended with status {returncode}: {_last_line(folder / OUTPUT)}"
    status |= {"status": FAILED, "reason": reason}
    write_status(folder, status)
    return status


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError:
        return "nothing was said"
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")[:300]


def _stop(working: list[Worker]) -> None:
    """Ask the runs to stop, wait until they have; at once after GRACE, or when asked again."""
    for worker in working:
        _signal(worker.process, signal.SIGINT)
    try:
        end = time.monotonic() + GRACE
        while any(w.process.poll() is None for w in working) and time.monotonic() < end:
            time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    for worker in working:
        if worker.process.poll() is None:
            _signal(worker.process, signal.SIGKILL)
            worker.process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    if process.poll() is None:
        process.send_signal(number)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """A termination signal, as queueing systems send, is a Ctrl-C."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""What one update or one validation batch takes, measured in a process of its own.

A server, `python -m equipot.train.batch_probe`, imports what is needed once and forks a child for every job: a child that runs out of memory, or is killed
for it, ends nothing but itself. Jobs come on standard input, each its length (8 bytes) and a `torch.save`d dictionary; answers leave as lines of JSON.
"""

import io
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from equipot.data.graph import Graph, Labels, to_device
from equipot.errors import ran_out_of_memory
from equipot.spec import ModelSpec
from equipot.train import memory
from equipot.train.config import RunConfig
from equipot.train.module import NotFinite, TrainingModule
from equipot.train.setup import make_potential
from equipot.train.steady import steady_memory

STEPS, SECONDS, MOST_STEPS = 3, 0.5, 20  # at least so many, then until the time is over; the first is not timed


class Prober:
    """A context that holds the server; `probe(job)` is the answer to one job."""

    def __enter__(self) -> "Prober":
        command = [sys.executable, "-m", "equipot.train.batch_probe"]
        # a session of its own: Ctrl-C reaches us alone, and we end the server and its child
        # torch asks the driver by NVML, so that nothing of CUDA is there before the fork
        environment = os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._server = subprocess.Popen(command, start_new_session=True, env=environment, **pipes)
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        for pipe in (self._server.stdin, self._server.stdout):
            pipe.close()

    def probe(self, job: dict[str, Any]) -> dict[str, Any]:
        """gib and ms; or `full`: True where memory did not suffice; or `error`: one line."""
        buffer = io.BytesIO()
        torch.save(job, buffer)
        size = buffer.tell()
        self._server.stdin.write(size.to_bytes(8, "little"))
        self._server.stdin.write(buffer.getbuffer())
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        return json.loads(line) if line else {"error": "the measuring process has ended"}


def serve() -> None:
    """Answer jobs until the input ends."""
    while header := _read(8):
        out, into = os.pipe()
        child = os.fork()
        if not child:
            os.close(out)
            answer = json.dumps(_answer(_read(int.from_bytes(header, "little"))))
            os.write(into, answer.encode())
            os._exit(0)
        os.close(into)
        with os.fdopen(out) as pipe:
            said = pipe.read()
        status = os.waitpid(child, 0)[1]
        print(said or json.dumps(_ended(status)), flush=True)


def _read(size: int) -> bytes:
    """So many bytes of standard input, unbuffered: what comes behind them is for another process."""
    parts, left = [], size
    while left and (part := os.read(0, min(left, 1 << 24))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _ended(status: int) -> dict[str, Any]:
    """What it means that a child has said nothing: SIGKILL is the kernel's for memory, SIGABRT that of C++ where malloc refuses."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGABRT):
        return {"full": True}
    return {"error": f"the measuring process ended with status {status}"}


def _answer(content: bytes) -> dict[str, Any]:
    try:
        job = torch.load(io.BytesIO(content), weights_only=True)
        del content
        return {"gib": _free(job["device"])} if job["kind"] == "free" else measure(job)
    except NotFinite as error:
        return {"error": f"the {error.what} became {error.value} on the structures with most edges: look at their labels"}
    except Exception as error:
        if ran_out_of_memory(error):
            return {"full": True}
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Peak of memory and median time of a few updates (`kind` update) or validation batches (`kind` validation) of a fresh model.

    job: config and spec as plain data, device, graph and labels as lists of tensors, limit (GiB that may be added here, on a CPU). On a CPU the peak
    is what was added to the process, the batch included; on a GPU what torch had allocated there at most.
    """
    config, device = RunConfig.model_validate(job["config"]), torch.device(job["device"])
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    graph, labels = Graph(*job["graph"]), Labels(*job["labels"])
    own = sum(t.nbytes for t in (*graph, *labels)) / memory.GIB
    before = 0.0
    if device.type == "cpu":
        memory.confine(job["limit"])
        memory.reset_peak()
        before = memory.resident() - own
    module = TrainingModule(make_potential(ModelSpec.from_dict(job["spec"]), config, job["device"]), config, 1).to(device)
    module.average.to(device)
    module.clock.start()
    batch = to_device(graph, device), Labels(*(t.to(device) for t in labels)), torch.zeros(graph.n_structures, dtype=torch.int64)
    step: Callable[[Any, int], None] = module.training_step
    if job["kind"] == "validation":
        module.on_validation_epoch_start()
        step = module.validation_step
    with steady_memory():
        times = _times(lambda: step(batch, 0), device)
    peak = memory.peak() - before if device.type == "cpu" else torch.cuda.max_memory_allocated(device) / memory.GIB
    return {"gib": peak, "ms": 1e3 * statistics.median(times[1:])}


def _times(step: Callable[[], None], device: torch.device) -> list[float]:
    times: list[float] = []
    while len(times) < STEPS or (sum(times) < SECONDS and len(times) < MOST_STEPS):
        begin = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return times


def _free(device: str) -> float:
    """GiB that are free on a GPU when this process is there."""
    torch.zeros(1, device=device)
    return torch.cuda.mem_get_info(torch.device(device))[0] / memory.GIB


if __name__ == "__main__":
    serve()

"""Processes that label, as many at a time as were asked for: one that takes too long or dies is replaced, and its structure has failed."""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from equipot.errors import UserError
from equipot.learn.config import LabelConfig

log = logging.getLogger("equipot.learn")
START = 300.0  # s in which a calculator must have been imported
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Worker:
    """One labelling process in a session and a folder of its own, so that the files of its calculator meet no other's."""

    def __init__(self, options: LabelConfig, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        order = {"calculator": options.calculator, "arguments": options.arguments, "paths": [options.modules or "", os.getcwd()]}
        words = [sys.executable, "-m", "equipot.learn.label_worker", json.dumps(order)]
        environment = os.environ | dict.fromkeys(THREADS, str(options.threads))
        self.log = folder / "output.log"
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=folder,
                env=environment,
                start_new_session=True,
                text=True,
            )
        self.ready = False  # has its calculator
        self.job: int | None = None  # None: starting, or nothing to do
        self.deadline = time.monotonic() + START

    def give(self, number: int, structure: dict[str, Any], timeout: float) -> None:
        """Let it label a structure. One that has died in the meantime is found when its answer is waited for."""
        self.job, self.deadline = number, time.monotonic() + timeout
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(structure) + "\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says; of one that has died, why."""
        line = self.process.stdout.readline()
        if line.endswith("\n"):
            return json.loads(line)
        code = self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}: {last_line(self.log)}"
        return {"failed": f"the labelling process {how}", "died": True}

    def stop(self) -> None:
        """End it at once, with the programs it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with suppress(BrokenPipeError):  # what one that has died was given and has not read
            self.process.stdin.close()
        self.process.stdout.close()


def label_all(jobs: Sequence[tuple[int, dict[str, Any]]], options: LabelConfig, scratch: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, labels or {"failed": reason}) of every job, as they come; a job is a number and the structure as arguments of `ase.Atoms`.

    A process that dies with nothing to do is no longer used. Raises UserError where the calculator cannot be made.
    """
    queue = list(jobs)
    workers: list[Worker] = []
    try:
        while queue or any(w.job is not None for w in workers):
            while len(workers) < min(options.processes, len(queue) + sum(w.job is not None for w in workers)):
                workers.append(Worker(options, scratch / f"process-{len(workers)}"))
            for worker, answer in _next(workers, options.timeout):
                if "refused" in answer:
                    raise UserError(answer["refused"])
                worker.ready |= "ready" in answer
                if not worker.ready:
                    raise UserError(f"label.calculator {options.calculator} cannot be started: {answer['failed']}")
                if worker.job is not None:
                    yield worker.job, answer
                    worker.job = None
                if "died" in answer:
                    worker.stop()
                    workers.remove(worker)
                elif queue:
                    worker.give(*queue.pop(0), options.timeout)
                else:
                    worker.deadline = float("inf")
    finally:
        for worker in workers:
            worker.stop()


def try_out(options: LabelConfig) -> None:
    """Raises UserError where the calculator cannot be imported or made; labels nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        worker = Worker(options, Path(scratch))
        try:
            answer = next(_next([worker], START))[1]
        finally:
            worker.stop()
    if "ready" not in answer:
        raise UserError(answer.get("refused") or f"label.calculator {options.calculator} cannot be started: {answer['failed']}")


def last_line(path: Path) -> str:
    """The last thing a process has said."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"


def _next(workers: Sequence[Worker], timeout: float) -> Iterator[tuple[Worker, dict[str, Any]]]:
    """Those that have something to say, or whose time is over; waits until there is one."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        left = min(w.deadline for w in workers) - time.monotonic()
        ready = selector.select(None if left == float("inf") else max(left, 0.0))
    for key, _ in ready:
        yield key.data, key.data.answer()
    said = {id(key.data) for key, _ in ready}
    for worker in workers:
        if id(worker) not in said and time.monotonic() > worker.deadline:
            over = START if worker.job is None else timeout
            yield worker, {"failed": f"it took longer than {over:g} s", "died": True}

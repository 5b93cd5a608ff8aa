"""Runs as tasks of a Ray cluster, or of a Ray that is started here. ray is imported in this file only.

The folder of the study and the data are on a file system that all nodes see. A task whose worker dies is tried again, and goes on from
last.ckpt.
"""

import logging
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from equipot.errors import UserError
from equipot.study.executor_local import cores, terminated_as_interrupted
from equipot.study.plan import PLAN, Plan, Run, run_config, run_folder
from equipot.study.progress import StudyProgress
from equipot.study.run_one import in_one_line, run_one
from equipot.study.spec import ExecutorSpec
from equipot.study.state import FAILED, RUNNING, Busy, read_status, write_status

log = logging.getLogger("equipot.study")
RETRIES = 3  # of a run whose worker dies
GRACE = 120.0
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def execute(out: Path, plan: Plan, pending: list[Run], options: ExecutorSpec, progress: StudyProgress) -> None:
    """Run what is pending. Runs that fail are left behind with their reason. Raises KeyboardInterrupt when asked to stop, all runs stopped."""
    try:
        import ray
    except ImportError:
        raise UserError("executor ray: ray is not installed: pip install 'equipot[study]', or take executor: local") from None

    out = out.resolve()
    _connect(ray, options, len(pending))
    try:
        task = ray.remote(**_resources(ray, out, plan, pending, options))(_task)
        with terminated_as_interrupted():
            _drive(ray, task, out, pending, options, progress)
    finally:
        ray.shutdown()


def _connect(ray: Any, options: ExecutorSpec, n_runs: int) -> None:
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = options.address or os.environ.get("RAY_ADDRESS")
    try:
        if address is not None:
            _reachable(address)
            ray.init(address=address, **common)
            return
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves the runs where anything else is running
        workers = options.workers or max(1, len(cores()) // options.threads)
        n_cpus = min(workers, n_runs) * options.threads
        ray.init(address="local", num_cpus=n_cpus, include_dashboard=False, object_store_memory=100 * 2**20, **common)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"executor.address: no Ray cluster at {address or 'this machine'}: {in_one_line(error)}") from None


def _reachable(address: str) -> None:
    """Raises OSError where nothing answers at HOST:PORT, for Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10.0).close()


def _resources(ray: Any, out: Path, plan: Plan, pending: list[Run], options: ExecutorSpec) -> dict[str, Any]:
    """What a task asks for. Raises UserError where no node has it, for the task would wait for ever."""
    devices = {run_config(out, plan, run).train.device for run in pending}
    on_gpu = any(d.startswith("cuda") for d in devices) or ("auto" in devices and ray.cluster_resources().get("GPU", 0) > 0)
    asked = {"CPU": options.threads, "GPU": (options.gpus or 1.0) if on_gpu else 0, "memory": (options.memory or 0) * 2**30}
    nodes = [node["Resources"] for node in ray.nodes() if node.get("Alive")]
    if not any(all(node.get(k, 0) >= v for k, v in asked.items()) for node in nodes):
        words = f"{asked['CPU']} cores, {asked['GPU']:g} GPUs and {asked['memory'] / 2**30:g} GiB"
        raise UserError(f"executor ray: no node of the cluster has the {words} of a run: lower executor.threads, gpus or memory")
    chosen = {"num_cpus": options.threads, "num_gpus": asked["GPU"], "max_retries": RETRIES, "max_calls": 1}  # a fresh process for each run
    return chosen | ({"memory": int(asked["memory"])} if asked["memory"] else {})


def _task(directory: str, environment: dict[str, str], out: str, name: str) -> dict[str, Any]:
    """One run, on the node where it happens to be. (Ray itself limits the threads of numerical libraries to the cores that were asked for.)"""
    os.chdir(directory)
    os.environ.update(environment)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for _ in range(30):
        try:
            return run_one(Path(out), name)
        except Busy:  # the worker before this one is just dying
            time.sleep(1.0)
    return run_one(Path(out), name)


def _drive(ray: Any, task: Any, out: Path, pending: list[Run], options: ExecutorSpec, progress: StudyProgress) -> None:
    named = set(_VARIABLE.findall((out / PLAN).read_text()))
    environment = {name: os.environ[name] for name in named}
    queue, flying = list(pending), {}
    most = options.workers or len(queue)
    try:
        while queue or flying:
            while queue and len(flying) < most:
                run = queue.pop(0)
                flying[task.remote(os.getcwd(), environment, str(out), run.name)] = run
            for ref in ray.wait(list(flying), timeout=0.5)[0]:
                run = flying.pop(ref)
                progress.ended(run, _outcome(ray, ref, out, run))
            for run in flying.values():
                if run.name in progress.waiting and read_status(run_folder(out, run)).get("status") == RUNNING:
                    progress.started(run)
            progress.tick()
    except KeyboardInterrupt:
        progress.close()
        log.info("stopping: the runs under way write their state; once more stops them at once")
        for ref in flying:
            ray.cancel(ref, force=False)
        if flying:
            ray.wait(list(flying), num_returns=len(flying), timeout=GRACE)
        raise


def _outcome(ray: Any, ref: Any, out: Path, run: Run) -> dict[str, Any]:
    try:
        return ray.get(ref)
    except Exception as error:
        status = read_status(run_folder(out, run)) | {"status": FAILED, "reason": in_one_line(error)}
        if not isinstance(getattr(error, "cause", None), Busy):
            write_status(run_folder(out, run), status)
        return status

"""The process of a local run, `python -m equipot.study.worker OUT RUN`: pinned to its cores before anything starts threads of its own."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

EXIT_DONE, EXIT_FAILED, EXIT_UNTOUCHED, EXIT_INTERRUPTED = 0, 1, 3, 130


def main(arguments: list[str] | None = None) -> int:
    """Do the run; its exit status says what has become of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("run")
    parser.add_argument("--cores", default="")
    parser.add_argument("--parent", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in given.cores.split(",")})
    if given.parent:
        threading.Thread(target=watch, args=(given.parent,), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)

    from equipot.errors import UserError
    from equipot.study.run_one import run_one
    from equipot.study.state import DONE, INTERRUPTED, Busy

    try:
        status = run_one(given.out, given.run)
    except (Busy, UserError) as error:
        print(f"equipot: {error}", file=sys.stderr)
        return EXIT_UNTOUCHED
    return {DONE: EXIT_DONE, INTERRUPTED: EXIT_INTERRUPTED}.get(status["status"], EXIT_FAILED)


def watch(parent: int) -> None:
    """Ask this process to stop when the study that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

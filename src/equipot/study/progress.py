"""What is shown while a study runs: a line that is rewritten on a terminal, a line now and then elsewhere, and one for every run that ends."""

import logging
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from equipot.study.cost import fraction_done
from equipot.study.plan import Plan, Run, run_config, run_folder
from equipot.study.state import DONE, FAILED
from equipot.train.progress import clock

log = logging.getLogger("equipot.study")


class StudyProgress:
    """Counts of a study's runs, and the time left at the speed so far."""

    def __init__(self, out: Path, plan: Plan, pending: list[Run], terminal: bool | None = None, elsewhere: int = 0):
        self.out, self.plan = out, plan
        self.waiting = {run.name: run for run in pending}
        self.running: dict[str, float] = {}  # when it began
        self.done, self.failed = len(plan.runs) - len(pending) - elsewhere, 0
        self.durations: dict[tuple[str, int], list[float]] = {}
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.shown = time.monotonic()
        self.runs = dict(self.waiting)

    def started(self, run: Run) -> None:
        """A run has begun."""
        self.waiting.pop(run.name, None)
        self.running[run.name] = time.monotonic()

    def ended(self, run: Run, status: dict[str, Any]) -> None:
        """A run is over, well or not."""
        self.waiting.pop(run.name, None)
        seconds = time.monotonic() - self.running.pop(run.name, time.monotonic())
        state = status.get("status")
        if state == DONE:
            self.done += 1
            self.durations.setdefault((run.variant, run.size), []).append(seconds)
        elif state == FAILED:
            self.failed += 1
        reason = f": {status['reason']}" if status.get("reason") else ""
        self._clear()
        log.info("%s %s after %s%s · %s", run.name, state, clock(seconds), reason, self.describe())

    def tick(self, interval: float | None = None) -> None:
        """Show the state of things if it is time."""
        interval = (2.0 if self.terminal else 60.0) if interval is None else interval
        if time.monotonic() - self.shown < interval:
            return
        self.shown = time.monotonic()
        if self.terminal:
            sys.stderr.write(f"\r\033[K{self.describe()}")
            sys.stderr.flush()
        else:
            log.info("%s", self.describe())

    def close(self) -> None:
        """Leave the rewritten line."""
        self._clear()

    def _clear(self) -> None:
        if self.terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def describe(self) -> str:
        """One line: runs done, running and how far, failed, waiting, time left."""
        parts = [f"{self.done} of {len(self.plan.runs)} done"]
        fractions = {name: self._fraction(name) for name in self.running}
        if fractions:
            shown = ", ".join(f"{name} {100 * f:.0f} %" for name, f in list(fractions.items())[:3])
            parts.append(f"{len(fractions)} running ({shown}{', …' if len(fractions) > 3 else ''})")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.waiting:
            parts.append(f"{len(self.waiting)} waiting")
        left = self._left(fractions)
        if left is not None and (self.running or self.waiting):
            parts.append(f"{clock(left)} left")
        return " · ".join(parts)

    def _fraction(self, name: str) -> float:
        run = self.runs[name]
        return fraction_done(run_folder(self.out, run), run_config(self.out, self.plan, run))

    def _left(self, fractions: dict[str, float]) -> float | None:
        """Seconds, from the runs that are over and those that are under way; None before anything is known."""
        now = time.monotonic()
        reckoned = {name: (now - self.running[name]) / f for name, f in fractions.items() if f > 0.02}
        known = [t for times in self.durations.values() for t in times] or list(reckoned.values())
        if not known:
            return None
        usual = statistics.fmean(known)
        left = sum(max(0.0, reckoned.get(name, self._expected(name, usual)) - (now - since)) for name, since in self.running.items())
        left += sum(self._expected(name, usual) for name in self.waiting)
        return left / max(1, len(self.running))

    def _expected(self, name: str, usual: float) -> float:
        run = self.runs[name]
        same = self.durations.get((run.variant, run.size))
        alike = [t for (variant, _), times in self.durations.items() if variant == run.variant for t in times]
        return statistics.fmean(same or alike or [usual])

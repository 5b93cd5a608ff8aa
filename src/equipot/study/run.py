"""A whole study: checked, planned, run, gathered."""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipot.errors import UserError
from equipot.study import executor_local, results
from equipot.study.checks import checked_plan
from equipot.study.plan import Plan, Run, read_plan, run_folder
from equipot.study.progress import StudyProgress
from equipot.study.run_one import run_one
from equipot.study.spec import ExecutorSpec
from equipot.study.state import DONE, FAILED, RUNNING, Busy, begun, read_status, refuse_mixture, state
from equipot.study.study_file import STUDY_FILE, Study, dump_study, read_study
from equipot.whole_file import write_whole

log = logging.getLogger("equipot.study")


@dataclass(frozen=True)
class Outcome:
    """What has become of a study: numbers of its runs, and the reasons of runs and of probes that failed, by "RUN" or "RUN, probe NAME"."""

    out: Path
    n_runs: int
    n_done: int
    failed: dict[str, str]


def load(path: str | Path, workers: int | None = None, overrides: Sequence[str] = ()) -> tuple[Study, Plan]:
    """The study in a file or folder, with KEY=VALUE words over it, and its runs, everything checked and nothing written. Raises UserError."""
    study = read_study(path, overrides)
    plan = checked_plan(study)
    out = Path(study.spec.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, and a study needs a folder: set another out")
    if (old := read_plan(out)) is not None:
        refuse_mixture(out, old, plan)
    if workers is not None:
        plan.executor["workers"] = workers
    return study, plan


def run_study(path: str | Path, resume: bool = False, workers: int | None = None, overrides: Sequence[str] = ()) -> Outcome:
    """Run what a study lacks, gather the results, and write the report. Raises UserError before anything runs, or KeyboardInterrupt."""
    results.require_pandas()
    study, plan = load(path, workers, overrides)
    out = Path(study.spec.out)
    old = read_plan(out)
    if old is not None and begun(out, old) and not resume:
        raise UserError(f"{out}: holds a study already: do what is missing or failed by --resume, or set another out")
    _write(study, plan, out)
    states = {run.name: state(out, plan, run) for run in plan.runs}
    others = [name for name, found in states.items() if found == RUNNING]
    if others:
        log.info("%d runs are under way in other processes and are left alone: %s", len(others), ", ".join(others[:3]))
    pending = sorted((run for run in plan.runs if states[run.name] not in (DONE, RUNNING)), key=lambda run: run.size)
    _tell_of_strangers(out, old, plan)
    if pending:
        _execute(out, plan, pending, len(others))
    return finish(out, plan)


def run_only(path: str | Path, name: str, overrides: Sequence[str] = ()) -> str:
    """One run of a study, by name or number, in this process, as jobs of a queueing system do; returns its state."""
    study, plan = load(path, None, overrides)
    out = Path(study.spec.out)
    run = plan.run(name)
    if read_plan(out) != plan:
        _write(study, plan, out)
    if state(out, plan, run) == DONE:
        log.info("%s is done already", run.name)
        return DONE
    try:
        with executor_local.terminated_as_interrupted():
            status = run_one(out, run.name)
    except Busy as busy:
        raise UserError(str(busy)) from None
    if status["status"] != DONE:
        log.info("%s %s: %s", run.name, status["status"], status["reason"])
    return str(status["status"])


def finish(out: Path, plan: Plan) -> Outcome:
    """Gather what there is and write the report."""
    results.gather(out)
    if importlib.util.find_spec("equipot.study.report") is not None:
        from equipot.study import report

        report.write(out)
    statuses = {run.name: read_status(run_folder(out, run)) for run in plan.runs}
    failed = {name: s.get("reason", "") for name, s in statuses.items() if s.get("status") == FAILED}
    for name, status in statuses.items():
        probes = status.get("probes", {})
        failed |= {f"{name}, probe {p}": probes[p]["failed"] for p in plan.probes if probes.get(p, {}).get("failed")}
    return Outcome(out, len(plan.runs), sum(state(out, plan, run) == DONE for run in plan.runs), failed)


def _write(study: Study, plan: Plan, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / STUDY_FILE, dump_study(study).encode())
    plan.write(out)


def _execute(out: Path, plan: Plan, pending: list[Run], elsewhere: int) -> None:
    options = ExecutorSpec.model_validate(plan.executor)
    progress = StudyProgress(out, plan, pending, elsewhere=elsewhere)
    log.info("%d runs, %d to do, into %s", len(plan.runs), len(pending), out)
    try:
        if options.kind == "ray":
            from equipot.study import executor_ray

            executor_ray.execute(out, plan, pending, options, progress)
        else:
            executor_local.execute(out, plan, pending, options, progress)
    except KeyboardInterrupt:
        results.gather(out)
        raise
    finally:
        progress.close()


def _tell_of_strangers(out: Path, old: Plan | None, plan: Plan) -> None:
    """Runs of before that the study does not have any more stay where they are, but are not in its results."""
    names = {run.name for run in plan.runs}
    strangers = [run.name for run in old.runs if run.name not in names] if old else []
    if strangers:
        log.warning("%d runs of before are no part of the study any more and not in its results, such as %s", len(strangers), strangers[0])

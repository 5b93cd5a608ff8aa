"""metrics.csv over the parts of a run."""

from equipot.train.metrics import COLUMNS, MetricsFile


def test_rows_after_the_last_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path)
    for i in range(3):
        first.add(
            {"epoch": i, "updates": 4 * (i + 1), "elapsed_s": 1.0, "train_loss": 0.5, "valid_forces_mae": 0.0125, "step_ms": float("nan")}
        )
    with open(path, "a") as file:
        file.write("3,1")  # a row cut short
    MetricsFile(path, updates=8).add({"epoch": 2, "updates": 12, "train_loss": 0.25})
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    assert tuple(head) == COLUMNS
    assert [row[1] for row in rows] == ["4", "8", "12"]
    assert rows[0][COLUMNS.index("valid_forces_mae_meV_A")] == "12.5"
    assert rows[0][COLUMNS.index("step_ms")] == ""
    assert rows[2][COLUMNS.index("train_loss")] == "0.25"


def test_a_new_run_starts_anew(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsFile(path).add({"epoch": 0, "updates": 4})
    MetricsFile(path)
    assert path.read_text().count("\n") == 1

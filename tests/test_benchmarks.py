import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = {"batch": 2, "delivery": 4, "drift": 2, "gate": 3, "log": 5, "notebooks": 10, "portable": 4, "run": 3,
        "serving": 9, "sinks": 3, "sweep": 4}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_benchmark_runs_and_writes_what_its_readme_says(name: str, tmp_path: Path) -> None:
    out = tmp_path / "latest.json"
    words = [sys.executable, str(ROOT / "benchmarks"), "--quick", "--out", str(out), name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["format"] == 2
    assert len(record["rows"]) == ROWS[name]
    for one in record["rows"]:
        if one["ours"] is None:
            assert one["note"].startswith("skipped: ")
        else:
            assert one["ratio"] == pytest.approx(one["theirs"] / one["ours"])
            assert (one["kept"] is None) == (one["bound"] == "")
    assert str(ROOT) not in out.read_text(encoding="utf-8")


def test_every_benchmark_is_tested() -> None:
    assert {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")} == set(ROWS)

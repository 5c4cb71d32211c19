import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_what_its_readme_says(tmp_path):
    out = tmp_path / "latest.json"
    words = [sys.executable, str(ROOT / "benchmarks/bench_delivery.py"), "--quick", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())["results"]
    assert len(results) == 6
    for one in results.values():
        assert one["ours"] > 0
        assert one["ratio"] == pytest.approx(one["theirs"] / one["ours"])

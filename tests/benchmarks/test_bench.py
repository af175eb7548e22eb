"""``make bench``, as small as it gets: every measurement runs and tells its rows. No time is judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import ENVIRONMENTS, ROOT


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not any(each.python.exists() for each in ENVIRONMENTS), reason="needs a device's environment")
def test_the_benchmarks_write_rows_of_each_runtime_and_a_page(tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--rounds", "1", "--repeats", "5", "--starts", "1"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, env=environment, check=True)
    there = [each.name for each in ENVIRONMENTS if each.python.exists()]
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", *(f"{name}.json" for name in there)}
    for name in there:
        document = json.loads((tmp_path / f"{name}.json").read_text())
        assert len(document["rows"]) == 9
        assert all(row["ours"] > 0 for row in document["rows"])
        detail = document["detail"]["students"]
        assert {name: told["parameters"] for name, told in detail.items()} == {"listwise": 36_450, "mlp": 12_034}
        assert {told["rank_columns_us"]["n"] for told in detail.values()} == {5}

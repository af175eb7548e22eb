"""The data of a configuration: what is refused before anything is trained on it, and what makes it another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pocketrank.errors import InputError
from pocketrank_export.config import Config, parse
from pocketrank_export.sources import digest_of, split_of


def written(folder: Path, name: str, relevant: int, *, first: int = 0, count: int = 20, size: int = 3) -> Path:
    """Queries of ``size`` candidates, of which the first ``relevant`` queries have something to find."""
    lines = [
        f"{int(query < relevant and place == 0)} qid:{first + query} 1:{query}.{place}\n"
        for query in range(count)
        for place in range(size)
    ]
    (folder / name).write_text("".join(lines))
    return folder / name


def config(folder: Path, **data: Any) -> Config:
    return parse({"name": "shop", "data": {"kind": "letor", "train": "train.txt", **data}}, folder)


def test_parts_in_which_nothing_can_be_measured_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "train.txt", 20)
    written(tmp_path, "test.txt", 0, first=100)
    assert len(split_of(config(tmp_path)).test) == 3
    with pytest.raises(InputError, match="test: none of its 20 slates has a label above 0"):
        split_of(config(tmp_path, test="test.txt"))
    written(tmp_path, "train.txt", 0)
    with pytest.raises(InputError, match="validation: none of its 3 slates has a label above 0"):
        split_of(config(tmp_path))


def test_a_long_slate_of_the_test_set_is_refused_too(tmp_path: Path) -> None:
    written(tmp_path, "train.txt", 20)
    written(tmp_path, "test.txt", 20, first=100, size=300)
    with pytest.raises(InputError, match="slate_sizes: the data has slates of 300 candidates"):
        split_of(config(tmp_path, test="test.txt"))


def test_the_same_bytes_under_another_name_are_other_data(tmp_path: Path) -> None:
    """Queries without qid are called by their file, and parts are drawn by these names."""
    content = written(tmp_path, "train.txt", 20).read_bytes()
    (tmp_path / "other.txt").write_bytes(content)
    assert digest_of(config(tmp_path)) == digest_of(config(tmp_path))
    assert digest_of(config(tmp_path)) != digest_of(config(tmp_path, train="other.txt"))


def test_vectors_that_are_not_there_are_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("impression\n")
    table = {
        "kind": "impressions",
        "path": "log.csv",
        "vectors": "none.npz",
        "features": [{"kind": "number", "name": "a"}],
    }
    with pytest.raises(InputError, match=r"none\.npz: can't be read"):
        split_of(parse({"name": "shop", "data": table}, tmp_path))

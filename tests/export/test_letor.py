"""LETOR and SVMlight files become slates: values, grades, queries; and clear words where a file is amiss."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError, LeakError
from pocketrank.features.candidates import MAX_CANDIDATES
from pocketrank.schema import MAX_FEATURES, Number
from pocketrank_export.data import letor
from pocketrank_export.data.dataset import Dataset, Split
from pocketrank_export.data.letor import MAX_LINE_BYTES, read
from pocketrank_export.data.splits import check_split

LINES = """# two queries
2 qid:7 1:0.5 3:0.1 # a document

0 qid:7 2:-1e3
1 qid:a 1:0.25 2:1 3:2
"""


def write(folder: Path, text: str, name: str = "train.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def one(folder: Path, text: str) -> Dataset:
    (found,) = read([write(folder, text)])
    return found


def test_a_line_is_a_candidate_and_what_it_leaves_out_is_zero(tmp_path: Path) -> None:
    found = one(tmp_path, LINES)
    expected = [[[0.5, 0, 0.1], [0, -1000, 0]], [[0.25, 1, 2], [0, 0, 0]]]
    np.testing.assert_array_equal(found.slates.features, np.array(expected, np.float32))
    np.testing.assert_array_equal(found.slates.mask, [[1, 1], [1, 0]])
    assert found.groups == ("7", "a")
    assert found.schema.features == (Number(name="f1"), Number(name="f2"), Number(name="f3"))
    assert not found.ordered
    assert found.at_s is None
    assert found.about == "train.txt: 2 queries, 3 candidates, 3 features, exponential gains"


@pytest.mark.parametrize("grade", [0, 1, 2, 4, 31])
def test_a_grade_is_worth_two_to_its_power_less_one_or_itself(tmp_path: Path, grade: int) -> None:
    path = write(tmp_path, f"{grade} qid:1 1:1\n")
    for gains, worth in (("exponential", 2**grade - 1), ("linear", grade)):
        (found,) = read([path], gains=gains)  # type: ignore[arg-type]
        assert found.slates.labels.tolist() == [[np.float32(worth)]]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.integers(1, 6),
    st.sampled_from([0, 1]),
    st.integers(0, 2**32 - 1),
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], width: int, base: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(sum(sizes), width)).astype(np.float32) * (rng.random((sum(sizes), width)) < 0.5)
    dense[0, [0, -1]] = 1.0
    grades = rng.integers(5, size=sum(sizes))
    queries = np.repeat(np.arange(len(sizes)), sizes)
    lines = [
        f"{grade} qid:{query} " + " ".join(f"{base + i}:{row[i]!s}" for i in np.flatnonzero(row))
        for grade, query, row in zip(grades, queries, dense, strict=True)
    ]
    (found,) = read([write(tmp_path_factory.mktemp("letor"), "\n".join(lines))])
    real = found.slates.mask > 0
    np.testing.assert_array_equal(found.slates.features[real], dense)
    np.testing.assert_array_equal(found.slates.labels[real], 2.0**grades - 1)
    assert real.sum(axis=1).tolist() == sizes
    assert found.schema.columns == tuple(f"f{base + i}" for i in range(width))


def test_files_read_together_share_width_and_first_index(tmp_path: Path) -> None:
    train, test = write(tmp_path, "0 qid:1 0:5 2:1\n"), write(tmp_path, "0 qid:2 1:2\n", "test.txt")
    for paths in ([train, test], [test, train]):
        found = read(paths)
        assert [part.schema.columns for part in found] == [("f0", "f1", "f2")] * 2
        assert found[paths.index(test)].slates.features.tolist() == [[[0, 2, 0]]]
    (alone,) = read([test])
    assert alone.schema.columns == ("f1",)
    (wide,) = read([test], features=4)
    assert wide.schema.columns == ("f1", "f2", "f3", "f4")


@pytest.mark.parametrize("ending", letor.SIZES)
def test_without_qid_the_sizes_beside_the_file_make_the_queries(tmp_path: Path, ending: str) -> None:
    text = "1 1:1\n0 1:2\n2 1:3\n"
    paths = [write(tmp_path, text, name) for name in ("rank.train", "rank.test")]
    for path in paths:
        write(tmp_path, "2\n1\n", path.name + ending)
    train, test = read(paths)
    np.testing.assert_array_equal(train.slates.features[..., 0], [[1, 2], [3, 0]])
    assert train.groups == ("rank.train#1", "rank.train#2")
    assert test.groups == ("rank.test#1", "rank.test#2")


def test_files_of_one_name_in_two_folders_are_not_mixed_up(tmp_path: Path) -> None:
    paths = []
    for fold in ("one", "two"):
        (tmp_path / fold).mkdir()
        paths.append(write(tmp_path / fold, "0 1:1\n"))
        write(tmp_path / fold, "1\n", "train.txt.query")
    with pytest.raises(InputError, match="queries without qid are called by their file; rename one"):
        read(paths)
    same = read([paths[0], paths[0]])
    assert same[0].groups == same[1].groups


def test_a_query_in_two_files_is_found(tmp_path: Path) -> None:
    names = ("train", "validation", "test")
    texts = ("1 qid:1 1:1\n", "1 qid:2 1:2\n", "1 qid:1 1:3\n")
    parts = read([write(tmp_path, text, name) for name, text in zip(names, texts, strict=True)])
    with pytest.raises(LeakError, match="group '1': stands in train and in test"):
        check_split(Split(*parts), "group")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.txt: expected lines such as"),
        ("# nothing\n\n", "train.txt: expected lines such as"),
        ("1 qid:1 1:1\n0 qid:2 1:1\n0 qid:1 1:1\n", "train.txt:3: qid:1: its rows don't stand together; sort the file"),
        ("1 qid:1 1:1\n0 1:1\n", "train.txt:2: expected qid on each line or on none"),
        ("1 1:1\n0 qid:1 1:1\n", "train.txt:2: expected qid on each line or on none"),
        ("1 1:1\n", "no line has a qid; write qid:<query> after each label, or put train.txt.query or"),
        ("1 qid: 1:1\n", "train.txt:1: qid: expected 1 to 256 characters, got ''"),
        (f"1 qid:{'q' * 257} 1:1\n", "train.txt:1: qid: expected 1 to 256 characters"),
        ("x qid:1 1:1\n", "train.txt:1: label: expected a whole number from 0 to 31, got 'x'"),
        ("-1 qid:1 1:1\n", "label: expected a whole number from 0 to 31, got '-1'"),
        ("32 qid:1 1:1\n", "label: expected a whole number from 0 to 31, got '32'"),
        ("0.5 qid:1 1:1\n", "label: expected a whole number from 0 to 31, got '0.5'"),
        ("nan qid:1 1:1\n", "label: expected a whole number from 0 to 31, got 'nan'"),
        ("inf qid:1 1:1\n", "label: expected a whole number from 0 to 31, got 'inf'"),
        ("1 qid:1 2:1 1:1\n", "train.txt:1: feature 1: stands after 2; write features in rising order, once"),
        ("1 qid:1 2:1 2:1\n", "train.txt:1: feature 2: stands after 2"),
        ("1 qid:1 2:nan\n", "train.txt:1: feature 2: expected a finite float32, got 'nan'"),
        ("1 qid:1 2:inf\n", "feature 2: expected a finite float32, got 'inf'"),
        ("1 qid:1 2:1e39\n", "feature 2: expected a finite float32, got '1e39'"),
        ("1 qid:1 2:\n", "feature 2: expected a finite float32, got ''"),
        ("1 qid:1 2:a\n", "feature 2: expected a finite float32, got 'a'"),
        ("1 qid:1 2:1_0\n", "feature 2: expected a finite float32, got '1_0'"),
        ("1_0 qid:1 2:1\n", "label: expected a whole number from 0 to 31, got '1_0'"),
        ("1 qid:1 2:1 # a\r0 qid:1 2:2\n", r"train.txt:1: a line ends in \r alone"),
        ("1 qid:1 2\n", "train.txt:1: expected <feature>:<value>, such as 3:0.1, got '2'"),
        ("1 qid:1 -1:1\n", "expected <feature>:<value>, such as 3:0.1, got '-1:1'"),
        ("1 qid:1 \N{ARABIC-INDIC DIGIT TWO}:1\n", "expected <feature>:<value>"),
        ("1 qid:1 9999999999:1\n", "expected <feature>:<value>"),
        (f"1 qid:1 {MAX_FEATURES + 1}:1\n", f"features: expected 1 to {MAX_FEATURES}, got {MAX_FEATURES + 1}"),
        ("1 qid:1\n", f"features: expected 1 to {MAX_FEATURES}, got 0"),
        ("1 qid:1 1:1 #" + "x" * MAX_LINE_BYTES, f"train.txt:1: expected a line of at most {MAX_LINE_BYTES} bytes"),
        ("0 qid:1 1:1\n" * (MAX_CANDIDATES + 1), f"query 1: expected at most {MAX_CANDIDATES} rows"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        one(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("1\n", "sizes add up to 1, but train.txt has 2 rows"),
        ("3\n", "sizes add up to 3, but train.txt has 2 rows"),
        ("2\n0\n", "train.txt.query:2: expected the rows of a query, above 0, got '0'"),
        ("-1\n3\n", "train.txt.query:1: expected the rows of a query, above 0, got '-1'"),
        ("1.5\n", "expected the rows of a query, above 0, got '1.5'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, sizes: str, message: str) -> None:
    write(tmp_path, sizes, "train.txt.query")
    with pytest.raises(InputError) as caught:
        one(tmp_path, "1 1:1\n0 1:1\n")
    assert message in str(caught.value)


def test_what_can_not_be_read_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="paths: expected one file or more"):
        read([])
    with pytest.raises(InputError, match="can't be read"):
        read([tmp_path / "missing"])
    with pytest.raises(InputError, match="expected features 1 to 2, as features=2 asks for, got feature 3"):
        read([write(tmp_path, LINES)], features=2)
    (tmp_path / "bytes").write_bytes(b"1 qid:1 1:1\n1 qid:1 \xff:1\n")
    with pytest.raises(InputError, match="bytes:2: expected UTF-8 text, got the byte 0xff"):
        read([tmp_path / "bytes"])
    monkeypatch.setattr(letor, "MAX_ROWS", 2)
    with pytest.raises(InputError, match="5: expected at most 2 rows"):
        read([write(tmp_path, LINES)])


def test_a_mark_of_byte_order_and_line_ends_of_windows_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    (marked,), plain = read([tmp_path / "marked.txt"]), one(tmp_path, LINES)
    assert marked.groups == plain.groups
    np.testing.assert_array_equal(marked.slates.features, plain.slates.features)
    np.testing.assert_array_equal(marked.slates.labels, plain.slates.labels)

"""LambdaMART as a teacher: trained here, or read from LightGBM's text format."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketrank.errors import ExtraMissingError, InputError
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each
from pocketrank_export.teachers import boosters, lambdamart
from pocketrank_export.teachers.boosters import columns_of
from pocketrank_export.teachers.lambdamart import Booster, Trees, fit_lambdamart

lightgbm = pytest.importorskip("lightgbm")

Array = NDArray[np.float32]
WIDTH = 4
SMALL = Trees(trees=20, leaves=7, learning_rate=0.2, min_data=5)


def slates(seed: int, count: int = 40) -> Slates:
    """Slates of 2 to 12 candidates with gains 0, 1, 3.5 or 20.25, by steps of the first two columns."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(12) < rng.integers(2, 13, count)[:, None]).astype(np.float32)
    features = rng.normal(size=(count, 12, WIDTH)).astype(np.float32) * mask[..., None]
    worth = np.array([0.0, 1.0, 3.5, 20.25], np.float32)
    grades = (features[..., 0] > 0.3).astype(int) + 2 * (features[..., 1] > 0.8)
    return Slates(features, worth[grades] * mask, mask)


@pytest.fixture(scope="module")
def trained() -> Booster:
    return fit_lambdamart(slates(0), slates(1), SMALL)


@pytest.fixture(scope="module")
def categorical() -> str:
    """A regression of four columns, the last a category."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, WIDTH)).astype(np.float32)
    rows[:, 3] = rng.integers(0, 40, 400)
    values = rows[:, 0] + 5 * np.sin(rows[:, 3] * 7)
    data = lightgbm.Dataset(rows, values, categorical_feature=[3])
    made = lightgbm.train({"verbosity": -1, "num_threads": 1, "num_leaves": 7}, data, 3).model_to_string()
    assert "cat_threshold" in made.split("Tree=1")[0]
    return str(made)


# ------------------------------------------------------------------------------------------------------------- scores


def test_scores_are_the_boosters_own_of_each_real_candidate(trained: Booster) -> None:
    made = slates(2)
    found = trained.scores(made)
    model = lightgbm.Booster(model_str=trained.text)
    for slate, place in [(0, 0), (3, 1), (39, 0)]:
        expected = model.predict(made.features[slate, place][None], num_threads=1)[0]
        assert found[slate, place] == np.float32(expected)
    np.testing.assert_array_equal(found[made.mask == 0], 0.0)


def test_a_score_does_not_depend_on_the_other_candidates_their_order_or_padding(trained: Booster) -> None:
    made = slates(2)
    order = np.random.default_rng(0).permutation(12)
    moved = Slates(made.features[:, order], made.labels[:, order], made.mask[:, order])
    np.testing.assert_array_equal(trained.scores(moved), trained.scores(made)[:, order])
    alone = Slates(made.features[:, :1], made.labels[:, :1], made.mask[:, :1])
    np.testing.assert_array_equal(trained.scores(alone), trained.scores(made)[:, :1])


def test_slates_without_candidates_score_zero(trained: Booster) -> None:
    empty = Slates(np.zeros((2, 3, WIDTH), np.float32), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(trained.scores(empty), np.zeros((2, 3)))
    assert trained.scores(empty.where(np.arange(0))).shape == (0, 3)


def test_a_model_with_a_link_gives_sums_of_leaves() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, WIDTH)).astype(np.float32)
    data = lightgbm.Dataset(rows, rows[:, 0] > 0)
    model = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 5)
    made = slates(2)
    found = Booster("clicks", model.model_to_string()).scores(made)[made.mask > 0]
    chances = model.predict(made.features[made.mask > 0], num_threads=1)
    np.testing.assert_allclose(found, np.log(chances / (1 - chances)), rtol=1e-5, atol=1e-5)


def test_a_model_of_other_columns_is_refused(trained: Booster) -> None:
    made = slates(2)
    narrow = dataclasses.replace(made, features=made.features[..., :3])
    with pytest.raises(InputError, match="'lambdamart': the model reads 4 columns, the slates have 3"):
        trained.scores(narrow)


# ----------------------------------------------------------------------------------------------------------- training


def test_it_learns_an_order_that_it_was_not_shown(trained: Booster) -> None:
    test = slates(2)
    assert ndcg_each(trained.scores(test), test).mean() > 0.9
    assert ndcg_each(np.zeros_like(test.mask), test).mean() < 0.8


def test_the_same_seed_gives_the_same_text_and_another_gives_another() -> None:
    settings = dataclasses.replace(SMALL, column_share=0.5, slate_share=0.5)
    first, again = (fit_lambdamart(slates(0), slates(1), settings).text for _ in range(2))
    other = fit_lambdamart(slates(0), slates(1), dataclasses.replace(settings, seed=1)).text
    assert first == again
    assert first.split("parameters:")[0] != other.split("parameters:")[0]


@pytest.mark.slow  # it imports torch
def test_another_process_trains_the_same_text(trained: Booster, tmp_path: Path) -> None:
    made = slates(0)
    np.savez(tmp_path / "slates.npz", features=made.features, labels=made.labels, mask=made.mask)
    script = f"""
import hashlib, numpy as np
from pocketrank_export.data.slates import Slates
from pocketrank_export.teachers.lambdamart import Trees, fit_lambdamart
made = Slates(**np.load({str(tmp_path / "slates.npz")!r}))
text = fit_lambdamart(made, made, {SMALL!r}).text
print(hashlib.sha256(text.encode()).hexdigest())
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[-1] == hashlib.sha256(trained.text.encode()).hexdigest()


def test_gains_become_grades_that_are_worth_them(trained: Booster) -> None:
    assert "[label_gain: 0,1,3.5,20.25]" in trained.text


def test_every_setting_reaches_lightgbm() -> None:
    settings = Trees(3, 5, 0.3, 7, 0.75, 0.5, 1.5, 11, seed=9, threads=1)
    text = fit_lambdamart(slates(0), slates(1), settings).text
    wanted = {
        "num_iterations": 3,
        "num_leaves": 5,
        "learning_rate": 0.3,
        "min_data_in_leaf": 7,
        "feature_fraction": 0.75,
        "bagging_fraction": 0.5,
        "bagging_freq": 1,
        "bagging_by_query": 1,
        "lambda_l2": 1.5,
        "lambdarank_truncation_level": 11,
        "seed": 9,
        "num_threads": 1,
        "deterministic": 1,
        "force_row_wise": 1,
    }
    assert [name for name, value in wanted.items() if f"[{name}: {value}]" not in text] == []


def test_many_gains_are_rounded_to_steps_of_the_largest() -> None:
    labels = np.random.default_rng(0).uniform(0, 50, 5000).astype(np.float32)
    gains, grades = lambdamart._graded(labels)
    assert len(gains) <= 1024
    assert gains == sorted(set(gains))
    np.testing.assert_allclose(np.array(gains)[grades], labels, atol=labels.max() / 1023 / 2 + 1e-5)


@pytest.mark.parametrize("labels", [[0.0, 1.0, 0.0, 7.5], [2.0, 2.0], [0.1, 0.0, 1e9]])
def test_few_gains_are_kept_as_they_are(labels: list[float]) -> None:
    given = np.array(labels, np.float32)
    gains, grades = lambdamart._graded(given)
    np.testing.assert_array_equal(np.array(gains)[grades], given)


def test_without_patience_every_tree_is_kept_and_with_it_those_up_to_the_best() -> None:
    noise = slates(0)
    rng = np.random.default_rng(0)
    labels = rng.permuted(noise.labels, axis=1) * noise.mask
    noise = dataclasses.replace(noise, labels=labels)
    told: list[float] = []
    kept = fit_lambdamart(noise, slates(1), SMALL, told.append)
    assert kept.text.count("Tree=") == 20
    assert told == [*(round((tree + 1) / 20, 9) for tree in range(20)), 1.0]
    early = fit_lambdamart(noise, slates(1), dataclasses.replace(SMALL, patience=3))
    validation, count = slates(1), early.text.count("Tree=")
    model = lightgbm.Booster(model_str=kept.text)
    found = []
    for trees in range(1, count + 4):
        scores = np.zeros(validation.mask.shape, np.float32)
        real = validation.mask > 0
        scores[real] = model.predict(validation.features[real], num_iteration=trees, num_threads=1)
        found.append(ndcg_each(scores, validation).mean())
    assert count == np.argmax(found) + 1 < 18


def test_a_slate_of_one_relevant_candidate_weighs_by_the_chance_that_it_was_looked_at() -> None:
    made = Slates.of(
        [np.zeros((3, 1), np.float32)] * 2,
        [np.array([0, 1, 0], np.float32), np.array([2, 0, 5], np.float32)],
        width=1,
        propensities=[np.array([1, 0.5, 0.25], np.float32), np.array([0.5, 1, 0.125], np.float32)],
    )
    found = lambdamart._weights(made)
    assert found is not None
    assert found.tolist() == [2, 2, 2, 2, 5, 8]
    assert lambdamart._weights(dataclasses.replace(made, propensities=None)) is None


def test_propensities_undo_that_the_first_place_is_looked_at_more() -> None:
    """Two columns say good in opposite ways; the clicks favour the one that is shown first."""
    rng = np.random.default_rng(0)
    features = np.tile(np.array([[1, 0], [0, 1]], np.float32), (600, 1, 1))
    chance = np.array([1.0, 0.2], np.float32)
    clicked = rng.random((600, 2)) < chance * np.array([0.3, 0.6])
    mask = np.ones((600, 2), np.float32)
    plain = Slates(features, clicked.astype(np.float32), mask)
    known = dataclasses.replace(plain, propensities=np.tile(chance, (600, 1)))
    first, second = (fit_lambdamart(made, made, SMALL).scores(made)[0] for made in (plain, known))
    assert first[0] > first[1]
    assert second[0] < second[1]


def broken(**changes: Any) -> Slates:
    return dataclasses.replace(slates(0), **changes)


@pytest.mark.parametrize(
    ("made", "validation", "words"),
    [
        (broken(labels=np.zeros((40, 12), np.float32)), slates(1), "expected one or more with a label above 0"),
        (slates(0), broken(features=np.zeros((40, 12, 3), np.float32)), "validation: expected slates of 4 columns"),
        (slates(0), slates(1).where(np.arange(0)), "validation: expected slates of 4 columns"),
        (broken(propensities=np.zeros((40, 12), np.float32)), slates(1), "propensities: expected chances above 0"),
        (broken(propensities=np.full((40, 12), np.nan, np.float32)), slates(1), "propensities: expected chances"),
        (broken(propensities=np.full((40, 12), 1.5, np.float32)), slates(1), "propensities: expected chances"),
    ],
)
def test_slates_that_can_not_be_learned_from_are_refused(made: Slates, validation: Slates, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit_lambdamart(made, validation, dataclasses.replace(SMALL, patience=2))


def test_what_lightgbm_refuses_is_an_input_error() -> None:
    shape = (1, 10_001)
    labels = np.zeros(shape, np.float32)
    labels[0, 0] = 1.0
    long = Slates(np.ones((*shape, 1), np.float32), labels, np.ones(shape, np.float32))
    with pytest.raises(InputError, match="lambdamart: LightGBM refuses the slates"):
        fit_lambdamart(long, long, SMALL)


@pytest.mark.parametrize(
    "settings",
    [
        {"trees": 0},
        {"trees": 1.5},
        {"trees": True},
        {"leaves": 1},
        {"leaves": 200_000},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"min_data": 0},
        {"column_share": 0.0},
        {"slate_share": 1.1},
        {"l2": -1.0},
        {"l2": float("inf")},
        {"truncation": 0},
        {"patience": -1},
        {"seed": -1},
        {"threads": 0},
    ],
)
def test_settings_outside_their_range_are_refused_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(InputError, match=f"^{name}: expected"):
        Trees(**settings)


def test_without_lightgbm_the_way_to_get_it_is_named(trained: Booster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    makes: list[Callable[[], Booster]] = [
        lambda: Booster("x", trained.text),
        lambda: fit_lambdamart(slates(0), slates(1), SMALL),
    ]
    for make in makes:
        with pytest.raises(ExtraMissingError, match=re.escape('pip install "pocketrank[export]"')):
            make()


# -------------------------------------------------------------------------------------------------------- text format


def test_a_file_is_read_back_as_it_was_written(trained: Booster, tmp_path: Path) -> None:
    path = tmp_path / "teacher.txt"
    lightgbm.Booster(model_str=trained.text).save_model(path)
    read = Booster.load(path)
    assert (read.name, read.size_bytes, read.width) == ("teacher", path.stat().st_size, WIDTH)
    np.testing.assert_array_equal(read.scores(slates(2)), trained.scores(slates(2)))


def test_trees_that_split_by_categories_are_read(categorical: str) -> None:
    made = slates(2)
    made.features[..., 3] = np.arange(12) * made.mask
    found = Booster("categories", categorical).scores(made)[made.mask > 0]
    expected = lightgbm.Booster(model_str=categorical).predict(made.features[made.mask > 0], num_threads=1)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.5])
def test_a_text_that_was_cut_short_is_refused_before_lightgbm_ends_the_process(trained: Booster, share: float) -> None:
    whole = trained.text.index("end of trees")
    with pytest.raises(InputError, match="LightGBM model: not a whole text model"):
        columns_of(trained.text[: int(whole * share * 2)])


def edited(text: str, key: str, change: Callable[[list[str]], list[str]]) -> str:
    """``text`` with the first line ``key=...`` of a tree changed word by word, and the trees' sizes right again."""
    before, after = text.split("Tree=0\n")
    lines = after.split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{key}="))
    old = lines[at]
    lines[at] = f"{key}={' '.join(change(old.removeprefix(f'{key}=').split(' ')))}"
    sizes = re.search(r"tree_sizes=(\d+)", before)
    assert sizes is not None
    first = int(sizes[1]) + len(lines[at]) - len(old)
    return before.replace(sizes[0], f"tree_sizes={first}") + "Tree=0\n" + "\n".join(lines)


def test_an_edit_that_keeps_the_format_is_read(trained: Booster) -> None:
    assert columns_of(edited(trained.text, "leaf_value", lambda words: ["1.5e-7", *words[1:]])) == WIDTH


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("num_leaves", lambda _: ["0"], "0 leaves"),
        ("num_leaves", lambda _: ["99999999"], "99999999 leaves"),
        ("num_leaves", lambda _: ["6"], "expected 5 numbers, got 6"),
        ("num_leaves", lambda _: ["7_0"], "expected whole numbers"),
        ("left_child", lambda words: ["0", *words[1:]], "node 0 leads to"),
        ("left_child", lambda words: ["6", *words[1:]], "node 0 leads to"),
        ("right_child", lambda words: [*words[:-1], "-8"], "node 5 leads to"),
        ("right_child", lambda words: [*words, "-1"], "expected 6 numbers, got 7"),
        ("split_feature", lambda words: ["4", *words[1:]], "beyond its 4"),
        ("split_feature", lambda words: ["-1", *words[1:]], "beyond its 4"),
        ("threshold", lambda words: ["x", *words[1:]], "threshold: expected numbers"),
        ("threshold", lambda words: words[1:], "expected 6 numbers, got 5"),
        ("leaf_value", lambda words: ["", *words[1:]], "leaf_value: expected numbers"),
        ("leaf_count", lambda words: words[1:], "expected 7 numbers, got 6"),
        ("decision_type", lambda words: ["1", *words[1:]], "set of categories beyond its 0|cat_boundaries"),
        ("is_linear", lambda _: ["1"], "linear leaves"),
        ("shrinkage", lambda _: [""], "shrinkage: expected numbers"),
        ("num_cat", lambda _: ["1"], "cat_boundaries"),
        ("internal_value", lambda _: ["1\n\n"], "an empty line"),
        ("internal_value", lambda words: [*words, "\nleaf_value=1"], "a key twice"),
        ("internal_value", lambda words: [*words[:-1], words[-1] + "\nflag"], "a line without a value"),
    ],
)
def test_a_tree_that_is_not_whole_is_refused(
    trained: Booster, key: str, change: Callable[[list[str]], list[str]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        columns_of(edited(trained.text, key, change))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("cat_boundaries", lambda words: ["1", *words[1:]]),
        ("cat_boundaries", lambda words: [*words[:-1], "999999"]),
        ("cat_boundaries", lambda words: [*words, "9"]),
        ("cat_threshold", lambda words: words[1:]),
        ("cat_threshold", lambda words: ["4294967296", *words[1:]]),
        ("cat_threshold", lambda words: ["-1", *words[1:]]),
        ("threshold", lambda words: ["77"] * len(words)),
        ("threshold", lambda words: ["0.5"] * len(words)),
        ("threshold", lambda words: ["-1"] * len(words)),
    ],
)
def test_sets_of_categories_that_do_not_fit_are_refused(
    categorical: str, key: str, change: Callable[[list[str]], list[str]]
) -> None:
    with pytest.raises(InputError, match=r"LightGBM model: not a whole text model \(.*(categor|cat_)"):
        columns_of(edited(categorical, key, change))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("num_class=1", "num_class=3", "one of several classes"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=2", "one of several classes"),
        ("max_feature_idx=3", "max_feature_idx=-1", "no columns"),
        ("max_feature_idx=3", "max_feature_idx=99999999", "no columns"),
        ("max_feature_idx=3", "max_feature_idx=x", "invalid literal"),
        ("max_feature_idx=3\n", "", "max_feature_idx"),
        ("objective=lambdarank", "objective=", "without a name"),
        ("tree_sizes=", "tree_sizes=-5 ", "tree 0 of size -5"),
        ("tree_sizes=", "tree_sizes=9 ", "tree 0"),
        ("Tree=1\n", "Tree=2\n", "tree 1: expected its title"),
        ("end of trees", "end of", "not the end of trees"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(trained: Booster, old: str, new: str, words: str) -> None:
    assert old in trained.text
    with pytest.raises(InputError, match=words):
        columns_of(trained.text.replace(old, new, 1))


def test_what_only_lightgbm_finds_wrong_is_an_input_error(trained: Booster) -> None:
    with pytest.raises(InputError, match="teacher 'odd': LightGBM can't read the model"):
        Booster("odd", trained.text.replace("feature_infos=", "feature_infos=none ", 1))


def test_files_that_are_no_text_or_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="expected LightGBM's text format"):
        Booster.load(path)
    monkeypatch.setattr(boosters, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="20 bytes; expected at most 10"):
        columns_of("x" * 20)

"""Splits: by time nothing overlaps, by group nothing is cut through, and planted leaks are named."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError, LeakError
from pocketrank.schema import Number, Schema
from pocketrank_export.data.dataset import Dataset, Split
from pocketrank_export.data.slates import Slates
from pocketrank_export.data.splits import By, by_group, by_time, check_split

SCHEMA = Schema((Number(name="a"), Number(name="b")))


def dataset(groups: list[str], at_s: list[float] | None = None, seed: int = 0, n: int = 3) -> Dataset:
    rng = np.random.default_rng(seed)
    features = list(rng.normal(size=(len(groups), n, 2)).astype(np.float32))
    labels = list(rng.integers(2, size=(len(groups), n)).astype(np.float32))
    times = None if at_s is None else np.array(at_s, dtype=np.float64)
    return Dataset(SCHEMA, Slates.of(features, labels, width=2), tuple(groups), times)


def parts_of(split: Split) -> tuple[Dataset, Dataset, Dataset]:
    return split.train, split.validation, split.test


def contents(data: Dataset) -> set[bytes]:
    return {slate.tobytes() for slate in data.slates.features}


@given(st.lists(st.integers(0, 12), min_size=12, max_size=40), st.floats(0.05, 0.3), st.floats(0.05, 0.3))
def test_by_time_no_part_begins_before_the_one_before_it_has_ended(
    times: list[int], validation: float, test: float
) -> None:
    data = dataset(["user"] * len(times), [float(at) for at in times])
    try:
        split = by_time(data, validation=validation, test=test)
    except InputError as error:
        # So many at one moment that nothing is left before it.
        assert "nothing comes before" in str(error)  # noqa: PT017
        return
    check_split(split, "time")
    parts = parts_of(split)
    ends = [(part.at_s.min(), part.at_s.max()) for part in parts if part.at_s is not None]
    assert ends[0][1] < ends[1][0]
    assert ends[1][1] < ends[2][0]
    assert sum(map(len, parts)) == len(data)
    assert set().union(*map(contents, parts)) == contents(data)


def test_by_time_takes_the_shares_that_are_asked_for() -> None:
    data = dataset([str(i) for i in range(100)], [float(97 * i % 100) for i in range(100)])
    split = by_time(data, validation=0.2, test=0.1)
    assert [len(part) for part in parts_of(split)] == [70, 20, 10]
    assert split.test.at_s is not None
    assert sorted(split.test.at_s) == list(range(90, 100))


def test_slates_of_one_moment_go_to_the_later_part_together() -> None:
    split = by_time(dataset(list("abcdefgh"), [1, 2, 3, 4, 5, 5, 5, 6]), validation=0.25, test=0.25)
    assert [part.groups for part in parts_of(split)] == [tuple("ab"), tuple("cd"), tuple("efgh")]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0.05, 0.6), st.integers(0, 9))
def test_by_group_each_slate_stands_in_one_part_with_its_whole_group(
    members: list[int], share: float, seed: int
) -> None:
    data = dataset([f"q{member}" for member in members])
    count = len(set(members))
    try:
        split = by_group(data, validation=share, test=share, seed=seed)
    except InputError:
        assert count < 2 or 2 * max(round(share * count), 1) >= count
        return
    check_split(split, "group")
    parts = parts_of(split)
    assert sum(map(len, parts)) == len(data)
    assert len(set(split.test.groups)) == len(set(split.validation.groups)) == max(round(share * count), 1)
    assert not set(split.train.groups) & {*split.validation.groups, *split.test.groups}


def test_a_seed_gives_the_same_parts_whatever_the_order_and_another_seed_others() -> None:
    groups = [f"q{i}" for i in range(40)]
    one, turned, other = (
        set(by_group(dataset(names), seed=seed).test.groups)
        for names, seed in ((groups, 0), (groups[::-1], 0), (groups, 1))
    )
    assert one == turned
    assert one != other


def test_more_groups_move_few_to_another_part() -> None:
    def tested(count: int) -> set[str]:
        return set(by_group(dataset([f"q{i}" for i in range(count)])).test.groups)

    # Ten more groups make the test one or two larger; a new draw would exchange most of it.
    assert len(tested(200) - tested(210)) <= 6


@pytest.mark.parametrize("by", [by_time, by_group])
def test_a_test_set_that_came_with_the_data_stays_as_it_is(by: Any) -> None:
    given_, test = dataset([f"q{i}" for i in range(20)], list(range(20))), dataset(["t"], [99.0], seed=5)
    split = by(given_, validation=0.15, test=test)
    assert split.test is test
    assert [len(part) for part in parts_of(split)] == [17, 3, 1]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
@pytest.mark.parametrize("name", ["validation", "test"])
@pytest.mark.parametrize("by", [by_time, by_group])
def test_a_share_out_of_range_is_refused(by: Any, name: str, share: float) -> None:
    with pytest.raises(InputError, match=f"{name}: expected a share above 0 and below 1"):
        by(dataset(list("abcdef"), list(range(6))), **{name: share})


def test_what_can_not_be_split_is_refused() -> None:
    with pytest.raises(InputError, match="the data has no times; split it by group"):
        by_time(dataset(list("abc")))
    with pytest.raises(InputError, match="nothing comes before"):
        by_time(dataset(list("abc"), [1, 1, 1]))
    with pytest.raises(InputError, match="2 groups: 1 for validation and 1 for the test leave none"):
        by_group(dataset(list("aabb")))
    with pytest.raises(InputError, match="expected two slates or groups or more"):
        by_group(dataset(list("aaaa")))


# --------------------------------------------------------------------------------------------------------------- leaks


def split_of(**changes: Dataset) -> Split:
    """Three sound parts, but for ``changes``."""
    parts = {
        "train": dataset(["a", "b"], [1, 2], seed=1),
        "validation": dataset(["c"], [3], seed=2),
        "test": dataset(["d", "e"], [4, 5], seed=3),
    }
    return Split(**(parts | changes))


@pytest.mark.parametrize("by", ["time", "group"])
def test_sound_parts_pass(by: By) -> None:
    check_split(split_of(), by)


@pytest.mark.parametrize(
    ("part", "groups", "message"),
    [
        ("test", ["a", "e"], "group 'a': stands in train and in test"),
        ("test", ["b", "a"], "group 'a' and 1 more: stands in train and in test"),
        ("test", ["c", "d"], "group 'c': stands in validation and in test"),
        ("validation", ["b"], "group 'b': stands in train and in validation"),
    ],
)
def test_a_group_in_two_parts_is_named(part: str, groups: list[str], message: str) -> None:
    planted = split_of(**{part: dataset(groups, [7.0] * len(groups), seed=9)})
    with pytest.raises(LeakError, match=message):
        check_split(planted, "group")
    check_split(split_of(**{part: dataset(groups, [4.0, 5.0] if part == "test" else [3.0], seed=9)}), "time")


@pytest.mark.parametrize(
    ("part", "times", "message"),
    [
        ("train", [1.0, 3.0], "train: reaches to Unix time 3.0, expected all of it before validation begins at 3.0"),
        ("train", [1.0, 9.0], "train: reaches to Unix time 9.0, expected all of it before validation begins"),
        ("test", [2.5, 9.0], "validation: reaches to Unix time 3.0, expected all of it before test begins at 2.5"),
    ],
)
def test_parts_that_overlap_in_time_are_named(part: str, times: list[float], message: str) -> None:
    planted = split_of(**{part: dataset(["x", "y"], times, seed=9)})
    with pytest.raises(LeakError, match=message):
        check_split(planted, "time")
    check_split(planted, "group")


def without_times(data: Dataset) -> Dataset:
    return dataclasses.replace(data, at_s=None)


def test_a_slate_that_stands_in_two_parts_under_other_names_is_named() -> None:
    train = dataset(["a", "b"], [1, 2], seed=1)
    copy = dataclasses.replace(train, groups=("x", "y"))
    planted = split_of(train=without_times(train), validation=without_times(dataset(["c"], seed=2)), test=copy)
    with pytest.raises(LeakError, match="group 'a' of train and 'x' of test: a slate with the same features, labels"):
        check_split(dataclasses.replace(planted, test=without_times(copy)), "group")
    with pytest.raises(LeakError, match="group 'a' of train and 'x' of test"):
        check_split(split_of(train=train, test=copy), "group")


def test_a_copy_is_found_whatever_it_is_padded_to() -> None:
    train = without_times(dataset(["a"], seed=1))
    longer = Slates.joined([train.slates, dataset(["z"], seed=8, n=5).slates])
    test = Dataset(SCHEMA, longer, ("x", "z"))
    with pytest.raises(LeakError, match="group 'a' of train and 'x' of test"):
        check_split(Split(train, without_times(dataset(["c"], seed=2)), test), "group")


def test_what_is_alike_by_chance_is_no_copy() -> None:
    # The same seen at another time, other outcomes, and slates of one candidate.
    train = dataset(["a", "b"], [1, 2], seed=1)
    later = dataclasses.replace(train, groups=("x", "y"), at_s=np.array([8.0, 9.0]))
    check_split(split_of(train=train, test=later), "group")
    other = dataclasses.replace(
        train, groups=("x", "y"), slates=dataclasses.replace(train.slates, labels=train.slates.labels + 1)
    )
    check_split(split_of(train=train, test=other), "group")
    lone = dataset(["a"], seed=1, n=1)
    check_split(
        Split(lone, dataclasses.replace(lone, groups=("b",)), dataclasses.replace(lone, groups=("c",))), "group"
    )


def test_parts_that_can_not_be_compared_are_refused() -> None:
    empty = dataset(["a"], [4.0]).where(np.array([False]))
    with pytest.raises(InputError, match="test: expected slates of the schema of train, got 0 slates"):
        check_split(split_of(test=empty), "group")
    other = dataclasses.replace(dataset(["d"], [4.0]), schema=Schema((Number(name="a"), Number(name="c"))))
    with pytest.raises(InputError, match="test: expected slates of the schema of train"):
        check_split(split_of(test=other), "group")
    with pytest.raises(InputError, match="the data has no times; check the split by group"):
        check_split(split_of(train=without_times(dataset(["a"]))), "time")


def test_shares_that_leave_nothing_by_time_are_both_named() -> None:
    with pytest.raises(InputError, match=r"validation: 0\.6 of the slates and the test's 6 leave none"):
        by_time(dataset([f"g{at}" for at in range(10)], list(range(10))), validation=0.6, test=0.6)

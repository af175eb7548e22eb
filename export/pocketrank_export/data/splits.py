"""Data cut into what is trained on, what chooses, and what is tested on: by time or by group, never by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import combinations
from typing import Final, Literal

import numpy as np

from pocketrank.errors import InputError, LeakError
from pocketrank_export.data.dataset import Dataset, Floats, Split

SHARE: Final = 0.15
"""Of the data, for validation and for the test each."""

By = Literal["time", "group"]


def by_time(data: Dataset, *, validation: float = SHARE, test: float | Dataset = SHARE) -> Split:
    """The last slates of all are the test, those before them the validation.

    Args:
        data: What to cut; its slates have times.
        validation: Share of the slates of ``data``, above 0 and below 1.
        test: The same, or a test set that came with the data.

    Guarantees:
        Nothing in a part is as early as anything in the part before it: slates of one moment stay together, in the
        later part.

    Raises:
        InputError: The slates have no times, a share is out of range, or a part would be empty.
    """
    if data.at_s is None:
        raise InputError("at_s: the data has no times; split it by group")
    rest, tested = (data, test) if isinstance(test, Dataset) else _cut_time(data, data.at_s, "test", test)
    assert rest.at_s is not None
    share = validation * len(data) / len(rest)
    if share >= 1.0 > validation:
        raise InputError(f"validation: {validation} of the slates and the test's {len(tested)} leave none; take less")
    train, validated = _cut_time(rest, rest.at_s, "validation", share)
    return Split(train, validated, tested)


def by_group(data: Dataset, *, validation: float = SHARE, test: float | Dataset = SHARE, seed: int = 0) -> Split:
    """All slates of a query, or of a user, stand in one part.

    Groups are ordered by the SHA-256 of seed and name, so that more data moves few of them to another part.

    Args:
        data: What to cut.
        validation: Share of the groups of ``data``, above 0 and below 1.
        test: The same, or a test set that came with the data.
        seed: Another one gives other parts.

    Raises:
        InputError: A share is out of range, or a part would be empty.
    """
    order = sorted(set(data.groups), key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    tests = 0 if isinstance(test, Dataset) else _count("test", test, len(order))
    validations = _count("validation", validation, len(order))
    if tests + validations >= len(order):
        raise InputError(f"{len(order)} groups: {validations} for validation and {tests} for the test leave none")
    tested = test if isinstance(test, Dataset) else _of(data, order[:tests])
    return Split(_of(data, order[tests + validations :]), _of(data, order[tests : tests + validations]), tested)


def check_split(split: Split, by: By) -> None:
    """Refuse a split through which the test could be known.

    Args:
        split: The parts; ``by_group`` and ``by_time`` make them so, test sets that came with the data may not be.
        by: What keeps the parts apart. By time, a user may stand in several.

    Raises:
        LeakError: A group stands in two parts (by group); a part holds something as early as what is in the part before
            it (by time); or a slate stands in two parts, with the same features, labels and time.
        InputError: The parts are not of one schema, one of them is empty, or lacks times.
    """
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    for name, part in parts.items():
        if not len(part) or part.schema != split.train.schema:
            raise InputError(f"{name}: expected slates of the schema of train, got {len(part)} slates; read all as one")
    for (earlier, one), (later, other) in combinations(parts.items(), 2):
        if by == "group":
            _check_groups(earlier, one, later, other)
        else:
            _check_times(earlier, one, later, other)
        _check_copies(earlier, one, later, other)


def _cut_time(data: Dataset, at_s: Floats, name: str, share: float) -> tuple[Dataset, Dataset]:
    """What came before, and the last ``share`` of the slates with whatever came at the same moment."""
    count = _count(name, share, len(data))
    start_s = np.sort(at_s)[len(data) - count]
    late = at_s >= start_s
    if late.all():
        raise InputError(
            f"{name}: all {len(data)} slates are of Unix time {start_s:.0f} or later; nothing comes before"
        )
    return data.where(~late), data.where(late)


def _count(name: str, share: float, whole: int) -> int:
    """``share`` of ``whole``, one at least."""
    if not 0.0 < share < 1.0:
        raise InputError(f"{name}: expected a share above 0 and below 1, got {share}")
    if whole < 2:
        raise InputError(f"{name}: expected two slates or groups or more to take a part of, got {whole}")
    return min(max(round(share * whole), 1), whole - 1)


def _of(data: Dataset, groups: Iterable[str]) -> Dataset:
    taken = set(groups)
    return data.where(np.array([group in taken for group in data.groups], dtype=np.bool_))


def _check_groups(earlier: str, one: Dataset, later: str, other: Dataset) -> None:
    if both := sorted(set(one.groups) & set(other.groups)):
        more = f" and {len(both) - 1} more" if both[1:] else ""
        raise LeakError(f"group {both[0]!r}{more}: stands in {earlier} and in {later}; leave it out of one of them")


def _check_times(earlier: str, one: Dataset, later: str, other: Dataset) -> None:
    if one.at_s is None or other.at_s is None:
        raise InputError(f"{earlier}, {later}: the data has no times; check the split by group")
    last_s, first_s = float(one.at_s.max()), float(other.at_s.min())
    if not last_s < first_s:
        wanted = f"all of it before {later} begins at {first_s!r}"
        raise LeakError(f"{earlier}: reaches to Unix time {last_s!r}, expected {wanted}; split by time again")


def _check_copies(earlier: str, one: Dataset, later: str, other: Dataset) -> None:
    known = {key: group for key, group in _contents(one) if key}
    for key, group in _contents(other):
        if key in known:
            raise LeakError(
                f"group {known[key]!r} of {earlier} and {group!r} of {later}: a slate with the same features, labels "
                "and time; leave it out of one of them"
            )


def _contents(data: Dataset) -> Iterable[tuple[bytes, str]]:
    """A digest of what each slate holds, and its group; empty of one that says nothing of an order."""
    slates = data.slates
    for row, group in enumerate(data.groups):
        real = slates.mask[row] > 0
        digest = hashlib.sha256() if real.sum() > 1 else None
        if digest is not None:
            digest.update(slates.features[row, real].tobytes() + slates.labels[row, real].tobytes())
            # At another time the same may be seen by chance: two new users, and the most popular items.
            digest.update(b"" if data.at_s is None else data.at_s[row].tobytes())
        yield digest.digest() if digest else b"", group

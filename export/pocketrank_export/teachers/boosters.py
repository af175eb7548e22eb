"""LightGBM's text format, checked before LightGBM reads it.

It reads the trees in threads, where a malformed one (a file cut short, say) ends the whole process instead of raising,
and follows the numbers of children and columns without looking whether they exist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pocketrank.errors import InputError

MAX_BYTES: Final = 256 << 20
_MAX_COLUMNS: Final = 1 << 20
_NODE_NUMBERS: Final = ("split_gain", "threshold", "internal_value", "internal_weight", "internal_count")
_LEAF_NUMBERS: Final = ("leaf_value", "leaf_weight", "leaf_count")
_NEEDED: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value", "num_cat")
_LISTS: Final = ("left_child", "right_child", "split_feature", "decision_type")
_CATEGORICAL: Final = 1  # the bit of a node's decision type

_WHOLE: Final = re.compile(r"-?[0-9]+(?: -?[0-9]+)*")
_NUMBER: Final = r"[-+]?(?:[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|inf|nan)"
_NUMBERS: Final = re.compile(rf"{_NUMBER}(?: {_NUMBER})*")

Fields = dict[str, str]


def columns_of(text: str) -> int:
    """How many feature columns a model in LightGBM's text format reads.

    Args:
        text: As ``lightgbm.Booster.save_model`` writes it: one score a row, constant leaves.

    Guarantees:
        Every tree is whole, its nodes lead to its own later nodes and leaves, and its splits read columns that exist.

    Raises:
        InputError: It is not such a text, or larger than 256 MiB.
    """
    content = text.encode()
    if len(content) > MAX_BYTES:
        raise InputError(f"LightGBM model: {len(content)} bytes; expected at most {MAX_BYTES}")
    head, found, _ = content.partition(b"\n\nTree=0\n")
    try:
        header = _fields(head.decode())
        columns = int(header["max_feature_idx"]) + 1
        if (header["num_class"], header["num_tree_per_iteration"]) != ("1", "1"):
            raise InputError("LightGBM model: expected one score a row, got one of several classes; train a ranker")
        if not found or not 1 <= columns <= _MAX_COLUMNS or not header.get("objective", "none").strip():
            raise ValueError("no trees, no columns or an objective without a name")
        sizes = [int(size) for size in header["tree_sizes"].split()]
        at = len(head) + 2
        for number, size in enumerate(sizes):
            if size < 1:
                raise ValueError(f"tree {number} of size {size}")
            _check_tree(content[at : at + size].decode(), number, columns)
            at += size
        if not content.startswith(b"end of trees", at):
            raise ValueError("what follows the last tree is not the end of trees; the file is cut short or was edited")
    except InputError:
        raise
    except (KeyError, ValueError) as error:
        raise InputError(
            f"LightGBM model: not a whole text model ({error}); write it anew with Booster.save_model"
        ) from error
    return columns


def _check_tree(text: str, number: int, columns: int) -> None:
    """Raise where a tree of the format isn't whole."""
    title, _, body = text.rstrip("\n").partition("\n")
    if title != f"Tree={number}":
        raise ValueError(f"tree {number}: expected its title, got {title[:40]!r}")
    fields = _fields(body)
    if not all("=" in line for line in body.split("\n")):
        raise ValueError(f"tree {number}: a line without a value")
    (leaves,) = _whole(fields, "num_leaves", 1)
    if not 1 <= leaves <= len(text):
        raise ValueError(f"tree {number}: {leaves} leaves")
    if fields.get("is_linear", "0") != "0":
        raise ValueError(f"tree {number}: linear leaves, which are not read; train with linear_tree=False")
    _words(fields, "shrinkage", 1)
    if leaves == 1:
        _words(fields, "leaf_value", 1)
        return
    if missing := [name for name in _NEEDED if name not in fields]:
        raise ValueError(f"tree {number}: lacks {missing}")
    for names, count in ((_NODE_NUMBERS, leaves - 1), (_LEAF_NUMBERS, leaves)):
        for name in names:
            if name in fields:
                _words(fields, name, count)
    _check_nodes(fields, number, leaves, columns)


def _check_nodes(fields: Fields, number: int, leaves: int, columns: int) -> None:
    """Raise where a node of a tree leads or looks to what isn't there."""
    left, right, split, kinds = (_whole(fields, name, leaves - 1) for name in _LISTS)
    # A leaf is written as ~leaf. LightGBM numbers nodes as it splits, so children come later: no path can be a circle.
    for node, children in enumerate(zip(left, right, strict=True)):
        if not all(node < child < leaves - 1 or -leaves <= child < 0 for child in children):
            raise ValueError(f"tree {number}: node {node} leads to {children}")
    if not all(0 <= column < columns for column in split):
        raise ValueError(f"tree {number}: splits on a column beyond its {columns}")
    _check_categories(fields, kinds, number)


def _check_categories(fields: Fields, kinds: Sequence[int], number: int) -> None:
    """Raise where a split by categories has no set of them; its threshold is the set's number."""
    (sets,) = _whole(fields, "num_cat", 1)
    chosen = [t for t, kind in zip(fields["threshold"].split(), kinds, strict=True) if kind & _CATEGORICAL]
    if sets == 0 and not chosen:
        return
    bounds = _whole(fields, "cat_boundaries", sets + 1)
    words = _whole(fields, "cat_threshold", bounds[-1])
    if bounds != sorted(bounds) or bounds[0] != 0 or not all(0 <= word < 1 << 32 for word in words):
        raise ValueError(f"tree {number}: sets of categories that don't fit each other")
    if not all(float(threshold).is_integer() and 0 <= float(threshold) < sets for threshold in chosen):
        raise ValueError(f"tree {number}: splits by a set of categories beyond its {sets}")


def _fields(text: str) -> Fields:
    """Lines ``key=value``, each key once and no line empty; a line without a value is a flag."""
    lines = text.split("\n")
    fields = {key: value for key, _, value in (line.partition("=") for line in lines)}
    if len(fields) != len(lines) or "" in fields:
        raise ValueError("a key twice, or an empty line")
    return fields


def _whole(fields: Fields, name: str, count: int) -> list[int]:
    """The ``count`` whole numbers of a field."""
    return [int(word) for word in _words(fields, name, count, _WHOLE, "whole numbers")]


def _words(
    fields: Fields, name: str, count: int, form: re.Pattern[str] = _NUMBERS, expected: str = "numbers"
) -> list[str]:
    """The ``count`` words of a field, each a number."""
    if not form.fullmatch(fields[name]):
        raise ValueError(f"{name}: expected {expected}, got {fields[name][:40]!r}")
    words = fields[name].split(" ")
    if len(words) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {len(words)}")
    return words

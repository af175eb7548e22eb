"""Parameters as one vector: the order and the shapes are the bundle's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import Array, Parameter
from pocketrank.errors import InputError


def width(layout: Sequence[Parameter]) -> int:
    """Number of trainable values, d."""
    return sum(math.prod(parameter.shape) for parameter in layout)


def check_params(layout: Sequence[Parameter], params: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse parameters that are not exactly those of ``layout``, float32 and finite.

    Raises:
        InputError: Names, shapes or types differ, or a value is not finite.
    """
    expected = {parameter.name: (parameter.shape, "float32") for parameter in layout}
    found = {name: (value.shape, value.dtype.name) for name, value in params.items()}
    if found != expected:
        raise InputError(f"params: expected {expected}, got {found}; they belong to another bundle")
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise InputError(f"params: {name} is not finite; go back to an earlier checkpoint")


def flatten(layout: Sequence[Parameter], params: Mapping[str, npt.NDArray[Any]]) -> Array:
    """Parameters as one float32 ``[d]`` in the order of ``layout``.

    Raises:
        InputError: See ``check_params``.
    """
    check_params(layout, params)
    parts = [params[parameter.name].ravel() for parameter in layout]
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)


def unflatten(layout: Sequence[Parameter], vector: npt.NDArray[Any]) -> dict[str, Array]:
    """The inverse of ``flatten``: new, writable float32 arrays by name.

    Raises:
        InputError: ``vector`` is not ``[d]``.
    """
    if vector.shape != (width(layout),):
        raise InputError(f"vector: expected shape ({width(layout)},), got {vector.shape}")
    params: dict[str, Array] = {}
    start = 0
    for parameter in layout:
        end = start + math.prod(parameter.shape)
        params[parameter.name] = vector[start:end].reshape(parameter.shape).astype(np.float32)
        start = end
    return params

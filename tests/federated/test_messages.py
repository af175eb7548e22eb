import dataclasses
from typing import Any

import numpy as np
import pytest
from flwr.app.metadata import validate_message_type

from pocketrank.errors import InputError
from pocketrank_federated.messages import MESSAGE_TYPE, RoundConfig, update_from_arrays, update_to_arrays

CONFIG = RoundConfig(
    server_round=2,
    rounds_total=10,
    cohort_size=660,
    clipping_norm=0.3,
    noise_multiplier=5.5,
    learning_rate=0.1,
    local_steps=1,
    bundle_digest="ab" * 32,
)


def test_flower_routes_the_message_type() -> None:
    assert validate_message_type(MESSAGE_TYPE)


def test_a_round_config_comes_back_as_it_was() -> None:
    assert RoundConfig.from_scalars(CONFIG.to_scalars()) == CONFIG


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("server_round", 0),
        ("server_round", 11),
        ("server_round", True),
        ("server_round", 2.0),
        ("server_round", "2"),
        ("rounds_total", 1),
        ("cohort_size", 0),
        ("cohort_size", [660]),
        ("clipping_norm", 0.0),
        ("clipping_norm", -1.0),
        ("clipping_norm", float("nan")),
        ("clipping_norm", float("inf")),
        ("clipping_norm", 1),
        ("noise_multiplier", -0.1),
        ("noise_multiplier", float("nan")),
        ("noise_multiplier", float("inf")),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("local_steps", 0),
        ("local_steps", None),
        ("bundle_digest", "AB" * 32),
        ("bundle_digest", "ab" * 31),
        ("bundle_digest", b"ab" * 32),
    ],
)
def test_a_round_config_of_wrong_type_or_range_is_refused(field: str, value: object) -> None:
    scalars: dict[str, Any] = {**CONFIG.to_scalars(), field: value}
    with pytest.raises(InputError, match=field if field != "rounds_total" else "rounds_total|server_round"):
        RoundConfig.from_scalars(scalars)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RoundConfig)])
def test_a_round_config_that_lacks_a_field_is_refused(field: str) -> None:
    scalars = CONFIG.to_scalars()
    del scalars[field]
    with pytest.raises(InputError, match="round config"):
        RoundConfig.from_scalars(scalars)


def test_a_round_config_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(InputError, match="code"):
        RoundConfig.from_scalars({**CONFIG.to_scalars(), "code": "import os"})


def test_a_reply_is_one_array() -> None:
    update = np.arange(3, dtype=np.float32)
    assert update_from_arrays(update_to_arrays(update)) is update
    for arrays in ({}, {"other": update}, {"update": update, "num-examples": update}):
        with pytest.raises(InputError, match="update"):
            update_from_arrays(arrays)

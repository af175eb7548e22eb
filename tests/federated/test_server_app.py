import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from pocketrank.bundle import load_arrays
from pocketrank.errors import InputError
from pocketrank_federated.accountant import epsilon
from pocketrank_federated.client_app import client_app
from pocketrank_federated.local_grid import LocalGrid
from pocketrank_federated.plan import RoundPlan
from pocketrank_federated.server_app import PRIVACY, plan_from, server_app
from tests.federated.toy import participants, targets, toy_bundle

CONFIG: dict[str, bool | float | str] = {
    "rounds": 2,
    "clipping-norm": 1.0,
    "noise-multiplier": 0.5,
    "delta": 1e-5,
    "learning-rate": 1,
}


def test_a_plan_is_read_with_its_defaults() -> None:
    assert plan_from(CONFIG) == RoundPlan(2, 1.0, 0.5, 1e-5, 1.0)
    assert plan_from({**CONFIG, "local-steps": 3, "server-momentum": 0.9}) == RoundPlan(
        2, 1.0, 0.5, 1e-5, 1.0, local_steps=3, server_momentum=0.9
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("rounds", None), ("rounds", 2.5), ("rounds", True), ("rounds", "2"), ("delta", None), ("local-steps", 1.5)],
)
def test_a_run_config_that_is_no_plan_is_refused(key: str, value: object) -> None:
    with pytest.raises(InputError, match=key):
        plan_from({**CONFIG, key: value})


def context(**changes: str | float) -> Context:
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={**CONFIG, **changes})


def test_the_output_holds_parameters_and_what_they_cost(tmp_path: Path) -> None:
    bundle, goals = toy_bundle(), targets(4)
    bundle.save(tmp_path / "bundle")
    grid = LocalGrid(client_app(participants(bundle, goals)), 4)
    server_app()(grid, context(bundle=str(tmp_path / "bundle"), output=str(tmp_path / "out")))
    params = load_arrays((tmp_path / "out" / "params.npz").read_bytes())
    assert {name: (value.shape, value.dtype.name) for name, value in params.items()} == {
        "head.weight": ((3,), "float32"),
        "head.bias": ((1, 2), "float32"),
    }
    assert np.all(params["head.weight"] != 0)
    statement = json.loads((tmp_path / "out" / PRIVACY).read_text())
    assert statement["epsilon"] == pytest.approx(epsilon(0.5, 2, 1e-5))
    assert (statement["rounds"], statement["sampling"], statement["unit"]) == (2, "none", "device")

    before = grid.bytes_down
    server_app()(grid, context(bundle=str(tmp_path / "bundle"), output=str(tmp_path / "out")))
    assert grid.bytes_down == before
    again = load_arrays((tmp_path / "out" / "params.npz").read_bytes())
    np.testing.assert_array_equal(again["head.weight"], params["head.weight"])


@pytest.mark.parametrize(
    "changes", [{"bundle": ""}, {"output": 3}, {"reply-timeout-s": "soon"}, {"reply-timeout-s": -1}, {"min-nodes": "x"}]
)
def test_a_run_config_with_a_value_that_is_none_is_refused(tmp_path: Path, changes: dict[str, str | float]) -> None:
    toy_bundle().save(tmp_path / "bundle")
    given: dict[str, str | float] = {"bundle": str(tmp_path / "bundle"), "output": str(tmp_path / "out"), **changes}
    with pytest.raises(InputError, match="run config"):
        server_app()(LocalGrid(client_app(participants(toy_bundle(), targets(1))), 1), context(**given))

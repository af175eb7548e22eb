"""The server's side as a Flower ServerApp, for rounds with real devices.

Run config (``flwr run APP --run-config "bundle='/srv/movies' output='/srv/out' rounds=10 ..."``):

| key | meaning | default |
|---|---|---|
| ``bundle`` | folder of the bundle to improve | |
| ``output`` | folder for ``params.npz``, ``privacy.json`` and the checkpoint | |
| ``rounds``, ``clipping-norm``, ``noise-multiplier``, ``delta``, ``learning-rate`` | see ``RoundPlan`` | |
| ``local-steps``, ``server-learning-rate``, ``server-momentum`` | see ``RoundPlan`` | 1, 1.0, 0.5 |
| ``min-nodes`` | nodes to wait for, where that is more than the policy's minimum | 1 |
| ``cohort-timeout-s``, ``reply-timeout-s`` | how long to wait for devices, and for replies | 600 |

Started again with the same ``output`` and plan, it goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pocketrank.bundle import PARAMS, Bundle, save_arrays
from pocketrank.durable import write_atomically
from pocketrank.errors import InputError
from pocketrank_federated.checkpoint import Checkpoint
from pocketrank_federated.plan import RoundPlan
from pocketrank_federated.rounds import run
from pocketrank_federated.state import RoundRecord, privacy_statement
from pocketrank_federated.strategy import ClippedAveraging

_log = logging.getLogger(__name__)

PRIVACY: Final = "privacy.json"
_PLAN_TYPES: Final = {
    "rounds": int,
    "clipping_norm": float,
    "noise_multiplier": float,
    "delta": float,
    "learning_rate": float,
    "local_steps": int,
    "server_learning_rate": float,
    "server_momentum": float,
}
_OPTIONAL: Final = frozenset(
    field.name for field in dataclasses.fields(RoundPlan) if field.default is not dataclasses.MISSING
)


def server_app() -> ServerApp:
    """A ServerApp that runs the rounds of its run config and leaves the result in ``output``."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = context.run_config
        bundle = Bundle.open(Path(_text(config, "bundle")))
        output = Path(_text(config, "output"))
        plan = plan_from(config)
        strategy = ClippedAveraging(
            bundle,
            plan,
            min_nodes=int(_number(config, "min-nodes", 1)),
            cohort_timeout_s=_number(config, "cohort-timeout-s", 600),
            reply_timeout_s=_number(config, "reply-timeout-s", 600),
        )
        state = run(grid, strategy, Checkpoint(output, bundle.digest, plan), _report)
        statement = dataclasses.asdict(privacy_statement(plan, state))
        write_atomically(output / PRIVACY, json.dumps(statement, allow_nan=False).encode())
        write_atomically(output / PARAMS, save_arrays(strategy.params))  # last: where it is, the rest is

    return app


def plan_from(config: Mapping[str, object]) -> RoundPlan:
    """The plan in a run config.

    Raises:
        InputError: A value is missing, of the wrong type or out of range.
    """
    values: dict[str, int | float] = {}
    for name, kind in _PLAN_TYPES.items():
        key = name.replace("_", "-")
        value = config.get(key)
        if value is None and name in _OPTIONAL:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, kind)):
            raise InputError(f"run config {key}: expected {kind.__name__}, got {value!r}")
        values[name] = kind(value)
    return RoundPlan(**values)  # type: ignore[arg-type]  # _PLAN_TYPES has each field's type


def _report(record: RoundRecord) -> None:
    _log.info("%s", record)


def _text(config: Mapping[str, object], key: str) -> str:
    value = config.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"run config {key}: expected a folder, got {value!r}")
    return value


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InputError(f"run config {key}: expected a number >= 0, got {value!r}")
    return float(value)

"""The same rounds over real servers: what holds in one process holds over Flower's network."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pocketrank.bundle import load_arrays
from pocketrank_federated.checkpoint import STATE
from pocketrank_federated.client_app import client_app
from pocketrank_federated.ledger import FileLedger
from pocketrank_federated.local_grid import LocalGrid
from pocketrank_federated.participant import Participant
from pocketrank_federated.rounds import run
from pocketrank_federated.server_app import PRIVACY
from pocketrank_federated.state import RunState
from pocketrank_federated.strategy import ClippedAveraging
from tests.federated.superlink import ROOT, Deployment
from tests.federated.toy import plan, targets, toy_bundle, trainer_to

NODES = 3
ROUNDS = 3
CLIPPING_NORM = 1.0
MOMENTUM = 0.5


def absent_in_round_1(path: Path, digest: str) -> Path:
    """A ledger that has seen round 1 already, so that its device refuses it."""
    FileLedger(path).charge(digest, 1, ROUNDS + 1)
    return path


def in_process(folder: Path) -> RunState:
    bundle, goals = toy_bundle(), targets(NODES)
    ledgers = [FileLedger(folder / f"{i}.json") for i in range(NODES)]
    absent_in_round_1(folder / "2.json", bundle.digest)
    devices = [Participant(bundle, trainer_to(goal), ledger) for goal, ledger in zip(goals, ledgers, strict=True)]
    grid = LocalGrid(client_app(lambda context: devices[int(context.node_config["partition-id"])]), NODES)
    rounds = plan(rounds=ROUNDS, clipping_norm=CLIPPING_NORM, server_momentum=MOMENTUM)
    return run(grid, ClippedAveraging(bundle, rounds))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rounds_over_a_superlink_give_what_rounds_in_one_process_give(tmp_path: Path) -> None:
    bundle = toy_bundle()
    bundle.save(tmp_path / "bundle")
    absent_in_round_1(tmp_path / "ledger2.json", bundle.digest)
    nodes: list[Mapping[str, str | int]] = [
        {
            "partition-id": number,
            "num-partitions": NODES,
            "bundle": str(tmp_path / "bundle"),
            "ledger": str(tmp_path / f"ledger{number}.json"),
        }
        for number in range(NODES)
    ]
    config: dict[str, str | float] = {
        "bundle": str(tmp_path / "bundle"),
        "output": str(tmp_path / "out"),
        "rounds": ROUNDS,
        "clipping-norm": CLIPPING_NORM,
        "server-momentum": MOMENTUM,
        "min-nodes": NODES,
    }
    with Deployment(tmp_path, nodes) as deployment:
        status = deployment.run(ROOT / "tests" / "federated" / "flower_app", config, timeout_s=180)
        assert status == "finished:completed", deployment.logs()

    expected = in_process(tmp_path / "local")
    params = load_arrays((tmp_path / "out" / "params.npz").read_bytes())
    found = np.concatenate([params["head.weight"].ravel(), params["head.bias"].ravel()])
    np.testing.assert_allclose(found, expected.params, rtol=0, atol=1e-7)
    records = json.loads((tmp_path / "out" / STATE).read_text())["records"]
    assert [record["answered"] for record in records] == [2, 3, 3]
    assert records[0]["refused"] == {"round_replayed": 1}
    assert [dict(r.refused) for r in expected.records] == [record["refused"] for record in records]
    assert json.loads((tmp_path / "out" / PRIVACY).read_text())["epsilon"] is None

"""The same rounds over real servers: what holds in one process holds over a network, from real devices' stores."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pocketrank import DeviceStore, Reranker
from pocketrank.bundle import Bundle, PrivacyPolicy, build, load_arrays
from pocketrank.engine import Engine
from pocketrank.learner import Learner, examples
from pocketrank_federated.checkpoint import STATE
from pocketrank_federated.client_app import client_app
from pocketrank_federated.ledger import FileLedger
from pocketrank_federated.local_grid import LocalGrid
from pocketrank_federated.participant import Participant, local_training
from pocketrank_federated.rounds import run
from pocketrank_federated.server_app import PRIVACY
from pocketrank_federated.state import RunState
from pocketrank_federated.strategy import ClippedAveraging
from tests import shop
from tests.federated.superlink import ROOT, Deployment
from tests.federated.toy import plan

NODES = 3
ROUNDS = 3
CLIPPING_NORM = 0.5
LEARNING_RATE = 0.3
MOMENTUM = 0.5
POLICY = PrivacyPolicy(min_cohort=1, max_clipping_norm=1.0, min_noise_multiplier=0.0, max_rounds=ROUNDS)


def shop_bundle() -> Bundle:
    """The shop's, under a policy that allows rounds without noise, so that two runs can be compared."""
    bundle = shop.bundle()
    return build(dataclasses.replace(bundle.manifest, policy=POLICY), bundle.files)


def lived_in(path: Path, person: int) -> DeviceStore:
    """A store whose person has been shown slates of the shop and clicked."""
    store = DeviceStore(path)
    reranker = Reranker(Engine(shop.bundle()), store)
    reranker.observe(shop.events(person, 20))
    for visit in range(3):
        offered = np.random.default_rng([person, visit]).permutation(60)[:30].tolist()
        slate = reranker.rank(shop.candidates(offered), context={"hour": 20})
        slate.clicked(slate.items[person + visit].id)
    return store


def absent_in_round_1(path: Path, digest: str) -> Path:
    """A ledger that has seen round 1 already, so that its device refuses it."""
    FileLedger(path).charge(digest, 1, ROUNDS + 1)
    return path


def in_process(folder: Path) -> RunState:
    bundle = shop_bundle()
    learner = Learner(bundle)
    ledgers = [FileLedger(folder / f"{i}.json") for i in range(NODES)]
    absent_in_round_1(folder / "2.json", bundle.digest)
    slates = [examples(lived_in(folder / f"{i}.sqlite", i), learner.width) for i in range(NODES)]
    devices = [
        Participant(bundle, local_training(learner, s), ledger) for s, ledger in zip(slates, ledgers, strict=True)
    ]
    grid = LocalGrid(client_app(lambda context: devices[int(context.node_config["partition-id"])]), NODES)
    rounds = plan(rounds=ROUNDS, clipping_norm=CLIPPING_NORM, learning_rate=LEARNING_RATE, server_momentum=MOMENTUM)
    return run(grid, ClippedAveraging(bundle, rounds))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rounds_over_a_superlink_give_what_rounds_in_one_process_give(tmp_path: Path) -> None:
    bundle = shop_bundle()
    bundle.save(tmp_path / "bundle")
    absent_in_round_1(tmp_path / "ledger2.json", bundle.digest)
    for number in range(NODES):
        lived_in(tmp_path / f"{number}.sqlite", number).close()
    nodes: list[Mapping[str, str | int]] = [
        {
            "partition-id": number,
            "num-partitions": NODES,
            "bundle": str(tmp_path / "bundle"),
            "store": str(tmp_path / f"{number}.sqlite"),
            "ledger": str(tmp_path / f"ledger{number}.json"),
        }
        for number in range(NODES)
    ]
    config: dict[str, str | float] = {
        "bundle": str(tmp_path / "bundle"),
        "output": str(tmp_path / "out"),
        "rounds": ROUNDS,
        "clipping-norm": CLIPPING_NORM,
        "learning-rate": LEARNING_RATE,
        "server-momentum": MOMENTUM,
        "min-nodes": NODES,
    }
    with Deployment(tmp_path, nodes) as deployment:
        status = deployment.run(ROOT / "tests" / "federated" / "flower_app", config, timeout_s=180)
        assert status == "finished:completed", deployment.logs()

    expected = in_process(tmp_path / "local")
    params = load_arrays((tmp_path / "out" / "params.npz").read_bytes())
    found = np.concatenate([params[parameter.name].ravel() for parameter in bundle.manifest.trainable])
    np.testing.assert_allclose(found, expected.params, rtol=0, atol=1e-6)
    before = np.concatenate([value.ravel() for value in bundle.params().values()])
    assert np.abs(found - before).max() > 1e-3, "the devices' clicks must have moved the parameters"
    records = json.loads((tmp_path / "out" / STATE).read_text())["records"]
    assert [record["answered"] for record in records] == [2, 3, 3]
    assert records[0]["refused"] == {"round_replayed": 1}
    assert [dict(r.refused) for r in expected.records] == [record["refused"] for record in records]
    assert json.loads((tmp_path / "out" / PRIVACY).read_text())["epsilon"] is None

"""A device's whole part in a round, with what a device holds: its store, its bundle, its ledger."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from pocketrank import DeviceStore, Reranker
from pocketrank.learner import Learner, examples
from pocketrank_federated.ledger import FileLedger
from pocketrank_federated.messages import RoundConfig
from pocketrank_federated.participant import Participant, local_training
from tests import shop

ROOT = Path(__file__).parents[2]
CONFIG = RoundConfig(
    server_round=1,
    rounds_total=10,
    cohort_size=100,
    clipping_norm=0.1,
    noise_multiplier=1.0,
    learning_rate=0.5,
    local_steps=1,
    bundle_digest=shop.bundle().digest,
)


def participant(folder: Path) -> Participant:
    bundle, learner = shop.bundle(), Learner(shop.bundle())
    store = DeviceStore(folder / "store.sqlite")
    return Participant(bundle, local_training(learner, examples(store, learner.width)), FileLedger(folder / "ledger"))


def test_a_device_answers_a_round_from_its_own_clicks(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    reranker = Reranker.load(shop.bundle(), store=store)
    reranker.observe(shop.events(1, 10))
    slate = reranker.rank(shop.candidates(range(30)), context={"hour": 20})
    slate.clicked(slate.items[-1].id)
    store.close()
    params = shop.bundle().params()
    update = participant(tmp_path).respond(CONFIG, params)
    assert update.shape == (sum(value.size for value in params.values()),)
    assert 0 < np.linalg.norm(update) <= CONFIG.clipping_norm * (1 + 1e-6)


def test_a_device_without_clicks_answers_zeros(tmp_path: Path) -> None:
    assert not participant(tmp_path).respond(CONFIG, shop.bundle().params()).any()


def test_a_round_brings_in_neither_torch_nor_flower(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from pocketrank import DeviceStore, Reranker
from tests import shop
from tests.device.test_round import CONFIG, participant
store = DeviceStore({str(tmp_path / "store.sqlite")!r})
slate = Reranker.load(shop.bundle(), store=store).rank(shop.candidates(range(20)), context={{"hour": 20}})
slate.clicked(slate.items[3].id)
assert participant(Path({str(tmp_path)!r})).respond(CONFIG, shop.bundle().params()).any()
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"torch", "flwr", "litert_torch", "dp_accounting"}}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

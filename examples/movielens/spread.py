"""``python -m examples.movielens.spread``: the private rounds of a finished demo, repeated with other noise."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from examples.movielens import world
from examples.movielens.figures import Report
from examples.movielens.pipeline import round_plan
from examples.movielens.rounds import federate
from examples.movielens.schema import SCHEMA
from examples.movielens.settings import Settings
from pocketrank.bundle import Bundle
from pocketrank.engine import Engine
from pocketrank.verification import score_slates
from pocketrank_export.evaluation import ndcg_each

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Print, for each repetition, nDCG@10 and the share of central training's gain."""
    parser = argparse.ArgumentParser(prog="python -m examples.movielens.spread", description=__doc__)
    parser.add_argument("--demo", type=Path, default=ROOT / "build" / "demo", help="a finished run (%(default)s)")
    parser.add_argument("--repeat", type=int, default=20, help="(%(default)s)")
    arguments = parser.parse_args()
    report = Report.from_json(json.loads((arguments.demo / "report.json").read_text()))
    settings = Settings(seed=report.seed)
    bundles = map(Bundle.open, (arguments.demo / "installed" / "device-0" / "bundles").iterdir())
    v1 = next(bundle for bundle in bundles if bundle.manifest.version == 1)
    parties = world.make(arguments.demo, settings.seed, lambda _: None)
    tests, devices = world.test_slates(parties), parties.fleet.examples(len(SCHEMA.columns))
    scorer, plan = Engine(v1).scorer, round_plan(settings)
    start, whole = report.ndcg_at_10.v1.mean, report.ndcg_at_10.central.mean - report.ndcg_at_10.v1.mean
    shares = []
    for _ in range(arguments.repeat):
        with tempfile.TemporaryDirectory() as folder:
            rounds = federate(Path(folder), v1, plan, devices, lambda _: None, averaged=settings.rounds.averaged)
        scores = score_slates(scorer, tests.features, tests.mask, rounds.by_round[-1])
        reached = float(ndcg_each(scores, tests).mean())
        shares.append((reached - start) / whole)
        print(f"nDCG@10 {reached:.4f}, {shares[-1]:.1%} of central training's gain", flush=True)
    print(f"mean {np.mean(shares):.1%}, from {min(shares):.1%} to {max(shares):.1%}")


if __name__ == "__main__":
    main()

"""Train a module, export it, and rank with the bundle; PyTorch's own order stands beside.

What it takes to bring another module is in ``export``: wrap it in ``Foreign``, say which of its parameters devices may
train, and hand it over with the schema of its columns.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from examples.bring_your_own_model.model import TwoTower, train
from examples.bring_your_own_model.shop import ITEM_COLUMNS, SCHEMA, features, slates, visit
from pocketrank import Reranker
from pocketrank.bundle import Bundle, PrivacyPolicy
from pocketrank_export.builder import build_bundle
from pocketrank_export.data.slates import Slates
from pocketrank_export.ranker import Foreign

# What devices demand of a federated round on the bundle; this example holds none.
POLICY = PrivacyPolicy(min_cohort=100, max_clipping_norm=0.3, min_noise_multiplier=1.0, max_rounds=10)


def export(model: TwoTower, checked_on: Slates) -> Bundle:
    """The module as a bundle, whose conversion was compared with PyTorch on ``checked_on``."""
    # Devices may train the item tower's last layer; () would make all of the module constants.
    trainable = ["module.item.2.weight", "module.item.2.bias"]
    ranker = Foreign(model, len(SCHEMA.columns), trainable)
    return build_bundle(
        ranker,
        SCHEMA,
        checked_on,
        name="my-two-tower",
        version=1,
        policy=POLICY,
        data="synthetic visits to a made-up shop",
        slate_sizes=(16, 64),
    ).bundle


def main(out: Path, *, steps: int = 200) -> tuple[list[str], list[str]]:
    """Train, export to ``out``, rank one visit, and print it.

    Returns:
        Ids, best first: as the bundle orders them, and as PyTorch does.
    """
    console = Console()
    known = slates(1500, seed=1)
    chosen = torch.from_numpy(known.labels.argmax(axis=1))
    model = train(torch.from_numpy(known.features), chosen, ITEM_COLUMNS, steps=steps)
    folder = out / "my-two-tower"
    export(model, slates(200, seed=2)).save(folder)

    candidates, context, _ = visit(np.random.default_rng(3))
    slate = Reranker.load(folder).rank(candidates, context=context)
    with torch.no_grad():
        own = model(torch.from_numpy(features(candidates, context))[None], torch.ones(1, len(candidates)))[0].numpy()

    ids = [str(item["id"]) for item in candidates]
    by_bundle = [item.id for item in slate]
    by_pytorch = [ids[place] for place in np.argsort(-own, kind="stable")]
    rows = {item["id"]: item for item in candidates}
    title = f"{slate.bundle}, on a {context['screen']}, {context['budget']:.0f} to spend"
    table = Table("bundle", "PyTorch", "kind", "price", "rating", title=title)
    for first, second in zip(by_bundle, by_pytorch, strict=True):
        row = rows[first]
        table.add_row(first, second, row["kind"], f"{row['price']:.2f}", f"{row['rating']:.1f}")
    console.print(table)
    same = sum(one == other for one, other in zip(by_bundle, by_pytorch, strict=True))
    console.print(f"{same} of {len(ids)} candidates stand where PyTorch puts them; the bundle's weights are int8.")
    return by_bundle, by_pytorch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.bring_your_own_model", description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the bundle in this folder")
    given = parser.parse_args()
    if given.out is not None:
        main(given.out)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))

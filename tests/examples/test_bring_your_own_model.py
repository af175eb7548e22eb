"""The example that exports a module which the exporter has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.bring_your_own_model.__main__ import main
from examples.bring_your_own_model.model import train
from examples.bring_your_own_model.shop import ITEM_COLUMNS, slates
from pocketrank.bundle import Bundle


def test_the_module_learns_what_the_shop_is_about() -> None:
    known, held_out = slates(800, seed=1), slates(200, seed=2)
    model = train(
        torch.from_numpy(known.features), torch.from_numpy(known.labels.argmax(axis=1)), ITEM_COLUMNS, steps=80
    )
    with torch.no_grad():
        scores = model(torch.from_numpy(held_out.features), torch.from_numpy(held_out.mask)).numpy()
    found = np.mean(scores.argmax(axis=1) == held_out.labels.argmax(axis=1))
    assert found > 3 / held_out.labels.shape[1], "three times what chance finds"


@pytest.mark.slow
def test_the_bundle_orders_as_pytorch_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_bundle, by_pytorch = main(tmp_path, steps=60)
    assert sorted(by_bundle) == sorted(by_pytorch)
    moved = [abs(by_bundle.index(name) - place) for place, name in enumerate(by_pytorch)]
    assert max(moved) <= 1, "int8 may swap neighbours"
    assert by_bundle != sorted(by_bundle), "the order given is no order"
    assert Bundle.open(tmp_path / "my-two-tower").manifest.name == "my-two-tower"
    assert by_bundle[0] in capsys.readouterr().out

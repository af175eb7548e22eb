"""The exporter's features and a device's, from the same events: equal to the last bit, on every runtime and numpy."""

from pathlib import Path

import numpy as np
import pytest

from pocketrank import Reranker
from pocketrank.bundle import load_arrays
from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, ItemVectors, profile
from pocketrank.store import DeviceStore
from tests import shop

EXPECTED = load_arrays(shop.FEATURES.read_bytes())
MOMENTS = {name: moment for seed in range(3) for name, moment in shop.moments(seed).items()}
VECTORS = ItemVectors.of(shop.bundle().files["vectors.npz"])


def test_there_is_a_golden_vector_for_each_moment() -> None:
    assert EXPECTED.keys() == MOMENTS.keys()


def features_of(moment: shop.Moment, history: History) -> Array:
    columns = parse(moment.candidates, shop.SCHEMA, moment.context, now_s=moment.now_s)
    return encode(columns, shop.SCHEMA, profile(shop.SCHEMA, history), VECTORS)


@pytest.mark.parametrize("name", MOMENTS)
def test_a_device_computes_what_the_exporter_replayed_bit_for_bit(name: str, tmp_path: Path) -> None:
    moment = MOMENTS[name]
    store = DeviceStore(tmp_path / "store.sqlite")
    history = History.of(store.events(), shop.SCHEMA, VECTORS)
    for event in moment.log[: moment.at]:
        store.record([event])
        history.add([event])
    np.testing.assert_array_equal(features_of(moment, history), EXPECTED[name], strict=True)
    store.close()
    # And after a restart, from the file.
    again = DeviceStore(tmp_path / "store.sqlite")
    np.testing.assert_array_equal(
        features_of(moment, History.of(again.events(), shop.SCHEMA, VECTORS)), EXPECTED[name], strict=True
    )
    again.close()


def test_the_golden_vectors_try_every_column() -> None:
    rows = np.concatenate(list(EXPECTED.values()))
    assert rows.shape[1] == len(shop.SCHEMA.columns)
    constant = [name for name, column in zip(shop.SCHEMA.columns, rows.T, strict=True) if len(np.unique(column)) < 2]
    assert constant == []


def test_a_reranker_keeps_the_features_that_the_exporter_would_have_replayed() -> None:
    """Through the whole of ``rank``: what was shown is kept with its features, the context's hour given."""
    name = "person-1-after-79"
    moment = MOMENTS[name]
    reranker = Reranker.load(shop.bundle())
    reranker.observe(moment.log[: moment.at])
    slate = reranker.rank(moment.candidates, context=moment.context)
    slate.clicked(slate.ids[0])
    (shown,) = reranker.store.impressions()
    rows = [moment.candidates["id"].index(item) for item in shown.items]
    np.testing.assert_array_equal(shown.features, EXPECTED[name][rows], strict=True)

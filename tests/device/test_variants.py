"""A bundle whose runtimes rank with files of their own."""

import numpy as np
import pytest

from pocketrank import Bundle
from pocketrank.bundle import GOLDEN, RANK_MODEL, RANK_MODELS, Manifest, build, save_arrays
from pocketrank.errors import BundleError, ModelError
from pocketrank.scorer import Scorer
from pocketrank.verification import score_slates, self_test
from tests import shop

HERE = Scorer(shop.bundle()).runtime
(ELSEWHERE,) = set(RANK_MODELS) - {HERE}


def varied() -> bytes:
    """The shop's model with another floor under its deviations: it runs, and gives other scores."""
    content = bytearray(shop.bundle().files[RANK_MODEL])
    constants = np.frombuffer(content, np.float32, len(content) // 4)
    # The deviation's floor, 1e-6, is a constant of the graph, once for all signatures.
    found = np.flatnonzero(constants == np.float32(1e-6)) * 4
    assert len(found)
    for at in found:
        content[at : at + 4] = np.float32(1.0).tobytes()
    return bytes(content)


def scores(bundle: Bundle) -> np.ndarray:
    golden = bundle.golden()
    params = {name: golden[name] for name in bundle.params()}
    return score_slates(Scorer(bundle), golden["features"], golden["mask"], params)


def test_a_runtime_ranks_with_its_own_file() -> None:
    bundle = shop.with_files({RANK_MODELS[HERE]: varied()})
    assert not np.allclose(scores(bundle), scores(shop.bundle()), atol=1e-2)


def test_the_other_runtimes_file_is_not_even_opened() -> None:
    bundle = shop.with_files({RANK_MODELS[ELSEWHERE]: b"no model at all"})
    np.testing.assert_array_equal(scores(bundle), scores(shop.bundle()))


def test_the_self_test_compares_with_this_runtimes_scores() -> None:
    own = {RANK_MODELS[HERE]: varied()}
    with pytest.raises(ModelError, match="scores differ"):
        self_test(shop.with_files(own))
    golden = shop.bundle().golden()
    golden[f"scores.{HERE}"] = scores(shop.with_files(own))
    self_test(shop.with_files({**own, GOLDEN: save_arrays(golden)}))
    golden[f"scores.{ELSEWHERE}"] = golden.pop(f"scores.{HERE}")
    with pytest.raises(ModelError, match="scores differ"):
        self_test(shop.with_files({**own, GOLDEN: save_arrays(golden)}))


def test_the_manifest_names_recipes_of_known_files_only() -> None:
    manifest = shop.bundle().manifest
    kept = Manifest(**{**vars(manifest), "quantization": {RANK_MODEL: "weight_int8"}})
    assert build(kept, shop.bundle().files).manifest.quantization == {RANK_MODEL: "weight_int8"}
    for wrong in ({"rank.tflite.bak": "weight_int8"}, {RANK_MODEL: 8}):
        with pytest.raises(BundleError):
            Manifest(**{**vars(manifest), "quantization": wrong})

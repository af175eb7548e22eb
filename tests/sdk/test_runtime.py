"""Which runtime is taken: the first that builds an Interpreter. Each case is an interpreter of its own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pocketrank.errors import ModelError
from pocketrank.runtime import RUNTIMES, Model
from tests import shop

ROOT = Path(__file__).parents[2]
WIDTH = len(shop.SCHEMA.columns)
HERE = next(name for name, module in RUNTIMES.items() if importlib.util.find_spec(module.partition(".")[0]))
OTHER = next(name for name in RUNTIMES if name != HERE)

BROKEN = {
    "does not import": "raise ImportError('libstdc++ is too old')",
    "fails as tflite-runtime does under numpy 2": (
        "class Interpreter:\n"
        "    def __init__(self, **_):\n"
        "        raise SystemError('<built-in method> returned a result with an exception set')"
    ),
    "has no Interpreter": "",
    "refuses every model": (
        "class Interpreter:\n    def __init__(self, **_):\n        raise ValueError('op 207 is unknown')"
    ),
}

LOAD = """
import sys
from pocketrank import Reranker, runtime
from pocketrank.errors import PocketRankError, RuntimeMissingError
from tests import shop
for blocked in sys.argv[2:]:
    sys.modules[blocked] = None
# The other runtime is asked first, whichever is here.
runtime.RUNTIMES = {sys.argv[1]: runtime.RUNTIMES[sys.argv[1]], **runtime.RUNTIMES}
try:
    reranker = Reranker.load(shop.bundle())
except PocketRankError as error:
    print(type(error).__name__, error)
else:
    slate = reranker.rank(shop.candidates(range(10)))
    print("ran on", reranker._engine.scorer.runtime, slate.fallback)
"""


def load(*words: str, path: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(path)!r}, {str(ROOT)!r}]\n{LOAD}", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def plant(folder: Path, runtime: str, code: str) -> Path:
    package = folder / RUNTIMES[runtime].partition(".")[0]
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(code)
    return folder


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
def test_a_broken_runtime_gives_way_to_the_next(code: str, tmp_path: Path) -> None:
    assert load(OTHER, path=plant(tmp_path, OTHER, code)) == f"ran on {HERE} None"


def test_without_a_runtime_the_error_holds_the_pip_line() -> None:
    said = load(OTHER, *(module.partition(".")[0] for module in RUNTIMES.values()))
    assert said.startswith('RuntimeMissingError no TFLite runtime works here; pip install "pocketrank[litert]"')
    assert '"[tflite]" with numpy < 2' in said
    assert all(name in said for name in RUNTIMES)


def test_a_runtime_that_refuses_the_model_is_no_missing_runtime(tmp_path: Path) -> None:
    path = plant(tmp_path, OTHER, BROKEN["refuses every model"])
    said = load(OTHER, RUNTIMES[HERE].partition(".")[0], path=path)
    assert said == f"ModelError the runtime refuses the model: {OTHER}: op 207 is unknown"


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match="the runtime refuses the model"):
        Model(b"This is no model.")


def test_a_model_tells_its_signatures_and_its_runtime() -> None:
    model = Model(shop.bundle().files["rank.tflite"])
    assert model.signatures == {"rank_16", "rank_64", "rank_128", "explain"}
    assert model.runtime == HERE
    assert model.runtime_version.count(".") == 2


@pytest.mark.parametrize(
    ("signature", "changes", "message"),
    [
        ("rank_17", {}, "rank_17"),
        ("rank_16", {"features": np.zeros((16, WIDTH - 1), np.float32)}, rf"expected \{{.*'features': \(16, {WIDTH}\)"),
        ("rank_16", {"mask": np.ones(15, np.float32)}, "expected"),
        ("rank_16", {"mask": np.ones(16, np.float64)}, "failed"),
        ("rank_16", {"mask": None}, "expected"),
        ("rank_16", {"other": np.ones(1, np.float32)}, "expected"),
        ("rank_16", {"head_weight": np.ones(1, np.float32)}, "expected"),
    ],
)
def test_inputs_that_dont_fit_are_a_model_error(signature: str, changes: dict[str, np.ndarray], message: str) -> None:
    params = {name.replace(".", "_"): value for name, value in shop.bundle().params().items()}
    inputs = {"features": np.zeros((16, WIDTH), np.float32), "mask": np.ones(16, np.float32), **params, **changes}
    model = Model(shop.bundle().files["rank.tflite"])
    with pytest.raises(ModelError, match=message):
        model.run(signature, **{name: value for name, value in inputs.items() if value is not None})
    inputs = {"features": np.zeros((16, WIDTH), np.float32), "mask": np.ones(16, np.float32), **params}
    assert np.isfinite(model.run("rank_16", **inputs)["scores"]).all()


def test_outputs_are_the_callers_own() -> None:
    params = {name.replace(".", "_"): value for name, value in shop.bundle().params().items()}
    model = Model(shop.bundle().files["rank.tflite"])
    rng = np.random.default_rng(0)
    mask = np.ones(16, np.float32)
    first, second = (
        model.run("rank_16", features=rng.normal(size=(16, WIDTH)).astype(np.float32), mask=mask, **params)["scores"]
        for _ in range(2)
    )
    assert (first != second).any()
    second[:] = 0
    assert first.any()

"""A model in a pool of Interpreters: threads side by side, forks, and a runtime that goes away. On the runtime here."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pocketrank.bundle import RANK_MODEL
from pocketrank.errors import ModelError
from pocketrank.features.profile import Array
from pocketrank.runtime import MAX_POOL, RUNTIMES, Model
from pocketrank.scorer import Scorer, input_name
from tests import shop
from tests.forked import TIMEOUT_S, in_child

CONTENT = shop.bundle().files[RANK_MODEL]
RUNTIME = RUNTIMES[Model(CONTENT).runtime]
WIDTH = len(shop.SCHEMA.columns)
HEAD = {input_name(name): value for name, value in shop.bundle().params().items()}
MASK = np.ones(16, np.float32)


def slate(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(16, WIDTH)).astype(np.float32)


def scores(model: Model, seed: int) -> list[float]:
    found: list[float] = model.run("rank_16", features=slate(seed), mask=MASK, **HEAD)["scores"].tolist()
    return found


class Watch:
    """What happens to the Interpreters of the runtime that is here: how many are built, and how many run at a time."""

    def __init__(self) -> None:
        self.built = 0
        self.running = 0
        self.most = 0
        self.broken = False
        """Whether no further Interpreter can be built."""
        self.before: Callable[[], object] = lambda: None
        """Called inside each call of a model."""
        self._lock = threading.Lock()

    def began(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.before()

    def ended(self) -> None:
        with self._lock:
            self.running -= 1


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """The runtime's own Interpreter, watched."""
    found = Watch()
    module = importlib.import_module(RUNTIME)
    real: type[Any] = module.Interpreter

    class Watched(real):  # type: ignore[misc]  # a class that is known when the test runs
        def __init__(self, **arguments: object) -> None:
            if found.broken:
                raise ImportError("libruntime.so: no such file")
            found.built += 1
            super().__init__(**arguments)

        def get_signature_runner(self, signature_key: str) -> Any:
            runner = super().get_signature_runner(signature_key)

            class Runner:
                get_input_details = staticmethod(runner.get_input_details)

                def __call__(self, **inputs: Array) -> dict[str, Array]:
                    found.began()
                    try:
                        outputs: dict[str, Array] = runner(**inputs)
                    finally:
                        found.ended()
                    return outputs

            return Runner()

    monkeypatch.setattr(module, "Interpreter", Watched)
    yield found
    found.before = lambda: None


# ------------------------------------------------------------------------------------------------------------- threads


def test_calls_one_after_the_other_share_an_interpreter(watch: Watch) -> None:
    model = Model(CONTENT)
    for seed in range(10):
        scores(model, seed)
    assert watch.built == 1


def test_calls_from_several_threads_run_side_by_side(watch: Watch) -> None:
    """Each call waits for the others inside the model: one at a time would never get there."""
    model = Model(CONTENT)
    expected = [scores(model, seed) for seed in range(MAX_POOL)]
    watch.before = threading.Barrier(MAX_POOL, timeout=TIMEOUT_S).wait
    with ThreadPoolExecutor(MAX_POOL) as threads:
        assert list(threads.map(lambda seed: scores(model, seed), range(MAX_POOL))) == expected
    assert watch.built == MAX_POOL


def test_more_threads_than_interpreters_wait_their_turn(watch: Watch) -> None:
    model = Model(CONTENT)
    expected = [scores(model, seed) for seed in range(4 * MAX_POOL)]
    watch.before = threading.Barrier(MAX_POOL, timeout=TIMEOUT_S).wait
    with ThreadPoolExecutor(4 * MAX_POOL) as threads:
        assert list(threads.map(lambda seed: scores(model, seed), range(4 * MAX_POOL))) == expected
    assert watch.built == watch.most == MAX_POOL


def test_threads_that_share_a_scorer_get_the_scores_that_one_would() -> None:
    scorer = Scorer(shop.bundle())
    own = shop.linear(np.ones(WIDTH, np.float32))
    # Slates of every signature, in two sets of parameters.
    slates = [(slate(seed).repeat(1 + seed, axis=0), own if seed % 2 else None) for seed in range(8)]
    expected = [scorer.scores(features, params) for features, params in slates]

    def work(number: int) -> bool:
        return all((scorer.scores(*slates[number]) == expected[number]).all() for _ in range(100))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))


def test_a_scorer_reads_each_mapping_of_parameters_in_float32() -> None:
    scorer, features = Scorer(shop.bundle()), slate(1)
    weights = np.random.default_rng(2).normal(size=(2, WIDTH)).astype(np.float32)
    for weight in (*weights, *weights):
        own = shop.linear(weight)
        expected = shop.standardised(features) @ weight
        np.testing.assert_allclose(scorer.scores(features, own), expected, atol=1e-3)
        exact: dict[str, Any] = {name: value.astype(np.float64) for name, value in own.items()}
        np.testing.assert_array_equal(scorer.scores(features, exact), scorer.scores(features, own))
    assert scorer.scores(features).tolist() == scorer.scores(features, scorer.params).tolist()


def test_a_call_that_fails_gives_its_interpreter_back(watch: Watch) -> None:
    model = Model(CONTENT)
    for _ in range(2 * MAX_POOL):
        with pytest.raises(ModelError, match=r"rank_16.*failed: expected"):
            model.run("rank_16", features=slate(0))
    assert len(scores(model, 0)) == 16
    assert watch.built == 1


# --------------------------------------------------------------------------------------------------------------- forks


def test_a_forked_child_gets_the_same_scores() -> None:
    model = Model(CONTENT)
    expected = scores(model, 1)
    assert in_child(lambda: scores(model, 1)) == str(expected)
    assert scores(model, 1) == expected


def test_a_forked_child_builds_its_own_interpreters(watch: Watch) -> None:
    model = Model(CONTENT)
    scores(model, 1)

    def built() -> int:
        scores(model, 1), scores(model, 2)
        return watch.built

    assert in_child(built) == "2"
    assert watch.built == 1


def test_a_child_forked_while_every_interpreter_is_busy_does_not_wait_for_them(watch: Watch) -> None:
    model = Model(CONTENT)
    expected, parent = str(scores(model, 5)), os.getpid()
    inside, forked = threading.Barrier(MAX_POOL + 1, timeout=TIMEOUT_S), threading.Event()

    def block() -> None:
        if os.getpid() == parent:
            inside.wait()
            forked.wait(TIMEOUT_S)

    watch.before = block
    with ThreadPoolExecutor(MAX_POOL) as threads:
        busy = [threads.submit(scores, model, 5) for _ in range(MAX_POOL)]
        inside.wait()
        try:
            said = in_child(lambda: scores(model, 5))
        finally:
            forked.set()
        assert [str(call.result()) for call in busy] == [expected] * MAX_POOL
    assert said == expected


def test_a_child_forked_while_the_pool_is_locked_is_not() -> None:
    model = Model(CONTENT)
    expected = str(scores(model, 6))
    with model._pool._lock:
        said = in_child(lambda: scores(model, 6))
    assert said == expected


def test_a_call_from_a_signal_handler_does_not_wait_for_the_call_that_it_broke_into() -> None:
    model = Model(shop.bundle().files[RANK_MODEL])
    expected = scores(model, 1)
    found = []

    def interrupted() -> None:
        with model._pool._lock:  # as a thread is when the signal comes
            found.append(scores(model, 1))

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(60)
    assert found == [expected]


def test_threads_of_a_forked_child_share_its_pool() -> None:
    model = Model(CONTENT)
    expected = [scores(model, seed) for seed in range(20)]

    def work() -> list[list[float]]:
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda seed: scores(model, seed), range(20)))

    assert in_child(work) == str(expected)


def test_a_child_of_a_child_gets_the_same_scores() -> None:
    model = Model(CONTENT)
    expected = str(scores(model, 1))
    assert in_child(lambda: in_child(lambda: scores(model, 1))) == expected


# ------------------------------------------------------------------------------------------------- a runtime that goes


def test_a_runtime_that_has_gone_is_a_model_error_where_one_more_interpreter_is_needed() -> None:
    model = Model(CONTENT)
    expected = str(scores(model, 1))

    def without_runtime() -> object:
        sys.modules[RUNTIME] = None  # type: ignore[assignment]  # what import takes as "not there"
        return scores(model, 1)

    said = in_child(without_runtime)
    assert said.startswith(f"ModelError: {model.runtime} worked when the model was opened, and has gone: ")
    assert 'pip install "pocketrank[litert]"' in said
    assert str(scores(model, 1)) == expected


def test_interpreters_that_can_not_be_built_leave_room_for_later_ones(watch: Watch) -> None:
    """More failures than the pool holds: none of them takes a place in it."""
    model = Model(CONTENT)
    expected = scores(model, 1)
    inside, leave = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        leave.wait(TIMEOUT_S)

    watch.before = block
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(scores, model, 1)
        try:
            assert inside.wait(TIMEOUT_S)
            watch.broken = True
            for _ in range(2 * MAX_POOL):
                with pytest.raises(ModelError, match=r"has gone: .*libruntime.so: no such file"):
                    scores(model, 1)
            watch.broken = False
            watch.before = lambda: None
            assert scores(model, 1) == expected
        finally:
            leave.set()
        assert busy.result() == expected
    assert watch.built == 2


def test_a_model_tells_the_shapes_of_its_signatures() -> None:
    scorer = Scorer(shop.bundle())
    v, n = scorer.most_variants, scorer.largest
    head = {name: value.shape for name, value in HEAD.items()}
    expected = {"features": (v, n, WIDTH), "mask": (v, n), **head}
    assert Model(CONTENT).shapes("explain") == (expected, {"scores": (v, n)})
    assert Model(CONTENT).shapes("rank_16") == ({"features": (16, WIDTH), "mask": (16,), **head}, {"scores": (16,)})
    with pytest.raises(ModelError, match="rank_17 is none of the model's signatures"):
        Model(CONTENT).shapes("rank_17")

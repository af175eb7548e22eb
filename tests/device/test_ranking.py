"""Ranking, feedback and what a device keeps, on the runtime that is here."""

import dataclasses
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank import Bundle, DeviceStore, Event, Reranker
from pocketrank.bundle import RANK_MODEL, VECTORS, save_arrays
from pocketrank.errors import BundleError, InputError, ModelError
from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, profile
from pocketrank.policy import Condition, Policy, Quota
from pocketrank.scorer import Scorer
from pocketrank.slate import Slate
from pocketrank.store import Limits
from tests import shop

ENGINE = Reranker.load(shop.FOLDER)._engine
WIDTH = len(shop.SCHEMA.columns)
PRIVATE = shop.SCHEMA.private_columns
CONTEXT = {"hour": 20}
ROOT = Path(__file__).parents[2]
TRUSTING = ENGINE.scorer.runtime == "tflite-runtime"
"""tflite-runtime 2.14 reads past the end of a truncated file; only the hashes stand before it."""


def reranker(store: DeviceStore | None = None) -> Reranker:
    return Reranker(ENGINE, DeviceStore() if store is None else store)


def scores(slate: Slate) -> dict[str, float | None]:
    return {item.id: item.score for item in slate}


def features_shown(found: Reranker, rows: list[dict[str, object]]) -> Array:
    """Features of ``rows`` as the device computes them now, in the order of ``rows``."""
    slate = found.rank(rows, context=CONTEXT)
    slate.clicked(slate.ids[0], at_s=1.8e9)
    shown = found.store.impressions()[-1]
    return shown.features[[shown.items.index(str(row["id"])) for row in rows]]


def features_shown_to(history: list[Event], ids: tuple[str, ...]) -> Array:
    """Private features of ``ids`` after ``history``, computed without a reranker."""
    rows = [shop.item(int(name.removeprefix("item-"))) for name in ids]
    known = profile(shop.SCHEMA, History.of(history, shop.SCHEMA, ENGINE.vectors))
    return encode(parse(rows, shop.SCHEMA), shop.SCHEMA, known, ENGINE.vectors)[:, PRIVATE]


# ------------------------------------------------------------------------------------------------------------ ranking


def test_the_first_example_of_the_design_works() -> None:
    candidates = shop.candidates(range(30))
    reranker = Reranker.load(str(shop.FOLDER))
    slate = reranker.rank(candidates, context={"hour": 20}, k=10)
    slate.clicked("item-17" if "item-17" in slate.ids else slate.ids[0])
    assert len(slate) == 10
    assert [item.position for item in slate] == list(range(10))
    assert slate.bundle == "shop@1"
    assert slate.stages == ("features", "model")
    assert slate.fallback is None
    assert slate.latency_ms > 0
    assert len(reranker.store.events()) == 1


@pytest.mark.parametrize("count", [1, 15, 16, 17, 64, 65, 128])
def test_items_come_in_the_order_of_the_models_scores(count: int) -> None:
    slate = reranker().rank(shop.candidates(range(count)), context=CONTEXT)
    found = [item.score for item in slate if item.score is not None]
    assert len(found) == count
    assert found == sorted(found, reverse=True)
    assert set(slate.ids) == {f"item-{number}" for number in range(count)}


@given(st.permutations(range(60)), st.integers(1, 60), st.integers(0, 4))
def test_mappings_and_columns_give_the_same_slate(order: list[int], count: int, person: int) -> None:
    found = reranker()
    found.observe(shop.events(person, 20))
    rows = shop.candidates(order[:count])
    one, other = found.rank(rows, context=CONTEXT), found.rank(shop.columns(rows), context=CONTEXT)
    assert one.items == other.items


@given(st.integers(0, 10_000), st.integers(2, 128))
def test_the_order_of_the_input_never_changes_a_score(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = shop.candidates(rng.permutation(200)[:count].tolist())
    mixed = [rows[i] for i in rng.permutation(count)]
    found = reranker()
    found.observe(shop.events(seed, 10))
    one, other = (scores(found.rank(given, context=CONTEXT)) for given in (rows, mixed))
    assert one.keys() == other.keys()
    for name, score in one.items():
        # Sums over a slate in another order differ by rounding.
        assert other[name] == pytest.approx(score, abs=2e-4)


@given(st.integers(0, 10_000), st.integers(1, 16))
def test_padding_never_changes_a_score(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(count, WIDTH)) * rng.uniform(0.1, 100, WIDTH)).astype(np.float32)
    model, params = ENGINE.scorer._model, {name.replace(".", "_"): v for name, v in ENGINE.scorer.params.items()}
    found = []
    for size in shop.bundle().manifest.slate_sizes:
        # What stands in the padding must not matter either.
        padded = rng.normal(size=(size, WIDTH)).astype(np.float32)
        padded[:count] = features
        mask = (np.arange(size) < count).astype(np.float32)
        found.append(model.run(f"rank_{size}", features=padded, mask=mask, **params)["scores"][:count])
    np.testing.assert_allclose(found[1], found[0], atol=2e-4)
    np.testing.assert_allclose(found[2], found[0], atol=2e-4)


@given(st.integers(0, 10_000), st.integers(2, 128))
def test_a_linear_head_scores_by_the_standardised_features(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(count, WIDTH)) * rng.uniform(0.1, 100, WIDTH) + rng.normal(size=WIDTH) * 50).astype(
        "f4"
    )
    weights = rng.normal(size=WIDTH).astype(np.float32)
    expected = shop.standardised(features) @ weights
    np.testing.assert_allclose(ENGINE.scorer.scores(features, shop.linear(weights)), expected, atol=5e-3)


def test_more_candidates_than_the_largest_slate_follow_in_the_order_given() -> None:
    slate = reranker().rank(shop.candidates(range(200)), context=CONTEXT)
    assert len(slate) == 200
    assert set(slate.ids[:128]) == {f"item-{number}" for number in range(128)}
    assert slate.ids[128:] == tuple(f"item-{number}" for number in range(128, 200))
    assert all((item.score is None) == (item.position >= 128) for item in slate)


def test_no_candidates_give_an_empty_slate() -> None:
    assert len(reranker().rank([])) == 0
    assert len(reranker().rank({"id": []}, k=10)) == 0


@pytest.mark.parametrize(("k", "expected"), [(0, 0), (1, 1), (5, 5), (50, 20), (None, 20)])
def test_k_keeps_the_best(k: int | None, expected: int) -> None:
    rows = shop.candidates(range(20))
    slate = reranker().rank(rows, context=CONTEXT, k=k)
    assert slate.ids == reranker().rank(rows, context=CONTEXT).ids[:expected]


class Refuses(dict[str, Any]):
    """A mapping that raises when it is read."""

    def get(self, *_: object) -> NoReturn:
        raise RuntimeError("an app's own error")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"candidates": Refuses(id=["a"])}, "candidates: can't be read .RuntimeError: an app's own error"),
        ({"candidates": [Refuses(id="a")]}, "candidates: can't be read .RuntimeError: an app's own error"),
        ({"context": [("hour", 20)]}, "context: expected a mapping of names to values, got list"),
        ({"policy": {"deny": []}}, "policy: expected a Policy; Policy.from_json makes one of plain values, got dict"),
        ({"policy": False}, "policy: expected a Policy; .* got bool"),
        ({"k": 3.0}, "k: expected a whole number of 0 or more, got 3.0"),
        ({"deadline_ms": "3"}, "deadline_ms: expected 0 or more, got '3'"),
        ({"deadline_ms": float("nan")}, "deadline_ms: expected 0 or more, got nan"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_name(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        reranker().rank(**{"candidates": shop.candidates(range(5)), **argument})


def test_numbers_of_numpy_are_numbers() -> None:
    assert len(reranker().rank(shop.candidates(range(5)), k=np.int64(3), deadline_ms=np.float32(9e9))) == 3  # type: ignore[arg-type]  # an int to an app


def test_a_filter_on_categories_that_came_as_0_and_1_sees_words() -> None:
    columns = {"id": ["a", "b", "c"], "kind": np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]])}
    found = reranker().rank(columns, policy=Policy(deny=(Condition("kind", "eq", "book"),)))
    assert found.ids == ("b",)
    found = reranker().rank(columns, policy=Policy(quotas=(Quota("kind", at_most=1, top=2),)))
    assert set(found.ids[:2]) in ({"a", "b"}, {"b", "c"})


def test_a_negative_k_is_refused() -> None:
    with pytest.raises(InputError, match=r"k: expected a whole number of 0 or more, got -1"):
        reranker().rank(shop.candidates(range(3)), k=-1)


def test_equal_scores_keep_the_order_given() -> None:
    flat = Reranker.load(shop.with_params(shop.linear(np.zeros(WIDTH, np.float32))))
    assert flat.rank(shop.candidates([5, 3, 9, 1])).ids == ("item-5", "item-3", "item-9", "item-1")


def test_threads_that_share_a_reranker_get_the_slates_that_one_would() -> None:
    found = reranker()
    found.observe(shop.events(1, 30))
    inputs = [shop.candidates(range(start, start + 20)) for start in range(8)]
    expected = [found.rank(rows, context=CONTEXT).items for rows in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        slates = [found.rank(inputs[number], context=CONTEXT).items for _ in range(20)]
        wrong.extend(number for items in slates if items != expected[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ----------------------------------------------------------------------------------------------------------- fallback


def test_a_number_too_large_to_be_squared_gives_no_score_that_is_not_finite() -> None:
    """One runtime makes NaN of it, the other clips it; where there is a score, it is a number."""
    rows = shop.candidates(range(10))
    rows[3]["rating"], rows[4]["rating"] = 3e38, 3e38
    slate = reranker().rank(rows, context=CONTEXT)
    found = [item.score for item in slate]
    assert slate.ids == tuple(f"item-{n}" for n in range(10)) if slate.fallback else np.isfinite(found).all()  # type: ignore[arg-type]


def test_a_model_that_gives_nan_leaves_the_given_order_and_says_so() -> None:
    """Finite parameters whose scores are not; others are refused when the bundle is opened."""
    overflowing = {name: np.full_like(value, 3e38) for name, value in shop.bundle().params().items()}
    slate = Reranker.load(shop.with_params(overflowing)).rank(shop.candidates(range(10)), context=CONTEXT, k=7)
    assert slate.ids == tuple(f"item-{number}" for number in range(7))
    assert all(item.score is None for item in slate)
    assert slate.stages == ("features",)
    assert slate.fallback is not None
    assert re.search(r"given order: .*10 of 10 scores are not finite", slate.fallback)


def test_personal_parameters_that_went_bad_give_way_to_the_shared_ones_and_the_slate_says_so() -> None:
    store = DeviceStore()
    store.keep_personal(shop.bundle().digest, shop.linear(np.full(WIDTH, np.inf, np.float32)))
    slate = reranker(store).rank(shop.candidates(range(10)), context=CONTEXT)
    assert slate.items == Reranker.load(shop.bundle()).rank(shop.candidates(range(10)), context=CONTEXT).items
    assert slate.stages == ("features", "model")
    assert slate.fallback is not None
    assert re.search(r"shared parameters: .*10 of 10 scores are not finite", slate.fallback)


def another_shape() -> Bundle:
    """A model whose signatures take other inputs than a rank model's."""
    return shop.with_files({RANK_MODEL: shop.bundle().files["train.tflite"]})


def without_a_signature() -> Bundle:
    """A manifest that promises a slate size that the model lacks."""
    return shop.with_files({}, slate_sizes=(16, 32, 64, 128))


def wrong_outputs() -> Bundle:
    """A model whose ranking signatures were renamed: the call is answered with something else."""
    return shop.with_files({RANK_MODEL: shop.bundle().files[RANK_MODEL].replace(b"scores", b"answer")})


@pytest.mark.parametrize("broken", [another_shape, without_a_signature, wrong_outputs])
def test_a_model_that_fails_leaves_the_given_order_and_says_so(broken: Callable[[], Bundle]) -> None:
    found = Reranker.load(broken())
    slate = found.rank(shop.candidates(range(20, 0, -1)), context=CONTEXT)
    assert slate.ids == tuple(f"item-{number}" for number in range(20, 0, -1))
    assert slate.fallback is not None
    assert slate.fallback.startswith("given order: ")
    assert "rank_" in slate.fallback
    slate.clicked("item-7")
    assert [event.item for event in found.store.events()] == ["item-7"]


LOAD = """
import sys
from pocketrank import Reranker
from pocketrank.errors import ModelError
from tests import shop
content = shop.bundle().files["rank.tflite"]
cut = content[: int(len(content) * float(sys.argv[1]))]
try:
    found = Reranker.load(shop.with_files({"rank.tflite": cut}))
except ModelError as error:
    print("refused:", error)
else:
    print("opened:", found.rank(shop.candidates(range(10))).fallback)
"""


@pytest.mark.parametrize(
    "share",
    [
        0.0,
        *(
            pytest.param(share, marks=pytest.mark.skipif(TRUSTING, reason="this runtime trusts a model file blindly"))
            for share in (0.05, 0.5, 0.9)
        ),
    ],
)
def test_a_truncated_model_with_the_right_hashes_is_refused_when_it_is_opened(share: float) -> None:
    """In a process of its own, which a runtime that trusted the file would take down."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(share)], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "refused: the runtime refuses the model" in done.stdout


# ----------------------------------------------------------------------------------------------------------- feedback


def test_feedback_is_kept_as_an_event_and_as_an_outcome() -> None:
    found = reranker()
    slate = found.rank(shop.candidates(range(20)), context=CONTEXT, k=5)
    assert found.store.impressions() == []
    slate.clicked(slate.ids[2], value=4.5, label=0.5, at_s=1.7e9)
    slate.clicked(slate.ids[0], at_s=1.7e9 + 1)
    (shown,) = found.store.impressions()
    assert shown.items == slate.ids
    assert shown.labels.tolist() == [1.0, 0.0, 0.5, 0.0, 0.0]
    assert shown.features.shape == (5, WIDTH)
    assert shown.bundle == shop.bundle().digest
    bought = shop.item(int(slate.ids[2].removeprefix("item-")))
    kinds = tuple(kind for kind in shop.KINDS if kind in (bought["kind"] or ()))
    fields = {"kind": kinds, "maker": (bought["maker"],), "colour": (bought["colour"],)}
    kept = found.store.events()[0]
    assert (kept.item, kept.at_s, kept.value, kept.fields) == (slate.ids[2], 1.7e9, 4.5, fields)
    assert kept.embeddings["taste"] == pytest.approx(bought["taste"])


def test_the_impression_keeps_the_features_that_were_ranked() -> None:
    found = reranker()
    found.observe(shop.events(2, 25))
    slate = found.rank(shop.candidates(range(40)), context=CONTEXT, k=16)
    slate.clicked(slate.ids[0])
    (shown,) = found.store.impressions()
    assert shown.items == slate.ids
    private = features_shown_to(shop.events(2, 25), slate.ids)
    np.testing.assert_array_equal(shown.features[:, PRIVATE], private)


def test_feedback_changes_the_private_features_of_the_next_slate_and_no_public_one() -> None:
    found = reranker()
    rows = shop.candidates(range(30))
    before = features_shown(found, rows)
    after = features_shown(found, rows)
    assert (before[:, PRIVATE] == ENGINE.baseline[PRIVATE]).all()
    assert (before[:, ~PRIVATE] == after[:, ~PRIVATE]).all()
    assert (before[:, PRIVATE] != after[:, PRIVATE]).any(axis=0).sum() >= 3


def test_what_was_learned_of_the_person_survives_reopening(tmp_path: Path) -> None:
    rows = shop.candidates(range(30))
    limits = Limits(max_age_s=1e9)
    found = Reranker.load(shop.bundle(), store=DeviceStore(tmp_path / "store.sqlite", limits=limits))
    found.observe(shop.events(3, 12))
    slate = found.rank(rows, context=CONTEXT)
    slate.clicked(slate.ids[4], at_s=1.75e9)
    expected = found.rank(rows, context=CONTEXT).items
    found.store.close()
    again = Reranker.load(shop.FOLDER, store=DeviceStore(tmp_path / "store.sqlite", limits=limits))
    assert again.rank(rows, context=CONTEXT).items == expected
    assert len(again.store.events()) == 13
    assert again.store.impressions()[0].labels[4] == 1.0


def test_two_people_with_different_histories_get_different_slates() -> None:
    rows = shop.candidates(range(60))
    slates = []
    for person in (4, 5):
        found = reranker()
        found.observe(shop.events(person, 30))
        slates.append(found.rank(rows, context=CONTEXT).ids)
    assert slates[0] != slates[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item": "item-99"}, "item 'item-99' is not in this slate"),
        ({"label": 1.5}, "label 0 to 1"),
        ({"label": float("nan")}, "label 0 to 1"),
        ({"value": float("inf")}, "value within"),
        ({"value": 1e30}, "value within"),
        ({"at_s": float("nan")}, "finite Unix time"),
    ],
)
def test_impossible_feedback_is_refused_and_nothing_of_it_kept(changes: dict[str, object], message: str) -> None:
    found = reranker()
    slate = found.rank(shop.candidates(range(5)))
    with pytest.raises(InputError, match=message):
        slate.clicked(**{"item": "item-1", **changes})  # type: ignore[arg-type]
    assert found.store.events() == []
    assert found.store.impressions() == []


@pytest.mark.parametrize(
    "event",
    [
        Event("", 0.0),
        Event(17, 0.0),  # type: ignore[arg-type]
        Event("a", float("inf")),
        Event("a", 0.0, float("nan")),
        Event("a", 0.0, 1e300),
        Event("a", 0.0, fields={"kind": "book"}),  # type: ignore[dict-item]
        Event("a", 0.0, fields={"kind": (1,)}),  # type: ignore[dict-item]
        Event("a", "1970"),  # type: ignore[arg-type]
        Event("a", 10**400),
        Event("a", 0.0, fields={("kind",): ("book",)}),  # type: ignore[dict-item]
        Event("a", 0.0, embeddings={"taste": (10**400,)}),
        {"item": "a", "at_s": 0.0},
    ],
)
def test_an_impossible_event_is_refused_with_all_that_came_with_it(event: Event) -> None:
    found = reranker()
    expected = found.rank(shop.candidates(range(30))).items
    with pytest.raises(InputError, match="event: expected"):
        found.observe([*shop.events(1, 3), event])
    assert found.store.events() == []
    assert found.rank(shop.candidates(range(30))).items == expected


def test_a_refused_event_is_not_told_of() -> None:
    secret = Event("SECRET", 0.0, float("nan"), {"kind": ("SECRET",)}, {"taste": (1234.5,)})
    with pytest.raises(InputError, match="event: expected a value within") as caught:
        reranker().observe([secret])
    assert "SECRET" not in str(caught.value)
    assert "1234" not in str(caught.value)


def test_events_that_come_one_by_one_reach_the_file_and_the_memory() -> None:
    found, rows = reranker(), shop.candidates(range(30))
    found.observe(event for event in shop.events(1, 20))  # type: ignore[arg-type]  # no sequence, and yet all is kept
    assert len(found.store.events()) == 20
    assert found.rank(rows).items == reranker(found.store).rank(rows).items


def test_the_profile_is_bounded_as_the_store_is() -> None:
    store = DeviceStore(limits=Limits(max_events=40))
    found = reranker(store)
    for event in shop.events(6, 100):
        found.observe([event])
    rows = shop.candidates(range(30))
    assert len(store.events()) == 40
    assert found.rank(rows).items == reranker(store).rank(rows).items


# ----------------------------------------------------------------------------------------------------------- personal


def test_personal_parameters_rank_are_kept_and_are_forgotten(tmp_path: Path) -> None:
    rows = shop.candidates(range(30))
    own = shop.linear(np.eye(WIDTH, dtype=np.float32)[2])
    found = Reranker.load(shop.bundle(), store=tmp_path / "store.sqlite")
    shared = found.rank(rows).items
    found.personalise(own)
    best_rated = [str(row["id"]) for row in sorted(rows, key=lambda row: -row["rating"])]
    assert list(found.rank(rows).ids) == best_rated
    found.store.close()
    again = Reranker.load(shop.bundle(), store=tmp_path / "store.sqlite")
    assert list(again.rank(rows).ids) == best_rated
    again.personalise(None)
    assert again.rank(rows).items == shared
    assert again.store.personal(shop.bundle().digest) is None


def test_personal_parameters_of_another_bundle_are_not_used() -> None:
    store = DeviceStore()
    reranker(store).personalise(shop.linear(np.ones(WIDTH, np.float32)))
    other = shop.with_files({}, version=2)
    rows = shop.candidates(range(30))
    assert Reranker.load(other, store=store).rank(rows).items == reranker().rank(rows).items


@pytest.mark.parametrize("params", [{}, {"head.weight": np.zeros(3)}, "nan", "unknown"])
def test_personal_parameters_that_dont_fit_are_refused(params: object) -> None:
    fitting = shop.linear(np.zeros(WIDTH, np.float32))
    if params == "nan":
        params = {**fitting, "head.weight": fitting["head.weight"] * np.nan}
    elif params == "unknown":
        params = {**fitting, "other": np.zeros(1)}
    found = reranker()
    with pytest.raises(InputError, match="params: expected finite"):
        found.personalise(params)  # type: ignore[arg-type]
    assert found.store.personal(shop.bundle().digest) is None
    assert found.rank(shop.candidates(range(5))).fallback is None


def test_forgetting_ranks_as_on_a_new_device() -> None:
    rows = shop.candidates(range(30))
    fresh = reranker().rank(rows).items
    found = reranker()
    found.observe(shop.events(7, 30))
    found.personalise(shop.linear(np.ones(WIDTH, np.float32)))
    assert found.rank(rows).items != fresh
    found.forget()
    assert found.rank(rows).items == fresh
    assert found.store.events() == []


# ------------------------------------------------------------------------------------------------------------- engine


def test_a_bundle_without_the_item_vectors_that_its_schema_needs_is_refused() -> None:
    manifest = shop.bundle().manifest
    files = {name: content for name, content in shop.bundle().files.items() if name != VECTORS}
    kept = {name: manifest.files[name] for name in files}
    with pytest.raises(BundleError, match=r"vectors.npz is missing"):
        Reranker.load(Bundle(dataclasses.replace(manifest, files=kept), files))


def test_item_vectors_that_are_not_finite_are_refused() -> None:
    arrays = shop.item_vectors()
    arrays["vectors"][3, 1] = np.inf
    with pytest.raises(BundleError, match="item vectors: expected finite"):
        Reranker.load(shop.with_files({VECTORS: save_arrays(arrays)}))


def test_a_store_that_is_corrupt_is_set_aside_and_ranking_goes_on(tmp_path: Path) -> None:
    before = Reranker.load(shop.FOLDER, store=tmp_path / "store")
    before.observe(shop.events(1, 200))
    before.store.close()
    sound = (tmp_path / "store").read_bytes()
    (tmp_path / "store").write_bytes(sound[:100] + bytes(len(sound) - 100))
    found = Reranker.load(shop.FOLDER, store=tmp_path / "store")
    slate = found.rank(shop.candidates(range(5)), context=CONTEXT)
    slate.clicked(slate.ids[0])
    assert slate.fallback is None
    assert found.stats().store_set_aside
    assert found.store.set_aside is not None
    assert found.store.set_aside.read_bytes().startswith(sound[:100])
    assert len(Reranker.load(shop.FOLDER, store=tmp_path / "store").store.events()) == 1


def test_a_scorer_refuses_features_of_another_schema() -> None:
    scorer = Scorer(shop.bundle())
    with pytest.raises(InputError, match=rf"expected \[n <= 128, {WIDTH}\], got \(5, 11\)"):
        scorer.scores(np.zeros((5, 11), np.float32))
    with pytest.raises(InputError, match=r"got \(129, 12\)"):
        scorer.scores(np.zeros((129, 12), np.float32))


def test_a_scorers_result_is_the_callers_own() -> None:
    features = np.random.default_rng(0).normal(size=(10, WIDTH)).astype(np.float32)
    first = ENGINE.scorer.scores(features)
    kept = first.copy()
    ENGINE.scorer.scores(-features)
    assert (first == kept).all()


def test_parameters_of_another_shape_are_a_model_error() -> None:
    with pytest.raises(ModelError, match=r"rank_16.* failed: expected"):
        ENGINE.scorer.scores(np.zeros((5, WIDTH), np.float32), {"head.weight": np.zeros(3, np.float32)})

"""Learning on the device: gradient steps through the bundle's train signature, on the store's own slates.

The same step serves a federated round, which sends the clipped difference, and
personal parameters, which stay here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import TRAIN_MODEL, Bundle
from pocketrank.checkpoint import Checkpoint, SupersededError, Training, hash_of, hash_of_params
from pocketrank.errors import BundleError, InputError, ModelError
from pocketrank.propensity import examination, inverse_weighted
from pocketrank.runtime import Model
from pocketrank.scorer import input_name
from pocketrank.store import DeviceStore

Array = npt.NDArray[np.float32]
Params = Mapping[str, Array]
Inputs = Mapping[str, Array]
"""Inputs of one call of the train model."""

BATCH: Final = 8
"""Slates in one call of the train signature."""
MAX_PARAMETER: Final = 1e6
"""Training that goes further has failed: tflite-runtime makes large finite numbers of NaN and infinity."""

LEARNING_RATE: Final = 0.1
"""Chosen on simulated people, as the numbers below: a fifth of it, or three times, served them about as well."""
PULL: Final = 10.0
"""How strongly ``fit`` is held at the bundle's parameters; its weight falls with the number of slates."""
MAX_STEPS: Final = 200
PATIENCE: Final = 10
"""Training ends after so many steps without a lower loss on the slates that watch it."""
SAVE_EVERY: Final = 10
"""Steps that a kill can cost."""

MIN_SLATES: Final = 10
"""Slates with a good outcome that it takes to learn by default; with fewer, a single held-out one would decide."""
HELD_OUT: Final = 5
"""One in so many slates, the newest ones, decides whether a result is kept; fewer slates can't be learned from."""
WATCHED: Final = 4
"""One in so many of the other slates, spread evenly, watches the training, and is not learned from."""

Stopped = Literal["converged", "no gain", "budget", "diverged", "no data", "nothing new", "superseded"]


@dataclass(frozen=True)
class Example:
    """A slate to learn from, as it was when it was shown.

    ``features`` float32 [n, d]; ``labels`` [n]; Unix time; ``propensities``
    [n], the chance that each place was looked at, or None for a slate that
    weighs as much as any other.
    """

    features: Array
    labels: Array
    at_s: float = 0.0
    propensities: Array | None = None


def examples(store: DeviceStore, width: int, *, eta: float | None = None) -> list[Example]:
    """The store's slates that had a good outcome, oldest first; those of another schema's width are left out.

    Args:
        store: Where to look.
        width: Columns of the schema.
        eta: For clicks that weigh by the inverse of their propensity: the impression's own, else
            ``propensity.examination`` with this ``eta``. None: unweighted.

    Raises:
        InputError: As ``propensity.examination``.
    """
    found = []
    for shown in store.impressions():
        if shown.labels.any() and shown.features.shape[1] == width:
            propensities = None
            if eta is not None:
                own = shown.propensities
                propensities = examination(len(shown.labels), eta) if own is None else own
            found.append(Example(shown.features, shown.labels, shown.at_s, propensities))
    return found


@dataclass(frozen=True)
class FitResult:
    """What came of ``Learner.fit``.

    Attributes:
        kept: Whether the device has other personal parameters than before.
        steps: Steps of this training, those of earlier calls that it went on from included.
        slates: Slates with a good outcome, the held-out ones included.
        before: Loss on the held-out slates of what ranked until then; None where it did not come to that.
        after: The same of what was learned.
        seconds: Time that the call took.
        stopped: Why it ended. ``converged``: the training came to its end, and its result was kept. ``no gain``: it
            was not better on the held-out slates. ``budget``: the time was over; what was learned so far was kept if it
            is better, and the next call goes on from there. ``diverged``: a step led to numbers that are not finite or
            past ``MAX_PARAMETER``; ``kept`` says whether those before it were of use. ``no data``: too few slates.
            ``nothing new``: a training on these very slates has come to its end before. ``superseded``: the store was
            wiped or what ranks was changed meanwhile; nothing was kept.
    """

    kept: bool = False
    steps: int = 0
    slates: int = 0
    before: float | None = None
    after: float | None = None
    seconds: float = 0.0
    stopped: Stopped = "budget"


class _Clock:
    """What is left of a budget."""

    def __init__(self, now: Callable[[], float], budget_s: float, progress: Callable[[float], None] | None) -> None:
        self._now = now
        self._progress = progress
        self._budget_s = budget_s
        self._started_s = now()
        self.reserve_s = 0.0

    def elapsed_s(self) -> float:
        return self._now() - self._started_s

    def spent(self) -> bool:
        return self.elapsed_s() + self.reserve_s >= self._budget_s

    def tell(self, share: float) -> None:
        """Say how much is done: ``share`` of the work, or of the budget where that is more."""
        if self._progress:
            self._progress(min(1.0, max(share, self.elapsed_s() / self._budget_s)))


class Learner:
    """Gradient steps on a bundle's trainable parameters."""

    def __init__(self, bundle: Bundle, *, eta: float = 1.0) -> None:
        """Build the Interpreter of the train model.

        Args:
            bundle: What the device ranks with.
            eta: How fast attention falls with the position in this app's slates: ``propensity.examination``. It weighs
                the clicks of ``fit``; 0 for an app in which every candidate was looked at.

        Raises:
            BundleError: The bundle ships no train model.
            InputError: ``eta`` is negative or not finite.
        """
        if TRAIN_MODEL not in bundle.files:
            raise BundleError(f"{TRAIN_MODEL} is missing: this bundle can't learn; export it with a trainable head")
        examination(0, eta)
        self._model = Model(bundle.files[TRAIN_MODEL])
        self._bundle = bundle
        self._eta = eta
        self._names = [parameter.name for parameter in bundle.manifest.trainable]
        self._slate = bundle.manifest.slate_sizes[-1]
        self.width = len(bundle.manifest.schema.columns)

    def step(self, params: Params, slates: Sequence[Example], *, learning_rate: float, steps: int = 1) -> Params:
        """Take ``steps`` of gradient descent on the mean loss over ``slates``.

        Slates without propensities weigh the same, the others as in ``fit``. A slate is cut to the candidates that the
        model takes, the first ones. One without a good outcome among them teaches nothing, and doesn't count.

        Raises:
            InputError: A slate has another width than the schema's, or its propensities don't fit its labels.
            ModelError: The model failed, or gave parameters that are not finite or larger than ``MAX_PARAMETER``.
        """
        batches = self._batches(slates)
        for _ in range(steps if batches else 0):
            params = self._step(params, batches, learning_rate)
            if not _usable(params):
                found = f"training gave parameters that are not finite, or past {MAX_PARAMETER:.0e}"
                raise ModelError(f"{self._model.runtime}: {found}; lower learning_rate")
        return params

    def loss(self, params: Params, slates: Sequence[Example]) -> float:
        """Mean listwise loss over ``slates`` with a good outcome, weighed as in ``step``; 0 where there are none.

        Raises as ``step`` does.
        """
        return self._loss(params, self._batches(slates))

    def fit(
        self,
        store: DeviceStore,
        *,
        budget_s: float,
        min_slates: int = MIN_SLATES,
        now: Callable[[], float] = time.monotonic,
        progress: Callable[[float], None] | None = None,
    ) -> FitResult:
        """Learn personal parameters from the store's slates, and keep them where held-out slates prove them better.

        Training starts at what the device ranks with: its personal parameters, else the bundle's. With labels ``c`` at
        places of propensity ``p``, the loss is ``sum(c / p * -log softmax(scores)) / sum(c / p)`` over the slates, and
        what is descended is ``loss + PULL / (2 slates) * |params - the bundle's|^2``. The newest slates are held out; a
        part of the others ends the training, where their loss falls no further. The parameters with the lowest one are
        then compared on the held-out slates with what the device ranks with.

        Args:
            store: Has the slates, and takes the result and the progress.
            budget_s: Seconds that it may take; 0 does nothing.
            min_slates: Slates with a good outcome that it takes to begin, ``HELD_OUT`` or more.
            now: Clock in seconds.
            progress: Told the share that is done, from 0 to 1.

        Guarantees:
            Once the slates are read, it takes at most a step longer than ``budget_s``.
            A training that was killed goes on at most ``SAVE_EVERY`` steps before that, and ends with the same
            parameters as one that was not. Nothing is kept that is not finite, or not better on the held-out slates.

        Raises:
            InputError: ``budget_s`` is negative or not a number, ``min_slates`` too small, or two copies of the
                parameters are more than the store takes.
            ModelError: The model failed.
            StoreError: The store can't be used.

        Source: Joachims, Swaminathan and Schnabel 2017, arXiv:1608.04468, with the listwise loss of the bundle.
        """
        if not budget_s >= 0.0:
            raise InputError(f"budget_s: expected seconds, 0 or more, got {budget_s}")
        if min_slates < HELD_OUT:
            raise InputError(f"min_slates: expected {HELD_OUT} or more, so that some can be held out, got {min_slates}")
        clock = _Clock(now, budget_s, progress)
        result = FitResult() if clock.spent() else self._fit(store, min_slates, clock)
        return replace(result, seconds=clock.elapsed_s())

    def undo(self, store: DeviceStore) -> Params | None:
        """Go back to what ranked before the last parameters that were kept; ``fit`` waits for another slate then.

        Returns:
            The personal parameters that rank from then on; None where the bundle's own do.

        Raises:
            StoreError: The store can't be used.
        """
        digest = self._bundle.digest
        with store.together():
            undone, left = store.personal(digest), store.undo_personal(digest)
            if hash_of_params(undone) != hash_of_params(left):
                ranking = left or self._bundle.params()
                data = _hash_of_slates(self._slates(store))
                ended = Training(data, hash_of_params(ranking), ranking, ranking, ended=True)
                store.keep_progress(digest, ended.to_bytes())
        return left

    def _fit(self, store: DeviceStore, min_slates: int, clock: _Clock) -> FitResult:
        digest = self._bundle.digest
        # One transaction, so that what is learned from can't be wiped before the store knows of the training.
        with store.together():
            slates = self._slates(store)
            result = FitResult(slates=len(slates))
            if len(slates) < min_slates:
                return replace(result, stopped="no data")
            checkpoint = Checkpoint(store, digest, self._names)
            current = store.personal(digest) or self._bundle.params()
            training = Training(_hash_of_slates(slates), hash_of_params(current), current, current)
            found = checkpoint.training
            if found and found.data == training.data:
                if found.ended:
                    return replace(result, steps=found.steps, stopped="nothing new")
                if found.base == training.base:
                    training = found
            checkpoint.keep(training)
        held_out, watched, known = (self._batches(part) for part in _split(slates))
        try:
            comparing_s = clock.elapsed_s()
            before = self._loss(current, held_out)
            # The same is left to do after the last step.
            clock.reserve_s = clock.elapsed_s() - comparing_s
            training, stopped = self._train(training, known, watched, checkpoint, clock)
            after = self._loss(training.best, held_out)
            kept = after < before
            if kept:
                training = replace(training, base=hash_of_params(training.best))
            checkpoint.keep(replace(training, ended=stopped != "budget"), training.best if kept else None)
        except SupersededError:
            return replace(result, stopped="superseded")
        if stopped == "converged" and not kept:
            stopped = "no gain"
        clock.tell(1.0)
        return replace(result, kept=kept, steps=training.steps, before=before, after=after, stopped=stopped)

    def _train(
        self,
        training: Training,
        known: Sequence[Inputs],
        watched: Sequence[Inputs],
        checkpoint: Checkpoint,
        clock: _Clock,
    ) -> tuple[Training, Stopped]:
        """Take steps on ``known`` until ``watched`` is served no better, or the time is over."""
        shared, slates = self._bundle.params(), sum(np.count_nonzero(batch["weights"]) for batch in known)
        pull = np.float32(LEARNING_RATE * PULL / slates)
        if not training.steps:
            training = replace(training, best_loss=self._loss(training.params, watched))
        while training.steps < MAX_STEPS and training.steps - training.best_step < PATIENCE:
            if clock.spent():
                return training, "budget"
            stepped = self._step(training.params, known, LEARNING_RATE)
            params = {name: value + pull * (shared[name] - training.params[name]) for name, value in stepped.items()}
            if not _usable(params):
                return training, "diverged"
            training = training.after(params, self._loss(params, watched))
            if training.steps % SAVE_EVERY == 0:
                checkpoint.keep(training)
            clock.tell(training.steps / MAX_STEPS)
        return training, "converged"

    def _slates(self, store: DeviceStore) -> list[Example]:
        return [slate for slate in examples(store, self.width, eta=self._eta) if slate.labels[: self._slate].any()]

    def _step(self, params: Params, batches: Sequence[Inputs], learning_rate: float) -> Params:
        """The step of the whole is the mean of the batches' steps, for each is linear in its mean gradient."""
        rate = np.array(learning_rate, np.float32)
        stepped = [self._call("train", params, batch, learning_rate=rate) for batch in batches]
        shares = _shares(batches)
        return {
            name: np.sum([share * outputs[input_name(name)] for share, outputs in zip(shares, stepped, strict=True)], 0)
            for name in self._names
        }

    def _loss(self, params: Params, batches: Sequence[Inputs]) -> float:
        losses = [float(self._call("loss", params, batch)["loss"]) for batch in batches]
        return float(np.dot(_shares(batches), losses))

    def _call(self, signature: str, params: Params, batch: Inputs, **inputs: Array) -> Params:
        head = {input_name(name): params[name] for name in self._names}
        return self._model.run(signature, **batch, **inputs, **head)

    def _batches(self, slates: Sequence[Example]) -> list[Inputs]:
        """The slates that weigh something, as inputs of the model's calls; each cut to the candidates that it takes."""
        rows = []
        for slate in slates:
            n = len(slate.labels)
            if slate.features.shape != (n, self.width):
                raise InputError(f"features: expected [{n}, {self.width}], got {slate.features.shape}")
            labels, weight = slate.labels[: self._slate], 1.0
            if slate.propensities is not None:
                labels = inverse_weighted(slate.labels, slate.propensities)[: self._slate]
                weight = float(labels.sum())
            if labels.any():
                rows.append((slate.features[: self._slate], labels, weight))
        return [self._batch(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]

    def _batch(self, rows: Sequence[tuple[Array, Array, float]]) -> Inputs:
        features = np.zeros((BATCH, self._slate, self.width), np.float32)
        labels = np.zeros((BATCH, self._slate), np.float32)
        mask = np.zeros((BATCH, self._slate), np.float32)
        weights = np.zeros(BATCH, np.float32)
        for row, (columns, wanted, weight) in enumerate(rows):
            n = len(wanted)
            features[row, :n], labels[row, :n], mask[row, :n], weights[row] = columns, wanted, 1.0, weight
        return {"features": features, "labels": labels, "mask": mask, "weights": weights}


def _split(slates: Sequence[Example]) -> tuple[list[Example], list[Example], list[Example]]:
    """The slates that are held out, those that watch the training, and those that are learned from."""
    newest = len(slates) // HELD_OUT
    others, held_out = list(slates[:-newest]), list(slates[-newest:])
    watched = others[WATCHED - 1 :: WATCHED]
    del others[WATCHED - 1 :: WATCHED]
    return held_out, watched, others


def _hash_of_slates(slates: Sequence[Example]) -> str:
    return hash_of(
        array for slate in slates for array in (slate.features, slate.labels, slate.propensities) if array is not None
    )


def _usable(params: Params) -> bool:
    return all((np.abs(value) <= MAX_PARAMETER).all() for value in params.values())


def _shares(batches: Sequence[Inputs]) -> Array:
    """What each batch weighs in the whole."""
    weights = np.array([batch["weights"].sum() for batch in batches], np.float64)
    shares: Array = (weights / max(weights.sum(), 1e-12)).astype(np.float32)
    return shares

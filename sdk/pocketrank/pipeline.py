"""One call of ``rank``: what the filters leave is scored, and arranged as the policy wants it.

Only bad input fails a call. The filters hold on every path; where they
themselves fail, nothing is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pocketrank.cascade import Cascade, Pruned, check
from pocketrank.engine import Engine
from pocketrank.errors import InputError, ModelError
from pocketrank.features.candidates import Candidates, Columns, parse
from pocketrank.features.profile import Array
from pocketrank.latency import Latencies, Trace
from pocketrank.person import Person
from pocketrank.policy.filters import kept
from pocketrank.policy.rules import VECTORS, Diversity, Policy
from pocketrank.schema import Schema
from pocketrank.scoring import Params, Ranking, score
from pocketrank.slate import GIVEN_ORDER, NOTHING, PREVIOUS_BUNDLE

if TYPE_CHECKING:
    from pocketrank.policy.arrangement import Arrangement

INPUT: Final = "input"
FILTERS: Final = "filters"
POLICY: Final = "policy"
DIVERSITY: Final = "policy with diversity"


@dataclass(frozen=True)
class Request:
    """What an app asks for; ``policy`` holds the rules of all who have a say."""

    candidates: Candidates
    context: Mapping[str, Any] | None
    k: int | None
    policy: Policy
    now_s: float

    def parsed(self, engine: Engine) -> Columns:
        """The candidates as the schema of ``engine`` reads them.

        Raises:
            InputError: They don't fit it.
        """
        offset_s = float(time.localtime(self.now_s).tm_gmtoff)
        return parse(self.candidates, engine.schema, self.context, now_s=self.now_s, utc_offset_s=offset_s)


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        read: The candidates as they came.
        ranking: Those that the filters left, by score.
        order: Their indices in the order to show, all of them.
        reasons: Index to why the policy moved it.
        given_up: Rules that could not be kept, in words.
        fallback: What ranked instead of what should have, and why.
    """

    read: Columns
    ranking: Ranking
    order: list[int]
    reasons: Mapping[int, tuple[str, ...]]
    given_up: tuple[str, ...]
    fallback: str | None


class Pipeline:
    """The stages, in their order, for one engine and the one that stands in for it."""

    def __init__(
        self, engine: Engine, person: Person, *, previous: tuple[Engine, Person] | None = None, cascade: Cascade = ()
    ) -> None:
        """Keep the parts; ``previous`` ranks where ``engine`` can't.

        Raises:
            InputError: The cascade weighs a column that the schema lacks, or has too many stages.
        """
        check(cascade, engine.columns)
        self._engine = engine
        self._person = person
        self._previous = previous
        self._cascade = cascade

    def run(self, request: Request, params: Params | None, trace: Trace) -> Outcome:
        """Answer ``request`` with personal parameters ``params``, where there are some.

        Raises:
            InputError: The candidates don't fit the schema.
        """
        read = self._read(request, trace)
        columns = _filtered(read, request, trace)
        ranking = self._ranked(request, columns, params, trace)
        order, reasons, given_up = _arranged(request, ranking, trace)
        fallback = f"{NOTHING}: {trace.omitted[FILTERS]}" if FILTERS in trace.omitted else ranking.fallback
        return Outcome(read, ranking, order, reasons, given_up, fallback)

    def _read(self, request: Request, trace: Trace) -> Columns:
        try:
            return request.parsed(self._engine)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001  (a fault of ours: the ids will do)
            trace.note(INPUT, error)
            try:
                return parse(request.candidates, Schema(()))
            except InputError:
                raise
            except Exception:  # noqa: BLE001  (an app's own mapping may raise anything)
                raise InputError(f"candidates: can't be read ({trace.omitted[INPUT]})") from error

    def _ranked(self, request: Request, columns: Columns, params: Params | None, trace: Trace) -> Ranking:
        if not columns.ids:
            return Ranking(self._engine, columns, [])
        engine = self._engine
        choose = _chooser(request.policy.diversity, columns, engine)
        ranking = score(
            engine, self._person, columns, trace, k=request.k, cascade=self._cascade, choose=choose, params=params
        )
        unscored = ranking.fallback is not None and ranking.fallback.startswith(GIVEN_ORDER)
        if unscored and self._previous is not None and trace.fits(PREVIOUS_BUNDLE):
            return trace.run(PREVIOUS_BUNDLE, _by_previous, *self._previous, request, ranking) or ranking
        return ranking


def read_again(engine: Engine, request: Request, ranking: Ranking) -> Columns:
    """The candidates of ``ranking``, in their order there, as another engine reads them.

    Raises:
        InputError: They don't fit its schema.
    """
    if engine.schema == ranking.engine.schema:
        return ranking.columns
    read, wanted = request.parsed(engine), ranking.columns.ids
    place = {name: i for i, name in enumerate(read.ids)}
    return read.only([place[name] for name in wanted])


def score_again(engine: Engine, person: Person, columns: Columns) -> Ranking:
    """The order of an engine alone.

    Raises:
        ModelError: It could not score them.
    """
    ranking = score(engine, person, columns, Trace(Latencies()))
    if ranking.scores is None:
        raise ModelError(f"{engine.name}: {ranking.fallback}")
    return ranking


def _by_previous(engine: Engine, person: Person, request: Request, failed: Ranking) -> Ranking:
    found = score_again(engine, person, read_again(engine, request, failed))
    return replace(found, fallback=f"{PREVIOUS_BUNDLE}: {str(failed.fallback).partition(': ')[2]}")


def _filtered(read: Columns, request: Request, trace: Trace) -> Columns:
    if not request.policy.filters:
        return read
    left = trace.run(FILTERS, kept, request.policy, read.raw, len(read.ids), request.now_s, passing=InputError)
    if left is None:
        return read.only([])
    return read if len(left) == len(read.ids) else read.only(left)


def _chooser(rule: Diversity | None, columns: Columns, engine: Engine) -> Callable[[Pruned], Pruned] | None:
    """What a diversity rule of before the model does: the model sees the most diverse of what the cascade left."""
    if rule is None or rule.when != "before":
        return None

    def choose(pruned: Pruned) -> Pruned:
        from pocketrank.policy.arrangement import diversified

        order, failure = diversified(
            [*pruned.kept, *pruned.rest], None, columns.raw, rule, _vectors(rule, columns, engine)
        )
        if failure is not None:
            raise InputError(failure)
        return replace(pruned, kept=order[: len(pruned.kept)], rest=order[len(pruned.kept) :])

    return choose


def _arranged(
    request: Request, ranking: Ranking, trace: Trace
) -> tuple[list[int], Mapping[int, tuple[str, ...]], tuple[str, ...]]:
    """The order to show, why the policy moved whom, and which rules were given up."""
    policy, order = request.policy, ranking.order
    given_up: tuple[str, ...] = ()
    if not policy.arranges or not order:
        return order, {}, ()
    stage, rule = POLICY, policy.diversity
    if rule is not None and rule.when == "after":
        if trace.fits(DIVERSITY):
            stage = DIVERSITY
        else:
            policy, given_up = replace(policy, diversity=None), (f"{rule}: deadline",)
    found = trace.run(stage, _arrange, request, ranking, policy, passing=InputError)
    if found is None and stage == DIVERSITY:
        given_up = (f"{rule}: {trace.omitted[stage]}",)
        found = trace.run(POLICY, _arrange, request, ranking, replace(policy, diversity=None), passing=InputError)
    if found is None:
        return order, {}, (f"all rules but filters: {trace.omitted[POLICY]}",)
    return found.order, found.reasons, (*given_up, *found.given_up)


def _arrange(request: Request, ranking: Ranking, policy: Policy) -> Arrangement:
    from pocketrank.policy.arrangement import arrange

    columns, order, rule = ranking.columns, ranking.order, policy.diversity
    scores = None if ranking.scores is None else _everywhere(ranking.scores, order)
    vectors = None if rule is None else _vectors(rule, columns, ranking.engine)
    k = len(order) if request.k is None else request.k
    return arrange(order, scores, columns.ids, columns.raw, policy, k, vectors=vectors)


def _vectors(rule: Diversity, columns: Columns, engine: Engine) -> Array | None:
    return engine.vectors.rows(columns.ids) if rule.by == VECTORS and engine.vectors is not None else None


def _everywhere(scores: Array, order: list[int]) -> Array:
    """``scores`` [n] with numbers that fall along ``order`` for those that the model didn't see, too."""
    unseen = np.isnan(scores)
    if unseen.any():
        behind = [i for i in order if unseen[i]]
        scores = scores.copy()
        step = max(float(np.nanstd(scores)), 1.0) / len(behind)
        scores[behind] = float(np.nanmin(scores)) - step * np.arange(1, len(behind) + 1, dtype=np.float32)
    return scores

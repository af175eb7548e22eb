"""Between what a person says and the reranker: this is how an app holds PocketRank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rich.console import RenderableType

from examples.browser import view
from examples.browser.catalogue import Item, retrieve
from examples.browser.commands import HELP, LIKED_STARS, Command, Verb
from pocketrank import Reranker, Slate
from pocketrank.errors import InputError
from pocketrank.policy import Condition, Diversity, Policy, Quota

PAGE: Final = 10
LEARN_BUDGET_S: Final = 10.0
RULES: Final = Policy(quotas=(Quota("era", at_most=3, top=PAGE),), diversity=Diversity("mmr", weight=0.2, top=PAGE))
"""The app's own: at most three movies of an era on a page, and not ten that are all alike."""


@dataclass(frozen=True)
class State:
    """Where the person is.

    Attributes:
        text: What they search for.
        hidden: Genres that they don't want to see.
        done: Movies that were opened or skipped, which are not offered again.
        passed: Movies of the pages before this one.
        places: The last place of each movie that was ranked, from 1.
    """

    text: str = ""
    hidden: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    passed: frozenset[str] = frozenset()
    places: Mapping[str, int] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """The person's own rules, on top of the app's."""
        return Policy(deny=(Condition("genres", "in", tuple(sorted(self.hidden))),) if self.hidden else ())

    def done_with(self, item: str) -> State:
        """``item`` is out of the way, and the first page is next."""
        return replace(self, done=self.done | {item}, passed=frozenset())


class Browser:
    """One person's visit. Call ``page`` once, then ``answer`` for each command."""

    _slate: Slate

    def __init__(self, reranker: Reranker, items: Sequence[Item]) -> None:
        """Go on where the device store left off; ``items`` come the most popular first."""
        self._reranker = reranker
        self._items = {item["id"]: item for item in items}
        self._genres: dict[str, str] = {g.casefold(): g for item in items for g in item.get("genres") or ()}
        opened = {event.item for event in reranker.store.events() if event.action == "engaged"}
        skipped = [item for shown in reranker.store.impressions() for item in shown.outcomes.get("skip", ())]
        self._state = State(done=frozenset(opened.union(skipped)))

    def page(self) -> RenderableType:
        """Rank what the first stage finds, and show the best of it."""
        state = self._state
        candidates = retrieve(self._items.values(), state.text, state.done | state.passed)
        self._slate = slate = self._reranker.rank(candidates, policy=state.policy)
        if slate.items:
            slate.shown(min(PAGE, len(slate)))
        places = {item.id: place for place, item in enumerate(slate, len(state.passed) + 1)}
        self._state = replace(state, places={**state.places, **places})
        return view.page(slate, slate.items[:PAGE], self._items, places, state.places)

    def answer(self, command: Command) -> Iterator[RenderableType]:
        """Do what was asked, and show what came of it.

        Raises:
            InputError: There is no such movie on the page, or no such genre.
            PocketRankError: The reranker could not.
        """
        match command.verb:
            case Verb.WHY:
                item = self._slate.items[self._at(command.place)]
                yield view.why(self._items[item.id], item, self._slate.explain(item.id))
            case Verb.STATS:
                yield view.stats(self._reranker.stats())
            case Verb.HELP | Verb.QUIT:
                yield HELP
            case _:
                yield self._do(command)
                yield self.page()

    def _do(self, command: Command) -> str:
        """Change what is shown next; returns what was done, in words."""
        state, slate = self._state, self._slate
        match command.verb:
            case Verb.OPEN:
                item, stars = slate.ids[self._at(command.place)], command.stars
                slate.clicked(item, value=float(stars), label=float(stars >= LIKED_STARS))
                state, said = state.done_with(item), f"Opened {self._items[item]['title']}: {stars} stars."
            case Verb.SKIP:
                item = slate.ids[self._at(command.place)]
                slate.skipped(item)
                state, said = state.done_with(item), f"Skipped {self._items[item]['title']}."
            case Verb.HIDE:
                hidden = state.hidden ^ {self._genre(command.text)}
                state = replace(state, hidden=hidden, passed=frozenset())
                said = f"Hidden: {', '.join(sorted(hidden)) or 'nothing'}."
            case Verb.FIND:
                state = replace(state, text=command.text, passed=frozenset(), places={})
                said = f"Titles with {command.text!r}." if command.text else "All titles."
            case Verb.NEXT:
                more = len(slate) > PAGE
                state = replace(state, passed=state.passed.union(slate.ids[:PAGE]) if more else frozenset())
                said = "The next page." if more else "That was the last page."
            case Verb.LEARN:
                said = view.learned(self._reranker.learn(budget_s=LEARN_BUDGET_S))
            case Verb.UNDO:
                self._reranker.undo_learning()
                said = "What was learned last is undone."
            case _:
                self._reranker.forget()
                state, said = State(), "Forgotten."
        self._state = state
        return said

    def _at(self, place: int) -> int:
        """Where the movie with that number stands in the slate."""
        position = place - len(self._state.passed) - 1
        if not 0 <= position < len(self._slate.items[:PAGE]):
            raise InputError(f"There is no movie {place} on this page.")
        return position

    def _genre(self, text: str) -> str:
        if text.casefold() not in self._genres:
            raise InputError(f"Genres: {', '.join(sorted(self._genres.values()))}.")
        return self._genres[text.casefold()]

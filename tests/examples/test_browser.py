"""The movie browser as a person meets it: the program itself, with the shop's bundle and a small catalogue."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from examples.browser import view
from examples.browser.__main__ import installed
from examples.browser.catalogue import CANDIDATES, movielens, retrieve
from examples.browser.commands import LIKED_STARS, Command, Verb, parse
from examples.movielens import world
from examples.movielens.catalog import Catalog, FirstStage
from examples.movielens.schema import SCHEMA
from pocketrank.errors import InputError
from pocketrank.features.candidates import parse as parse_candidates
from pocketrank.store import DeviceStore
from pocketrank_export.data import movielens as data
from tests import shop

ROOT: Final = Path(__file__).parents[2]
MOVIES: Final = 48
KIND_OF: Final = {f"Movie {number}": shop.KINDS[number % 3] for number in range(MOVIES)}
FIRST_PAGE: Final = [f"Movie {number}" for number in range(10)]
MUSIC: Final = [title for title, kind in KIND_OF.items() if kind == "music"]
MOVE: Final = re.compile(r"▲ \d+|▼ \d+|=|new")


@dataclass(frozen=True)
class Row:
    """A line of a page."""

    place: int
    move: str
    title: str


@dataclass(frozen=True)
class Place:
    """Where a visit takes place."""

    bundle: Path
    catalogue: Path
    store: Path

    @property
    def command(self) -> list[str]:
        options = {"--bundle": self.bundle, "--catalogue": self.catalogue, "--store": self.store}
        return [sys.executable, "-m", "examples.browser", *(str(word) for pair in options.items() for word in pair)]

    def visit(self, *lines: str | bytes, **environment: str) -> list[str]:
        """What was printed at first, and after each of ``lines``; the input then ends."""
        said = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        done = subprocess.run(
            self.command, cwd=ROOT, input=said, check=False, capture_output=True, env=os.environ | environment
        )
        assert done.returncode == 0, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout
        answers = re.split(r"^> .*\n", done.stdout.decode(), flags=re.MULTILINE)
        assert len(answers) == len(lines) + 1
        return answers


def movie(number: int) -> dict[str, Any]:
    """A movie of one kind, about which the head that ``place`` makes knows nothing else; eras never fill up."""
    kind = shop.KINDS[number % 3]
    era = str(number % 16)
    return {"id": f"m{number}", "title": f"Movie {number}", "kind": [kind], "genres": [kind.title()], "era": era}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that goes by how much the person likes the kind, and by nothing else."""
    weights = np.array([column == "kind_affinity" for column in shop.SCHEMA.columns], np.float32)
    folder = tmp_path_factory.mktemp("shop") / "bundle"
    shop.with_params(shop.linear(weights)).save(folder)
    return folder


@pytest.fixture
def place(bundle: Path, tmp_path: Path) -> Place:
    made = Place(bundle, tmp_path / "movies.jsonl", tmp_path / "device" / "store.db")
    offer(made, [movie(number) for number in range(MOVIES)])
    return made


def offer(place: Place, movies: list[dict[str, Any]]) -> None:
    place.catalogue.write_text("".join(json.dumps(one) + "\n" for one in movies))


def rows(answer: str) -> list[Row]:
    found = re.findall(rf"^ (\d+) +({MOVE.pattern}|) +(Movie \d+) ", answer, flags=re.MULTILINE)
    return [Row(int(place), move, title) for place, move, title in found]


def titles(answer: str) -> list[str]:
    return [row.title for row in rows(answer)]


# ------------------------------------------------------------------------------------------------------------- visits


def test_what_is_opened_moves_its_kind_up_and_the_page_says_how_far(place: Place) -> None:
    first, second, third = place.visit("3", "1")
    assert titles(first) == FIRST_PAGE
    assert [row.move for row in rows(first)] == [""] * 10
    assert titles(second) == MUSIC[1:11]
    # The n-th movie was at place n + 1 before; what is alike keeps the first stage's order.
    assert [row.move for row in rows(second)] == [
        f"▲ {int(row.title.split()[1]) + 1 - row.place}" for row in rows(second)
    ]
    assert titles(third) == MUSIC[2:12]
    assert [row.move for row in rows(third)] == ["▲ 1"] * 10


def test_pages_follow_each_other_and_start_again_behind_the_last(place: Place) -> None:
    pages = place.visit(*["n"] * 5)
    assert [row.place for page in pages[:5] for row in rows(page)] == list(range(1, MOVIES + 1))
    assert [title for page in pages[:5] for title in titles(page)] == list(KIND_OF)
    assert titles(pages[5]) == FIRST_PAGE


def test_a_movie_on_a_later_page_goes_by_the_number_beside_it(place: Place) -> None:
    *_, refused, opened = place.visit("n", "3", "12")
    assert "There is no movie 3 on this page." in refused
    assert "Opened Movie 11: 4 stars." in opened


def test_a_skipped_movie_is_gone_for_good(place: Place) -> None:
    _, skipped = place.visit("s 3")
    assert titles(skipped) == [title for title in KIND_OF if title != "Movie 2"][:10]
    (again,) = place.visit()
    assert titles(again) == titles(skipped)


def test_a_hidden_genre_never_shows_until_it_is_asked_for_again(place: Place) -> None:
    _, _, hidden, *pages, back = place.visit("3", "h music", "n", "n", "n", "f 2", "h MUSIC")
    assert "Hidden: Music." in hidden
    for page in (hidden, *pages):
        assert titles(page)
        assert not set(titles(page)) & set(MUSIC)
    assert set(titles(back)) & set(MUSIC)


def test_a_search_finds_titles_that_hold_the_text(place: Place) -> None:
    _, found, nothing, everything = place.visit("f MOVIE 4", "f no such title", "f")
    assert titles(found) == ["Movie 4", *(f"Movie {number}" for number in range(40, MOVIES))]
    assert titles(nothing) == []
    assert titles(everything) == FIRST_PAGE


def test_at_most_three_of_an_era_are_among_the_first_ten(place: Place) -> None:
    offer(place, [{**movie(number), "era": "1990" if number < 20 else str(number)} for number in range(MOVIES)])
    (page,) = place.visit()
    assert titles(page) == [f"Movie {number}" for number in (0, 1, 2, *range(20, 27))]


def test_the_next_visit_goes_on_where_this_one_ended(place: Place) -> None:
    *_, last = place.visit("3", "1 5")
    (again,) = place.visit()
    assert titles(again) == titles(last)


def test_forgetting_ranks_as_on_a_first_visit(place: Place) -> None:
    *_, forgotten = place.visit("3", "s 2", "h book", "f 1", "r")
    (fresh,) = place.visit()
    assert titles(forgotten) == titles(fresh) == FIRST_PAGE


def test_why_shows_what_the_score_is_made_of(place: Place) -> None:
    *_, why = place.visit("3", "w 1")
    assert re.search(r"^Movie 5: score \+\d", why, re.MULTILINE)
    # The head reads one column, and one bar is as long as it can be.
    assert re.findall(r"^ (\w+) +[+]\d\.\d+ +(█+)", why, re.MULTILINE) == [("kind_affinity", "█" * view.BAR)]
    assert titles(why) == []


def test_counts_are_those_of_the_visit(place: Place) -> None:
    *_, counted = place.visit("3", "s 1", "w 1", "i")
    assert re.search(r"^ slates +3 *$", counted, re.MULTILINE)
    assert re.search(r"^ feedback +shown: 3, clicked: 1, skipped: 1 *$", counted, re.MULTILINE)
    assert re.search(r"^ store +events: 1, shown: 30, impressions: 3, outcomes: 2,", counted, re.MULTILINE)


def test_stars_are_the_value_of_the_event_and_only_likes_are_learned_from(place: Place) -> None:
    place.visit("1 2", "1 5", "1")
    store = DeviceStore(place.store)
    assert [event.value for event in store.events() if event.action == "engaged"] == [2.0, 5.0, float(LIKED_STARS)]
    assert [shown.labels.sum() for shown in store.impressions()] == [0.0, 1.0, 1.0, 0.0]
    store.close()


def test_learning_takes_the_slates_of_the_visit_and_can_be_undone(place: Place) -> None:
    *_, before, learned, undone = place.visit(*["2"] * 12, "l", "u")
    assert "12 slates with a movie that was liked" in learned
    assert titles(undone) == titles(before)


# -------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", "open movie N"),
        ("zzz", "open movie N"),
        ("q q", "open movie N"),
        ("1 6", "open movie N"),
        ("-1", "open movie N"),
        ("s", "open movie N"),
        ("w x", "open movie N"),
        ("9" * 5_000, "open movie N"),
        ("٣", "open movie N"),
        (b"\xff\x00\x1b[2J", "open movie N"),
        ("0", "There is no movie 0 on this page."),
        ("11", "There is no movie 11 on this page."),
        ("w 9999", "There is no movie 9999 on this page."),
        ("h", "Genres: Book, Game, Music."),
        ("h no such genre", "Genres: Book, Game, Music."),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_junk_is_answered_and_changes_nothing(place: Place, line: str | bytes, answer: str) -> None:
    first, junk, after = place.visit(line, "f")
    assert answer in junk
    assert titles(first) == titles(after) == FIRST_PAGE


def test_an_output_that_takes_ascii_alone_will_do(place: Place) -> None:
    _, opened = place.visit("3", PYTHONIOENCODING="ascii")
    assert "? 5" in opened


def test_ctrl_c_ends_it_and_keeps_what_was_opened(place: Place) -> None:
    with subprocess.Popen(place.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write("3\n")
        running.stdin.flush()
        assert any("Movie 32" in line for line in running.stdout)
        running.send_signal(signal.SIGINT)
        assert running.wait() == 0
    assert titles(place.visit()[0])[0] == "Movie 5"


def test_on_a_terminal_it_asks_and_ctrl_d_ends_it(place: Place) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        place.command, cwd=ROOT, stdin=theirs, stdout=theirs, env=os.environ | {"TERM": "xterm"}
    ) as running:
        os.close(theirs)
        said = chunks(ours)
        until(said, b"> ")
        os.write(ours, b"3\n")
        assert b"\x1b[32m" in until(said, b"> ")
        os.write(ours, b"\x04")
        assert running.wait() == 0
    os.close(ours)


def chunks(terminal: int) -> Iterator[bytes]:
    while True:
        yield os.read(terminal, 4_096)


def until(said: Iterator[bytes], end: bytes) -> bytes:
    read = b""
    for chunk in said:
        read += chunk
        if read.endswith(end):
            return read
    raise AssertionError(read)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("bundle", "`make demo` makes a bundle"),
        ("catalogue", "expected a movie as JSON on each line"),
        ("title", "line 2: expected an object with an id and a title"),
        ("price", "price"),
    ],
)
def test_what_it_cannot_start_with_is_said_in_words(place: Place, tmp_path: Path, broken: str, message: str) -> None:
    bundle = tmp_path if broken == "bundle" else place.bundle
    if broken == "catalogue":
        place.catalogue.write_text("no JSON")
    elif broken in {"title", "price"}:
        offer(place, [movie(0), {**movie(1), broken: ["a list"]}])
    done = subprocess.run(
        Place(bundle, place.catalogue, place.store).command, cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_demo_it_says_how_to_run_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make demo"):
        installed(tmp_path)


# -------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("3\n", Command(Verb.OPEN, place=3)),
        ("  3   5 ", Command(Verb.OPEN, place=3, stars=5)),
        ("s 3", Command(Verb.SKIP, place=3)),
        ("w12", Command(Verb.WHY, place=12)),
        ("f star wars ", Command(Verb.FIND, text="star wars")),
        ("f", Command(Verb.FIND)),
        ("h Sci-Fi", Command(Verb.HIDE, text="Sci-Fi")),
        *((verb.value, Command(verb)) for verb in Verb if verb not in {Verb.OPEN, Verb.SKIP, Verb.WHY}),
    ],
)
def test_a_line_is_a_command(line: str, command: Command) -> None:
    assert parse(line) == command


@pytest.mark.parametrize(("before", "now", "shown"), [(None, 3, "new"), (3, 3, "="), (7, 3, "▲ 4"), (3, 7, "▼ 4")])
def test_a_move_is_counted_in_places(before: int | None, now: int, shown: str) -> None:
    assert view.moved(before, now).plain == shown


def test_the_catalogue_of_movielens_gives_the_features_that_the_demo_trains_on() -> None:
    found = data.load(data.locate())
    server, _ = data.server_and_devices(found.users, server_share=world.SERVER_SHARE, rng=np.random.default_rng(0))
    catalog = Catalog.of([user.history for user in server], found.movies)
    opened = [catalog.items[int(np.argmax(catalog.ratings))]]
    expected = parse_candidates(FirstStage(catalog, CANDIDATES).retrieve(opened), SCHEMA)
    columns = parse_candidates(retrieve(movielens(), "", opened), SCHEMA)
    assert columns.ids == expected.ids
    np.testing.assert_array_equal(columns.block, expected.block)
    assert not columns.defaulted
    assert columns.event_fields(0) == expected.event_fields(0)


def test_a_search_ranks_what_it_finds_from_nought() -> None:
    found = retrieve([movie(number) for number in range(MOVIES)], "3", {"m3"})
    assert [one["title"] for one in found][:3] == ["Movie 13", "Movie 23", "Movie 30"]
    assert [one["first_stage_rank"] for one in found] == list(map(float, range(len(found))))

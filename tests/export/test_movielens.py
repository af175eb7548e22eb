"""MovieLens-100K from its wheel: located and not imported, the published files and no others."""

import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.store import Event
from pocketrank_export.data.movielens import ERAS, GENRES, PIP_LINE, SHA256, Movie, MovieLens, load, locate, split
from pocketrank_export.data.movielens import server_and_devices as divide

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data() -> MovieLens:
    return load(locate())


def test_the_data_set_is_the_published_one(data: MovieLens) -> None:
    """Figures from the data set's own README: 943 users, 1,682 movies, 100,000 ratings of 1 to 5, 20 or more a user."""
    assert len(data.users) == 943
    assert len(data.movies) == 1682
    events = [event for user in data.users for event in user.history + user.test]
    assert len(events) == 100_000
    assert {event.value for event in events} == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert min(len(user.history + user.test) for user in data.users) == 20


def test_the_wheel_is_located_and_never_imported() -> None:
    code = """
import sys
from pocketrank_export.data import movielens
movielens.load(movielens.locate())
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"recbole", "torch", "pandas"}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_without_the_wheel_the_error_holds_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recbole", None)
    with pytest.raises(InputError, match=r"pip install --no-deps recbole==1\.2\.1$"):
        locate()


def test_the_pip_line_names_what_the_environment_is_made_with() -> None:
    assert PIP_LINE.removeprefix("pip install ") in (ROOT / "scripts" / "setup").read_text()
    assert PIP_LINE.split()[-1] in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("name", SHA256)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing"])
def test_another_file_than_the_published_one_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    for file in SHA256:
        shutil.copy(locate() / file, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    if damage == "flipped":
        content[-3] ^= 1
    elif damage == "truncated":
        del content[-30:]
    elif damage == "longer":
        content += b"\n"
    (tmp_path / name).write_bytes(content)
    if damage == "missing":
        (tmp_path / name).unlink()
    with pytest.raises(
        InputError, match=rf"{name}: (not the published file|can't be read).*; reinstall it: {PIP_LINE}"
    ):
        load(tmp_path)


def test_every_movie_has_known_genres_and_an_era(data: MovieLens) -> None:
    for movie in data.movies.values():
        assert set(movie.genres) <= set(GENRES)
        assert movie.era in ERAS
        assert 1900 < movie.year < 1999
    assert {genre for movie in data.movies.values() for genre in movie.genres} == set(GENRES)
    assert {movie.era for movie in data.movies.values()} == set(ERAS)


@pytest.mark.parametrize(
    ("year", "era"),
    [(1922, "-1949"), (1949, "-1949"), (1950, "1950"), (1989, "1980"), (1990, "1990"), (1993, "1990"), (1998, "1997")],
)
def test_an_era_begins_with_the_year_it_is_named_for(year: int, era: str) -> None:
    assert Movie("x", year, ()).era == era


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 300)), unique=True, max_size=30), st.randoms())
def test_history_and_test_are_the_events_in_time_order_cut_at_eighty_percent(
    pairs: list[tuple[int, int]], random: Random
) -> None:
    events = [Event(str(item), float(at_s)) for at_s, item in pairs]
    user = split("u", events)
    ordered = [(event.at_s, int(event.item)) for event in user.history + user.test]
    assert ordered == sorted((float(at_s), item) for at_s, item in pairs)
    assert len(user.history) == int(0.8 * len(pairs))
    # The order in the file does not matter.
    random.shuffle(events)
    assert split("u", events) == user


def test_the_users_are_divided_by_share_and_seed(data: MovieLens) -> None:
    server, devices = divide(data.users, server_share=0.3, rng=np.random.default_rng(0))
    assert len(server) == 283
    assert {user.id for user in server} | {user.id for user in devices} == {user.id for user in data.users}
    assert len(devices) == 943 - 283
    again, _ = divide(data.users, server_share=0.3, rng=np.random.default_rng(0))
    other, _ = divide(data.users, server_share=0.3, rng=np.random.default_rng(1))
    assert again == server != other

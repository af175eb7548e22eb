"""Impression logs: three formats say the same, a device sees the same features, and a bad row is named."""

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank import Reranker
from pocketrank.errors import ExtraMissingError, InputError
from pocketrank.features.candidates import MAX_CANDIDATES, parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import History, profile
from pocketrank.schema import Affinity, Category, Clock, Count, Embedding, Fatigue, Number, Schema
from pocketrank.store import Event, Limits
from pocketrank_export.data import log as logs_of
from pocketrank_export.data import tables
from pocketrank_export.data.dataset import Dataset
from pocketrank_export.data.impressions import read, to_dataset
from tests import shop
from tests.export import logs
from tests.test_layout import ROOT

SMALL = Schema(
    (
        Number(name="price"),
        Category(name="kind", vocabulary=("book", "game")),
        Affinity(name="kind_affinity", field="kind"),
        Count(name="taken"),
        Fatigue(name="seen"),
    )
)
Row = dict[str, Any]


def row(impression: str, at_s: float, item: str, position: int = 0, label: float = 0.0, **more: Any) -> Row:
    shown = {"impression": impression, "user": "ann", "at_s": at_s, "item": item, "position": position, "label": label}
    return {**shown, "price": 1.0, "kind": "book", **more}


def small(rows: list[Row], **keys: Any) -> Dataset:
    return to_dataset(logs.log(rows, SMALL), SMALL, **keys)


def column(data: Dataset, name: str) -> list[float]:
    """A feature of each slate's first candidate."""
    values: list[float] = data.slates.features[:, 0, data.schema.columns.index(name)].tolist()
    return values


def times_of(data: Dataset) -> list[float]:
    assert data.at_s is not None
    return [float(at_s) for at_s in data.at_s]


def shop_data(rows: list[Row], **keys: Any) -> Dataset:
    return to_dataset(logs.log(rows), shop.SCHEMA, shop.bundle().files["vectors.npz"], **keys)


# -------------------------------------------------------------------------------------------------------------- replay


def test_a_device_sees_what_a_log_replays_bit_for_bit() -> None:
    reranker = Reranker.load(shop.bundle())
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for at in range(8):
        at_s = shop.OPENED_S + 600.0 * at
        given_ = shop.candidates(rng.permutation(shop.ITEMS)[:9].tolist())
        # The hour is the app's word, so that the clock of the machine that runs this has none.
        context = {"hour": 21.5, "screen": "tv", "basket": at, "style": rng.normal(size=4).tolist()}
        slate = reranker.rank(given_, context=context)
        chances = (1.0 / np.arange(1, 10)).tolist()
        slate.shown(at_s=at_s, propensities=chances)
        taken = rng.choice(slate.ids, 3, replace=False).tolist()
        for item in sorted(taken, key=slate.ids.index):
            slate.clicked(item, at_s=at_s)
        fields = {one["id"]: one for one in given_}
        for position, item in enumerate(slate.ids):
            shown = {"impression": at, "user": "ann", "at_s": at_s, "position": position, "label": float(item in taken)}
            shown |= {f"context.{name}": value for name, value in context.items()}
            own = {name: value for name, value in fields[item].items() if name != "id"}
            rows.append({**shown, "item": item, "propensity": chances[position], **own})
    found = shop_data(rng.permutation(np.array(rows, dtype=object)).tolist())
    kept = reranker.store.impressions()
    assert len(found) == len(kept) == 8
    assert found.ordered
    assert found.slates.propensities is not None
    for at, one in enumerate(kept):
        np.testing.assert_array_equal(found.slates.features[at], one.features)
        np.testing.assert_array_equal(found.slates.labels[at], one.labels)
        np.testing.assert_array_equal(found.slates.propensities[at], one.propensities)


def test_candidates_stand_by_position_and_slates_by_time() -> None:
    rows = [
        row("late", 20.0, "c", 5, price=5.0),
        row("early", 10.0, "a", 0, price=1.0),
        row("late", 20.0, "b", 2, 3.0, price=4.0),
    ]
    found = small(rows)
    np.testing.assert_array_equal(found.slates.features[..., 0], [[1, 0], [4, 5]])
    np.testing.assert_array_equal(found.slates.labels, [[0, 0], [3, 0]])
    np.testing.assert_array_equal(found.slates.mask, [[1, 0], [1, 1]])
    assert times_of(found) == [10.0, 20.0]
    assert found.slates.relevant is None
    assert found.slates.propensities is None
    assert found.about == "rows: 2 impressions, 1 users"


def test_what_was_shown_and_taken_earlier_is_known_and_nothing_else() -> None:
    found = small([row("i1", 1.0, "a", label=1.0), row("i2", 2.0, "a"), row("i3", 3.0, "a"), row("i4", 4.0, "b")])
    # Shown since it was last taken: the first slate ended with a purchase.
    assert column(found, "taken") == [0, 1, 1, 0]
    assert column(found, "seen") == [0, 0, 1, 0]
    assert column(found, "kind_affinity") == [0, 1, 1, 1]


def test_one_moment_knows_nothing_of_itself() -> None:
    found = small([row("i1", 1.0, "a", label=1.0), row("i2", 1.0, "a", label=1.0), row("i3", 1.5, "a")])
    assert column(found, "taken") == [0, 0, 2]


@pytest.mark.parametrize(("came_s", "taken"), [(1.5, [0, 1, 1]), (2.0, [0, 0, 1]), (2.5, [0, 0, 1]), (9.0, [0, 0, 0])])
def test_what_came_of_a_slate_later_is_known_from_then_on(came_s: float, taken: list[int]) -> None:
    found = small([row("i1", 1.0, "a", label=1.0, label_at_s=came_s), row("i2", 2.0, "a"), row("i3", 3.0, "a")])
    assert column(found, "taken") == taken
    assert found.slates.labels[:, 0].tolist() == [1, 0, 0]


def test_people_know_nothing_of_each_other_and_queries_have_no_history() -> None:
    rows = [row("i1", 1.0, "a", label=1.0), row("i2", 2.0, "a", user="bob"), row("i3", 3.0, "a")]
    assert column(small(rows), "taken") == [0, 0, 1]
    asked = [{**one, "query": one["user"]} for one in rows]
    both = small(asked)
    assert column(both, "taken") == [0, 0, 1]
    assert both.groups == ("ann", "bob", "ann")
    for one in asked:
        del one["user"]
    queries = small(asked)
    assert column(queries, "taken") == [0, 0, 0]
    assert queries.groups == ("ann", "bob", "ann")
    assert queries.about == "rows: 3 impressions, 2 queries"


def test_a_device_that_forgets_is_replayed_with_its_limits() -> None:
    rows = [row(f"i{at}", float(at), "a" if at < 3 else "b", label=1.0) for at in range(6)]
    rows.append(row("last", 9.0, "a"))
    assert column(small(rows), "taken")[-1] == 3
    assert column(small(rows, limits=Limits(max_events=4)), "taken")[-1] == 1


def test_without_private_features_everybody_looks_like_a_new_device() -> None:
    rows = logs.rows(1)
    one, nobody = (shop_data(rows, private=private) for private in (True, False))
    private = shop.SCHEMA.private_columns
    np.testing.assert_array_equal(one.slates.features[..., ~private], nobody.slates.features[..., ~private])
    assert (one.slates.features[..., private] != nobody.slates.features[..., private]).any()
    alone = [shop_data([row_ for row_ in rows if row_["impression"] == f"i{at}"]) for at in range(10)]
    by_time = sorted(alone, key=lambda data: times_of(data)[0])
    np.testing.assert_array_equal(nobody.slates.features, [data.slates.features[0] for data in by_time])


@given(st.integers(0, 1000))
def test_features_are_those_of_the_events_before_however_the_log_is_replayed(seed: int) -> None:
    rows = logs.rows(seed, visits=3)
    log = logs.log(rows)
    found = shop_data(rows)
    for at, one in enumerate(log.impressions):
        events: list[Event] = []
        for earlier in log.impressions:
            if earlier.group == one.group and earlier.at_s < one.at_s:
                columns = parse(earlier.candidates, shop.SCHEMA, earlier.context, now_s=earlier.at_s)
                seen = [(item, columns.event_fields(i), columns.embeddings(i)) for i, item in enumerate(columns.ids)]
                events += [Event(item, earlier.at_s, 1.0, fields, own, "shown") for item, fields, own in seen]
                taken = zip(seen, earlier.labels, strict=True)
                events += [Event(item, earlier.at_s, gain, fields, own) for (item, fields, own), gain in taken if gain]
        known = profile(shop.SCHEMA, History.of(events, shop.SCHEMA, logs.VECTORS))
        columns = parse(one.candidates, shop.SCHEMA, one.context, now_s=one.at_s)
        np.testing.assert_array_equal(found.slates.features[at], encode(columns, shop.SCHEMA, known, logs.VECTORS))


@pytest.mark.parametrize(
    ("more", "hour"), [({}, 6.0), ({"utc_offset_s": 3 * 3600}, 9.0), ({"context.hour": 20.5, "utc_offset_s": 60}, 20.5)]
)
def test_the_clock_is_the_impressions_own_local_time(more: Row, hour: float) -> None:
    schema = Schema((Clock(name="hour", part="hour"),))
    found = to_dataset(logs.log([row("i", 6 * 3600.0, "a", **more)], schema), schema)
    angle = 2 * math.pi * hour / 24
    np.testing.assert_allclose(found.slates.features[0, 0], [math.sin(angle), math.cos(angle)], atol=1e-6)


def test_a_value_that_was_old_when_it_was_shown_is_missing() -> None:
    schema = Schema((Number(name="price", max_age_s=100.0, default=-1.0),))
    times = [{}, {"price_at_s": 900}, {"price_at_s": 899}, {"item_at_s": 899}, {"price_at_s": 950, "item_at_s": 1}]
    found = to_dataset(logs.log([row(str(at), 1000.0, "a", **more) for at, more in enumerate(times)], schema), schema)
    assert found.slates.features[:, 0, 0].tolist() == [1, 1, -1, -1, 1]


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("write", "name"), [(logs.jsonl, "log.jsonl"), (logs.as_csv, "log.csv"), (logs.parquet, "log.parquet")]
)
def test_each_format_says_the_same(tmp_path: Path, write: Callable[[Path, list[Row]], Path], name: str) -> None:
    rows = [{**one, "maker": [one["maker"]]} for one in logs.rows(2)]
    rows[1]["utc_offset_s"] = rows[0]["utc_offset_s"] = rows[2]["utc_offset_s"] = rows[3]["utc_offset_s"] = 3600
    rows[2]["label_at_s"] = rows[2]["at_s"] + 5.5
    found = read([write(tmp_path / name, [{**one, "unheard_of": 1} for one in rows])], shop.SCHEMA)
    expected = logs.log(rows)
    assert found.about == name
    assert found.columns == expected.columns
    for one, other in zip(found.impressions, expected.impressions, strict=True):
        assert dataclasses.replace(one, where="") == dataclasses.replace(other, where="")


def test_rows_of_one_impression_may_stand_in_several_files(tmp_path: Path) -> None:
    rows = logs.rows(3)
    paths = [logs.jsonl(tmp_path / f"{part}.jsonl", rows[part::2]) for part in (0, 1)]
    found = read(paths, shop.SCHEMA)
    assert [one.candidates for one in found.impressions] == [one.candidates for one in logs.log(rows).impressions]
    assert found.about == "0.jsonl, 1.jsonl"


def test_a_csv_file_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    head = "\N{ZERO WIDTH NO-BREAK SPACE}impression,user,at_s,item,position,label,price,kind"
    path.write_text(f'{head}\r\n7,ann,1e3,a,0,0,,"book"\r\n\r\n7,ann,1000.0,b,1,2.5,3,\r\n', encoding="utf-8")
    found = to_dataset(read([path], SMALL), SMALL)
    assert found.slates.features[0, :, 0].tolist() == [0, 3]
    assert found.slates.features[0, :, 1].tolist() == [1, 0]
    assert found.slates.labels.tolist() == [[0, 2.5]]


GOOD = (
    '{"impression": 1, "user": "ann", "at_s": 1, "item": "a", "position": 0, "label": 0, "price": 1, "kind": "book"}\n'
)
HEAD = "impression,user,at_s,item,position,label,price,kind\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.jsonl", GOOD + "{\n", "log.jsonl:2: expected one JSON object a line"),
        ("log.jsonl", GOOD + "[1]\n", "log.jsonl:2: expected a JSON object of columns, got '[1]"),
        (
            "log.jsonl",
            GOOD.replace("1,", "NaN,", 1),
            "log.jsonl:1: expected one JSON object a line (NaN is not a number",
        ),
        ("log.jsonl", '{"a": ' + "[" * 100_000, "log.jsonl:1: expected one JSON object a line"),
        ("log.jsonl", "\udcff", "log.jsonl:1: expected one JSON object a line"),
        ("log.jsonl", " " * (tables.MAX_LINE_BYTES + 1), "log.jsonl:1: expected a line of at most"),
        ("log.jsonl", "", "log.jsonl: expected rows, one a candidate shown, got none"),
        ("log.csv", "", "log.csv: expected rows"),
        ("log.csv", "a,a\n", "log.csv:1: expected at most 10000 columns of different names"),
        ("log.csv", HEAD + "1,ann,1,a,0,0,1\n", "log.csv:2: expected 8 fields, as in the first line, got 7"),
        (
            "log.csv",
            HEAD + "1,ann,1,a,0,0,1,book\n1,ann,1,b,x,0,1,book\n",
            "log.csv:3: position: expected a number, got 'x'",
        ),
        ("log.csv", HEAD + '1,ann,1,a,0,0,1,"book', "log.csv:3: expected CSV in UTF-8"),
        ("log.csv", HEAD + "1,ann,1,a,0,0,1,\udcff\n", "expected CSV in UTF-8"),
        ("log.parquet", "PAR1 this is none", "log.parquet: expected Parquet"),
        ("log.txt", "", "expected a name that ends in .jsonl, .csv, .parquet, got '.txt'"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        read([tmp_path / name], SMALL)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("column_", "text", "wanted"),
    [
        ("in_stock", "maybe", "true or false"),
        ("style", "1|x", "numbers, '|' between"),
        ("price", "cheap", "a number"),
        ("context.basket", "two", "a number"),
        ("discount_at_s", "yesterday", "a number"),
    ],
)
def test_text_that_is_not_what_the_schema_says_is_named(tmp_path: Path, column_: str, text: str, wanted: str) -> None:
    rows = logs.rows(4)
    rows[2][column_] = text
    with pytest.raises(InputError) as caught:
        read([logs.as_csv(tmp_path / "log.csv", rows)], shop.SCHEMA)
    assert f"log.csv:4: {column_}: expected {wanted}, got {text!r}" in str(caught.value)


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv", "log.parquet"])
def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read([tmp_path / name], SMALL)


def test_without_pyarrow_the_pip_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExtraMissingError, match=r"pip install \"pocketrank\[export\]\""):
        read([tmp_path / "log.parquet"], SMALL)


def test_more_rows_than_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = logs.parquet(tmp_path / "log.parquet", logs.rows(5))
    monkeypatch.setattr(tables, "MAX_ROWS", 39)
    with pytest.raises(InputError, match="expected at most 39 rows and 10000 columns, got 40 and"):
        read([path], shop.SCHEMA)
    monkeypatch.setattr(logs_of, "MAX_ROWS", 39)
    with pytest.raises(InputError, match="rows:40: expected at most 39 rows in all"):
        logs.log(logs.rows(5))


def test_the_page_has_each_column_of_the_format() -> None:
    written = {line.split("`")[1] for line in (ROOT / "docs" / "data.md").read_text().splitlines() if line[:3] == "| `"}
    own = {name for name in written if "<" not in name and "." not in name}
    assert own - {"qid:", "3:0.1", "#"} == {*tables.NAMES, *tables.NUMBERS}
    generic = {"<feature>", "<feature>_at_s", "context.<feature>", "context.<feature>_at_s"}
    assert {name for name in written if "<" in name} == generic


# --------------------------------------------------------------------------------------------------------------- rules

ROWS = [row("i", 1.0, "a", 0), row("i", 1.0, "b", 1), row("j", 2.0, "a", 0)]


@pytest.mark.parametrize(
    ("at", "values", "message"),
    [
        (1, {"position": 0}, "rows:2: impression 'i': position 0 stands in rows:1 already; keep one"),
        (1, {"item": "a"}, "rows:2: impression 'i': item 'a' stands in rows:1 already"),
        (1, {"at_s": 1.5}, "rows:2: impression 'i': at_s: expected 1.0 as in rows:1, got 1.5"),
        (1, {"user": "bob"}, "rows:2: impression 'i': user: expected 'ann' as in rows:1, got 'bob'"),
        (1, {"context__screen": "tv"}, "rows:2: impression 'i': context.screen: expected None as in rows:1, got 'tv'"),
        (1, {"utc_offset_s": 60}, "rows:2: impression 'i': utc_offset_s: expected None as in rows:1, got 60"),
        (1, {"label": -1.0}, "rows:2: label: expected a number from 0 to 1e+09, got float: -1.0"),
        (1, {"label": math.nan}, "rows:2: label: expected a number from 0"),
        (1, {"label": None}, "rows:2: label: expected a number from 0 to 1e+09, got NoneType"),
        (1, {"label": True}, "rows:2: label: expected a number from 0 to 1e+09, got bool"),
        (1, {"label_at_s": 0.5}, "rows:2: label_at_s: expected a time from 1.0 on, when it was shown, got 0.5"),
        (2, {"at_s": math.inf}, "rows:3: at_s: expected a number from -1e+12 to 1e+12, got float: inf"),
        (2, {"at_s": "today"}, "rows:3: at_s: expected a number from -1e+12 to 1e+12, got str: 'today'"),
        (2, {"utc_offset_s": 90_000}, "rows:3: utc_offset_s: expected a number from -86400 to 86400"),
        (1, {"position": -1}, "rows:2: position: expected a whole number from 0, at the top, to 1000000, got int: -1"),
        (1, {"position": 1.5}, "rows:2: position: expected a whole number"),
        (1, {"position": None}, "rows:2: position: expected a whole number"),
        (1, {"item": None}, "rows:2: item: expected a name or a whole number, got NoneType"),
        (1, {"item": ""}, "rows:2: item: expected 1 to 256 characters"),
        (1, {"item": "x" * 257}, "rows:2: item: expected 1 to 256 characters"),
        (1, {"item": 10**5000}, "rows:2: item: expected 1 to 256 characters"),
        (1, {"item": True}, "rows:2: item: expected a name or a whole number, got bool"),
        (1, {"impression": None}, "rows:2: impression: expected a name or a whole number, got NoneType"),
        (2, {"user": None}, "rows:3: user: expected a name or a whole number, got NoneType"),
        (
            1,
            {"propensity": 0.5},
            "rows:1: propensity: expected a chance above 0 to 1 in each row, or in none, got None",
        ),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(at: int, values: Row, message: str) -> None:
    logs.log(ROWS, SMALL)
    with pytest.raises(InputError) as caught:
        logs.log(logs.changed(ROWS, at, **values), SMALL)
    assert message in str(caught.value)


@pytest.mark.parametrize("propensity", [0.0, -0.5, 1.01, math.nan, "half"])
def test_a_propensity_out_of_range_is_named(propensity: Any) -> None:
    rows = [{**one, "propensity": 1} for one in ROWS]
    logs.log(rows, SMALL)
    with pytest.raises(InputError, match="rows:2: propensity: expected a chance above 0 to 1 in each row"):
        logs.log(logs.changed(rows, 1, propensity=propensity), SMALL)


@pytest.mark.parametrize("name", ["impression", "at_s", "item", "position", "label", "price", "kind", "user"])
def test_a_column_that_no_row_fills_is_named(name: str) -> None:
    rows = [{key: value for key, value in one.items() if key != name} for one in ROWS]
    with pytest.raises(InputError, match=name):
        logs.log(rows, SMALL)


def test_a_schema_that_asks_for_more_than_the_log_has_is_refused() -> None:
    log = logs.log(ROWS, SMALL)
    more = Schema((*SMALL.features, Number(name="stars"), Number(name="basket", source="context")))
    with pytest.raises(InputError, match=r"impression log: no row fills context\.basket, stars; add them"):
        to_dataset(log, more)
    clash = Schema((Number(name="position"), Number(name="label")))
    with pytest.raises(
        InputError, match=r"features \['label', 'position'\] are called as columns of an impression log"
    ):
        logs.log(ROWS, clash)
    with pytest.raises(InputError, match=r"vectors: the schema compares item vectors; hand over a vectors\.npz"):
        to_dataset(logs.log(logs.rows(6)), shop.SCHEMA)


def test_a_value_that_does_not_fit_its_feature_is_named_with_impression_and_item() -> None:
    with pytest.raises(
        InputError, match="rows:1: impression 'i': candidate 'b': price: expected a number, got str: 'dear'"
    ):
        small(logs.changed(ROWS, 1, price="dear"))


def test_an_impression_of_too_many_candidates_is_refused() -> None:
    rows = [row("i", 1.0, str(at), at) for at in range(MAX_CANDIDATES + 1)]
    logs.log(rows[:-1], SMALL)
    with pytest.raises(InputError, match=f"rows:2001: impression 'i': expected at most {MAX_CANDIDATES} rows"):
        logs.log(rows, SMALL)


def test_half_a_character_is_no_name() -> None:
    with pytest.raises(InputError, match="rows:1: user: expected 1 to 256 characters of Unicode"):
        logs.log({**row, "user": "\ud800"} for row in logs.rows(1))


def test_a_session_value_that_is_not_a_number_is_said_to_be_none() -> None:
    rows = [{**row, "at_s": math.nan} for row in logs.rows(1)]
    with pytest.raises(InputError, match=r"rows:1: impression 'i0': at_s: expected a number, got nan"):
        logs.log(rows)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.jsonl", '{"item": "a", "item": "b"}', "log.jsonl:1: expected one JSON object a line (a key twice"),
        ("log.csv", "item;label\na;1\n", "log.csv:1: expected columns such as impression"),
        ("log.csv", "item,label\na,1_0\n", "log.csv:2: label: expected a number, got '1_0'"),
        ("log.csv", "item,look\na,1|1_0\n", "log.csv:2: look: expected numbers"),
    ],
)
def test_text_that_could_be_taken_for_something_else_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        list(
            tables.rows(tmp_path / name, Schema((Number(name="price"), Embedding(name="look", width=2, to="context"))))
        )
    assert message in str(caught.value)


def test_a_parquet_file_that_holds_a_column_twice_or_no_time_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = Schema((Number(name="price"),))
    parquet.write_table(pa.table([[1.0], [9.0]], names=["label", "label"]), tmp_path / "twice.parquet")
    with pytest.raises(InputError, match=r"twice\.parquet: expected columns of different names"):
        list(tables.rows(tmp_path / "twice.parquet", schema))
    late = pa.array([1 << 62], pa.timestamp("us"))
    parquet.write_table(pa.table({"at_s": late}), tmp_path / "late.parquet")
    with pytest.raises(InputError, match=r"late\.parquet: expected Parquet"):
        list(tables.rows(tmp_path / "late.parquet", schema))


def test_a_few_bytes_of_parquet_do_not_become_a_long_text_in_each_row(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path, schema, count = tmp_path / "log.parquet", Schema((Number(name="price"),)), 5_000
    for size, fits in ((tables.MAX_TEXT_BYTES, True), (tables.MAX_TEXT_BYTES + 1, False)):
        parquet.write_table(pa.table({"item": ["x" * size] * count}), path, compression="zstd")
        assert path.stat().st_size < size * count / 1_000
        if fits:
            assert sum(len(row["item"]) for _, row in tables.rows(path, schema)) == size * count
            continue
        with pytest.raises(InputError, match=f"item: expected texts of at most {size - 1} bytes, got one of {size}"):
            next(tables.rows(path, schema))

"""The report of a build: its figures by formula, and a page that shows each of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pocketrank.bundle import RANK_MODEL, RANK_MODELS
from pocketrank.errors import InputError
from pocketrank.metrics import Interval, bootstrap
from pocketrank.schema import Number, Schema
from pocketrank_export.data.dataset import Dataset, Split
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each, score
from pocketrank_export.gates import Verdict, random_order
from pocketrank_export.quantization.search import Measured
from pocketrank_export.report import measuring, wording
from pocketrank_export.report.calibration import Bin, Calibration
from pocketrank_export.report.charts import Point, scatter
from pocketrank_export.report.figures import Difference, Figures, Latency, Model, Part, Quality, Recipe, Size
from pocketrank_export.report.importance import Importance
from pocketrank_export.report.page import SHOWN, render, write
from pocketrank_export.report.plots import NARROW, WIDE, Kind
from pocketrank_export.runtimes import RuntimeScores, Trial
from pocketrank_export.student import Student
from tests.page import Page, leaves


def interval(mean: float, reach: float = 0.0123456, n: int = 50) -> Interval:
    return Interval(mean, mean - reach, mean + reach, n)


def figures() -> Figures:
    """A build in which everything happened, with a value of its own in each field."""
    recipes = (
        Recipe("weight_int8", "ai-edge-litert", True, 30301, 0.99921, 0.75712, interval(0.00213, 0.001), 23.41, None),
        Recipe("float16", "ai-edge-litert", False, 40977, 0.99911, 0.75713, interval(0.00214, 0.001), 24.42, None),
        Recipe("weight_int8", "tflite-runtime", True, 30301, 0.99923, 0.75714, interval(-0.00215, 0.001), 25.43, None),
        Recipe("float16", "tflite-runtime", False, 40977, None, None, None, None, "NaN & <more>"),
    )
    return Figures(
        name="shop",
        version=7,
        digest="ab12" * 16,
        about="clicks of a shop",
        baseline="first stage",
        taught_by="lambdamart-0",
        parts=(Part("train", 171, 168, 2538), Part("validation", 30, 29, 467), Part("test", 51, 50, 768)),
        model=Model("small", 11822, 301, 299, "slate", "all"),
        quality=(
            Quality("first stage", "baseline", interval(0.58311)),
            Quality("lambdamart-0", "teacher", interval(0.75912)),
            Quality("student, float", "student", interval(0.75013)),
            Quality("on ai-edge-litert", "runtime", interval(0.74914)),
        ),
        differences=(
            Difference("student − first stage", "student", interval(0.16702)),
            Difference("ai-edge-litert − float", "runtime", interval(-0.00099)),
        ),
        share=interval(0.94812, 0.05),
        sizes=(
            Size("lambdamart-0", "teacher", 1065077, interval(0.75912)),
            Size("student, float", "student", 69057, interval(0.75013)),
            Size("weight_int8", "runtime", 30303, interval(0.74914)),
        ),
        latency=(Latency("ai-edge-litert", "2.3.0", "weight_int8", 17.81),),
        recipes=recipes,
        importance=(
            Importance("price", 1, False, interval(0.0512)),
            Importance("liked", 4, True, interval(0.0211)),
            Importance("hour", 2, False, interval(0.0, 0.0)),
        ),
        calibration=Calibration(
            (Bin(0.0101, interval(0.0203, 0.005), 76), Bin(0.1502, interval(0.1404, 0.03), 77)), 0.0194, 0.0651, 49
        ),
        verdicts=(
            Verdict("student", 0.1544, 0.01, True, "student: above", None, interval(0.1544, 0.02, 30)),
            Verdict("ndcg", 0.0024, 0.005, True, "ndcg (ai-edge-litert): below", "ai-edge-litert"),
            Verdict("golden", None, 0.001, True, "golden (ai-edge-litert): the self-test passed", "ai-edge-litert"),
        ),
        failures={},
        seconds={"teacher-0": 6.61, "student": 3.03},
    )


def drawings(page: str) -> list[ET.Element]:
    found = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    return [ET.fromstring(drawing) for drawing in found]  # noqa: S314  (our own)


def plots(page: str) -> list[ET.Element]:
    return [svg for svg in drawings(page) if svg.get("class") == "plot"]


# ------------------------------------------------------------------------------------------------------------ the files


def test_the_page_is_what_rendering_the_written_json_gives(tmp_path: Path) -> None:
    path = write(figures(), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    content = json.loads((path.parent / "report.json").read_text("utf-8"))
    assert path.read_text("utf-8") == render(content)
    assert Figures.from_json(content) == figures()
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.json"]


def test_a_figure_that_is_no_number_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    wrong = dataclasses.replace(figures(), share=Interval(math.nan, 0.1, 0.2, 5))
    with pytest.raises(InputError, match=r"share\.mean"):
        write(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "7"}, r"version"),
        ({"version": True}, r"version"),
        ({"quality": [{"label": "x", "kind": "magic", "ndcg": None}]}, r"quality\.0\.kind.*quality\.0\.ndcg"),
        ({"seconds": {"student": math.inf}}, r"without NaN"),
        ({"parts": None}, r"parts"),
    ],
)
def test_a_wrong_value_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(figures().to_json() | change)


def test_what_was_not_measured_is_null_in_the_json() -> None:
    row = figures().to_json()["recipes"][3]
    assert (row["kendall_tau"], row["ndcg"], row["loss"], row["p50_us"]) == (None, None, None, None)


# ------------------------------------------------------------------------------------------------------------- the page


def test_every_figure_of_the_json_is_on_the_page() -> None:
    page = Page(render(figures().to_json()))
    numbers = [
        leaf for leaf in leaves(figures().to_json()) if isinstance(leaf, int | float) and not isinstance(leaf, bool)
    ]
    assert len(numbers) > 90
    assert [number for number in numbers if float(number) not in page.values] == []


def test_every_word_of_the_json_is_on_the_page() -> None:
    text = Page(render(figures().to_json())).text
    hidden = {"baseline", "teacher", "runtime", "ndcg"}  # kinds, and gates that the words name
    words = {leaf for leaf in leaves(figures().to_json()) if isinstance(leaf, str)} - hidden
    assert [word for word in words if word not in text] == []


def test_figures_read_as_the_rounding_of_their_exact_value() -> None:
    found = re.findall(r'<data value="([^"]+)">([+−]?\d+\.\d+)( %)?</data>', render(figures().to_json()))
    assert len(found) > 60
    for value, words, percent in found:
        digits = len(words.split(".")[1])
        exact = float(value) * (100 if percent else 1)
        assert float(words.replace("−", "-")) == pytest.approx(exact, abs=0.5000001 * 10**-digits)


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    html = render(figures().to_json())
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=|srcset=", html)
    page = Page(html)
    assert {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "embed", "base"} == set()
    policies = [given["content"] for tag, given in page.elements if tag == "meta" and "http-equiv" in given]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_markup_in_names_is_text() -> None:
    attack = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
    it = figures()
    hostile = dataclasses.replace(
        it,
        name=attack,
        about=attack,
        taught_by=attack,
        quality=(*it.quality, Quality(attack, "teacher", interval(0.7))),
        sizes=(*it.sizes, Size(attack, "teacher", 1000, interval(0.7))),
        recipes=tuple(dataclasses.replace(row, runtime=attack, recipe=attack) for row in it.recipes[:1]),
        importance=tuple(dataclasses.replace(each, feature=attack) for each in it.importance),
        verdicts=(dataclasses.replace(it.verdicts[0], passed=False, words=attack),),
        failures={attack: attack},
        seconds={attack: 1.0},
    )
    html = render(hostile.to_json())
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(attack) >= 12
    assert drawings(html)


def test_plots_are_named_drawn_twice_and_leave_colours_to_the_style_sheet() -> None:
    html = render(figures().to_json())
    found = plots(html)
    # nDCG, differences, two of sizes, latency, importance, calibration, and of the recipes two on each runtime.
    assert len(found) == 2 * (7 + 4)
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in found)
    assert {(svg.get("viewBox") or "").split()[2] for svg in found} == {"640", "340"}
    for svg in drawings(html):
        for part in svg.iter():
            assert not {"fill", "stroke", "style", "color"} & set(part.attrib)


def test_differences_show_zero_and_quality_is_drawn_where_it_lies() -> None:
    ndcg, differences = plots(render(figures().to_json()))[0:4:2]
    assert [part.get("class") for part in ndcg.iter("line")].count("zero") == 0
    assert [part.get("class") for part in differences.iter("line")].count("zero") == 1


def test_no_mark_or_word_leaves_its_drawing() -> None:
    long = "a_feature_with_a_name_that_nobody_would_want_to_read_twice"
    it = figures()
    wide = dataclasses.replace(
        it,
        quality=(*it.quality, Quality(long, "teacher", interval(0.91))),
        sizes=(
            *it.sizes,
            *(Size(f"{long} {number}", "teacher", 30000 + number, interval(0.7)) for number in range(30)),
        ),
        importance=tuple(Importance(f"{long} {number}", 1, False, interval(0.01)) for number in range(3 * SHOWN)),
    )
    for svg in plots(render(wide.to_json())):
        _, _, width, height = map(float, (svg.get("viewBox") or "").split())
        for part in svg.iter():
            across = [float(part.get(key, "0")) for key in ("x", "x1", "x2", "cx")]
            down = [float(part.get(key, "0")) for key in ("y", "y1", "y2", "cy")]
            if part.tag == "text":  # a letter is about 6.6 units wide
                length = 6.6 * len(part.text or "")
                share = {"end": 1.0, "middle": 0.5}.get(part.get("text-anchor", ""), 0.0)
                across += [across[0] - share * length, across[0] + (1 - share) * length]
            assert min(across) >= -14, part.text
            assert max(across) <= width + 14, part.text
            assert 0 <= min(down) <= max(down) <= height, part.text


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("edge", [0.5, 0.7])
def test_letters_of_points_in_one_place_stand_apart_within_the_axis(width: float, edge: float) -> None:
    crowd = [Point(f"p{number}", Kind.OURS, 30000, edge, edge, edge) for number in range(12)]
    ends = [Point("low", Kind.OURS, 10**6, 0.5, 0.5, 0.5), Point("high", Kind.OURS, 10**6, 0.7, 0.7, 0.7)]
    svg = ET.fromstring(scatter([*crowd, *ends], "label", width, str))  # noqa: S314  (our own)
    letters = {part.text: float(part.get("y", "nan")) for part in svg.iter("text") if len(part.text or "") == 1}
    heights = sorted(letters[letter] for letter in "abcdefghijkl")
    assert all(after - before >= 12.9 for before, after in itertools.pairwise(heights))
    grid = [float(part.get("y1", "nan")) for part in svg.iter("line") if part.get("class") == "grid"]
    assert min(grid) <= heights[0] - 4
    assert heights[-1] - 4 <= max(grid)


def test_what_fell_short_is_said_before_anything_else() -> None:
    it = figures()
    failed = dataclasses.replace(it.verdicts[1], passed=False, words="ndcg (ai-edge-litert): 3 % below, missed by 2 %")
    short = dataclasses.replace(
        it, digest=None, verdicts=(it.verdicts[0], failed), failures={"tflite-runtime": "SIGSEGV killed the process"}
    )
    text = Page(render(short.to_json())).text
    start = text.index("shop is not released: 1 gate said no.")
    first = text.index("ndcg (ai-edge-litert): 3 % below, missed by 2 %")
    assert start < first < text.index("SIGSEGV killed the process") < text.index("nDCG@10 of what ships")
    # In the table the one that failed comes first as well.
    table = text.index("What the gates said")
    assert text.index(failed.words, table) < text.index("student: above", table)
    assert "passes every gate" not in text


@pytest.mark.parametrize(
    "bare",
    [
        {"taught_by": None, "share": None},
        {"recipes": ()},
        {"recipes": figures().recipes[:1]},
        {"recipes": figures().recipes[3:]},
        {"importance": ()},
        {"importance": figures().importance[2:]},
        {"calibration": None},
        {"calibration": Calibration((Bin(0.2, interval(0.2, 0.0), 5),), 0.0, 0.2, 1)},
        {"latency": (), "failures": {"ai-edge-litert": "no"}, "quality": figures().quality[:1]},
        {"sizes": ()},
        {"sizes": (Size("weight_int8", "runtime", 30303, None),)},
        {"sizes": (Size("weight_int8", "runtime", 1, interval(0.5)),)},
        {"verdicts": (), "seconds": {}, "about": ""},
        {"quality": (Quality("first stage", "baseline", interval(0.0, 0.0, 1)),)},
    ],
)
def test_a_page_with_next_to_nothing_to_draw_is_drawn(bare: dict[str, Any]) -> None:
    html = render(dataclasses.replace(figures(), **bare).to_json())
    assert all(svg.tag == "svg" for svg in drawings(html))
    assert "nan" not in Page(html).text.lower().replace("nan & <more>", "")


def test_sentences_follow_the_figures() -> None:
    it = figures()
    assert "keeps 94.8 % (89.8 % to 99.8 %) of the gain of lambdamart-0 over the first stage" in wording.share_sentence(
        it
    )
    assert "not clear of zero" in wording.share_sentence(dataclasses.replace(it, share=None))
    assert "labels alone" in wording.share_sentence(dataclasses.replace(it, taught_by=None, share=None))
    assert "fails on the test part" in wording.headline(dataclasses.replace(it, failures={"tflite-runtime": "it died"}))
    assert wording.headline(it) == "shop keeps 94.8 % of its teacher's gain, and passes every gate."
    assert wording.over(dataclasses.replace(it, baseline="random order")) == "random order"
    assert (wording.signed(-0.0004), wording.signed(-0.0006)) == ("0.000", "−0.001")
    assert (wording.fine(-0.0004), wording.three(-0.0004)) == ("−0.0004", "0.000")
    assert [wording.size(count) for count in (0, 999, 2_000, 30_303, 184_220, 999_999, 2.5e9)] == [
        "0 B", "999 B", "2 kB", "30.3 kB", "184 kB", "1 MB", "2.5 GB",
    ]  # fmt: skip
    assert (wording.microseconds(999.4), wording.microseconds(1500)) == ("999 µs", "1.50 ms")
    assert (wording.short(0), wording.short(-1e-7), wording.short(30303)) == ("0", "−1e−07", "30,303")


# -------------------------------------------------------------------------------------------------------- the measuring

WIDTH = 3
SCHEMA = Schema(tuple(Number(name=f"x{column}") for column in range(WIDTH)))


def part(seed: int, count: int, *, ordered: bool) -> Dataset:
    """Slates of five whose first column is the label and some noise; the last one holds nothing relevant."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 5, WIDTH)).astype(np.float32)
    labels = rng.integers(0, 2, (count, 5)).astype(np.float32)
    labels[:, 0] = 1.0
    labels[-1] = 0.0
    features[..., 0] += 2 * labels
    return Dataset(
        SCHEMA,
        Slates(features, labels, np.ones_like(labels)),
        tuple(f"{seed}-{row}" for row in range(count)),
        ordered=ordered,
        about=f"part {seed}",
    )


def fake_run(folder: Path, *, ordered: bool = False, teachers: int = 1, passed: bool = True) -> Any:
    """As ``pipeline.Run``, as far as the report looks, without the hours before it."""
    split = Split(*(part(seed, count, ordered=ordered) for seed, count in enumerate((30, 12, 20))))
    names = {"train": split.train, "validation": split.validation, "test": split.test}
    taught = tuple(
        SimpleNamespace(
            teacher=SimpleNamespace(name=f"teacher-{number}", size_bytes=None if number else 5000),
            scores={name: held.slates.features[..., 0] for name, held in names.items()},
            ndcg=0.5,
        )
        for number in range(teachers)
    )
    student = Student([True] * WIDTH, "tiny")
    quantized = SimpleNamespace(
        models={RANK_MODEL: b"1" * 300, RANK_MODELS["tflite-runtime"]: b"2" * 400},
        recipes={RANK_MODEL: "static_int8", RANK_MODELS["tflite-runtime"]: "weight_int8"},
        measured=(
            Measured("static_int8", "ai-edge-litert", 300, True, 0.99, 0.6, 0.6, Interval(0.0, -0.1, 0.1, 4), 9.0),
            Measured("static_int8", "tflite-runtime", 300, error="no such operator"),
            Measured("weight_int8", "tflite-runtime", 400, ndcg_float=0.6, p50_us=8.0),
        ),
    )
    verdict = Verdict("golden", None, 0.001, passed, "golden: as it went")
    manifest = SimpleNamespace(quantization=quantized.recipes)
    bundle = SimpleNamespace(digest="digest", manifest=manifest)
    config = SimpleNamespace(
        name="fake",
        version=3,
        runtimes=("ai-edge-litert", "tflite-runtime"),
        student=SimpleNamespace(size="tiny", normalization="slate", readable="all"),
    )
    return SimpleNamespace(
        config=config,
        split=split,
        teachers=taught,
        teacher=taught[0] if taught else None,
        student=student,
        converted=(SimpleNamespace(rank=b"f" * 700), []),
        quantized=quantized,
        proven=SimpleNamespace(bundle=bundle, verdicts=(verdict,), trials=()),
        pythons={"ai-edge-litert": Path("one"), "tflite-runtime": Path("two")},
        folder=folder,
        seconds={"student": 1.5},
    )


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Slates]:
    """What was sent to the runtimes: one ranks by the first column, the other makes no scores."""
    sent = []

    def fake_trials(bundle: Any, slates: Slates, pythons: list[Path]) -> list[Trial]:
        assert bundle.digest == "digest"
        assert pythons == [Path("one"), Path("two")]
        sent.append(slates)
        found = RuntimeScores("ai-edge-litert", "2.3", slates.features[..., 0], 11.0)
        return [Trial("ai-edge-litert", "2.3", found), Trial("tflite-runtime", "2.14", None, "it died")]

    monkeypatch.setattr(measuring, "trials", fake_trials)
    return sent


def measured(run: Any) -> Figures:
    return measuring.measured(cast("Any", run))


def test_everything_is_measured_on_the_test_slates_with_something_relevant(
    tmp_path: Path, scored: list[Slates]
) -> None:
    run = fake_run(tmp_path)
    it = measured(run)
    test = run.split.test.slates.where(np.arange(19))
    np.testing.assert_array_equal(scored[0].features, test.features)
    teacher, base = ndcg_each(test.features[..., 0], test), random_order(test)
    assert it.about == "part 2"
    assert [(one.name, one.slates, one.judged, one.candidates) for one in it.parts] == [
        ("train", 30, 29, 150),
        ("validation", 12, 11, 60),
        ("test", 20, 19, 100),
    ]
    by_label = {one.label: one.ndcg for one in it.quality}
    assert list(by_label) == ["random order", "teacher-0", "student, float", "on ai-edge-litert"]
    assert by_label["random order"].mean == pytest.approx(base.mean())
    assert by_label["teacher-0"].mean == by_label["on ai-edge-litert"].mean == pytest.approx(teacher.mean())
    assert {one.n for one in by_label.values()} == {19}
    assert it.failures == {"tflite-runtime": "it died"}
    assert it.seconds == {"student": 1.5}
    assert it.calibration is not None
    assert it.calibration.slates == 19


def test_differences_are_paired(tmp_path: Path, scored: list[Slates]) -> None:
    run = fake_run(tmp_path)
    it = measured(run)
    test = scored[0]
    student = ndcg_each(score(run.student, test), test)
    teacher, base = ndcg_each(test.features[..., 0], test), random_order(test)
    assert {one.label: one.ndcg for one in it.differences} == {
        "student − random order": bootstrap(student - base, np.random.default_rng(0)),
        "student − teacher": bootstrap(student - teacher, np.random.default_rng(0)),
        "ai-edge-litert − float": bootstrap(teacher - student, np.random.default_rng(0)),
    }
    assert it.share is not None
    assert it.share.mean == pytest.approx((student - base).sum() / (teacher - base).sum())


def test_candidates_in_a_first_stages_order_are_held_against_it(tmp_path: Path, scored: list[Slates]) -> None:
    it = measured(fake_run(tmp_path, ordered=True))
    given = -np.arange(5, dtype=np.float32)[None] * np.ones((19, 1), np.float32)
    assert (it.baseline, it.quality[0].label) == ("first stage", "first stage")
    assert it.quality[0].ndcg.mean == pytest.approx(ndcg_each(given, scored[0]).mean())


def test_sizes_times_and_recipes_are_those_of_what_each_runtime_takes(tmp_path: Path, scored: list[Slates]) -> None:
    del scored
    it = measured(fake_run(tmp_path, teachers=2))
    assert [(one.label, one.size_bytes) for one in it.sizes] == [
        ("teacher-0", 5000),
        ("student, float", 700),
        ("static_int8, ai-edge-litert", 300),
        ("weight_int8, tflite-runtime", 400),
    ]
    quality = {one.label: one.ndcg for one in it.quality}
    shown = [quality["teacher-0"], quality["student, float"], quality["on ai-edge-litert"], None]
    assert [one.ndcg for one in it.sizes] == shown
    assert it.latency == (Latency("ai-edge-litert", "2.3", "static_int8", 11.0),)
    assert [(one.recipe, one.runtime, one.shipped) for one in it.recipes] == [
        ("static_int8", "ai-edge-litert", True),
        ("static_int8", "tflite-runtime", False),
        ("weight_int8", "tflite-runtime", True),
    ]
    assert (it.recipes[1].loss, it.recipes[1].kendall_tau, it.recipes[1].error) == (None, None, "no such operator")
    assert it.recipes[2].error == "its scores hold NaN or infinity"
    assert it.recipes[0].loss == Interval(0.0, -0.1, 0.1, 4)


def test_a_student_without_a_teacher_and_a_bundle_that_is_stopped_are_reported(
    tmp_path: Path, scored: list[Slates]
) -> None:
    del scored
    it = measured(fake_run(tmp_path, teachers=0, passed=False))
    assert (it.taught_by, it.share, it.digest) == (None, None, None)
    assert [one.label for one in it.differences] == ["student − random order", "ai-edge-litert − float"]
    assert "is not released" in Page(render(it.to_json())).text
    assert measured(fake_run(tmp_path)).digest == "digest"


def test_what_was_measured_is_the_same_again_and_can_be_written(tmp_path: Path, scored: list[Slates]) -> None:
    run = fake_run(tmp_path)
    it = measured(run)
    assert measured(run) == it
    assert len(scored) == 2
    assert write(it, tmp_path / "report").is_file()


def test_a_test_part_with_nothing_relevant_is_refused(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    run.split.test.slates.labels[:] = 0.0
    with pytest.raises(InputError, match="test: expected a slate with something relevant"):
        measured(run)


def test_the_share_that_is_kept_is_a_ratio_of_means_with_its_interval() -> None:
    rng = np.random.default_rng(1)
    base, gain = rng.random(400) * 0.2, rng.random(400)
    half = measuring.share_kept(base + gain / 2, base, base + gain, np.random.default_rng(0))
    assert half is not None
    assert (half.mean, half.low, half.high, half.n) == pytest.approx((0.5, 0.5, 0.5, 400))
    noisy = measuring.share_kept(
        base + gain / 2 + rng.normal(size=400) * 0.1, base, base + gain, np.random.default_rng(0)
    )
    assert noisy is not None
    # The deviation of the mean of such noise is 0.1 / 20, of a gain of about 1 / 2.
    assert noisy.high - noisy.low == pytest.approx(2 * 1.96 * 0.1 / 20 / 0.5, rel=0.2)
    assert noisy.low < 0.5 < noisy.high


@pytest.mark.parametrize("whole", [-0.1, 0.0, 0.0001])
def test_no_share_of_a_gain_that_is_not_clear_of_zero(whole: float) -> None:
    noise = np.random.default_rng(1).normal(size=400)
    noise -= noise.mean()
    assert measuring.share_kept(noise, np.zeros(400), whole + noise, np.random.default_rng(0)) is None

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from examples.movielens.figures import Interval, Report, Shares
from examples.movielens.report import render, write_report
from pocketrank.errors import InputError
from tests.examples.sample_report import sample_report
from tests.page import Page, leaves


def drawings(page: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)


def colours(style: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", style))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def assert_marks_within(html: str) -> None:
    for svg in (ET.fromstring(drawing) for drawing in drawings(html)):  # noqa: S314  (our own)
        _, _, width, height = map(float, (svg.get("viewBox") or "").split())
        for part in svg.iter():
            across = [float(part.get(key, "0")) for key in ("x", "x1", "x2", "cx")]
            down = [float(part.get(key, "0")) for key in ("y", "y1", "y2", "cy")]
            if part.tag == "text":  # a digit is about 7 units wide; bold ones a little more
                length = 6.6 * len(part.text or "")
                share = {"end": 1.0, "middle": 0.5}.get(part.get("text-anchor", ""), 0.0)
                across += [across[0] - share * length, across[0] + (1 - share) * length]
            assert min(across) >= -12, part.text
            assert max(across) <= width + 12, part.text
            assert 0 <= min(down) <= max(down) <= height


@pytest.fixture(scope="module")
def report() -> Report:
    return sample_report()


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render(report.to_json())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


# ------------------------------------------------------------------------------------------------------------ the files


def test_the_page_is_what_rendering_the_written_json_gives(report: Report, tmp_path: Path) -> None:
    path = write_report(report, tmp_path / "new" / "folder")
    content = json.loads((path.parent / "report.json").read_text("utf-8"))
    assert path.read_text("utf-8") == render(content)
    assert Report.from_json(content) == report


def test_a_second_report_replaces_the_first(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    write_report(dataclasses.replace(report, machine="another machine"), tmp_path)
    assert "another machine" in (tmp_path / "report.html").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": float("nan")}, r"without NaN"),
        ({"rounds": 2.5}, r"rounds: .*integer"),
        ({"rounds": True}, r"rounds: .*integer"),
        ({"sampling": None}, r"sampling: .*string"),
        ({"epsilon_by_round": "0.5"}, r"epsilon_by_round: .*array"),
        ({"epsilon_by_round": []}, r"epsilon_by_round: .*at least 1"),
        ({"head": []}, r"head: .*at least 1"),
        ({"gains": {"federated": {}}}, r"gains\.federated\.mean: .*required.*gains\.to_central: .*required"),
        ({"size_bytes": 3}, r"size_bytes: .*object"),
        ({"timing_s": {"data": "1"}}, r"timing_s\.data: .*number"),
        ({"shares": {"federated": "all", "federated_private": None}}, r"shares\.federated: .*number"),
    ],
)
def test_a_wrong_value_is_refused_by_name(report: Report, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(report.to_json() | change)


def test_a_report_with_a_wrong_value_writes_nothing(report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without NaN"):
        write_report(dataclasses.replace(report, delta=float("inf")), tmp_path)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------- the page


def test_every_figure_of_the_json_is_on_the_page(report: Report, page: Page) -> None:
    numbers = [
        leaf for leaf in leaves(report.to_json()) if isinstance(leaf, int | float) and not isinstance(leaf, bool)
    ]
    assert len(numbers) > 150
    assert [number for number in numbers if float(number) not in page.values] == []


def test_every_word_of_the_json_is_on_the_page(report: Report, page: Page) -> None:
    words = [leaf for leaf in leaves(report.to_json()) if isinstance(leaf, str)]
    assert [word for word in words if word not in page.text] == []
    for name in (*report.quantization.finite, *report.timing_s, *report.versions):
        assert name in page.text


def test_figures_read_as_the_rounding_of_their_exact_value(html: str) -> None:
    found = re.findall(r'<data value="([^"]+)">([+−]?\d+\.\d+)</data>', html)
    assert len(found) > 100
    for value, words in found:
        digits = len(words.split(".")[1])
        assert float(words.replace("−", "-")) == pytest.approx(float(value), abs=0.5000001 * 10**-digits)


def test_the_page_loads_nothing(html: str, page: Page) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=|srcset=", html)
    assert {tag for tag, _ in page.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    } == set()
    policy = next(
        attributes["content"] for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes
    )
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_markup_in_titles_and_names_is_text(report: Report) -> None:
    attack = "<script>alert(1)</script>\"'&"
    example = dataclasses.replace(report.example, user=attack, v1=(attack,), liked=(attack,), relevant=(attack,))
    head = (dataclasses.replace(report.head[0], column=attack), *report.head[1:])
    content = render(dataclasses.replace(report, example=example, head=head, machine=attack, sampling=attack).to_json())
    page = Page(content)
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(attack) >= 6
    for drawing in drawings(content):
        ET.fromstring(drawing)  # noqa: S314  (our own)


def test_drawings_are_well_formed_and_named(html: str) -> None:
    found = [ET.fromstring(drawing) for drawing in drawings(html)]  # noqa: S314  (our own)
    plots = [svg for svg in found if svg.get("class") == "plot"]
    assert len(plots) == 2 * 8
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in plots)
    assert all(svg.get("aria-hidden") == "true" for svg in found if svg not in plots)


def test_no_mark_or_word_leaves_its_drawing(html: str) -> None:
    assert_marks_within(html)


def test_colours_are_left_to_the_style_sheet(html: str) -> None:
    for drawing in drawings(html):
        assert not re.search(r"\b(fill|stroke|style|color)=", drawing)


def test_each_figure_has_a_caption_and_a_table_beside_its_plot(html: str) -> None:
    figures = re.findall(r"<figure>.*?</figure>", html, flags=re.DOTALL)
    assert len(figures) == 8
    for number, figure in enumerate(figures, start=1):
        assert f"<figcaption><b>Figure {number}. " in figure
        assert "<table" in figure
        assert 'scope="col"' in figure


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_words_stand_out_from_their_ground(html: str, mode: str) -> None:
    light, dark = html.split("@media screen and (prefers-color-scheme: dark)")
    colour = colours(light) if mode == "light" else colours(light) | colours(dark.split("\n}\n")[0])
    pairs = [
        (words, ground) for words in ("ink", "muted", "ours", "baseline", "forbidden") for ground in ("paper", "card")
    ]
    for words, ground in [*pairs, ("muted", "grid"), ("ours", "wash"), ("warn", "warn-wash")]:
        brighter, darker = sorted((luminance(colour[words]), luminance(colour[ground])), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5, (words, ground)  # WCAG 2.2, 1.4.3, AA


def test_what_was_not_charged_and_what_is_forbidden_is_said(page: Page) -> None:
    assert "tuned on the devices' training part, and this is not charged to the budget" in page.text
    assert page.text.count("forbidden by privacy") >= 3
    assert "no amplification" in page.text


def test_a_disappointing_run_is_shown_as_plainly(report: Report) -> None:
    worse = Interval(-0.02, -0.03, -0.01, 640)
    gains = dataclasses.replace(report.gains, federated_private=worse, local=worse)
    disappointing = dataclasses.replace(
        report,
        gains=gains,
        shares=Shares(federated=None, federated_private=-0.2),
        epsilon=1.0,
        quantization=dataclasses.replace(report.quantization, finite={"ai-edge-litert": True, "tflite-runtime": False}),
    )
    text = Page(render(disappointing.to_json())).text
    for words in (
        "10 private rounds did not help: nDCG@10",
        "Learning on the device, after the private rounds, did not help: it cost 0.020",
        "No share can be stated".lower(),
        "nothing of central training's gain over v1 is reached (−20 %)",
        "the budget was not kept",
        "Scores are not finite on tflite-runtime.",
        "NOT finite",
    ):
        assert words in text


def test_a_run_of_one_round_and_one_column_is_drawn(report: Report) -> None:
    curve = dataclasses.replace(report.ndcg_by_round, v2=(0.1,), v2_private=(0.1,))
    small = dataclasses.replace(report, ndcg_by_round=curve, epsilon_by_round=(0.5,), head=report.head[:1], rounds=1)
    content = render(small.to_json())
    assert all(ET.fromstring(drawing).tag == "svg" for drawing in drawings(content))  # noqa: S314  (our own)
    assert "1 private round lifts" in Page(content).text


def test_a_long_run_and_long_names_stay_in_their_place(report: Report) -> None:
    rounds = 50
    curve = tuple(0.1 + index / 1000 for index in range(rounds + 1))
    head = tuple(
        dataclasses.replace(weight, column=f"affinity_to_liked:{weight.column}_long") for weight in report.head
    )
    content = render(
        dataclasses.replace(
            report,
            rounds=rounds,
            epsilon_by_round=curve[1:],
            ndcg_by_round=dataclasses.replace(report.ndcg_by_round, v2=curve, v2_private=curve),
            head=head,
        ).to_json()
    )
    assert content.count('data-scroll="long" tabindex="0"') == 2
    assert_marks_within(content)

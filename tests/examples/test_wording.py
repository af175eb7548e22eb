from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from examples.movielens import wording
from examples.movielens.figures import Interval
from examples.movielens.wording import Verdict
from tests.examples.sample_report import sample_report


@pytest.mark.parametrize(
    ("mean", "low", "high", "expected", "said"),
    [
        (
            0.05,
            0.04,
            0.06,
            Verdict.HELPS,
            "It helps: +0.050 nDCG@10, and the whole interval [0.040, 0.060] is above zero.",
        ),
        (
            -0.05,
            -0.06,
            -0.04,
            Verdict.HURTS,
            "It did not help: it cost 0.050 nDCG@10, and the whole interval [−0.060, −0.040] is below zero.",
        ),
        (
            0.01,
            -0.01,
            0.03,
            Verdict.UNCLEAR,
            "It made no clear difference: +0.010 nDCG@10, and the interval [−0.010, 0.030] contains zero.",
        ),
        (
            -0.01,
            -0.03,
            0.01,
            Verdict.UNCLEAR,
            "It did not help: −0.010 nDCG@10, and the interval [−0.030, 0.010] contains zero.",
        ),
        (
            0.0,
            0.0,
            0.0,
            Verdict.UNCLEAR,
            "It did not help: 0.000 nDCG@10, and the interval [0.000, 0.000] contains zero.",
        ),
        (
            0.01,
            0.0,
            0.02,
            Verdict.UNCLEAR,
            "It made no clear difference: +0.010 nDCG@10, and the interval [0.000, 0.020] contains zero.",
        ),
    ],
)
def test_a_gain_is_said_as_its_interval_allows(
    mean: float, low: float, high: float, expected: Verdict, said: str
) -> None:
    gain = Interval(mean, low, high, 640)
    assert wording.verdict(gain) is expected
    assert wording.gain_sentence("It", gain) == said


@pytest.mark.parametrize(
    ("gain", "chip", "said"),
    [
        (Interval(0.02, 0.01, 0.03, 9), "central is better", "would still add +0.020"),
        (
            Interval(-0.02, -0.03, -0.01, 9),
            "rounds are better",
            "end above training centrally on everybody's data, by 0.020",
        ),
        (
            Interval(0.01, -0.01, 0.03, 9),
            "no clear difference",
            "No clear difference between the rounds and training centrally on everybody's data: +0.010",
        ),
    ],
)
def test_the_distance_to_central_training_is_said_as_its_interval_allows(gain: Interval, chip: str, said: str) -> None:
    assert wording.distance_verdict(gain) == chip
    assert said in wording.distance_sentence(gain)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Interval(0.065, 0.05, 0.08, 9), "10 private rounds lift nDCG@10 from 0.100 to 0.165."),
        (Interval(-0.065, -0.08, -0.05, 9), "10 private rounds did not help: nDCG@10 fell from 0.100 to 0.165."),
        (
            Interval(0.065, -0.01, 0.14, 9),
            "10 private rounds made no clear difference: nDCG@10 went from 0.100 to 0.165.",
        ),
    ],
)
def test_the_headline_follows_the_private_gain(gain: Interval, said: str) -> None:
    report = sample_report()
    assert (
        wording.headline(dataclasses.replace(report, gains=dataclasses.replace(report.gains, federated_private=gain)))
        == said
    )


@pytest.mark.parametrize(
    ("say", "value", "said"),
    [
        (wording.scientific, 1e-5, "1e-5"),
        (wording.scientific, 0.0015, "0.0015"),
        (wording.share, None, "–"),
        (wording.share, 0.7677, "77 %"),
        (wording.share, -0.004, "0 %"),
    ],
)
def test_a_figure_is_written_so_that_it_reads(say: Callable[[object], str], value: object, said: str) -> None:
    assert say(value) == said

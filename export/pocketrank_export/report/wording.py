"""Figures in words, and the sentences of the report that depend on them."""

from __future__ import annotations

from pocketrank.metrics import Interval
from pocketrank_export.report.figures import Figures

MINUS = "−"


def three(value: float) -> str:
    """Three decimals, with a real minus."""
    return _minus(f"{value:z.3f}")


def signed(value: float, digits: int = 3) -> str:
    """A difference, with its sign."""
    return _minus(f"{value:+z.{digits}f}") if round(value, digits) else f"{0:.{digits}f}"


def fine(value: float) -> str:
    """A difference of four decimals, with its sign."""
    return signed(value, 4)


def percent(value: float, digits: int = 1) -> str:
    """A fraction in percent."""
    return _minus(f"{value * 100:z.{digits}f} %")


def loss(value: float) -> str:
    """A fraction in percent of two decimals."""
    return percent(value, 2)


def hundredths(value: float) -> str:
    """A percentage of two decimals."""
    return loss(value / 100)


def size(count: float) -> str:
    """Bytes in the decimal unit that fits."""
    for unit, scale in (("B", 1.0), ("kB", 1e3), ("MB", 1e6)):
        scaled = count / scale
        if scaled < 999.5:
            return f"{scaled:.0f} {unit}" if scaled >= 99.95 else f"{scaled:.1f} {unit}".replace(".0 ", " ")
    return f"{count / 1e9:.1f} GB"


def microseconds(value: float) -> str:
    """A time in microseconds, in milliseconds from one on."""
    return f"{value:.0f} µs" if value < 1000 else f"{value / 1000:.2f} ms"


def short(value: float) -> str:
    """Three significant digits, for what has no unit."""
    return _minus(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}")


def plural(count: int, noun: str) -> str:
    """``1 gate``, ``2 gates``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def headline(figures: Figures) -> str:
    """The report in one sentence."""
    failed = sum(not verdict.passed for verdict in figures.verdicts)
    if failed:
        return f"{figures.name} is not released: {plural(failed, 'gate')} said no."
    if figures.failures:
        return f"{figures.name} passes every gate, and fails on the test part."
    if figures.share is not None:
        return f"{figures.name} keeps {percent(figures.share.mean)} of its teacher's gain, and passes every gate."
    return f"{figures.name} passes every gate."


def share_sentence(figures: Figures) -> str:
    """How much of the teacher's gain the student keeps."""
    if figures.taught_by is None:
        return "The student learned from labels alone: there is no teacher's gain to have a share of."
    gain = f"the gain of {figures.taught_by} over {over(figures)}"
    if figures.share is None:
        return f"On the test part, {gain} is not clear of zero: no share of it is stated."
    kept = f"{percent(figures.share.mean)} ({percent(figures.share.low)} to {percent(figures.share.high)})"
    return f"On the test part, the float student keeps {kept} of {gain}."


def over(figures: Figures) -> str:
    """What gains are over."""
    return "the first stage" if figures.baseline == "first stage" else figures.baseline


def calibration_sentence(error: float, mean_share: float) -> str:
    """How far predicted shares are off."""
    return (
        f"A candidate's predicted share is off by {100 * error:.2f} percentage points on average (expected calibration "
        f"error), where the mean share is {percent(mean_share, 2)}."
    )


def span(interval: Interval) -> str:
    """``low to high``."""
    return f"{three(interval.low)} to {three(interval.high)}"


def _minus(words: str) -> str:
    return words.replace("-", MINUS)

"""What the figures say, in words: every sentence of the report that depends on a figure is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from examples.movielens.figures import Example, HeadWeight, Interval, LatencyUs, Quantization, Report
from pocketrank_export.report.wording import microseconds, percent, plural, signed, three


class Verdict(StrEnum):
    """What a paired difference says."""

    HELPS = "helps"
    HURTS = "does not help"
    UNCLEAR = "no clear difference"


def verdict(gain: Interval) -> Verdict:
    """``HELPS`` where the whole interval is above zero, ``HURTS`` where it is below, else ``UNCLEAR``."""
    if gain.low > 0:
        return Verdict.HELPS
    return Verdict.HURTS if gain.high < 0 else Verdict.UNCLEAR


def gain_sentence(subject: str, gain: Interval) -> str:
    """Whether ``subject`` helped, and by how much nDCG@10."""
    found = verdict(gain)
    if found is Verdict.HELPS:
        return f"{subject} helps: {signed(gain.mean)} nDCG@10, and {_where(gain)}."
    if found is Verdict.HURTS:
        return f"{subject} did not help: it cost {three(abs(gain.mean))} nDCG@10, and {_where(gain)}."
    start = f"{subject} did not help" if gain.mean <= 0 else f"{subject} made no clear difference"
    return f"{start}: {signed(gain.mean)} nDCG@10, and {_where(gain)}."


def distance_verdict(to_central: Interval) -> str:
    """The chip beside ``distance_sentence``."""
    return {
        Verdict.HELPS: "central is better",
        Verdict.HURTS: "rounds are better",
        Verdict.UNCLEAR: "no clear difference",
    }[verdict(to_central)]


def distance_sentence(to_central: Interval) -> str:
    """How far the rounds without noise stay behind training on everybody's data."""
    found = verdict(to_central)
    central = "training centrally on everybody's data"
    if found is Verdict.HELPS:
        return f"T{central[1:]} would still add {signed(to_central.mean)} nDCG@10, and {_where(to_central)}."
    if found is Verdict.HURTS:
        gap = three(abs(to_central.mean))
        return f"The rounds end above {central}, by {gap} nDCG@10, and {_where(to_central)}."
    difference = signed(to_central.mean)
    return f"No clear difference between the rounds and {central}: {difference} nDCG@10, and {_where(to_central)}."


def headline(report: Report) -> str:
    """The report in one sentence."""
    start, end = three(report.ndcg_at_10.v1.mean), three(report.ndcg_at_10.v2_private.mean)
    found = verdict(report.gains.federated_private)
    rounds = plural(report.rounds, "private round")
    if found is Verdict.HELPS:
        return f"{rounds} {'lifts' if report.rounds == 1 else 'lift'} nDCG@10 from {start} to {end}."
    if found is Verdict.HURTS:
        return f"{rounds} did not help: nDCG@10 fell from {start} to {end}."
    return f"{rounds} made no clear difference: nDCG@10 went from {start} to {end}."


def factor(report: Report) -> str:
    """nDCG@10 of the private rounds over that of the first stage."""
    first = report.ndcg_at_10.first_stage.mean
    return f"{report.ndcg_at_10.v2_private.mean / first:.1f}×" if first > 0 else "–"


def share(value: float | None) -> str:
    """A fraction in percent; a dash where there is nothing to have a share of."""
    return "–" if value is None else percent(value, 0)


def share_sentence(what: str, value: float | None) -> str:
    """How much of central training's gain over v1 is reached."""
    if value is None:
        return f"{what}: no share can be stated, because central training gained nothing over v1."
    if value <= 0:
        return f"{what}: nothing of central training's gain over v1 is reached ({share(value)})."
    return f"{what}: {share(value)} of central training's gain over v1 is reached."


def budget_sentence(spent: Sequence[float], budget: float) -> str:
    """Whether the rounds kept to the stated epsilon."""
    start = f"After {plural(len(spent), 'round')} a device has spent ε = {spent[-1]:.2f}"
    if spent[-1] > budget * (1 + 1e-6):
        return f"{start}, which is more than the stated {budget:.2f}: the budget was not kept."
    return f"{start} of the stated {budget:.2f}."


def quantization_sentence(quantization: Quantization) -> str:
    """What int8 did to the ranking, and whether every runtime stays finite."""
    loss = quantization.ndcg_loss_percent
    effect = f"costs {loss:.2f} % of nDCG@10" if loss > 0 else f"costs no nDCG@10 ({signed(-loss, 2)} %)"
    broken = [name for name, finite in quantization.finite.items() if not finite]
    finite = f"finite on {' and '.join(quantization.finite)}" if not broken else f"not finite on {' and '.join(broken)}"
    same, tau = f"{quantization.same_order_percent:.1f} %", f"{quantization.kendall_tau:.4f}"
    return (
        f"Quantizing to int8 {effect}, relative; {same} of slates keep the same order on both runtimes "
        f"(Kendall's tau {tau}). Scores are {finite}."
    )


def latency_sentence(latency: LatencyUs) -> str:
    """What everything around the interpreter costs."""
    around = latency.rank_p50 - latency.invoke_p50
    if around <= 0:
        return (
            f"All of rank() took no longer than the bare interpreter ({microseconds(-around)} less): "
            "the difference is within the clock's noise."
        )
    bare, times = microseconds(latency.invoke_p50), latency.rank_p50 / latency.invoke_p50
    return (
        f"Features, sorting and the slate add {microseconds(around)} to the interpreter's {bare}: "
        f"{times:.1f}× the bare model."
    )


def head_sentence(head: Sequence[HeadWeight]) -> str:
    """Where the private rounds put their weight."""
    private = [abs(weight.change) for weight in head if weight.private]
    public = [abs(weight.change) for weight in head if not weight.private]
    if not private or not public:
        return f"The weights moved by {three(_mean(private or public))} on average."
    most = (
        "mostly what only devices know"
        if _mean(private) > _mean(public)
        else "no more about private columns than others"
    )
    return (
        f"The weights of the {len(private)} private columns moved by {three(_mean(private))} on average, "
        f"those of the {len(public)} public ones by {three(_mean(public))}: the rounds taught it {most}."
    )


def starts_at_zero(head: Sequence[HeadWeight]) -> bool:
    """Whether v1 knew nothing of the private columns."""
    return all(weight.v1 == 0 for weight in head if weight.private)


def example_sentence(example: Example) -> str:
    """How many of the user's later favourites each column holds."""
    relevant = set(example.relevant)
    first, v1, private = (
        sum(title in relevant for title in titles) for titles in (example.first_stage, example.v1, example.v2_private)
    )
    start = (
        f"The user later liked {first} of the first stage's list, {v1} of v1's and {private} of the private rounds'."
    )
    return start if private > v1 else f"{start} For this user the rounds did not help."


def rows_word(weights: int, shown: int) -> str:
    """Which columns of the head a plot shows."""
    return f"All {weights} columns" if shown >= weights else f"The {shown} of {weights} columns that moved most"


def span(interval: Interval) -> str:
    """``[low, high]``."""
    return f"[{three(interval.low)}, {three(interval.high)}]"


def scientific(value: float) -> str:
    """``1e-05`` as ``1e-5``."""
    return f"{value:.2g}".replace("e-0", "e-")


def _where(gain: Interval) -> str:
    """Where a difference's interval lies."""
    place = {Verdict.HELPS: "is above zero", Verdict.HURTS: "is below zero", Verdict.UNCLEAR: "contains zero"}
    found = verdict(gain)
    return f"{'the interval' if found is Verdict.UNCLEAR else 'the whole interval'} {span(gain)} {place[found]}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0

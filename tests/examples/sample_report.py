"""A report with plausible, invented figures."""

from __future__ import annotations

from examples.movielens.figures import (
    Example,
    Gains,
    HeadWeight,
    Interval,
    LatencyUs,
    NdcgByRound,
    Parameters,
    Quality,
    Quantization,
    Report,
    Shares,
    SizeBytes,
)


def around(mean: float, half: float = 0.011) -> Interval:
    return Interval(mean, mean - half, mean + half * 1.04, 640)


def sample_report() -> Report:
    private = (
        "similar_to_last_10",
        "similar_decayed",
        "similar_to_liked",
        "genre_affinity",
        "decade_affinity",
        "rating_level",
    )
    public = ("first_stage_score", "popularity", "mean_rating", "trend", "age")
    head = [
        HeadWeight(name, private=True, v1=0.0, v2_private=0.61 - 0.09 * index) for index, name in enumerate(private)
    ]
    head += [
        HeadWeight(name, private=False, v1=0.3 - 0.11 * index, v2_private=0.26 - 0.1 * index)
        for index, name in enumerate(public)
    ]
    head += [
        HeadWeight(f"genre_{index:02}", private=False, v1=0.04 - 0.004 * index, v2_private=0.037 - 0.0031 * index)
        for index in range(18)
    ]
    popular = (
        "Star Wars (1977)",
        "Fargo (1996)",
        "Return of the Jedi (1983)",
        "Contact (1997)",
        "The English Patient (1996)",
    )
    personal = ("Blade Runner (1982)", "Brazil (1985)", "Alien (1979)", "Fargo (1996)", "12 Monkeys (1995)")
    return Report(
        ndcg_at_10=Quality(*map(around, (0.0804, 0.1003, 0.1752, 0.1654, 0.1661, 0.1602, 0.1851))),
        mrr_at_10=Quality(*(around(value, 0.018) for value in (0.151, 0.183, 0.302, 0.287, 0.289, 0.279, 0.318))),
        gains=Gains(around(0.0749, 0.0081), around(0.0651, 0.0078), around(0.0007, 0.0021), around(0.0099, 0.0042)),
        shares=Shares(0.8832, 0.7677),
        epsilon=2.0,
        delta=1e-5,
        sampling="none: every device in every round, no amplification",
        noise_multiplier=5.49,
        clipping_norm=0.3,
        rounds=10,
        devices=660,
        server_users=283,
        epsilon_by_round=tuple(1.998 * (index / 10) ** 0.55 for index in range(1, 11)),
        ndcg_by_round=NdcgByRound(
            v2=(0.1003, 0.1281, 0.1449, 0.1561, 0.1634, 0.1687, 0.1719, 0.1733, 0.1744, 0.1749, 0.1752),
            v2_private=(0.1003, 0.1232, 0.1398, 0.1489, 0.1566, 0.1581, 0.1617, 0.1609, 0.1642, 0.1639, 0.1654),
        ),
        bytes_up_per_round=416,
        bytes_down_per_round=1_204,
        size_bytes=SizeBytes(
            teacher=184_220, float=39_812, quantized=14_368, train=61_004, onnx=35_190, bundle=402_331, update=1_986
        ),
        quantization=Quantization(0.12, 99.6, 0.9987, {"ai-edge-litert": True, "tflite-runtime": True}),
        latency_us=LatencyUs(rank_p50=131.4, invoke_p50=48.2, runtime="tflite-runtime 2.14.0", candidates=100),
        parameters=Parameters(teacher=41_217, student=1_893, trainable=len(head)),
        central_seeds=3,
        head=tuple(head),
        timing_s={"data": 2.1, "teacher": 41.7, "student": 18.3, "export": 36.9, "rounds": 58.2, "report": 7.4},
        versions={"python": "3.11.7", "torch": "2.13.0", "flwr": "1.41.0", "tuf": "7.0.1"},
        seed=20,
        machine="2 cores, x86_64, Linux",
        example=Example(
            user="u-405",
            liked=(
                "Aliens (1986)",
                "Terminator, The (1984)",
                "2001: A Space Odyssey (1968)",
                "<b>Delicatessen</b> (1991)",
            ),
            first_stage=popular,
            v1=("Contact (1997)", "Fargo (1996)", "Titanic (1997)", "Star Wars (1977)", "L.A. Confidential (1997)"),
            v2_private=personal,
            relevant=("Blade Runner (1982)", "Alien (1979)", "Fargo (1996)"),
        ),
    )

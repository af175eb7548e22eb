"""``make demo``: the whole loop on MovieLens-100K, and a report to look at."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from examples.movielens import measure, models
from examples.movielens.figures import Report
from examples.movielens.pipeline import Loop, laboratory, round_plan, without_noise
from examples.movielens.report import VARIANTS, write_report
from examples.movielens.settings import Settings
from pocketrank.bundle import Bundle
from pocketrank.engine import Engine
from pocketrank.errors import PocketRankError
from pocketrank_export.workspace import Workspace, key_of

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / folder for folder in ("sdk", "export", "federated", "server", "examples/movielens", "benchmarks")]


def main() -> None:
    """Run the loop, or show what the last run of the same code found."""
    parser = argparse.ArgumentParser(prog="python -m examples.movielens", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo", help="folder of the run (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="which users are devices, and initial weights (%(default)s)"
    )
    parser.add_argument(
        "--device-python",
        type=Path,
        default=ROOT / ".venv-device" / "bin" / "python",
        help="interpreter of the device environment (%(default)s)",
    )
    arguments = parser.parse_args()
    if not arguments.device_python.exists():
        parser.error(f"{arguments.device_python} is missing: run `make setup`, or name another with --device-python")
    torch.set_num_threads(2)
    console = Console()
    settings = Settings(seed=arguments.seed)
    page = arguments.out / "report.html"
    started = time.perf_counter()
    try:
        workspace = Workspace(arguments.out, key_of(SOURCES, repr(settings)), console)
        if not workspace.done("report"):
            found = run(Loop(settings, workspace, arguments.device_python))
            with workspace.stage("report", "report"):
                write_report(found, arguments.out)
        show(Report.from_json(json.loads((arguments.out / "report.json").read_text())), console)
    except KeyboardInterrupt:
        console.print("\nstopped; the same command goes on from here")
        sys.exit(130)
    except PocketRankError as error:
        console.print(f"[red]{type(error).__name__}[/]: {error}")
        sys.exit(1)
    console.print(f"\n{page}  [dim]({time.perf_counter() - started:.0f} s)[/]", soft_wrap=True)
    console.print(f"[dim]remove {arguments.out} to run it anew[/]", soft_wrap=True)


def run(loop: Loop) -> Report:
    """The loop."""
    parties = loop.world()
    slates = loop.server_slates(parties, private=False)
    teacher, student = loop.distilled("v1", models.PUBLIC, slates, "v1")
    built, v1 = loop.export(parties, student, slates[1])
    loop.publish(v1, "publish-v1")
    v1 = Bundle.open(loop.install("install-v1")[0])
    loop.live(parties, Engine(v1))

    plan = round_plan(loop.settings)
    v2 = loop.improve(parties, laboratory(v1), without_noise(plan), "rounds", "without noise")
    private = loop.improve(parties, v1, plan, "rounds-private", f"epsilon {loop.settings.rounds.epsilon:g}")
    loop.publish(loop.gate(private.bundle, student, slates[1]), "publish-v2")
    installed_path, update_bytes = loop.install("install-v2")

    with_private = loop.server_slates(parties, private=True)
    _, consented = loop.distilled("consented", models.ALL, with_private, "consented")
    central = loop.central(parties, with_private)
    trained = measure.Trained(teacher, student, consented, central)
    shipped = measure.Shipped(built, v1, v2, private, Bundle.open(installed_path), installed_path, update_bytes)
    return measure.report(loop, parties, trained, shipped)


def show(found: Report, console: Console) -> None:
    """The headline figures."""
    console.print("\nnDCG@10 on the devices' tests, 95 % intervals")
    table = Table(box=None)
    for title in ("variant", "mean", "low", "high"):
        table.add_column(title, justify="left" if title == "variant" else "right")
    for name, (title, _) in VARIANTS.items():
        interval = getattr(found.ndcg_at_10, name)
        table.add_row(title, *(f"{value:.4f}" for value in (interval.mean, interval.low, interval.high)))
    console.print(table)
    for title, share in (("without noise", found.shares.federated), ("private", found.shares.federated_private)):
        if share is not None:
            console.print(f"rounds {title}: {share:.0%} of the way from v1 to central")
    epsilon = f"epsilon {found.epsilon:.3g} at delta {found.delta:g} for one device"
    console.print(f"{epsilon}; sampling {found.sampling}", soft_wrap=True)


if __name__ == "__main__":
    main()

"""``make bench``: a bundle is made here, and measured in the device's environment."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.rank import ITEMS, synthetic
from examples.movielens.schema import SCHEMA
from pocketrank.bundle import Bundle, PrivacyPolicy
from pocketrank.features import encode, parse
from pocketrank.profile import History, ItemVectors, profile
from pocketrank_export.builder import build_bundle
from pocketrank_export.replay import Slates
from pocketrank_export.student import Student
from pocketrank_export.vectors import to_npz

ROOT = Path(__file__).parents[1]
VECTOR_WIDTH = 64


def bundle() -> Bundle:
    """The movie demo's schema and student, its weights drawn at random: only its speed counts here."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    items = [str(item) for item in range(ITEMS)]
    vectors = rng.normal(size=(ITEMS, VECTOR_WIDTH))
    columns, events = synthetic(SCHEMA, rng)
    known = ItemVectors(items, vectors.astype(np.float32))
    features = encode(parse(columns, SCHEMA), SCHEMA, profile(SCHEMA, History.of(events, SCHEMA, known)), known)[None]
    ones = np.ones(features.shape[:2], np.float32)
    slates = Slates(features, ones, ones, np.array([features.shape[1]]))
    policy = PrivacyPolicy(min_cohort=1, max_clipping_norm=1.0, min_noise_multiplier=0.0, max_rounds=1)
    student = Student((~SCHEMA.private_columns).tolist())
    vectors_file = to_npz(items, vectors)
    return build_bundle(
        student, SCHEMA, slates, name="bench", version=1, policy=policy, data="none", vectors=vectors_file
    ).bundle


def main() -> None:
    """Make the bundle, and run each benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "bench", help="folder of the results (%(default)s)"
    )
    parser.add_argument("--device-python", type=Path, default=ROOT / ".venv-device" / "bin" / "python")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "bundle"
        print("making a bundle to measure ...", flush=True)
        bundle().save(made)
        for python in (arguments.device_python, sys.executable):
            print(flush=True)
            name = "rank" if python == arguments.device_python else "rank-builder"
            command = [python, "-m", "benchmarks.rank", made, arguments.out / f"{name}.json"]
            subprocess.run(command, cwd=ROOT, check=True)
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

"""A student, the files made of it, and the two TFLite runtimes to run them on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.conversion.training import to_tflite_train
from pocketrank_export.quantization.recipes import weight_int8
from pocketrank_export.student import Student

Array = NDArray[np.float32]
WIDTH = 45
DEVICE_PYTHON = Path(
    os.environ.get("POCKETRANK_DEVICE_PYTHON", Path(__file__).parents[2] / ".venv-device" / "bin" / "python")
)


@dataclass(frozen=True)
class Device:
    """A Python environment that holds a TFLite runtime."""

    name: str
    python: Path
    folder: Path

    def run(
        self,
        content: bytes,
        signature: str,
        calls: Mapping[str, Array],
        state: Mapping[str, Array] | None = None,
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Outputs of the calls (one each step of the first axis), and the file's signatures.

        With ``state``: that is fed to the first call, and to each other one what the call before made of it.
        """
        names = ("model.tflite", "calls.npz", "state.npz", "outputs.npz")
        model, inputs, kept, outputs = (self.folder / name for name in names)
        model.write_bytes(content)
        np.savez(inputs, **calls)  # type: ignore[arg-type]
        np.savez(kept, **(state or {}))  # type: ignore[arg-type]
        script = Path(__file__).with_name("run_signature.py")
        done = subprocess.run(
            [self.python, script, model, signature, inputs, kept, outputs],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        with np.load(outputs) as held:
            return dict(held), json.loads(done.stdout)


@pytest.fixture(scope="session")
def devices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Device]:
    """The environments at hand, by runtime; ai-edge-litert is always one."""
    pythons = {"ai-edge-litert": Path(sys.executable)} | (
        {"tflite-runtime": DEVICE_PYTHON} if DEVICE_PYTHON.exists() else {}
    )
    return {name: Device(name, python, tmp_path_factory.mktemp(name)) for name, python in pythons.items()}


@pytest.fixture(scope="session", params=["ai-edge-litert", "tflite-runtime"])
def device(request: pytest.FixtureRequest, devices: dict[str, Device]) -> Device:
    """Each runtime in turn."""
    if request.param not in devices:
        pytest.skip(f"no environment with {request.param}; name its Python in POCKETRANK_DEVICE_PYTHON")
    return devices[request.param]


def made_student() -> Student:
    """An untrained student of 45 columns, every other one public, with a head that is not zero."""
    torch.manual_seed(20)
    made = Student([column % 2 == 0 for column in range(WIDTH)]).eval()
    torch.nn.init.normal_(made.head.weight, std=0.1)
    assert made.head.lift is not None
    torch.nn.init.normal_(made.head.lift, std=0.1)
    return made


@pytest.fixture(scope="session")
def student() -> Student:
    return made_student()


@pytest.fixture(scope="session")
def rank_float(student: Student) -> bytes:
    return to_tflite_rank(student)


@pytest.fixture(scope="session")
def rank_int8(rank_float: bytes) -> bytes:
    return weight_int8(rank_float)


@pytest.fixture(scope="session")
def train_file(student: Student) -> bytes:
    return to_tflite_train(student)


@pytest.fixture(scope="session")
def lists() -> Callable[..., tuple[Array, Array]]:
    """Random slates: features ``[b, n, d]`` of unlike scales, masks ``[b, n]`` of ``real`` candidates, then padding."""

    def make(slates: int, size: int, real: int, seed: int = 5) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        scale, centre = rng.uniform(0.1, 100.0, WIDTH), rng.normal(0.0, 50.0, WIDTH)
        features = (rng.normal(size=(slates, size, WIDTH)) * scale + centre).astype(np.float32)
        mask = np.zeros((slates, size), np.float32)
        mask[:, :real] = 1.0
        return features * mask[..., None], mask

    return make


@pytest.fixture(scope="session")
def channelwise_dynamic() -> Callable[[bytes], bytes]:
    """The trap: quantize by ai-edge-quantizer's stock recipe, which tflite-runtime 2.14 gets wrong without an error."""

    def make(content: bytes) -> bytes:
        from ai_edge_quantizer import quantizer, recipe

        job = quantizer.Quantizer(bytearray(content), recipe.dynamic_wi8_afp32())
        made = job.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model
        assert made is not None
        return bytes(made)

    return make

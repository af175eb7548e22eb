"""The bundle: a model, its schema and its history, as a directory of files named by a manifest.

The manifest names each file with its size and SHA-256, so whoever trusts the
manifest's bytes trusts the bundle. ``Bundle.open`` reads each file once,
verifies those bytes and hands out only them: nothing is read again from disk
after it was checked. This module is the only one that spells a manifest key;
``docs/bundle.md`` lists them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank import cascade as cascades
from pocketrank.cascade import Prune
from pocketrank.checks import is_finite, is_whole, no_constant
from pocketrank.errors import BundleError, InputError
from pocketrank.policy.rules import Policy
from pocketrank.runtime import RUNTIMES
from pocketrank.schema import Schema

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
RANK_MODEL: Final = "rank.tflite"
TRAIN_MODEL: Final = "train.tflite"
PARAMS: Final = "params.npz"
GOLDEN: Final = "golden.npz"
VECTORS: Final = "vectors.npz"
RANK_MODELS: Final = {runtime: f"rank.{runtime}.tflite" for runtime in RUNTIMES}
"""Of each runtime, the file that it ranks with instead of ``RANK_MODEL``, where a bundle has it."""
FILES: Final = frozenset({RANK_MODEL, *RANK_MODELS.values(), TRAIN_MODEL, PARAMS, GOLDEN, VECTORS})
REQUIRED_FILES: Final = frozenset({RANK_MODEL, PARAMS, GOLDEN})

MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_FILE_BYTES: Final = 64 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Parameter:
    """A trainable tensor: an input of every signature, its value in ``params.npz``."""

    name: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not all(is_whole(size, 1) for size in self.shape):
            raise BundleError(f"manifest trainable: expected a name and sizes above 0, got {self}")


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle as the manifest vouches for it."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        hashed = isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256)
        if not hashed or not is_whole(self.size_bytes, 0, MAX_FILE_BYTES):
            raise BundleError(f"manifest files: expected a SHA-256 and 0 to {MAX_FILE_BYTES} bytes, got {self}")


@dataclass(frozen=True)
class PrivacyStatement:
    """What was spent to make the parameters of this bundle.

    ``epsilon`` is None where devices' data was used without noise, and 0 where
    no device's data was used at all.
    """

    mechanism: str = "none"
    unit: str = "device"
    sampling: str = "none"
    epsilon: float | None = 0.0
    delta: float = 0.0
    rounds: int = 0
    noise_multiplier: float = 0.0
    clipping_norm: float = 0.0


@dataclass(frozen=True)
class PrivacyPolicy:
    """What a device demands of a round on this bundle, or it takes no part."""

    min_cohort: int
    max_clipping_norm: float
    min_noise_multiplier: float
    max_rounds: int
    max_local_steps: int = 1
    max_learning_rate: float = 1.0


@dataclass(frozen=True)
class Lineage:
    """Where a bundle comes from."""

    parent: str | None = None
    """Digest of the bundle that this one was improved from."""
    source: str = "export"
    """``export`` or ``federated``."""
    data: str = ""
    """What it was trained on, in words for a person."""


@dataclass(frozen=True)
class Manifest:
    """Everything a device must know of a bundle before it runs it."""

    name: str
    version: int
    schema: Schema
    slate_sizes: tuple[int, ...]
    trainable: tuple[Parameter, ...]
    policy: PrivacyPolicy
    privacy: PrivacyStatement = PrivacyStatement()
    lineage: Lineage = Lineage()
    ranking: Policy = field(default_factory=Policy)
    """Rules for every slate, under those of the app."""
    cascade: tuple[Prune, ...] = ()
    """What chooses the candidates that the model sees."""
    quantization: Mapping[str, str] = field(default_factory=dict)
    """File of a model to the recipe that it was quantized by."""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """Runtime name to the version that the bundle was verified on."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Figures of the export gates, by name."""
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BundleError(f"manifest name: expected 1 to 64 of a-z 0-9 _ -, got {self.name!r}")
        if not is_whole(self.version, 1):
            raise BundleError(f"manifest version: expected 1 or more, got {self.version!r}")
        sizes = self.slate_sizes
        if not sizes or not all(is_whole(size, 1, 4096) for size in sizes) or list(sizes) != sorted(set(sizes)):
            raise BundleError(f"manifest slate_sizes: expected ascending sizes from 1 to 4096, got {list(sizes)}")
        names = [parameter.name for parameter in self.trainable]
        if len({name.replace(".", "_") for name in names}) != len(names):
            raise BundleError(f"manifest trainable: expected different names, '.' and '_' being the same, got {names}")
        try:
            cascades.check(self.cascade, self.schema.columns)
        except InputError as error:
            raise BundleError(f"manifest {error}") from error
        for record in (self.privacy, self.policy, self.lineage):
            _check_types(record)
        _check_words("runtimes", self.runtimes)
        _check_words("quantization", self.quantization)
        if not all(isinstance(key, str) and is_finite(value) for key, value in self.report.items()):
            raise BundleError(f"manifest report: expected names and finite numbers, got {dict(self.report)}")
        if unknown := {*self.files, *self.quantization} - FILES:
            raise BundleError(f"manifest files: unknown names {sorted(unknown)}; expected among {sorted(FILES)}")

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, no space, UTF-8, a closing newline."""
        body = {"format": FORMAT, **vars(self), "schema": self.schema.to_json(), "ranking": self.ranking.to_json()}
        text = json.dumps(
            body, default=vars, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
        )
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read a manifest, refusing duplicate, missing and unknown keys, and bytes that ``to_json`` would not write.

        Raises:
            BundleError: It is not a manifest of this format.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise BundleError(f"{MANIFEST}: {len(data)} bytes; expected at most {MAX_MANIFEST_BYTES}")
        try:
            body = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=no_constant)
            if not isinstance(body, dict) or body.pop("format", None) != FORMAT:
                raise BundleError(f"{MANIFEST}: expected format {FORMAT}; update the SDK to read a newer one")
            manifest = cls(
                name=body.pop("name"),
                version=body.pop("version"),
                schema=Schema.from_json(body.pop("schema")),
                slate_sizes=tuple(body.pop("slate_sizes")),
                trainable=tuple(Parameter(p["name"], tuple(p["shape"])) for p in body.pop("trainable")),
                policy=PrivacyPolicy(**body.pop("policy")),
                privacy=PrivacyStatement(**body.pop("privacy")),
                lineage=Lineage(**body.pop("lineage")),
                ranking=Policy.from_json(body.pop("ranking")),
                cascade=cascades.from_json(body.pop("cascade")),
                quantization=dict(body.pop("quantization")),
                runtimes=dict(body.pop("runtimes")),
                report=dict(body.pop("report")),
                files={name: FileEntry(**entry) for name, entry in body.pop("files").items()},
                **body,
            )
            if manifest.to_json() != data:
                raise BundleError(f"{MANIFEST}: not in canonical form; write it with Manifest.to_json")
            return manifest
        except BundleError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BundleError(f"{MANIFEST}: not a manifest ({type(error).__name__}: {error})") from error


class Bundle:
    """A verified bundle, held in memory.

    Attributes:
        manifest: What the bundle says of itself.
        digest: SHA-256 of the manifest's bytes; it identifies the bundle.
        files: Name to verified bytes.
    """

    def __init__(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """Verify ``files`` against ``manifest``; use ``Bundle.open`` for a directory."""
        if missing := REQUIRED_FILES - set(manifest.files):
            raise BundleError(f"bundle: the manifest lacks {sorted(missing)}")
        for name, entry in manifest.files.items():
            _verify(name, files.get(name), entry)
        self.manifest = manifest
        self.files: Mapping[str, bytes] = MappingProxyType({name: files[name] for name in manifest.files})
        self.digest = hashlib.sha256(manifest.to_json()).hexdigest()

    @property
    def name(self) -> str:
        """Name and version, as ``movies@3``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Bundle:
        """Read and verify the bundle in ``folder``.

        Raises:
            BundleError: A file is missing, too large, or not what the manifest vouches for.
        """
        root = Path(folder)
        manifest = Manifest.from_json(_read(root / MANIFEST, MAX_MANIFEST_BYTES))
        return cls(manifest, {name: _read(root / name, entry.size_bytes) for name, entry in manifest.files.items()})

    def params(self) -> dict[str, Array]:
        """Values of the trainable parameters, float32, by name, in the manifest's order."""
        arrays = load_arrays(self.files[PARAMS])
        found = {name: f"{value.dtype}{list(value.shape)}" for name, value in arrays.items()}
        expected = {parameter.name: f"float32{list(parameter.shape)}" for parameter in self.manifest.trainable}
        if found != expected or not all(np.isfinite(value).all() for value in arrays.values()):
            raise BundleError(f"{PARAMS}: expected finite {expected}, got {found}")
        return {name: arrays[name] for name in expected}

    def golden(self) -> dict[str, npt.NDArray[Any]]:
        """Golden vectors: ``features`` [s, n, d], ``mask`` [s, n] and the expected ``scores`` [s, n]."""
        return load_arrays(self.files[GOLDEN])

    def rank_models(self) -> dict[str, bytes]:
        """The ranking model of each runtime, by the runtime's name."""
        return {runtime: self.files.get(name, self.files[RANK_MODEL]) for runtime, name in RANK_MODELS.items()}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the bundle to ``folder``, which appears whole or not at all.

        Raises:
            InputError: ``folder`` exists already.
        """
        import shutil
        import tempfile

        target = Path(folder)
        if target.exists():
            raise InputError(f"folder: {target} exists; a bundle is never overwritten, choose another")
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for name, content in {**self.files, MANIFEST: self.manifest.to_json()}.items():
                (staging / name).write_bytes(content)
            staging.chmod(0o755)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def build(manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Make a bundle of ``files``; the manifest's table of files is filled in here."""
    table = {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    return Bundle(dataclasses.replace(manifest, files=table), files)


def save_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An ``.npz`` of plain arrays, byte for byte the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]  # numpy types the keywords as allow_pickle's bool
    return buffer.getvalue()


def load_arrays(data: bytes, max_bytes: int = MAX_FILE_BYTES) -> dict[str, npt.NDArray[Any]]:
    """Read an ``.npz`` as ``save_arrays`` writes it: without compression, so that it can't unpack to more than it is.

    Raises:
        BundleError: It is not such a file, or larger than ``max_bytes``.
    """
    if len(data) > max_bytes:
        raise BundleError(f"arrays: {len(data)} bytes; expected at most {max_bytes}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            plain = all(e.compress_type == zipfile.ZIP_STORED and e.filename.endswith(".npy") for e in entries)
            if not plain or len({entry.filename for entry in entries}) != len(entries):
                raise BundleError(
                    "arrays: expected stored .npy entries of different names; write them with save_arrays"
                )
            return {entry.filename.removesuffix(".npy"): _load_array(archive.read(entry)) for entry in entries}
    except BundleError:
        raise
    except Exception as error:  # the parsers of zipfile and numpy raise whatever the bytes make of them
        raise BundleError(f"arrays: not an .npz of plain arrays ({error})") from error


def _load_array(data: bytes) -> npt.NDArray[Any]:
    """Read an ``.npy`` whose header agrees with its length, before memory for what the header claims is taken."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise BundleError(f"arrays: .npy version {version}; expected (1, 0)")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    content = data[file.tell() :]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content):
        raise BundleError(f"arrays: expected {dtype} {shape}, got {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C").copy()


def _verify(name: str, data: bytes | None, entry: FileEntry) -> None:
    if data is None or len(data) != entry.size_bytes:
        size = "nothing" if data is None else f"{len(data)} bytes"
        raise BundleError(f"{name}: expected {entry.size_bytes} bytes, got {size}; fetch the bundle again")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"{name}: SHA-256 differs from the manifest's; fetch the bundle again")


def _read(path: Path, size_bytes: int) -> bytes:
    """At most one byte more than expected, so that an endless file can't fill memory."""
    try:
        with path.open("rb") as file:
            return file.read(min(size_bytes, MAX_FILE_BYTES) + 1)
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror}); is this the folder of a bundle?") from error


def _of_type(declared: str, value: Any) -> bool:
    if value is None or isinstance(value, str):
        return ("None" if value is None else "str") in declared
    return is_whole(value) if declared == "int" else "float" in declared and is_finite(value)


def _check_types(record: PrivacyStatement | PrivacyPolicy | Lineage) -> None:
    for entry in dataclasses.fields(record):
        declared, value = str(entry.type), getattr(record, entry.name)
        if not _of_type(declared, value):
            name = f"{type(record).__name__}.{entry.name}"
            raise BundleError(f"manifest {name}: expected {declared}, got {value!r:.80}")


def _check_words(key: str, words: Mapping[str, str]) -> None:
    if not all(isinstance(word, str) for word in (*words, *words.values())):
        raise BundleError(f"manifest {key}: expected names and words, got {dict(words)}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise BundleError(f"{MANIFEST}: a key stands twice among {[key for key, _ in pairs]}")
    return body

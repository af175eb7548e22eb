"""The bundle format: what comes back is what was saved, and nothing that was tampered with is opened."""

import dataclasses
import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrank.bundle import (
    GOLDEN,
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    PARAMS,
    RANK_MODEL,
    VECTORS,
    Bundle,
    FileEntry,
    Lineage,
    Manifest,
    Parameter,
    PrivacyPolicy,
    PrivacyStatement,
    build,
    load_arrays,
    save_arrays,
)
from pocketrank.cascade import Prune
from pocketrank.errors import BundleError, InputError
from pocketrank.policy import Condition, Policy, Quota
from pocketrank.schema import Number, Schema
from tests import shop

POLICY = PrivacyPolicy(min_cohort=2, max_clipping_norm=1.0, min_noise_multiplier=0.5, max_rounds=10)
WEIGHTS = np.array([0.5, -1.0], np.float32)
FILES = {RANK_MODEL: b"a model", PARAMS: save_arrays({"w": WEIGHTS}), GOLDEN: save_arrays({})}
PLAIN = Manifest("movies", 3, Schema((Number(name="price"),)), (16, 64), (Parameter("w", (2,)),), POLICY)
BUNDLE = build(PLAIN, FILES)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=20)
MANIFESTS = st.builds(
    Manifest,
    name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
    version=st.integers(1, 10**12),
    schema=st.just(shop.SCHEMA),
    slate_sizes=st.sets(st.integers(1, 4096), min_size=1, max_size=4).map(sorted).map(tuple),
    trainable=st.just((Parameter("head.weight", (3,)), Parameter("head.gain", ()))),
    policy=st.builds(
        PrivacyPolicy,
        st.integers(),
        NUMBERS,
        NUMBERS,
        st.integers(),
        max_local_steps=st.integers(),
        max_learning_rate=NUMBERS,
    ),
    privacy=st.builds(
        PrivacyStatement, TEXT, TEXT, TEXT, NUMBERS | st.none(), NUMBERS, st.integers(), NUMBERS, NUMBERS
    ),
    lineage=st.builds(Lineage, TEXT | st.none(), TEXT, TEXT),
    runtimes=st.dictionaries(TEXT, TEXT, max_size=2),
    report=st.dictionaries(TEXT, NUMBERS, max_size=2),
    files=st.just(BUNDLE.manifest.files),
)


# --------------------------------------------------------------------------------------------------------- round trips


@given(MANIFESTS)
def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    data = manifest.to_json()
    assert Manifest.from_json(data) == manifest
    assert Manifest.from_json(data).to_json() == data


def test_the_ranking_policy_and_the_cascade_survive_the_bytes() -> None:
    rules = Policy(deny=(Condition("maker", "eq", "north"),), quotas=(Quota("kind", 2, 5),), expire=("until",))
    stages = (Prune(keep=50, weights={"rating": 1.0, "price": -0.5}, stop_margin=2.0), Prune(keep=10))
    manifest = dataclasses.replace(shop.bundle().manifest, ranking=rules, cascade=stages)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_cascade_over_a_column_that_the_schema_lacks_is_refused() -> None:
    with pytest.raises(BundleError, match="no column 'speed'"):
        dataclasses.replace(shop.bundle().manifest, cascade=(Prune(keep=5, weights={"speed": 1.0}),))


def test_a_bundle_survives_the_disk(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "a" / "bundle")
    found = Bundle.open(tmp_path / "a" / "bundle")
    assert found.manifest == BUNDLE.manifest
    assert dict(found.files) == FILES
    assert (
        found.digest == BUNDLE.digest == hashlib.sha256((tmp_path / "a" / "bundle" / MANIFEST).read_bytes()).hexdigest()
    )
    np.testing.assert_array_equal(found.params()["w"], WEIGHTS)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"bundle"}


def test_the_digest_speaks_for_every_file() -> None:
    digests = {BUNDLE.digest}
    for name, content in FILES.items():
        digests.add(build(PLAIN, {**FILES, name: content + b"0"}).digest)
    digests.add(build(dataclasses.replace(PLAIN, version=4), FILES).digest)
    assert len(digests) == 5


def test_saving_never_overwrites(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "bundle")
    with pytest.raises(InputError, match="exists; a bundle is never overwritten"):
        build(dataclasses.replace(PLAIN, version=4), FILES).save(tmp_path / "bundle")
    assert Bundle.open(tmp_path / "bundle").manifest.version == 3


def test_saving_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        BUNDLE.save(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_is_held_and_not_read_again(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "bundle")
    found = Bundle.open(tmp_path / "bundle")
    (tmp_path / "bundle" / PARAMS).write_bytes(b"swapped after the check")
    np.testing.assert_array_equal(found.params()["w"], WEIGHTS)
    with pytest.raises(TypeError):
        found.files[PARAMS] = b""  # type: ignore[index]


def test_files_that_the_manifest_doesnt_name_are_not_read(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "bundle")
    (tmp_path / "bundle" / VECTORS).write_bytes(b"planted")
    assert VECTORS not in Bundle.open(tmp_path / "bundle").files


# ----------------------------------------------------------------------------------------------------------- tampering


def body_of(folder: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return body


def write(folder: Path, body: object) -> None:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (folder / MANIFEST).write_bytes(text.encode() + b"\n")


def with_value(*keys: str | int, value: Any) -> Callable[[Path], None]:
    """Put ``value`` at a place of the manifest, else left in canonical form."""

    def tamper(folder: Path) -> None:
        body = body_of(folder)
        place: Any = body
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        write(folder, body)

    return tamper


def with_text(old: str, new: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        text = (folder / MANIFEST).read_text()
        assert old in text
        (folder / MANIFEST).write_text(text.replace(old, new, 1))

    return tamper


def without(*keys: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        body = body_of(folder)
        place = body
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        write(folder, body)

    return tamper


def flipped(name: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return tamper


def resized(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return tamper


def vouched(name: str, content: bytes) -> Callable[[Path], None]:
    """Replace a file, and its hash and size in the manifest too."""

    def tamper(folder: Path) -> None:
        body = body_of(folder)
        body["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        (folder / name).write_bytes(content)
        write(folder, body)

    return tamper


def swapped(folder: Path) -> None:
    """Two files in each other's place."""
    one, other = (folder / name for name in (PARAMS, GOLDEN))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


def folder_instead(folder: Path) -> None:
    (folder / PARAMS).unlink()
    (folder / PARAMS).mkdir()


def unlinked(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


SAFE = {"sha256": "0" * 64, "size_bytes": 1}
TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped byte in a file": (flipped(PARAMS), r"params.npz: SHA-256 differs"),
    "flipped byte in the model": (flipped(RANK_MODEL), r"rank.tflite: SHA-256 differs"),
    "truncated file": (resized(PARAMS, lambda content: content[:-1]), r"params.npz: expected \d+ bytes, got \d+"),
    "empty file": (resized(RANK_MODEL, lambda _: b""), r"rank.tflite: expected 7 bytes, got 0"),
    "bytes after the end": (resized(PARAMS, lambda content: content + b"0"), r"params.npz: expected \d+ bytes"),
    "much after the end": (resized(PARAMS, lambda content: content + b"0" * 10**6), r"params.npz: expected \d+ bytes"),
    "files swapped": (swapped, r"(params|golden).npz: expected"),
    "missing file": (unlinked(RANK_MODEL), r"rank.tflite: can't be read"),
    "missing manifest": (unlinked(MANIFEST), r"manifest.json: can't be read"),
    "a folder for a file": (folder_instead, r"params.npz: can't be read"),
    "empty manifest": (resized(MANIFEST, lambda _: b""), r"not a manifest"),
    "no JSON": (resized(MANIFEST, lambda content: content[: len(content) // 2]), r"not a manifest"),
    "no UTF-8": (resized(MANIFEST, lambda content: content.replace(b"movies", b"\xff\xfe")), r"not a manifest"),
    "no object": (lambda folder: write(folder, [1, 2]), r"expected format 1"),
    "nested too deep": (resized(MANIFEST, lambda _: b"[" * 10**5), r"not a manifest|expected format"),
    "oversized manifest": (resized(MANIFEST, lambda content: content + b" " * MAX_MANIFEST_BYTES), r"at most 1048576"),
    "wrong format": (with_value("format", value=2), r"expected format 1; update the SDK"),
    "no format": (without("format"), r"expected format 1"),
    "unknown key": (with_value("colour", value="red"), r"not a manifest"),
    "missing key": (without("policy"), r"not a manifest"),
    "missing key within": (without("policy", "min_cohort"), r"not a manifest"),
    "unknown key within": (with_value("policy", "colour", value=1), r"not a manifest"),
    "duplicate key": (with_text('"version":3', '"version":3,"version":4'), r"a key stands twice"),
    "duplicate file": (with_text('"files":{', '"files":{"golden.npz":{},'), r"a key stands twice"),
    "NaN": (with_text('"delta":0.0', '"delta":NaN'), r"NaN is not a number"),
    "infinity": (with_text('"delta":0.0', '"delta":-Infinity'), r"-Infinity is not a number"),
    "too large a number": (
        with_text('"delta":0.0', '"delta":1e999'),
        r"PrivacyStatement.delta: expected float, got inf",
    ),
    "beyond any float": (
        with_text('"delta":0.0', f'"delta":1{"0" * 400}'),
        r"PrivacyStatement.delta: expected float, got 1000",
    ),
    "a space more": (with_text('"version":3', '"version": 3'), r"not in canonical form"),
    "another order": (with_text('"version":3}', '"version":3,"a":1}'), r"not a manifest"),
    "no newline": (resized(MANIFEST, lambda content: content.rstrip()), r"not in canonical form"),
    "escaped letters": (with_text('"movies"', '"\\u006dovies"'), r"not in canonical form"),
    "half a letter": (with_text('"data":""', '"data":"\\ud800"'), r"not a manifest"),
    "name with a slash": (with_value("name", value="../movies"), r"manifest name"),
    "name in capitals": (with_value("name", value="Movies"), r"manifest name"),
    "no name": (with_value("name", value=None), r"not a manifest"),
    "version 0": (with_value("version", value=0), r"manifest version: expected 1 or more, got 0"),
    "version 1.5": (with_value("version", value=1.5), r"manifest version"),
    "version true": (with_value("version", value=True), r"manifest version"),
    "version in words": (with_value("version", value="3"), r"manifest version"),
    "no slate sizes": (with_value("slate_sizes", value=[]), r"slate_sizes"),
    "slate sizes fall": (with_value("slate_sizes", value=[64, 16]), r"slate_sizes"),
    "slate sizes twice": (with_value("slate_sizes", value=[16, 16]), r"slate_sizes"),
    "slate size 0": (with_value("slate_sizes", value=[0, 16]), r"slate_sizes"),
    "slate size huge": (with_value("slate_sizes", value=[16, 5000]), r"slate_sizes"),
    "slate size 16.0": (with_value("slate_sizes", value=[16.0]), r"slate_sizes"),
    "slate sizes in words": (with_value("slate_sizes", value="16"), r"slate_sizes"),
    "bad schema": (with_value("schema", 0, "kind", value="nothing"), r"schema: unknown kind"),
    "no schema": (with_value("schema", value={}), r"schema|not a manifest|canonical"),
    "parameter without shape": (with_value("trainable", value=[{"name": "w"}]), r"not a manifest"),
    "parameter of size 0": (with_value("trainable", value=[{"name": "w", "shape": [0]}]), r"manifest trainable"),
    "parameter of size 2.0": (with_value("trainable", value=[{"name": "w", "shape": [2.0]}]), r"manifest trainable"),
    "parameter twice": (with_value("trainable", value=[{"name": "w", "shape": [2]}] * 2), r"manifest trainable"),
    "parameters of one input": (
        with_value("trainable", value=[{"name": "a.b", "shape": [2]}, {"name": "a_b", "shape": [2]}]),
        r"manifest trainable: expected different names",
    ),
    "policy in words": (with_value("policy", "min_cohort", value="2"), r"PrivacyPolicy.min_cohort: expected int"),
    "policy with half a device": (with_value("policy", "min_cohort", value=2.5), r"PrivacyPolicy.min_cohort"),
    "policy without a bound": (
        with_value("policy", "max_clipping_norm", value=None),
        r"PrivacyPolicy.max_clipping_norm",
    ),
    "privacy in words": (
        with_value("privacy", "epsilon", value="2"),
        r"PrivacyStatement.epsilon: expected float | None",
    ),
    "lineage of a number": (with_value("lineage", "parent", value=5), r"Lineage.parent: expected str | None"),
    "report in words": (with_value("report", value={"ndcg": "high"}), r"manifest report"),
    "runtime without version": (with_value("runtimes", value={"x": None}), r"manifest runtimes"),
    "unknown file": (with_value("files", "extra.bin", value=SAFE), r"unknown names \['extra.bin'\]"),
    "file outside": (with_value("files", "../params.npz", value=SAFE), r"unknown names \['../params.npz'\]"),
    "file of the system": (with_value("files", "/etc/passwd", value=SAFE), r"unknown names"),
    "the manifest as a file": (with_value("files", "manifest.json", value=SAFE), r"unknown names"),
    "file in capitals": (with_value("files", "Params.npz", value=SAFE), r"unknown names"),
    "no model": (without("files", RANK_MODEL), r"the manifest lacks \['rank.tflite'\]"),
    "no golden vectors": (without("files", GOLDEN), r"the manifest lacks \['golden.npz'\]"),
    "size below 0": (with_value("files", PARAMS, "size_bytes", value=-5), r"expected a SHA-256 and 0 to"),
    "size of half a byte": (with_value("files", PARAMS, "size_bytes", value=1.5), r"expected a SHA-256 and 0 to"),
    "size in words": (with_value("files", PARAMS, "size_bytes", value="7"), r"expected a SHA-256 and 0 to"),
    "oversized file": (with_value("files", PARAMS, "size_bytes", value=MAX_FILE_BYTES + 1), r"0 to 67108864 bytes"),
    "hash too short": (with_value("files", PARAMS, "sha256", value="00"), r"expected a SHA-256"),
    "hash in capitals": (with_value("files", PARAMS, "sha256", value="A" * 64), r"expected a SHA-256"),
    "hash of a number": (with_value("files", PARAMS, "sha256", value=5), r"expected a SHA-256"),
    "file entry of another form": (with_value("files", PARAMS, value=[1, 2]), r"not a manifest"),
}


@pytest.mark.parametrize(("tamper", "message"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_bundle_is_refused(tamper: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "bundle")
    tamper(tmp_path / "bundle")
    with pytest.raises(BundleError, match=message):
        Bundle.open(tmp_path / "bundle")


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is this the folder of a bundle"):
        Bundle.open(tmp_path / "nowhere")


@given(st.data())
@settings(max_examples=200)
def test_no_flipped_bit_of_the_manifest_goes_unnoticed(data: st.DataObject) -> None:
    content = bytearray(BUNDLE.manifest.to_json())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = Bundle(Manifest.from_json(bytes(content)), FILES)
    except BundleError:
        return
    # What still reads as a manifest is another one, and known by another digest.
    assert found.digest == hashlib.sha256(content).hexdigest() != BUNDLE.digest


# -------------------------------------------------------------------------------------------------------------- arrays


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True),
        st.tuples(st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "U3"]), st.lists(st.integers(0, 4), max_size=3)),
        max_size=4,
    ),
    st.booleans(),
)
def test_arrays_survive_and_give_the_same_bytes(entries: dict[str, tuple[str, list[int]]], fortran: Any) -> None:
    arrays = {}
    for name, (dtype, shape) in entries.items():
        values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        arrays[name] = np.asfortranarray(values) if fortran else values
    data = save_arrays(arrays)
    assert save_arrays(arrays) == data
    found = load_arrays(data)
    assert list(found) == list(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
        assert found[name].flags.writeable


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + content


def npz(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return buffer.getvalue()


def twice() -> bytes:
    """One name for two arrays, which zipfile only writes with a warning."""
    return npz(("a.npy", npy_of(1.0)), ("b.npy", npy_of(2.0))).replace(b"b.npy", b"a.npy")


def npy_of(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"
BAD_ARRAYS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not an .npz"),
    "no archive": (b"some text", "not an .npz"),
    "one array": (npy_of(np.zeros(3)), "not an .npz"),
    "truncated": (save_arrays({"w": WEIGHTS})[:-10], "not an .npz"),
    "without a beginning": (save_arrays({"w": WEIGHTS})[40:], "not an .npz|stored"),
    "a bomb": (npz(("w.npy", npy_of(np.zeros(10**6))), compression=zipfile.ZIP_DEFLATED), "expected stored"),
    "a bomb by bzip2": (npz(("w.npy", npy_of(np.zeros(10**6))), compression=zipfile.ZIP_BZIP2), "expected stored"),
    "a shape past memory": (npz(("w.npy", npy(HUGE))), r"expected float32 \(1000000000000,\), got 0 bytes"),
    "a shape below 0": (npz(("w.npy", npy(HUGE.replace("10", "-10")))), "expected|not an .npz"),
    "less than the shape": (npz(("w.npy", npy_of(np.zeros(3))[:-1])), r"expected float64 \(3,\), got 23 bytes"),
    "more than the shape": (npz(("w.npy", npy_of(np.zeros(3)) + b"0")), r"expected float64 \(3,\), got 25 bytes"),
    "pickled objects": (npz(("w.npy", npy_of(np.array([{}], object)))), r"arrays: expected object \(1,\)"),
    "no array": (npz(("w.npy", b"not numpy's")), "not an .npz"),
    "an empty entry": (npz(("w.npy", b"")), "not an .npz"),
    "another file": (npz(("w.txt", b"hello")), "expected stored .npy entries"),
    "a folder": (npz(("w.npy/", b"")), "expected stored .npy entries"),
    "the same name twice": (twice(), "different names"),
    "code for a header": (npz(("w.npy", npy("__import__('os').system('true')"))), "not an .npz"),
    "no header": (npz(("w.npy", npy("((("))), "not an .npz"),
    "another version": (npz(("w.npy", npy(HUGE, version=b"\x03\x00"))), r"version \(3, 0\)"),
}


@pytest.mark.parametrize(("data", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_are_none_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load_arrays(data)


def test_arrays_larger_than_allowed_are_refused() -> None:
    data = save_arrays({"w": np.zeros(1000)})
    assert load_arrays(data, max_bytes=len(data))["w"].shape == (1000,)
    with pytest.raises(BundleError, match=rf"arrays: {len(data)} bytes; expected at most 8000"):
        load_arrays(data, max_bytes=8000)


@given(st.data())
@settings(max_examples=300)
def test_damaged_arrays_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(save_arrays({"w": WEIGHTS, "names": np.array(["a", "bc"])}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BundleError):
        load_arrays(bytes(content))


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_array_in_a_sound_archive_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(npy_of(WEIGHTS))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BundleError):
        load_arrays(npz(("w.npy", bytes(content))))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"w": WEIGHTS, "v": WEIGHTS},
        {"v": WEIGHTS},
        {"w": WEIGHTS[:1]},
        {"w": WEIGHTS[None]},
        {"w": WEIGHTS.astype(np.float64)},
        {"w": WEIGHTS.astype(">f4")},
        {"w": np.array(["1", "2"])},
        {"w": np.array([1.0, np.nan], np.float32)},
        {"w": np.array([1.0, np.inf], np.float32)},
    ],
    ids=lambda params: re.sub(r"\s+", " ", str(params)),
)
def test_parameters_other_than_the_manifests_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"params.npz: expected finite {'w': 'float32\[2\]'}"):
        build(PLAIN, {**FILES, PARAMS: save_arrays(params)}).params()


def test_parameters_come_in_the_order_of_the_manifest() -> None:
    manifest = dataclasses.replace(PLAIN, trainable=(Parameter("b", ()), Parameter("a", (2,))))
    params = {"a": WEIGHTS, "b": np.array(3.0, np.float32)}
    found = build(manifest, {**FILES, PARAMS: save_arrays(params)}).params()
    assert list(found) == ["b", "a"]
    assert found["b"] == 3.0


def test_an_entry_that_no_file_could_have_is_refused() -> None:
    with pytest.raises(BundleError, match="expected a SHA-256"):
        FileEntry("x", 1)

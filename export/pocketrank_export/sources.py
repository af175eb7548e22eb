"""The data that a configuration names, read, checked and split."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pocketrank.bundle import MAX_FILE_BYTES
from pocketrank.errors import InputError
from pocketrank_export.config import Config, Impressions, Letor
from pocketrank_export.data import impressions, letor
from pocketrank_export.data.dataset import Dataset, Split
from pocketrank_export.data.splits import by_group, by_time, check_split
from pocketrank_export.teachers.teacher import read_bounded


def split_of(config: Config) -> Split:
    """Read the data of ``config`` and cut it into its parts.

    Raises:
        InputError: The data does not fit its form, or can't be split so.
        LeakError: The test could be known in training.
    """
    whole, test = _read(config)
    part = config.split
    held_out: float | Dataset = part.test if test is None else test
    if part.by == "time":
        split = by_time(whole, validation=part.validation, test=held_out)
    else:
        split = by_group(whole, validation=part.validation, test=held_out, seed=config.seed)
    check_split(split, part.by)
    most, largest = max(_longest(one) for one in (split.train, split.validation, split.test)), max(config.slate_sizes)
    if most > largest:
        raise InputError(f"slate_sizes: the data has slates of {most} candidates, and the largest size is {largest}")
    for name in ("validation", "test"):
        found: Dataset = getattr(split, name)
        if not found.slates.has_relevant.any():
            raise InputError(
                f"{name}: none of its {len(found)} slates has a label above 0, so nothing can be measured; split the "
                "data in another way, or take more of it"
            )
    return split


def digest_of(config: Config) -> str:
    """SHA-256 of all that the split depends on: the settings, and the bytes of the files."""
    digest = hashlib.sha256(_named(config).model_dump_json(exclude={"path", "train", "test", "vectors"}).encode())
    digest.update(f"{config.split.model_dump_json()}/{config.seed}".encode())
    for file in _files(config):
        # Queries without qid are called by their file.
        digest.update(f"/{file.name}/".encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _named(config: Config) -> Letor | Impressions:
    if config.data is None:
        raise InputError("data: expected what to train on, got nothing; add a table [data] with kind and files")
    return config.data


def _files(config: Config) -> list[Path]:
    match _named(config):
        case Letor() as data:
            given = [data.train, *([data.test] if data.test else [])]
            beside = [path.with_name(path.name + ending) for path in given for ending in letor.SIZES]
            return [path for path in (*given, *beside) if path.is_file()]
        case Impressions() as data:
            return [data.path, *([data.vectors] if data.vectors else [])]


def _read(config: Config) -> tuple[Dataset, Dataset | None]:
    """The data, and a test set where it came with one."""
    match _named(config):
        case Letor() as data:
            whole, *tests = letor.read([data.train, *([data.test] if data.test else [])], gains=data.gains)
            return whole, tests[0] if tests else None
        case Impressions() as data:
            schema = data.schema_of_features
            vectors = None if data.vectors is None else read_bounded(data.vectors, MAX_FILE_BYTES)
            return impressions.to_dataset(impressions.read([data.path], schema), schema, vectors), None


def _longest(part: Dataset) -> int:
    """Candidates of the longest slate."""
    return int(part.slates.mask.sum(axis=1).max(initial=0))

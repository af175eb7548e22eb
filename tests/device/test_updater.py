"""The updater, its disk, its power supply and what it fetches."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketrank.bundle import GOLDEN, PARAMS, RANK_MODEL, Bundle, build, save_arrays
from pocketrank.errors import ExtraMissingError, InputError, ModelError, UpdateError
from pocketrank.slots import MAX_SELF_TESTS
from pocketrank.updater import Updater
from pocketrank_server.repository import Repository
from tests import shop
from tests.signed import NAME, World, assert_refused, content, flip, make, new_world, now, works


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


# ------------------------------------------------------------------------------------------------------------ self-test


def test_a_bundle_that_fails_its_self_test_is_refused_and_not_tried_again(world: World) -> None:
    tested: list[int] = []

    def fails(bundle: Bundle) -> None:
        tested.append(bundle.manifest.version)
        raise ModelError("scores: NaN")

    updater = world.updater(self_test=fails)
    assert_refused(world, "self-test failed: scores: NaN", updater)
    assert_refused(world, "was refused before", updater)
    assert_refused(world, "was refused before", world.updater())
    assert tested == [3]

    world.repository.publish(make(4), now())
    assert world.updater().update(NAME).version == 4


def test_by_default_the_golden_vectors_are_run_on_the_runtime_that_is_here(world: World) -> None:
    assert_refused(world, "self-test failed", world.updater(self_test=None))


def test_a_real_bundle_passes_its_self_test_here_and_one_with_impossible_parameters_does_not(tmp_path: Path) -> None:
    shop_bundle = Bundle.open(shop.FOLDER)
    name, version = shop_bundle.manifest.name, shop_bundle.manifest.version
    repository = Repository.create(tmp_path / "repository", tmp_path / "keys", now())
    repository.publish(shop_bundle, now())
    updater = Updater(tmp_path / "home", repository.folder, repository.root)
    assert updater.update(name).digest == shop_bundle.digest

    params = save_arrays({key: np.full_like(value, 3e38) for key, value in shop_bundle.params().items()})
    wrong = build(replace(shop_bundle.manifest, version=version + 1), {**shop_bundle.files, PARAMS: params})
    repository.publish(wrong, now())
    for reason in ("self-test failed", "was refused before"):
        with pytest.raises(UpdateError, match=reason):
            updater.update(name)
    assert updater.installed() == tmp_path / "home" / "bundles" / shop_bundle.digest


def test_an_error_that_does_not_speak_against_the_bundle_is_not_remembered(world: World) -> None:
    def interrupted(_: Bundle) -> None:
        raise KeyboardInterrupt

    for _ in range(MAX_SELF_TESTS + 1):
        with pytest.raises(KeyboardInterrupt):
            world.updater(self_test=interrupted).update(NAME)
    assert world.updater().update(NAME).version == 3


def test_a_bundle_whose_self_test_takes_the_process_down_is_refused_after_three_attempts(world: World) -> None:
    script = (
        "import os, pathlib, sys; from pocketrank.updater import Updater; "
        "root = pathlib.Path(sys.argv[3]).read_bytes(); "
        "Updater(sys.argv[1], sys.argv[2], root, self_test=lambda bundle: os._exit(9)).update('movies')"
    )
    root = world.repository.keys_folder / "root.json"
    for _ in range(MAX_SELF_TESTS):
        done = subprocess.run([sys.executable, "-c", script, world.home, world.repository.folder, root], check=False)
        assert done.returncode == 9
    assert_refused(world, "begun 3 times and never ended")
    assert_refused(world, "was refused before")


# --------------------------------------------------------------------------------------------------------- interruption


class Killed(BaseException):
    """The process ended here."""


@contextmanager
def killed_at(step: int) -> Iterator[list[str]]:
    """Let ``step`` operations that matter for durability pass, and kill at the next."""
    done: list[str] = []

    def guarded(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if len(done) == step:
                raise Killed(name)
            done.append(name)
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "fsync", "unlink", "rmdir"):
            patch.setattr(os, name, guarded(name, getattr(os, name)))
        yield done


def test_a_kill_at_any_step_leaves_the_old_bundle_or_the_new_one_and_the_next_update_ends_well(
    world: World, tmp_path: Path
) -> None:
    outcomes = []
    for step in range(200):
        home = tmp_path / f"home{step}"
        shutil.copytree(world.home, home, symlinks=True)
        updater = world.updater(home)
        try:
            with killed_at(step):
                updater.update(NAME)
        except Killed:
            pass
        else:
            break
        installed = updater.installed()
        assert installed is not None
        bundle = Bundle.open(installed)
        assert bundle.digest in {make(2).digest, make(3).digest}
        outcomes.append(bundle.manifest.version)
        assert updater.update(NAME).version == 3
        assert Bundle.open(updater.rollback()).digest == make(2).digest
    assert outcomes == sorted(outcomes)
    assert outcomes.count(2) > 10
    assert 3 in outcomes


def test_a_full_disk_is_reported_and_the_last_good_bundle_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert_refused(world, "No space left on device")


def test_an_interrupted_download_goes_on_from_the_files_that_came(world: World) -> None:
    blob = world.target(RANK_MODEL)  # the last to be fetched
    blob.rename(blob.with_suffix(".away"))
    assert_refused(world, "DownloadHTTPError")
    blob.with_suffix(".away").rename(blob)
    update = world.updater().update(NAME)
    assert update.bytes_downloaded == world.metadata("timestamp").stat().st_size + len(content(3)[RANK_MODEL])
    assert not list(world.home.glob("downloads/*"))


def test_two_processes_do_not_update_the_same_home(world: World) -> None:
    def meddle(_: Bundle) -> None:
        with pytest.raises(UpdateError, match="another process is updating"):
            world.updater().update(NAME)

    assert world.updater(self_test=meddle).update(NAME).version == 3


# ------------------------------------------------------------------------------------------------------ what is fetched


def test_a_check_without_news_fetches_the_timestamp_alone(world: World) -> None:
    world.updater().update(NAME)
    update = world.updater().update(NAME)
    assert update.status == "unchanged"
    assert update.bytes_downloaded == world.metadata("timestamp").stat().st_size


def test_an_update_of_parameters_alone_downloads_kilobytes(world: World) -> None:
    large = {RANK_MODEL: os.urandom(300_000), PARAMS: os.urandom(500), GOLDEN: os.urandom(100_000)}
    world.repository.publish(make(4, large), now())
    assert world.updater().update(NAME).bytes_downloaded > 400_000
    world.repository.publish(make(5, {**large, PARAMS: os.urandom(500)}), now())
    update = world.updater().update(NAME)
    assert update.version == 5
    assert update.bytes_downloaded < 8_000


def test_a_file_damaged_in_the_held_bundle_is_fetched_and_not_reused(world: World) -> None:
    world.repository.publish(make(4, {**content(4), RANK_MODEL: content(2)[RANK_MODEL]}), now())
    flip(world.home / "bundles" / make(2).digest / RANK_MODEL)
    update = world.updater().update(NAME)
    assert Bundle.open(update.bundle_path).files[RANK_MODEL] == content(2)[RANK_MODEL]


def test_a_damaged_current_bundle_is_installed_anew(world: World) -> None:
    world.updater().update(NAME)
    flip(world.home / "bundles" / make(3).digest / PARAMS)
    update = world.updater().update(NAME)
    assert update.status == "installed"
    assert Bundle.open(update.bundle_path).digest == make(3).digest
    assert Bundle.open(world.updater().rollback()).digest == make(2).digest


def test_only_the_current_and_the_previous_bundle_are_kept(world: World) -> None:
    for version in (4, 5, 6):
        world.repository.publish(make(version), now())
        world.updater().update(NAME)
    assert {path.name for path in world.home.glob("bundles/*")} == {make(5).digest, make(6).digest}


# ----------------------------------------------------------------------------------------------- rollback on the device


def test_rollback_returns_to_the_previous_bundle_and_the_bad_one_does_not_come_back(world: World) -> None:
    updater = world.updater()
    updater.update(NAME)
    assert Bundle.open(updater.rollback()).digest == make(2).digest
    assert updater.installed() == world.home / "bundles" / make(2).digest
    assert_refused(world, "rolled back")
    world.sign(make(1).manifest.to_json(), content(1))
    assert_refused(world, "version 1; expected one above 3")
    world.sign(make(4).manifest.to_json(), content(4))
    assert updater.update(NAME).version == 4


def test_mending_an_older_bundle_after_a_rollback_does_not_lower_the_version_to_beat(world: World) -> None:
    world.updater().update(NAME)
    flip(world.updater().rollback() / PARAMS)
    world.sign(make(2).manifest.to_json(), content(2))
    assert world.updater().update(NAME).status == "installed"
    other = content(9)
    world.sign(make(3, other).manifest.to_json(), other)
    assert_refused(world, "version 3; expected one above 3")


def test_rollback_without_a_previous_bundle_is_refused(world: World) -> None:
    with pytest.raises(UpdateError, match="no previous bundle is held; the current bundle stays"):
        world.updater().rollback()
    assert world.updater().installed() == world.home / "bundles" / make(2).digest


def test_rollback_to_a_damaged_bundle_is_refused(world: World) -> None:
    world.updater().update(NAME)
    flip(world.home / "bundles" / make(2).digest / PARAMS)
    with pytest.raises(UpdateError, match="SHA-256 differs"):
        world.updater().rollback()
    assert world.updater().installed() == world.home / "bundles" / make(3).digest


# ---------------------------------------------------------------------------------------------------------- first start


def test_nothing_is_installed_before_the_first_update(world: World, tmp_path: Path) -> None:
    updater = world.updater(tmp_path / "new")
    assert updater.installed() is None
    flip(world.target(PARAMS))
    with pytest.raises(UpdateError, match="nothing is installed yet"):
        updater.update(NAME)
    assert updater.installed() is None


def test_a_later_start_may_trust_the_root_that_the_first_one_left(world: World, tmp_path: Path) -> None:
    assert Updater(world.home, world.repository.folder, None, self_test=works).update(NAME).version == 3
    with pytest.raises(UpdateError, match="nothing is installed yet"):
        Updater(tmp_path / "new", world.repository.folder, None, self_test=works).update(NAME)


def test_a_root_that_is_none_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match="DeserializationError"):
        Updater(tmp_path / "new", world.repository.folder, b"{}", self_test=works).update(NAME)


def test_a_renewed_root_is_followed(world: World) -> None:
    world.repository.renew_root(now())
    world.repository.renew_root(now())
    assert world.updater().update(NAME).version == 3


def test_an_unknown_name_is_refused_and_says_so(world: World) -> None:
    assert_refused(world, "no target books/manifest.json; is it the right repository", name="books")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"current": 3, "previous": null, "newest": 1}'])
def test_an_unreadable_state_counts_as_nothing_and_the_next_update_repairs_it(world: World, damage: bytes) -> None:
    (world.home / "state.json").write_bytes(damage)
    assert world.updater().installed() is None
    assert world.updater().update(NAME).version == 3
    assert json.loads((world.home / "state.json").read_bytes())["newest"] == 3


def test_a_missing_current_bundle_falls_back_to_the_previous_one(world: World) -> None:
    world.updater().update(NAME)
    shutil.rmtree(world.home / "bundles" / make(3).digest)
    assert world.updater().installed() == world.home / "bundles" / make(2).digest


def test_a_url_of_another_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="expected http, https, file or a folder, got 'ftp://host'"):
        Updater("home", "ftp://host", None)


def test_without_python_tuf_the_pip_line_is_shown() -> None:
    script = "import sys; sys.modules['tuf'] = None; import pocketrank; import pocketrank.updater"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert f'{ExtraMissingError.__name__}: updates need python-tuf: pip install "pocketrank[updates]"' in done.stderr

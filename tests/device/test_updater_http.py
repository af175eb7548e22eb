"""The updater against web servers, good and bad."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pocketrank.updater import Updater
from tests.signed import NAME, World, assert_refused, make, new_world, now, works


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


@contextmanager
def served(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """A plain static file server."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


class Endless(Quiet):
    """Answers paths that hold ``endless_part`` without end, all else as it should."""

    endless_part = ""
    sent_bytes = 0

    def do_GET(self) -> None:
        if not self.endless_part or self.endless_part not in self.path:
            return super().do_GET()
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while Endless.sent_bytes < 1 << 30:
                self.wfile.write(bytes(1 << 16))
                Endless.sent_bytes += 1 << 16
        return None


class Breaking(Quiet):
    """Promises more than it sends of each blob."""

    def do_GET(self) -> None:
        if "blobs" not in self.path:
            return super().do_GET()
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "3000")
        self.end_headers()
        self.wfile.write(b"half")
        return None


class Dripping(Quiet):
    """Sends a byte of each blob now and then, for ever."""

    def do_GET(self) -> None:
        if "blobs" not in self.path:
            return super().do_GET()
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            for _ in range(10_000):
                self.wfile.write(b".")
                time.sleep(0.005)
        return None


class Proxied(Quiet):
    """Answers requests for another host from its own folder."""

    def do_GET(self) -> None:
        self.path = self.path.removeprefix("http://nowhere.invalid")
        super().do_GET()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_an_update_over_http_ends_with_the_new_bundle(world: World) -> None:
    with served(partial(Quiet, directory=str(world.repository.folder))) as url:
        updater = Updater(world.home, url, world.root, self_test=works)
        assert updater.update(NAME).version == 3
        assert updater.update(NAME).status == "unchanged"
        world.repository.publish(make(4), now())
        assert updater.update(NAME).version == 4


@pytest.mark.parametrize("part", ["timestamp.json", "snapshot.json", "targets.json", "manifest.json", "blobs/"])
def test_endless_data_over_http_is_cut_off_and_the_same_updater_goes_on_later(
    world: World, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Endless, "sent_bytes", 0)
    monkeypatch.setattr(Endless, "endless_part", part)
    with served(partial(Endless, directory=str(world.repository.folder))) as url:
        updater = Updater(world.home, url, world.root, self_test=works)
        assert_refused(world, "DownloadLengthMismatchError", updater)
        assert Endless.sent_bytes < 64 << 20  # what the sockets' buffers took
        Endless.endless_part = ""
        assert updater.update(NAME).version == 3


def test_a_connection_that_breaks_off_is_an_update_error(world: World) -> None:
    with served(partial(Breaking, directory=str(world.repository.folder))) as url:
        assert_refused(world, "broke off", Updater(world.home, url, world.root, self_test=works))


def test_a_server_that_is_not_there_is_an_update_error(world: World) -> None:
    with served(Quiet) as url:
        pass
    assert_refused(world, "DownloadError", Updater(world.home, url, world.root, self_test=works))


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(world: World) -> None:
    with served(partial(Dripping, directory=str(world.repository.folder))) as url:
        updater = Updater(world.home, url, world.root, self_test=works, timeout_s=0.3)
        assert_refused(world, "SlowRetrievalError: .* fewer than 256 bytes a second", updater)


def test_a_proxy_of_the_environment_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    with served(partial(Proxied, directory=str(world.repository.folder))) as url:
        monkeypatch.setenv("http_proxy", url)
        assert Updater(world.home, "http://nowhere.invalid", world.root, self_test=works).update(NAME).version == 3

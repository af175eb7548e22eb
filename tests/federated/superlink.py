"""A real Flower deployment on loopback: one SuperLink and its SuperNodes, each in a session of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Deployment:
    """Starts on entry, ends all that it started on exit."""

    def __init__(self, folder: Path, node_configs: Sequence[Mapping[str, str | int]]) -> None:
        """Keep homes and logs in ``folder``; start a SuperNode for each config."""
        self._folder = folder
        self._node_configs = node_configs
        self._address = f"127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._env = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def __enter__(self) -> Self:
        """Start the SuperLink, wait until it is ready, and start the SuperNodes."""
        try:
            host, port = self._address.split(":")
            self._spawn(
                "superlink", "flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
                "--host", host, "--port", port,
            )  # fmt: skip
            self._await_superlink()
            home = self._folder / "flwr"
            home.mkdir(exist_ok=True)
            (home / "config.toml").write_text(
                f'[superlink]\ndefault = "toy"\n\n[superlink.toy]\naddress = "{self._address}"\ninsecure = true\n'
            )
            for number, config in enumerate(self._node_configs):
                self._spawn(
                    f"supernode{number}", "flower-supernode", "--insecure",
                    "--superlink", self._address, "--host", "127.0.0.1", "--port", str(free_port()),
                    "--node-config", " ".join(f"{key}={json.dumps(value)}" for key, value in config.items()),
                )  # fmt: skip
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self._stop()

    def run(self, app: Path, config: Mapping[str, str | float], timeout_s: float) -> str:
        """Run a Flower app to its end.

        Returns:
            The status it ended with.
        """
        overrides = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        run_id = str(self._flwr("run", str(app), "toy", "--run-config", overrides)["run-id"])
        deadline = time.monotonic() + timeout_s
        status = "unknown"
        while time.monotonic() < deadline:
            status = str(self._flwr("ls", "toy", "--run-id", run_id)["runs"][0]["status"])
            if status.startswith("finished"):
                break
            time.sleep(0.5)
        return status

    def logs(self) -> str:
        """What the processes wrote, to read when a run failed."""
        return "\n".join(f"== {path.stem}\n{path.read_text()}" for path in sorted(self._folder.glob("*.log")))

    def _spawn(self, name: str, program: str, *args: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [BIN / program, *args],
                    env=self._env,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _await_superlink(self) -> None:
        for _ in self._tries(60):
            if self._processes[0].poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://{self._address}/health", timeout=1, trust_env=False).is_success:
                    return
        raise RuntimeError(f"the SuperLink did not start\n{self.logs()}")

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()  # Flower's programs end what they started
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever is left of the session started for it
            process.wait()

    def _flwr(self, *args: str) -> dict[str, Any]:
        done = subprocess.run(
            [BIN / "flwr", *args, "--format", "json"],
            env=self._env, cwd=self._folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"flwr {args}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}")
        found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return found

    @staticmethod
    def _tries(seconds: float) -> Iterator[None]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield
            time.sleep(0.1)

"""``pocketrank rank``: requests in, slates out, line for line."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank import DeviceStore, Reranker
from pocketrank.commands import Exit
from pocketrank.commands.rank import MAX_LINE_BYTES, parse_request, read_lines
from pocketrank.errors import InputError
from tests import shop
from tests.commands import COMMAND, answer, run

NUMBERS = range(20)
CANDIDATES = shop.candidates(NUMBERS)
PHONE, TV = {"screen": "phone"}, {"screen": "tv"}
"""Contexts that order the shop differently: what is in stock counts more or less."""


def lines(*requests: Any) -> str:
    return "".join(json.dumps(request) + "\n" for request in requests)


def slates(done: "subprocess.CompletedProcess[str]", code: int = 0) -> list[dict[str, Any]]:
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ids(slate: dict[str, Any]) -> list[str]:
    return [item["id"] for item in slate["items"]]


def test_a_line_is_answered_with_what_the_reranker_makes_of_it() -> None:
    request = {"candidates": CANDIDATES, "context": PHONE, "k": 5}
    (found,) = slates(run("rank", shop.FOLDER, stdin=lines(request)))
    expected = Reranker.load(shop.FOLDER).rank(CANDIDATES, context=PHONE, k=5)
    assert ids(found) == list(expected.ids)
    assert [item["score"] for item in found["items"]] == pytest.approx([item.score for item in expected])
    assert [item["position"] for item in found["items"]] == list(range(5))
    assert found["bundle"] == "shop@1"
    assert found["stages"] == list(expected.stages)
    assert (found["fallback"], found["given_up"], found["filtered"]) == (None, [], 0)
    assert found["latency_ms"] > 0
    keys = {"items", "bundle", "stages", "omitted", "fallback", "given_up", "filtered", "latency_ms"}
    assert found.keys() == keys


def test_columns_and_a_bare_list_are_requests_too() -> None:
    requests = [{"candidates": CANDIDATES}, CANDIDATES, {"candidates": shop.columns(CANDIDATES)}, []]
    *same, nothing = slates(run("rank", shop.FOLDER, stdin=lines(*requests)))
    assert same[0]["items"] == same[1]["items"] == same[2]["items"]
    assert nothing["items"] == []


def test_the_line_stands_before_the_options(tmp_path: Path) -> None:
    (tmp_path / "requests").write_text(lines({"candidates": CANDIDATES, "k": 2, "context": PHONE}, CANDIDATES))
    options = ("--input", tmp_path / "requests", "--k", "3", "--context", json.dumps(TV))
    first, second = slates(run("rank", shop.FOLDER, *options))
    reranker = Reranker.load(shop.FOLDER)
    for found, context, k in ((first, PHONE, 2), (second, TV, 3)):
        expected = reranker.rank(CANDIDATES, context=context, k=k)
        assert ids(found) == list(expected.ids)
        assert found["items"][0]["score"] == pytest.approx(expected.items[0].score)
    assert first["items"][0]["score"] != pytest.approx(second["items"][0]["score"])


def test_a_store_ranks_with_what_it_knows_and_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with_events = DeviceStore(path)
    recent = [replace(event, at_s=time.time() + at) for at, event in enumerate(shop.events(1, 40))]
    with_events.record(recent)
    expected = Reranker.load(shop.FOLDER, store=with_events).rank(CANDIDATES)
    (found,) = slates(run("rank", shop.FOLDER, "--store", path, stdin=lines(CANDIDATES)))
    (stranger,) = slates(run("rank", shop.FOLDER, stdin=lines(CANDIDATES)))
    assert [item["score"] for item in found["items"]] == pytest.approx([item.score for item in expected])
    assert [item["score"] for item in found["items"]] != pytest.approx([item["score"] for item in stranger["items"]])
    assert with_events.size().events == 40
    assert with_events.size().impressions == 0
    with_events.close()


def test_rules_of_the_option_and_of_the_line_hold_together(tmp_path: Path) -> None:
    def deny(field: str, value: str) -> dict[str, Any]:
        return {"deny": [{"field": field, "op": "eq", "value": value}]}

    (tmp_path / "policy.json").write_text(json.dumps(deny("id", "item-3")))
    requests = [{"candidates": CANDIDATES, "policy": deny("id", "item-4")}, CANDIDATES]
    done = run("rank", shop.FOLDER, "--policy", tmp_path / "policy.json", stdin=lines(*requests))
    both, one = slates(done)
    everything = {candidate["id"] for candidate in CANDIDATES}
    assert set(ids(both)) == everything - {"item-3", "item-4"}
    assert set(ids(one)) == everything - {"item-3"}
    assert (both["filtered"], one["filtered"]) == (2, 1)


def test_a_deadline_that_has_passed_leaves_things_out_and_says_so() -> None:
    (found,) = slates(run("rank", shop.FOLDER, "--deadline-ms", "0", stdin=lines(CANDIDATES)))
    assert ids(found) == [candidate["id"] for candidate in CANDIDATES]
    assert found["omitted"]
    assert found["fallback"].startswith("given order")


BAD_LINES = {
    "not JSON": "{",
    "nothing": "",
    "no object": "7",
    "NaN": '[{"id": "a", "price": NaN}]',
    "no candidates": '{"context": {}}',
    "another key": '{"candidates": [], "candidate": []}',
    "candidates of no kind": '{"candidates": 3}',
    "candidates without id": '[{"price": 3}]',
    "a price that is none": '[{"id": "a", "price": "cheap"}]',
    "a context that is none": '{"candidates": [], "context": 3}',
    "k in words": '{"candidates": [], "k": "ten"}',
    "k of both": '{"candidates": [], "k": true}',
    "k below zero": '{"candidates": [], "k": -1}',
    "a policy that is none": '{"candidates": [], "policy": 3}',
    "an unknown rule": '{"candidates": [], "policy": {"forbid": []}}',
    "a number of many digits": '{"candidates": [], "k": ' + "9" * 5000 + "}",
    "depth without end": "[" * 100_000,
    "other bytes": "\udcff",
}


def test_a_broken_line_is_answered_in_its_place_and_the_rest_goes_on() -> None:
    good = lines(CANDIDATES)
    stdin = good + "".join(line + "\n" + good for line in BAD_LINES.values())
    done = subprocess.run(
        [*COMMAND, "rank", shop.FOLDER], check=False, input=stdin.encode(errors="surrogateescape"), capture_output=True
    )
    assert done.returncode == Exit.FAILED
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 2 * len(BAD_LINES) + 1
    assert all("items" in answered for answered in found[::2])
    for number, (name, answered) in enumerate(zip(BAD_LINES, found[1::2], strict=True), 1):
        assert answered.keys() == {"line", "error"}, name
        assert answered["line"] == 2 * number, name
        assert len(answered["error"]) > 10, name
    assert f"{len(BAD_LINES)} of {len(found)} lines failed" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_line_is_answered_before_the_next_is_sent() -> None:
    request = lines(CANDIDATES)
    with subprocess.Popen(
        [*COMMAND, "rank", shop.FOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write(request)
            process.stdin.flush()
            assert len(json.loads(process.stdout.readline())["items"]) == len(CANDIDATES)
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == Exit.OK


def test_it_is_stopped_at_the_terminal_without_a_traceback() -> None:
    with subprocess.Popen(
        [*COMMAND, "rank", shop.FOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines(CANDIDATES))
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in messages


def test_a_reader_that_leaves_ends_it_without_a_traceback() -> None:
    command = " ".join([*COMMAND, "rank", str(shop.FOLDER)])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1"],
        check=True,
        input=lines(CANDIDATES) * 50,
        capture_output=True,
        text=True,
    )
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.integers(1, 8))
def test_lines_past_the_limit_are_none_and_all_others_as_they_are(written: list[bytes], limit: int) -> None:
    file = io.BytesIO(b"".join(line + b"\n" for line in written))
    expected = [line + b"\n" if len(line) <= limit else None for line in written]
    assert list(read_lines(file, limit)) == expected


def test_a_line_that_is_too_long_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "requests"
    with path.open("wb") as file:
        file.truncate(3 * MAX_LINE_BYTES)
        file.seek(0, io.SEEK_END)
        file.write(b"\n" + lines(CANDIDATES).encode())
    long, good = slates(run("rank", shop.FOLDER, "--input", path), Exit.FAILED)
    assert str(MAX_LINE_BYTES) in long["error"]
    assert len(good["items"]) == len(CANDIDATES)


KEYS = st.sampled_from(["candidates", "context", "k", "policy", "x"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(KEYS, x)
    )
)
def test_any_json_is_a_request_or_refused(body: object) -> None:
    try:
        request = parse_request(json.dumps(body).encode())
    except InputError:
        return
    assert isinstance(request.context, dict)
    assert request.k is None or isinstance(request.k, int)


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ((shop.FOLDER / "absent",), Exit.USAGE, None),
        ((shop.FOLDER.parent,), Exit.BUNDLE, "BundleError"),
        ((shop.FOLDER, "--context", "[]"), Exit.INPUT, "InputError"),
        ((shop.FOLDER, "--context", "{"), Exit.INPUT, "InputError"),
        ((shop.FOLDER, "--policy", __file__), Exit.INPUT, "InputError"),
        ((shop.FOLDER, "--store", shop.FOLDER / "golden.npz"), Exit.STORE, "StoreError"),
        ((shop.FOLDER, "--k", "-1"), Exit.USAGE, None),
    ],
)
def test_what_stops_it_before_the_first_line(words: tuple[str | Path, ...], code: Exit, kind: str | None) -> None:
    done = run("rank", *words, stdin=lines(CANDIDATES))
    if kind is None:
        assert (done.returncode, done.stdout) == (code, "")
    else:
        found = answer(done, code)["error"]
        assert (found["kind"], found["exit_code"]) == (kind, code)
        assert done.stderr.count("\n") == 1


def on_a_terminal(*words: str | Path, stdin: str) -> tuple[str, int]:
    """What the command writes to a terminal, and its exit code."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(theirs)
        process.communicate(stdin)
    parts = []
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    return b"".join(parts).decode(), process.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of its own")
def test_a_terminal_gets_tables_and_nothing_that_it_would_obey() -> None:
    request: list[dict[str, Any]] = [{"id": "\x1b]0;evil\x07", "price": 3.0}, {"id": "[bold]plain"}]
    shown, code = on_a_terminal("rank", shop.FOLDER, stdin=lines(request) + "{\n")
    assert code == Exit.FAILED
    assert "shop@1" in shown
    assert "[bold]plain" in shown
    assert "\\x1b]0;evil\\x07" in shown
    assert "\x07" not in shown
    assert "line 2: line: not JSON" in shown
    shown, code = on_a_terminal("rank", shop.FOLDER, "--json", stdin=lines(request))
    assert code == Exit.OK
    assert {item["id"] for item in json.loads(shown)["items"]} == {row["id"] for row in request}

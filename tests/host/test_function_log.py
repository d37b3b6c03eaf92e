"""The functions' output on disk: whole lines, bounded files, a disk that refuses."""

import json
from pathlib import Path

from gateway.host.function_log import FunctionLog, OutputLine


def line(number: int, text: str = "x" * 100) -> OutputLine:
    return OutputLine("2026-01-01T00:00:00Z", "acme", "f", "ver_1", f"{number:032x}", "stdout", text)


def written(folder: Path) -> list[int]:
    paths = [*sorted(folder.glob("functions.jsonl.*"), reverse=True), folder / "functions.jsonl"]
    lines = "".join(path.read_text() for path in paths if path.suffix != ".lock").splitlines()
    return [int(json.loads(text)["request_id"], 16) for text in lines]


def test_lines_are_json_whatever_a_function_prints(tmp_path: Path) -> None:
    log = FunctionLog(tmp_path / "functions.jsonl", 10_000, 3)
    hostile = 'quote " newline \n {"tenant": "other"} \u2028 \x00 ü'
    log.write([line(1, hostile)])
    text, rest = (tmp_path / "functions.jsonl").read_bytes().split(b"\n")
    assert rest == b""
    assert json.loads(text) == {
        "time": "2026-01-01T00:00:00Z",
        "tenant": "acme",
        "function": "f",
        "version": "ver_1",
        "request_id": f"{1:032x}",
        "stream": "stdout",
        "text": hostile,
    }


def test_files_are_bounded_and_the_newest_lines_are_kept(tmp_path: Path) -> None:
    log = FunctionLog(tmp_path / "functions.jsonl", 1000, 2)
    for number in range(100):
        log.write([line(number)])
    assert {path.name for path in tmp_path.glob("functions.jsonl*")} == {"functions.jsonl", "functions.jsonl.1"}
    assert all(path.stat().st_size < 1500 for path in tmp_path.glob("functions.jsonl*"))
    found = written(tmp_path)
    assert found == list(range(found[0], 100))


def test_two_gateways_append_to_one_file_and_rotate_it_once(tmp_path: Path) -> None:
    logs = [FunctionLog(tmp_path / "functions.jsonl", 2000, 9) for _ in range(2)]
    for number in range(60):
        logs[number % 2].write([line(number)])
    assert written(tmp_path) == list(range(60))


def test_a_disk_that_refuses_is_counted_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.write_text("a file where the folder should be")
    log = FunctionLog(folder / "functions.jsonl", 1000, 2)
    log.write([line(1), line(2)])
    assert log.lost_lines == 2
    folder.unlink()
    log.write([line(3)])
    assert written(folder) == [3]

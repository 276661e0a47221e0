"""Files of containers' logs: bounded, and read as they grow."""

from __future__ import annotations

from pathlib import Path

from tango.emulation.pod_logs import BoundedLog, LogReader, log_path, pod_folder


def _log(tmp_path: Path, keep_bytes: int = 100) -> BoundedLog:
    return BoundedLog(log_path(pod_folder(tmp_path, "tango", "be-1", "u1"), "work", 0), keep_bytes=keep_bytes)


def test_a_log_without_end_keeps_its_end(tmp_path: Path) -> None:
    """At most twice what is kept lies on the disk, and the last line is among it."""
    log = _log(tmp_path)
    for k in range(1000):
        log.write(f"line {k}\n".encode())

    reader = LogReader(log.path)
    found = b"".join(reader.start(tail_lines=None))
    reader.close()

    assert len(found) <= 200
    assert found.endswith(b"line 998\nline 999\n")
    assert sum(f.stat().st_size for f in log.path.parent.iterdir()) <= 200


def test_the_last_lines_are_given_across_the_cut(tmp_path: Path) -> None:
    """Of the file that was moved aside too; a last line without an end counts as one."""
    log = _log(tmp_path, keep_bytes=16)
    for text in (b"one\n", b"two\n", b"three\n", b"four\n", b"fi"):
        log.write(text)

    reader = LogReader(log.path)
    assert b"".join(reader.start(tail_lines=3)) == b"three\nfour\nfi"
    assert b"".join(LogReader(log.path).start(tail_lines=0)) == b""
    assert b"".join(LogReader(log.path).start(tail_lines=99)) == b"one\ntwo\nthree\nfour\nfi"
    reader.close()


def test_a_reader_goes_on_over_a_file_that_was_moved_aside(tmp_path: Path) -> None:
    """What is written between two looks is read once and in order, also where the file was replaced meanwhile."""
    log = _log(tmp_path, keep_bytes=8)
    log.write(b"a\n")
    reader = LogReader(log.path)
    seen = b"".join(reader.start(tail_lines=None))

    log.write(b"bcd\n")
    log.write(b"efghij\n")  # moves the first aside
    seen += b"".join(reader.more())

    assert seen == b"a\nbcd\nefghij\n"
    assert b"".join(reader.more()) == b""
    reader.close()


def test_a_log_that_is_not_there_yet_is_empty_and_then_read(tmp_path: Path) -> None:
    """A container that has been started and has not written."""
    path = log_path(pod_folder(tmp_path, "tango", "be-1", "u1"), "work", 0)
    reader = LogReader(path)
    assert b"".join(reader.start(tail_lines=10)) == b""

    BoundedLog(path).write(b"first\n")

    assert b"".join(reader.more()) == b"first\n"
    reader.close()

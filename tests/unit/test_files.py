"""Files that are written whole, and what is said of those that cannot be."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tango.errors import FileUnusable
from tango.files import made_folder, usable, write_whole


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """Text as UTF-8, bytes as they are; a private file is for its owner alone."""
    path = tmp_path / "page.html"

    write_whole(path, "ä")
    first = path.read_bytes()
    write_whole(path, b"second", mode=0o600)

    assert (first, path.read_bytes()) == ("ä".encode(), b"second")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_written_again_stays_as_private_as_it_was(tmp_path: Path) -> None:
    """Who has closed a page to others did so for a reason; a mode that is asked for holds all the same."""
    path = tmp_path / "page.html"
    path.write_text("first")
    path.chmod(0o640)

    write_whole(path, "second")
    kept = path.stat().st_mode & 0o777
    write_whole(path, "third", mode=0o600)

    assert (kept, path.stat().st_mode & 0o777) == (0o640, 0o600)


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    """A name that somebody has given a file for a reason is not replaced: neither a link to it nor /dev/null."""
    link, target = tmp_path / "link", tmp_path / "target"
    target.write_text("before")
    link.symlink_to(target)

    write_whole(link, "after")
    write_whole(Path("/dev/null"), "nothing")

    assert (link.is_symlink(), target.read_text()) == (True, "after")
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_says_so_and_is_no_matter_of_usage() -> None:
    """/dev/full takes no byte: status 1, and what to do."""
    with pytest.raises(FileUnusable, match=r"/dev/full cannot be written: No space left on device; free some space") as raised:
        write_whole(Path("/dev/full"), "x")

    assert (raised.value.path, raised.value.is_full, raised.value.exit_status) == ("/dev/full", True, 1)


@pytest.mark.parametrize(
    ("name", "reason"), [("no/page.html", "No such file or directory; make its folder"), (".", "Is a directory; look at its owner")]
)
def test_a_place_that_cannot_be_written_to_is_a_matter_of_usage(tmp_path: Path, name: str, reason: str) -> None:
    """Status 2: the caller has named it. Nothing is left behind."""
    with pytest.raises(FileUnusable, match=reason) as raised:
        write_whole(tmp_path / name, "x")

    assert raised.value.exit_status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_with_its_parents_or_refused(tmp_path: Path) -> None:
    """Where a file stands in the way, the message names the folder that was to be made."""
    (tmp_path / "file").write_text("")

    assert made_folder(tmp_path / "a" / "b").is_dir()
    with pytest.raises(FileUnusable, match="file/c cannot be made"):
        made_folder(tmp_path / "file" / "c")


@pytest.mark.parametrize(("name", "told"), [("none", "name a file that is there"), (".", "name a file in it")])
def test_advice_for_a_file_that_is_read_is_about_reading(tmp_path: Path, name: str, told: str) -> None:
    """No folder is to be made for it."""
    with pytest.raises(FileUnusable, match=f"cannot be read: .*; {told}$"), usable(tmp_path / name, "read"):
        (tmp_path / name).read_bytes()


def test_an_error_without_words_is_told_all_the_same(tmp_path: Path) -> None:
    """Some libraries raise an OSError of their own, without number."""
    with pytest.raises(FileUnusable, match="x cannot be read: short file"), usable(tmp_path / "x", "read"):
        raise OSError("short file")
    with pytest.raises(FileUnusable, match="too many files are open"), usable(tmp_path / "x"):
        raise OSError(errno.EMFILE, "Too many open files")

"""Finds the pictures to restore in files and folders, chooses their results' names, and opens them safely."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import runpy
import stat
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

# By its name the module could not be imported: its package needs PyTorch, which the Python of this command
# may lack.
_SUFFIXES_FILE = Path(__file__).resolve().parents[1] / "aior_core" / "picture" / "suffixes.py"
SUFFIXES: frozenset[str] = runpy.run_path(str(_SUFFIXES_FILE))["PICTURE_SUFFIXES"]
MOST_BYTES = 2**31
RESULT_NAME = re.compile(r"_restored(_\d+)?$")
PNG_HEAD, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
_LONGEST_NAME = 255  # bytes, of most file systems
# A marker of a JPEG that is neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")


@dataclass(frozen=True)
class Picture:
    """A picture to restore.

    `target` is the path of its result without `_restored.png`. `former` is the target that an earlier call
    may have used, when the picture was the only one of its name.
    """

    source: Path
    target: Path
    former: Path | None = None


class LeftOut(str):
    """A remark on files that are left out on purpose. Other remarks are about mistakes in the call."""


def find_pictures(places: Iterable[str | Path], out: Path | None) -> tuple[list[Picture], list[str]]:
    """The pictures in `places`, and remarks: a sentence for each place without one and for the files left
    out.

    Folders are walked in order; links to folders are not followed. Results go into `out`, in the walked
    folder's own structure, or beside the picture when `out` is None. Files that are results themselves are
    left out, and a picture that is named twice counts once. A file counts as a picture by its suffix.
    `read_source` says what is wrong with it.
    """
    pictures: list[Picture] = []
    remarks: list[str] = []
    seen: set[str] = set()
    for place in _expanded(places, remarks):
        if place.is_dir():
            files = list(_walk(place, remarks))
        elif not os.path.lexists(place):
            files = []
            remarks.append(f"{place}: no such file or folder")
        elif place.suffix.lower() not in SUFFIXES:
            files = []
            remarks.append(f"{place}: this command does not read such files. It reads {_kinds()}.")
        elif RESULT_NAME.search(place.stem):
            files = []
            remarks.append(LeftOut(f"{place}: left out; by its name it is a result of this command"))
        else:
            files = [place]
        base = place if place.is_dir() else place.parent
        for file in files:
            # Path.resolve raises for a link that points at itself.
            real = os.path.realpath(file)
            if real in seen:
                continue
            seen.add(real)
            folder = out / file.parent.relative_to(base) if out else file.parent
            pictures.append(Picture(file, folder / _fitting(file.stem)))
    return _told_apart(pictures), remarks


def _kinds() -> str:
    return ", ".join(sorted(SUFFIXES))


def _expanded(places: Iterable[str | Path], remarks: list[str]) -> Iterator[Path]:
    """The places, with patterns expanded that the shell left as they are, as it does on Windows."""
    for place in map(Path, places):
        text = os.fspath(place)
        if os.path.lexists(place) or not glob.has_magic(text):
            yield place
            continue
        found = sorted(glob.glob(text))
        if not found:
            remarks.append(f"{place}: no file matches this pattern")
        yield from map(Path, found)


def _walk(folder: Path, remarks: list[str]) -> Iterator[Path]:
    found = 0
    left_out: dict[str, list[str]] = defaultdict(list)

    def unreadable(error: OSError) -> None:
        remarks.append(f"{error.filename}: this folder cannot be read: {error.strerror}")

    for path, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(path, name)
            if name.startswith(".") or RESULT_NAME.search(file.stem):
                continue
            if file.suffix.lower() in SUFFIXES:
                found += 1
                yield file
            else:
                left_out[file.suffix.lower() or "without a suffix"].append(name)
    if left_out:
        counts = Counter({suffix: len(names) for suffix, names in left_out.items()})
        kinds = [
            f"{count} {suffix}" + (f" ({', '.join(left_out[suffix])})" if count <= 3 else "")
            for suffix, count in counts.most_common()
        ]
        text = f"{folder}: left out, because this command does not read them: {', '.join(kinds)}"
        remarks.append(LeftOut(text))
    if not found:
        remarks.append(f"{folder}: no pictures in this folder (looked for {_kinds()})")


def _told_apart(pictures: list[Picture]) -> list[Picture]:
    """Put the suffix into the results' names of pictures whose names differ in the suffix only.

    Examples are a_jpg_restored.png and a_png_restored.png. All files beside a picture count, so that its
    result has the same name whether the folder or the picture was given.
    """
    beside: dict[Path, Counter] = {}
    together = defaultdict(set)
    for picture in pictures:
        folder = picture.source.parent
        if folder not in beside:
            names = []
            with contextlib.suppress(OSError):
                names = [Path(name) for name in os.listdir(folder or ".")]
            beside[folder] = Counter(name.stem for name in names if name.suffix.lower() in SUFFIXES)
        together[picture.target].add(picture.source.suffix.lower())
    told = []
    for picture in pictures:
        source, target = picture.source, picture.target
        if beside[source.parent][source.stem] > 1 or len(together[target]) > 1:
            suffix = source.suffix[1:].lower()
            told.append(
                replace(picture, target=target.with_name(_fitting(f"{source.stem}_{suffix}")), former=target)
            )
        else:
            told.append(picture)
    return told


def _fitting(stem: str) -> str:
    """The stem, shortened where a result's name would be too long for file systems.

    A hash of the whole stem keeps shortened names apart.
    """
    room = _LONGEST_NAME - len("._restored_9999.webp.12345678.partial")
    data = os.fsencode(stem)
    if len(data) <= room:
        return stem
    tail = "~" + hashlib.sha256(data).hexdigest()[:8]
    return (
        os.fsdecode(data[: room - len(tail)].decode("utf-8", "ignore").encode() or data[: room - len(tail)])
        + tail
    )


def read_source(path: Path) -> bytes:
    """The bytes of a regular file; links are followed.

    Raises OSError, and ValueError for anything but a regular file: reading a pipe could wait for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"this is {_kind_of_file(status.st_mode)}, not a file")
        if status.st_size > MOST_BYTES:
            raise ValueError(
                f"the file has {status.st_size / 2**30:.1f} GiB, more than the {MOST_BYTES // 2**30} GiB "
                "that this command reads"
            )
        data = file.read()
    if not data:
        raise ValueError("the file is empty")
    return data


def _kind_of_file(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISDIR, "a folder"),
    )
    return next((name for test, name in kinds if test(mode)), "something special")


def explain(error: Exception) -> str:
    """The text of an error, without the system's error numbers."""
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return (
            f"{error.strerror}: {os.fsdecode(where)}" if isinstance(where, (str, bytes)) else error.strerror
        )
    return str(error) or type(error).__name__


def folder_problem(folder: Path) -> str | None:
    """Why no file can be written into `folder`, which may not exist yet; None when one can."""
    place = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    try:
        if not place.is_dir():
            what = "a file" if place.is_file() else "no folder"
            return f"{place} is {what}: results cannot be written there"
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{error.strerror or error}: {folder}"


def is_cut_off(data: bytes) -> bool:
    """Whether a PNG or JPEG file ends before its picture does.

    Data after the picture (padding, the video of a motion photo) and pictures inside it (a thumbnail) do not
    count.
    """
    if data.startswith(PNG_HEAD):
        return PNG_END not in data
    return data.startswith(b"\xff\xd8\xff") and not _reaches_end_of_jpeg(data)


def _reaches_end_of_jpeg(data: bytes) -> bool:
    """Whether the markers of a JPEG (ITU-T T.81, B.1) lead to its end marker. Segments are skipped."""
    position = 2
    while True:
        # This skips the entropy-coded data of a scan.
        found = _MARKER.search(data, position)
        if not found:
            return False
        marker = found.group(1)[0]
        if marker == 0xD9:
            return True
        position = found.end()
        if marker not in (0x01, 0xD8):
            if position + 2 > len(data):
                return False
            position += int.from_bytes(data[position : position + 2], "big")

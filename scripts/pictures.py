"""Which pictures are restored: found in files and folders, named apart, opened without surprises."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import stat
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

SUFFIXES = {
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".webp",
    ".bmp",
    ".dib",
    ".tif",
    ".tiff",
    ".gif",
    ".avif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
}
MOST_BYTES = 2**31
RESULT_NAME = re.compile(r"_restored(_\d+)?$")
PNG_HEAD, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
_LONGEST_NAME = 255  # bytes, of most file systems
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # of a JPEG: no stuffed zero, no restart


@dataclass(frozen=True)
class Picture:
    """A picture to restore. `target` is the path of its result without `_restored.png`; `former` is another one, under
    which an earlier call may have put it."""

    source: Path
    target: Path
    former: Path | None = None


def find_pictures(places: Iterable[str | Path], out: Path | None) -> tuple[list[Picture], list[str]]:
    """The pictures of files and folders (walked in order, links to folders not followed), and a sentence for each
    place that gives none and for the kinds of files that are left out.

    Results go into `out`, under the walked folder's own structure, or beside the picture when `out` is None. Files
    that are results themselves are left out, and so is a picture named twice. What has a picture's name is given, whatever it is:
    `read_source` says of each what is wrong with it.
    """
    pictures, remarks, seen = [], [], set()
    for place in _expanded(places, remarks):
        if place.is_dir():
            files = list(_walk(place, remarks))
        elif not os.path.lexists(place):
            files = []
            remarks.append(f"{place}: no such file or folder")
        elif place.suffix.lower() not in SUFFIXES:
            files = []
            remarks.append(f"{place}: not a picture this command reads ({_kinds()})")
        elif RESULT_NAME.search(place.stem):
            files = []
            remarks.append(f"{place}: left alone, its name says it is a result of this command")
        else:
            files = [place]
        base = place if place.is_dir() else place.parent
        for file in files:
            # Not Path.resolve, which raises for a link that points at itself.
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
    """The places, with patterns that the shell left as they are (it does on Windows, or where nothing fits) put in full."""
    for place in map(Path, places):
        text = os.fspath(place)
        if os.path.lexists(place) or not glob.has_magic(text):
            yield place
            continue
        found = sorted(glob.glob(text))
        if not found:
            remarks.append(f"{place}: no file has a name like this")
        yield from map(Path, found)


def _walk(folder: Path, remarks: list[str]) -> Iterator[Path]:
    found, left_out = 0, defaultdict(list)

    def unreadable(error: OSError) -> None:
        remarks.append(f"{error.filename}: this folder cannot be looked into: {error.strerror}")

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
        remarks.append(f"{folder}: left out, as their kind is not read: {', '.join(kinds)}")
    if not found:
        remarks.append(f"{folder}: no pictures in this folder (looked for {_kinds()})")


def _told_apart(pictures: list[Picture]) -> list[Picture]:
    """Pictures whose names differ in the suffix only get it into their results' names: a_jpg_restored.png, a_png_restored.png.

    Files beside a picture count too, so that a result has the same name whether the folder or the picture was given.
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
    """The stem, cut where a result's name would be longer than file systems allow; a sum of the whole keeps it apart."""
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
    """The bytes of a regular file, links followed. Raises OSError, and ValueError for what is none: a pipe would be waited
    on for ever."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"this is {_kind_of_file(status.st_mode)}, not a file")
        if status.st_size > MOST_BYTES:
            raise ValueError(
                f"the file has {status.st_size / 2**30:.1f} GiB; at most {MOST_BYTES // 2**30} are read"
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
    """What an error says to a person: no numbers of the system's."""
    if isinstance(error, OSError) and error.strerror:
        where = error.filename2 or error.filename
        return (
            f"{error.strerror}: {os.fsdecode(where)}" if isinstance(where, (str, bytes)) else error.strerror
        )
    return str(error) or type(error).__name__


def folder_problem(folder: Path) -> str | None:
    """Why no file can be written into `folder`, which may have to be made first; None where one can."""
    place = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    try:
        if not place.is_dir():
            what = "a file" if place.is_file() else "no folder"
            return f"{place} is {what}, and results cannot go there"
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{error.strerror or error}: {folder}"


def is_cut_off(data: bytes) -> bool:
    """Whether a PNG or JPEG file ends before its picture does. What follows a whole picture (the video of a motion photo,
    padding) and pictures within it (a thumbnail) do not count."""
    if data.startswith(PNG_HEAD):
        return PNG_END not in data
    return data.startswith(b"\xff\xd8\xff") and not _reaches_end_of_jpeg(data)


def _reaches_end_of_jpeg(data: bytes) -> bool:
    """Whether the markers of a JPEG (ITU-T T.81, B.1) lead to its end mark; segments, and so thumbnails, are passed over."""
    position = 2
    while True:
        # Behind the entropy-coded data of a scan: the next marker that is neither a stuffed zero nor a restart.
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

"""Names in an archive: relative, plain, and distinct on every file system, on every level of the path.

Called by ``archive_layout`` for each record of the central directory.
"""

import re
import stat
import unicodedata

from gateway.contract.archive_model import BadArchive, Bounds, CentralRecord, Reason, quoted

FLAG_UTF8 = 1 << 11
_DOS_VOLUME_LABEL, _DOS_FOLDER = 0x08, 0x10
_DRIVE = re.compile(r"[A-Za-z]:")


class Paths:
    """All paths of one archive so far: what another file system would merge is refused, on every level."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._spelling: dict[str, str] = {"": ""}
        """Caseless canonical form (Unicode D145) → the spelling seen first, of entries and of their folders."""
        self._folders: set[str] = {""}
        self._entries: set[str] = set()

    def accept(self, central: CentralRecord) -> tuple[str, bool]:
        name = _decode(central)
        is_folder = _check_type(central, name)
        path = name.removesuffix("/") if is_folder else name
        self._check_name(name, path)
        shown = quoted(path)
        if path in self._entries:
            raise BadArchive(Reason.DUPLICATE, f"{shown} is in the archive twice.")
        self._entries.add(path)
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            first = self._spelling.setdefault(_caseless(prefix), prefix)
            if first != prefix:
                raise BadArchive(
                    Reason.COLLISION,
                    f"{quoted(prefix)} and {quoted(first)} differ only in case or Unicode form.",
                )
            if depth < len(parts) or is_folder:
                if prefix in self._entries and prefix not in self._folders and prefix != path:
                    raise BadArchive(Reason.COLLISION, f"{quoted(prefix)} is a file and a folder at once.")
                self._folders.add(prefix)
            elif prefix in self._folders:
                raise BadArchive(Reason.COLLISION, f"{shown} is a file and a folder at once.")
        return path, is_folder

    def _check_name(self, name: str, path: str) -> None:
        shown = quoted(name)
        if not path:
            raise BadArchive(Reason.NAME_EMPTY, "An entry of the archive has no name.")
        if any(unicodedata.category(character) == "Cc" for character in name) or "\\" in name:
            raise BadArchive(Reason.NAME_CHARACTER, f"{shown} contains a control character, NUL or a backslash.")
        if path.startswith("/") or _DRIVE.match(path):
            raise BadArchive(Reason.NAME_ABSOLUTE, f"{shown} is an absolute path.")
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise BadArchive(Reason.NAME_TRAVERSAL, f'{shown} contains "..", "." or an empty part.')
        if len(parts) > self._bounds.depth_max:
            raise BadArchive(Reason.DEPTH, f"{shown} is {len(parts)} levels deep; at most {self._bounds.depth_max}.")
        if len(path.encode()) > self._bounds.path_bytes_max:
            raise BadArchive(
                Reason.NAME_LENGTH, f"The path {shown} is longer than {self._bounds.path_bytes_max} bytes."
            )
        if any(len(part.encode()) > self._bounds.name_bytes_max for part in parts):
            raise BadArchive(
                Reason.NAME_LENGTH, f"A part of the path {shown} is longer than {self._bounds.name_bytes_max} bytes."
            )


def _decode(central: CentralRecord) -> str:
    # Without the UTF-8 flag the encoding is code page 437 or whatever the writer's machine used: ASCII only.
    encoding = "utf-8" if central.flags & FLAG_UTF8 else "ascii"
    try:
        return central.name.decode(encoding)
    except UnicodeDecodeError:
        raise BadArchive(Reason.NAME_ENCODING, f"The name {quoted(central.name)} is not valid {encoding}.") from None


def _check_type(central: CentralRecord, name: str) -> bool:
    """Whether the entry is a folder. The upper half of the attributes is a Unix mode, whatever system is claimed."""
    mode, dos = central.external_attributes >> 16, central.external_attributes & 0xFF
    shown = quoted(name)
    file_type = stat.S_IFMT(mode)
    if file_type == stat.S_IFLNK:
        raise BadArchive(Reason.LINK, f"{shown} is a symbolic link.")
    if file_type not in (0, stat.S_IFREG, stat.S_IFDIR) or dos & _DOS_VOLUME_LABEL:
        raise BadArchive(Reason.FILE_TYPE, f"{shown} is neither a file nor a folder (mode {mode:#o}).")
    is_folder = name.endswith("/")
    if (file_type == stat.S_IFDIR and not is_folder) or (file_type == stat.S_IFREG and is_folder):
        raise BadArchive(Reason.FILE_TYPE, f"{shown}: the name and the mode {mode:#o} disagree whether it is a folder.")
    if dos & _DOS_FOLDER and not is_folder:
        raise BadArchive(Reason.FILE_TYPE, f"{shown} is a folder by its attributes and a file by its name.")
    if not is_folder and mode & (stat.S_ISUID | stat.S_ISGID):
        raise BadArchive(Reason.FILE_TYPE, f"{shown} has set-user-id or set-group-id in its mode {mode:#o}.")
    if is_folder and (central.unpacked_bytes or central.packed_bytes > 2 or central.crc32):
        raise BadArchive(Reason.DIRECTORY_DATA, f"{shown} is a folder with data in it.")
    return is_folder


def _caseless(path: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())

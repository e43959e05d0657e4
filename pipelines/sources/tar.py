"""Members of a tar, read forward, with an end that is known to be one.

Python's tarfile ends in silence at a damaged header; this raises. It reads ustar, GNU
and pax archives, from any offset at which a member begins.
"""

import dataclasses
import io
import tarfile
from collections.abc import Iterator
from typing import IO

_BLOCK = tarfile.BLOCKSIZE
# A GNU long name or a pax header is far below this.
_MAX_HEADER_BYTES = 1 << 20


class CorruptTarError(ValueError):
    """The archive is damaged or ends without its end mark."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One member's place and name.

    Attributes:
        name: Its path as stored.
        offset: Where its headers begin.
        data_offset: Where its data begins.
        size: Bytes of data.
        is_file: Whether it is a regular file.
        is_folder: Whether it is a folder; else it is a link, device or pipe.
    """

    name: str
    offset: int
    data_offset: int
    size: int
    is_file: bool
    is_folder: bool

    def read(self, file: IO[bytes] | io.RawIOBase) -> bytes:
        """Returns its data.

        Raises:
            CorruptTarError: If the archive ends before it does.
        """
        file.seek(self.data_offset)
        return _exactly(file, self.size, f"the data of {self.name!r}")


def _exactly(file: IO[bytes] | io.RawIOBase, size: int, what: str) -> bytes:
    data = file.read(size) or b""
    if len(data) != size:
        raise CorruptTarError(
            f"the archive ends inside {what}: {size} bytes expected, got {len(data)}"
        )
    return data


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def members(
    file: IO[bytes] | io.RawIOBase, start: int, stop: int | None
) -> Iterator[Member]:
    """Yields the members that begin in `[start, stop)`, in order.

    Args:
        file: Can seek forward; the caller may read a member's data before the next.
        start: 0 or the offset of a member.
        stop: Or None, for all up to the end mark.

    Raises:
        CorruptTarError: After the last member before the damage.
    """
    offset = start
    while stop is None or offset < stop:
        member = _member(file, offset)
        if member is None:
            return
        yield member
        offset = member.data_offset + _padded(member.size)


def _member(file: IO[bytes] | io.RawIOBase, offset: int) -> Member | None:
    """Returns the member whose headers begin at `offset`; None at the end mark."""
    at = offset
    name: str | None = None
    size: int | None = None
    while True:
        file.seek(at)
        block = _exactly(file, _BLOCK, f"a header at byte {at} (or has no end mark)")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if not any(block):
                return None
            raise CorruptTarError(f"damaged header at byte {at}: {error}") from error
        if header.size < 0:
            raise CorruptTarError(f"damaged header at byte {at}: negative size")
        at += _BLOCK
        if header.type not in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
        ):
            break
        if header.size > _MAX_HEADER_BYTES:
            raise CorruptTarError(f"damaged header at byte {at}: {header.size} bytes")
        extension = _exactly(file, header.size, f"a header at byte {at}")
        at += _padded(header.size)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            name = extension.rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif header.type == tarfile.XHDTYPE:
            records = _pax_records(extension, at)
            name = records.get("path", name)
            size = int(records["size"]) if "size" in records else size
    is_data = header.isreg()
    return Member(
        name=header.name if name is None else name,
        offset=offset,
        data_offset=at,
        size=(header.size if size is None else size) if is_data else 0,
        is_file=is_data,
        is_folder=header.isdir(),
    )


def _pax_records(data: bytes, at: int) -> dict[str, str]:
    """Returns the `length key=value` records of a pax header."""
    records = {}
    place = 0
    try:
        while place < len(data) and data[place] != 0:
            space = data.index(b" ", place)
            end = place + int(data[place:space])
            if end <= space:
                raise ValueError("a record without length")
            key, _, value = data[space + 1 : end - 1].partition(b"=")
            records[key.decode()] = value.decode("utf-8", "surrogateescape")
            place = end
        if "size" in records and not records["size"].isdecimal():
            raise ValueError(f"size {records['size']!r}")
    except ValueError as error:
        raise CorruptTarError(
            f"damaged pax header before byte {at}: {error}"
        ) from error
    return records

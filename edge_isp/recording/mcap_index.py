"""What is in an MCAP file: from its index, or, where it was cut off, from its records up to the last complete one.

Only what edge_isp records is expected: schemas, channels, attachments and metadata outside the chunks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from edge_isp.errors import FormatError
from edge_isp.files import check_regular
from edge_isp.frame import LARGEST_FRAME_BYTES
from edge_isp.recording.mcap_file import MAGIC, mcap_records

# A chunk holds one frame, or small messages.
LARGEST_CHUNK = LARGEST_FRAME_BYTES + (1 << 20)
# Of every other record; an index of a day's frames is smaller.
_LARGEST_RECORD = 1 << 28

SCHEMA, CHANNEL, CHUNK, MESSAGE_INDEX, _CHUNK_INDEX = 0x03, 0x04, 0x06, 0x07, 0x08
ATTACHMENT, _ATTACHMENT_INDEX, _STATISTICS, METADATA, _METADATA_INDEX = 0x09, 0x0A, 0x0B, 0x0C, 0x0D
_DATA_END, _FOOTER = 0x0F, 0x02
_FOOTER_BYTES = 9 + 20 + len(MAGIC)


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk is.

    Attributes:
        begin_ns: time of its first message, nanoseconds of UTC.
        end_ns: time of its last message.
        offset: of the record in the file.
        length: of the record.
        channels: ids of its messages' channels; None where that is not known.
    """

    begin_ns: int
    end_ns: int
    offset: int
    length: int
    channels: frozenset[int] | None


@dataclass(slots=True)
class McapIndex:
    """What is in a file.

    Attributes:
        path: of the file.
        is_complete: whether the file has its index; it was cut off where not.
        end: of the last complete record of the data, in bytes.
        library: that wrote it.
        chunks: in the order of their times.
        counts: how many messages each channel has; of a file without an index, for complete chunks whose own index is
            there.
        schemas: mcap's records by id.
        channels: mcap's records by id.
        attachments: offset and length of each record.
        metadata: values by the record's name.
    """

    path: Path
    is_complete: bool = False
    end: int = 0
    library: str = ""
    chunks: list[ChunkPlace] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    schemas: dict[int, Any] = field(default_factory=dict)
    channels: dict[int, Any] = field(default_factory=dict)
    attachments: list[tuple[int, int]] = field(default_factory=list)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)


def read_index(path: Path, descriptor: int) -> McapIndex:
    """Reads what is in a file.

    Args:
        path: of the file, for errors.
        descriptor: of the file, open for reading.

    Raises:
        FormatError: it is no MCAP file, or its records cannot be read.
        MissingDependencyError: mcap is not installed.
    """
    mcap_records()
    size = os.fstat(descriptor).st_size
    if os.pread(descriptor, len(MAGIC), 0) != MAGIC:
        raise FormatError(f"{path}: not an MCAP file: it does not begin as one")
    index = McapIndex(path)
    with mcap_errors(path):
        summary = _summary_start(descriptor, size)
        if summary is not None:
            _read_summary(index, descriptor, summary, size)
        else:
            _scan(index, descriptor, size)
    index.chunks.sort(key=lambda chunk: (chunk.begin_ns, chunk.offset))
    return index


def open_file(path: Path) -> int:
    """Opens a file for reading.

    Args:
        path: of the file.

    Returns:
        Its descriptor.

    Raises:
        FormatError: it is no regular file, or cannot be read.
    """
    check_regular(path, FormatError)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


class mcap_errors:
    """Whatever mcap's parsers raise of damaged records is one FormatError.

    Args:
        path: of the file, for the message.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from mcap.exceptions import McapError

        if isinstance(error, FormatError):
            return
        if isinstance(error, (McapError, struct.error, ValueError, MemoryError, OverflowError, LookupError, OSError)):
            raise FormatError(f"{self._path}: a damaged MCAP file: {type(error).__name__}: {error}") from error


def record_at(descriptor: int, offset: int, size: int) -> tuple[int, int] | None:
    """Opcode and content length of the record at an offset; None where it is not complete.

    Args:
        descriptor: of the file.
        offset: of the record.
        size: of the file.
    """
    head = os.pread(descriptor, 9, offset)
    if len(head) < 9:
        return None
    opcode, length = struct.unpack("<BQ", head)
    if opcode == 0 or offset + 9 + length > size:
        return None
    return opcode, length


def _summary_start(descriptor: int, size: int) -> int | None:
    """Where the summary begins; None where the file has none."""
    tail = os.pread(descriptor, _FOOTER_BYTES, max(size - _FOOTER_BYTES, 0))
    if len(tail) != _FOOTER_BYTES or not tail.endswith(MAGIC):
        return None
    opcode, length, start = struct.unpack_from("<BQQ", tail)
    if (opcode, length) != (_FOOTER, 20) or not 0 < start < size:
        return None
    return int(start)


def _read_summary(index: McapIndex, descriptor: int, start: int, size: int) -> None:
    records = mcap_records()
    index.is_complete, index.end = True, start
    metadata: list[Any] = []
    for opcode, offset, length in records_from(descriptor, start, size):
        if opcode == _CHUNK_INDEX:
            index.chunks.append(_indexed(index.path, parsed(records.ChunkIndex, descriptor, offset, length), start))
        elif opcode in (SCHEMA, CHANNEL):
            _take(index, descriptor, opcode, offset, length)
        elif opcode == _STATISTICS:
            index.counts = dict(parsed(records.Statistics, descriptor, offset, length).channel_message_counts)
        elif opcode == _ATTACHMENT_INDEX:
            found = parsed(records.AttachmentIndex, descriptor, offset, length)
            index.attachments.append((found.offset, found.length))
        elif opcode == _METADATA_INDEX:
            metadata.append(parsed(records.MetadataIndex, descriptor, offset, length))
        elif opcode == _FOOTER:
            break
    first = record_at(descriptor, len(MAGIC), size)
    if first is not None:
        _take(index, descriptor, first[0], len(MAGIC), first[1])
    for place in metadata:
        found = record_at(descriptor, place.offset, size)
        if found is None or found[0] != METADATA:
            raise FormatError(f"{index.path}: a damaged MCAP file: its index points at no metadata")
        _take(index, descriptor, METADATA, place.offset, found[1])


def _indexed(path: Path, found: Any, data_end: int) -> ChunkPlace:
    """The place of a chunk that the index describes."""
    if found.chunk_start_offset + found.chunk_length > data_end:
        raise FormatError(f"{path}: a damaged MCAP file: its index points behind the data")
    channels = frozenset(found.message_index_offsets) or None
    return ChunkPlace(
        found.message_start_time, found.message_end_time, found.chunk_start_offset, found.chunk_length, channels
    )


def _scan(index: McapIndex, descriptor: int, size: int) -> None:
    """Reads a file that was cut off, record by record."""
    index.end = len(MAGIC)
    for opcode, offset, length in records_from(descriptor, len(MAGIC), size):
        if opcode == _DATA_END:
            break
        _take(index, descriptor, opcode, offset, length)
        index.end = offset + 9 + length


def _take(index: McapIndex, descriptor: int, opcode: int, offset: int, length: int) -> None:
    """Notes one record of the data."""
    records = mcap_records()
    if opcode == 0x01:
        index.library = str(parsed(records.Header, descriptor, offset, length).library)
    elif opcode == SCHEMA:
        schema = parsed(records.Schema, descriptor, offset, length)
        index.schemas[schema.id] = schema
    elif opcode == CHANNEL:
        channel = parsed(records.Channel, descriptor, offset, length)
        index.channels[channel.id] = channel
    elif opcode == CHUNK:
        begin, end = struct.unpack("<QQ", os.pread(descriptor, 16, offset + 9))
        index.chunks.append(ChunkPlace(begin, end, offset, 9 + length, None))
    elif opcode == MESSAGE_INDEX and index.chunks:
        found = parsed(records.MessageIndex, descriptor, offset, length)
        last = index.chunks[-1]
        known = (last.channels or frozenset()) | {found.channel_id}
        index.chunks[-1] = ChunkPlace(last.begin_ns, last.end_ns, last.offset, last.length, known)
        index.counts[found.channel_id] = index.counts.get(found.channel_id, 0) + len(found.records)
    elif opcode == ATTACHMENT:
        index.attachments.append((offset, 9 + length))
    elif opcode == METADATA:
        found = parsed(records.Metadata, descriptor, offset, length)
        index.metadata[found.name] = dict(found.metadata)


def records_from(descriptor: int, start: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Opcode, offset and content length of each complete record from an offset on.

    Args:
        descriptor: of the file.
        start: offset of the first one.
        size: of the file.
    """
    offset = start
    while (found := record_at(descriptor, offset, size)) is not None:
        yield found[0], offset, found[1]
        offset += 9 + found[1]


def parsed(record: Any, descriptor: int, offset: int, length: int) -> Any:
    """A record, read by mcap's own parser.

    Args:
        record: its class.
        descriptor: of the file.
        offset: of the record.
        length: of its content.
    """
    from mcap.data_stream import ReadDataStream

    if length > _LARGEST_RECORD:
        raise FormatError(f"a record of {length} bytes is too large")
    content = os.pread(descriptor, length, offset + 9)
    return record.read(ReadDataStream(BytesIO(content)))

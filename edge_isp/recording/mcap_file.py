"""An MCAP file that is written chunk by chunk, each wholly or not at all (MCAP specification, version 0).

mcap's own `Writer` copies a frame four times and cannot go on after a disk was full, so chunks are put together here,
of mcap's records. A write that fails is taken back: the file always ends behind a complete record, and is readable
without its index.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_isp.errors import MissingDependencyError

if TYPE_CHECKING:
    from mcap.records import ChunkIndex, McapRecord

MAGIC = b"\x89MCAP0\r\n"

Bytes = bytes | bytearray | memoryview


def mcap_records() -> Any:
    """The module of mcap's records.

    Raises:
        MissingDependencyError: mcap is not installed.
    """
    try:
        from mcap import records
    except ModuleNotFoundError as error:
        raise MissingDependencyError("recording and replaying MCAP files", "mcap", "recording") from error
    return records


@dataclass(frozen=True, slots=True)
class Entry:
    """A message to write.

    Attributes:
        channel: its id.
        log_time: when it was recorded, nanoseconds of UTC.
        publish_time: the time that it is of, nanoseconds of UTC.
        sequence: 32 bits.
        parts: of its content, one after the other.
    """

    channel: int
    log_time: int
    publish_time: int
    sequence: int
    parts: tuple[Bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return sum(len(part) for part in self.parts)


class Output(Protocol):
    """Where a file's bytes go. `FileOutput` is the file system's."""

    def write(self, parts: Sequence[Bytes]) -> None:
        """Appends bytes; raises OSError where not all of them could be."""
        ...

    def truncate(self, size: int) -> None:
        """Takes back what was appended after `size` bytes."""
        ...

    def sync(self) -> None:
        """Puts what was written onto the disk."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class FileOutput:
    """A new file.

    Args:
        path: of the file, which must not be there.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            self._sync_folder(path.parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, parts: Sequence[Bytes]) -> None:
        """See `Output.write`."""
        left = [memoryview(part).cast("B") for part in parts if len(part)]
        while left:
            written = os.writev(self._descriptor, left[:64])
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]

    def truncate(self, size: int) -> None:
        """See `Output.truncate`."""
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def sync(self) -> None:
        """See `Output.sync`."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """See `Output.close`."""
        os.close(self._descriptor)

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class McapFile:
    """Writes an MCAP file.

    Args:
        output: of a new file.
        compress: whether chunks are compressed with zstd.
        library: the name of what writes it.

    Attributes:
        size: bytes that were written.

    Raises:
        MissingDependencyError: mcap, or zstandard where chunks are compressed, is not installed.
        OSError: it cannot be written.
    """

    def __init__(self, output: Output, *, compress: bool, library: str) -> None:
        self._records = mcap_records()
        self._output = output
        self._compressor = _zstd() if compress else None
        self.size = 0
        self._is_torn = False  # bytes of a write that failed are behind the last complete record
        self._schemas: list[McapRecord] = []
        self._channels: list[McapRecord] = []
        self._chunks: list[ChunkIndex] = []
        self._attachments: list[McapRecord] = []
        self._metadata: list[McapRecord] = []
        self._messages: dict[int, int] = {}
        self._times: tuple[int, int] | None = None
        self._write([MAGIC, _packed(self._records.Header(profile="", library=library))])

    def add_channel(
        self, topic: str, message_encoding: str, schema: tuple[str, str, bytes], metadata: Mapping[str, str]
    ) -> int:
        """Adds a channel with a schema of its own.

        Args:
            topic: of the channel.
            message_encoding: of its messages.
            schema: name, encoding and content.
            metadata: of the channel.

        Returns:
            The channel's id.

        Raises:
            OSError: it cannot be written.
        """
        number = len(self._channels) + 1
        name, encoding, content = schema
        described = self._records.Schema(id=number, name=name, encoding=encoding, data=content)
        channel = self._records.Channel(
            id=number, topic=topic, message_encoding=message_encoding, schema_id=number, metadata=dict(metadata)
        )
        self._write([_packed(described), _packed(channel)])
        self._schemas.append(described)
        self._channels.append(channel)
        return number

    def add_attachment(self, name: str, media_type: str, content: bytes, time_ns: int) -> None:
        """Adds a file within the file.

        Args:
            name: of the attachment.
            media_type: of the content.
            content: of the attachment.
            time_ns: of it, UTC.

        Raises:
            OSError: it cannot be written.
        """
        packed = _packed(
            self._records.Attachment(
                create_time=time_ns, log_time=time_ns, name=name, media_type=media_type, data=content
            )
        )
        index = self._records.AttachmentIndex(
            offset=self.size,
            length=len(packed),
            log_time=time_ns,
            create_time=time_ns,
            data_size=len(content),
            name=name,
            media_type=media_type,
        )
        self._write([packed])
        self._attachments.append(index)

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Adds a record of texts.

        Args:
            name: of the record.
            values: texts by name.

        Raises:
            OSError: it cannot be written.
        """
        packed = _packed(self._records.Metadata(name=name, metadata=dict(values)))
        index = self._records.MetadataIndex(offset=self.size, length=len(packed), name=name)
        self._write([packed])
        self._metadata.append(index)

    def add_chunk(self, entries: Sequence[Entry]) -> None:
        """Writes messages as one chunk.

        Args:
            entries: one or more.

        Raises:
            OSError: it cannot be written; the file is as before.
        """
        parts: list[Bytes] = []
        indexes: dict[int, list[tuple[int, int]]] = {}
        crc = size = 0
        for entry in entries:
            indexes.setdefault(entry.channel, []).append((entry.log_time, size))
            head = _message_head(entry)
            for part in (head, *entry.parts):
                crc = zlib.crc32(part, crc)
                parts.append(part)
            size += len(head) + entry.size
        compression, stored, parts = self._compressed(parts, size)
        times = [entry.log_time for entry in entries]
        begin, end = min(times), max(times)
        head = struct.pack("<QQQI", begin, end, size, crc) + _text(compression) + struct.pack("<Q", stored)
        start = self.size
        length = 9 + len(head) + stored
        index_records = [_packed(self._records.MessageIndex(channel_id=c, records=r)) for c, r in indexes.items()]
        offsets, at = {}, start + length
        for channel, record in zip(indexes, index_records, strict=True):
            offsets[channel] = at
            at += len(record)
        self._write([struct.pack("<BQ", 0x06, length - 9) + head, *parts, *index_records])
        self._chunks.append(
            self._records.ChunkIndex(
                message_start_time=begin,
                message_end_time=end,
                chunk_start_offset=start,
                chunk_length=length,
                message_index_offsets=offsets,
                message_index_length=at - start - length,
                compression=compression,
                compressed_size=stored,
                uncompressed_size=size,
            )
        )
        for channel, records in indexes.items():
            self._messages[channel] = self._messages.get(channel, 0) + len(records)
        self._times = (begin, end) if self._times is None else (min(self._times[0], begin), max(self._times[1], end))

    def sync(self) -> None:
        """Puts what was written onto the disk.

        Raises:
            OSError: the disk refuses.
        """
        self._output.sync()

    def finish(self) -> None:
        """Writes the index, and syncs.

        Raises:
            OSError: it cannot be written; the file is as before.
        """
        data_end = _packed(self._records.DataEnd(data_section_crc=0))
        summary_start = self.size + len(data_end)
        groups: list[tuple[int, Sequence[McapRecord]]] = [
            (0x03, self._schemas),
            (0x04, self._channels),
            (0x0B, [self._statistics()]),
            (0x08, self._chunks),
            (0x0A, self._attachments),
            (0x0D, self._metadata),
        ]
        summary, offsets = bytearray(), bytearray()
        for opcode, records in groups:
            if records:
                begin = len(summary)
                summary += b"".join(_packed(record) for record in records)
                offsets += _packed(
                    self._records.SummaryOffset(
                        group_opcode=opcode, group_start=summary_start + begin, group_length=len(summary) - begin
                    )
                )
        offset_start = summary_start + len(summary)
        footer_head = struct.pack("<BQQQ", 0x02, 20, summary_start, offset_start)
        crc = zlib.crc32(footer_head, zlib.crc32(bytes(summary + offsets)))
        self._write([data_end, bytes(summary + offsets), footer_head + struct.pack("<I", crc), MAGIC])
        self._output.sync()

    def close(self) -> None:
        """Closes the file as it is.

        Raises:
            OSError: the disk refuses.
        """
        self._output.close()

    def _compressed(self, parts: list[Bytes], size: int) -> tuple[str, int, list[Bytes]]:
        if self._compressor is None:
            return "", size, parts
        packed = self._compressor.compress(b"".join(parts))
        return "zstd", len(packed), [packed]

    def _statistics(self) -> McapRecord:
        begin, end = self._times or (0, 0)
        statistics: McapRecord = self._records.Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self._channels),
            channel_message_counts=dict(self._messages),
            chunk_count=len(self._chunks),
            message_count=sum(self._messages.values()),
            message_start_time=begin,
            message_end_time=end,
            metadata_count=len(self._metadata),
            schema_count=len(self._schemas),
        )
        return statistics

    def _write(self, parts: Sequence[Bytes]) -> None:
        """Appends bytes, all or none."""
        if self._is_torn:
            self._output.truncate(self.size)
        self._is_torn = True
        try:
            self._output.write(parts)
        except BaseException:
            self._output.truncate(self.size)
            self._is_torn = False
            raise
        self._is_torn = False
        self.size += sum(len(part) for part in parts)


def _zstd() -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingDependencyError("compressed recordings", "zstandard", "recording") from error
    return zstandard.ZstdCompressor(level=1)


def _message_head(entry: Entry) -> bytes:
    return struct.pack(
        "<BQHIQQ",
        0x05,
        22 + entry.size,
        entry.channel,
        entry.sequence & 0xFFFFFFFF,
        entry.log_time,
        entry.publish_time,
    )


def _text(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<I", len(content)) + content


def _packed(record: Any) -> bytes:
    from mcap.data_stream import RecordBuilder

    builder: Any = RecordBuilder()
    record.write(builder)
    packed: bytes = builder.end()
    return packed

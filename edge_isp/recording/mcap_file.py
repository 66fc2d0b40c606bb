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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edge_isp.errors import MissingDependencyError

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
    """A file.

    Args:
        path: of the file.
        size: of what is there already, in bytes, and goes on; None makes a new file, which must not be there.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        new = os.O_CREAT | os.O_EXCL if size is None else 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | new, 0o666)
        try:
            if size is None:
                self._sync_folder(path.parent)
            else:
                self.truncate(size)
        except BaseException:
            os.close(self._descriptor)
            if size is None:
                path.unlink(missing_ok=True)
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


@dataclass(slots=True)
class McapSummary:
    """What the index at the end of a file says; mcap's records.

    Attributes:
        schemas: of the file.
        channels: of the file.
        chunks: their indexes.
        attachments: their indexes.
        metadata: their indexes.
        counts: messages by the channel's id.
    """

    schemas: list[Any] = field(default_factory=list)
    channels: list[Any] = field(default_factory=list)
    chunks: list[Any] = field(default_factory=list)
    attachments: list[Any] = field(default_factory=list)
    metadata: list[Any] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)

    def packed(self, at: int) -> bytes:
        """The end of a file: DataEnd, summary, footer and magic.

        Args:
            at: where it begins in the file, in bytes.
        """
        records = mcap_records()
        data_end = packed(records.DataEnd(data_section_crc=0))
        start = at + len(data_end)
        summary, offsets = bytearray(), bytearray()
        for opcode, group in (
            (0x03, self.schemas),
            (0x04, self.channels),
            (0x0B, [self._statistics()]),
            (0x08, self.chunks),
            (0x0A, self.attachments),
            (0x0D, self.metadata),
        ):
            if group:
                begin = len(summary)
                summary += b"".join(packed(record) for record in group)
                offset = records.SummaryOffset(
                    group_opcode=opcode, group_start=start + begin, group_length=len(summary) - begin
                )
                offsets += packed(offset)
        footer = struct.pack("<BQQQ", 0x02, 20, start, start + len(summary))
        crc = zlib.crc32(footer, zlib.crc32(bytes(summary + offsets)))
        return data_end + bytes(summary + offsets) + footer + struct.pack("<I", crc) + MAGIC

    def _statistics(self) -> Any:
        return mcap_records().Statistics(
            attachment_count=len(self.attachments),
            channel_count=len(self.channels),
            channel_message_counts=self.counts,
            chunk_count=len(self.chunks),
            message_count=sum(self.counts.values()),
            message_start_time=min((chunk.message_start_time for chunk in self.chunks), default=0),
            message_end_time=max((chunk.message_end_time for chunk in self.chunks), default=0),
            metadata_count=len(self.metadata),
            schema_count=len(self.schemas),
        )


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
        self._summary = McapSummary()
        self._write([MAGIC, packed(self._records.Header(profile="", library=library))])

    @property
    def is_empty(self) -> bool:
        """Whether there is no message in the file."""
        return not self._summary.chunks

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
        number = len(self._summary.channels) + 1
        name, encoding, content = schema
        described = self._records.Schema(id=number, name=name, encoding=encoding, data=content)
        channel = self._records.Channel(
            id=number, topic=topic, message_encoding=message_encoding, schema_id=number, metadata=dict(metadata)
        )
        self._write([packed(described), packed(channel)])
        self._summary.schemas.append(described)
        self._summary.channels.append(channel)
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
        record = packed(
            self._records.Attachment(
                create_time=time_ns, log_time=time_ns, name=name, media_type=media_type, data=content
            )
        )
        index = self._records.AttachmentIndex(
            offset=self.size,
            length=len(record),
            log_time=time_ns,
            create_time=time_ns,
            data_size=len(content),
            name=name,
            media_type=media_type,
        )
        self._write([record])
        self._summary.attachments.append(index)

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Adds a record of texts.

        Args:
            name: of the record.
            values: texts by name.

        Raises:
            OSError: it cannot be written.
        """
        content = packed(self._records.Metadata(name=name, metadata=dict(values)))
        index = self._records.MetadataIndex(offset=self.size, length=len(content), name=name)
        self._write([content])
        self._summary.metadata.append(index)

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
        index_records = [packed(self._records.MessageIndex(channel_id=c, records=r)) for c, r in indexes.items()]
        offsets, at = {}, start + length
        for channel, record in zip(indexes, index_records, strict=True):
            offsets[channel] = at
            at += len(record)
        self._write([struct.pack("<BQ", 0x06, length - 9) + head, *parts, *index_records])
        self._summary.chunks.append(
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
        counts = self._summary.counts
        for channel, places in indexes.items():
            counts[channel] = counts.get(channel, 0) + len(places)

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
        self._write([self._summary.packed(self.size)])
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
        stored = self._compressor.compress(b"".join(parts))
        return "zstd", len(stored), [stored]

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


def packed(record: Any) -> bytes:
    """The bytes of a record.

    Args:
        record: one of mcap's.
    """
    from mcap.data_stream import RecordBuilder

    builder: Any = RecordBuilder()
    record.write(builder)
    content: bytes = builder.end()
    return content

"""Makes the index of a recording that was cut off: by a power cut, a kill, or a disk that was full."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_isp.errors import SinkError
from edge_isp.recording.mcap_file import MAGIC, FileOutput, McapSummary, mcap_records, packed
from edge_isp.recording.mcap_index import (
    ATTACHMENT,
    CHANNEL,
    CHUNK,
    MESSAGE_INDEX,
    METADATA,
    SCHEMA,
    ChunkPlace,
    mcap_errors,
    parsed,
    records_from,
)
from edge_isp.recording.mcap_recording import McapRecording


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done to a file.

    Attributes:
        was_complete: whether there was nothing to do.
        chunks: that the file holds.
        lost_bytes: behind the last complete and undamaged record, which were cut off.
    """

    was_complete: bool
    chunks: int
    lost_bytes: int


def repair(path: str | Path) -> Repair:
    """Cuts off what is incomplete at the end of a recording, and writes its index there. In place: nothing is copied.

    Chunks at the end that are damaged, as a power cut leaves them, are cut off too.

    Args:
        path: of the file.

    Raises:
        FormatError: it is no recording of edge_isp's.
        MissingDependencyError: a package of the extra "recording" is not installed.
        SinkError: it cannot be written.
    """
    path = Path(path)
    with McapRecording(path) as recording:
        index = recording.index
        if index.is_complete:
            return Repair(True, len(index.chunks), 0)
        chunks, end = sorted(index.chunks, key=lambda chunk: chunk.offset), index.end
        while chunks and not recording.check(chunks[-1]):
            end = chunks.pop().offset
        summary, end = _summary(recording, end)
        with mcap_errors(path):
            missing = _missing_indexes(recording, chunks, summary, end)
            index_bytes = summary.packed(end + len(missing))
    try:
        size = path.stat().st_size
        output = FileOutput(path, end)
        try:
            output.write([missing, index_bytes])
            output.sync()
        finally:
            output.close()
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Repair(False, len(summary.chunks), size - end)


def _summary(recording: McapRecording, end: int) -> tuple[McapSummary, int]:
    """The index of a file's records up to an offset, and the end of the last one."""
    records, summary, last = mcap_records(), McapSummary(), len(MAGIC)
    is_indexed = False  # the last chunk, and not one whose head is damaged
    with mcap_errors(recording.path):
        for opcode, offset, length in records_from(recording.descriptor, len(MAGIC), end):
            if opcode == SCHEMA:
                summary.schemas.append(parsed(records.Schema, recording.descriptor, offset, length))
            elif opcode == CHANNEL:
                summary.channels.append(parsed(records.Channel, recording.descriptor, offset, length))
            elif opcode == CHUNK:
                chunk = _chunk_index(recording, offset, length)
                is_indexed = chunk is not None
                if chunk is not None:
                    summary.chunks.append(chunk)
            elif opcode == MESSAGE_INDEX and is_indexed:
                _add_message_index(
                    summary, parsed(records.MessageIndex, recording.descriptor, offset, length), offset, length
                )
            elif opcode == ATTACHMENT:
                summary.attachments.append(_attachment_index(recording, offset, length))
            elif opcode == METADATA:
                found = parsed(records.Metadata, recording.descriptor, offset, length)
                summary.metadata.append(records.MetadataIndex(offset=offset, length=9 + length, name=found.name))
            last = offset + 9 + length
    return summary, last


def _missing_indexes(recording: McapRecording, chunks: list[ChunkPlace], summary: McapSummary, end: int) -> bytes:
    """Indexes of the last chunk's messages, which the file was cut off before; noted in the summary."""
    if not chunks or not summary.chunks or summary.chunks[-1].chunk_start_offset != chunks[-1].offset:
        return b""
    by_channel: dict[int, list[tuple[int, int]]] = {}
    for message in recording.chunk_messages(chunks[-1]):
        by_channel.setdefault(message.channel, []).append((message.time_ns, message.offset))
    added = b""
    for channel, places in by_channel.items():
        if channel not in summary.chunks[-1].message_index_offsets:
            record = mcap_records().MessageIndex(channel_id=channel, records=places)
            content = packed(record)
            _add_message_index(summary, record, end + len(added), len(content) - 9)
            added += content
    return added


def _chunk_index(recording: McapRecording, offset: int, length: int) -> Any:
    """The index of a chunk; None where its head is damaged."""
    if length < 40:
        return None
    begin, end, size, _, name_length = struct.unpack("<QQQII", recording.pread(32, offset + 9))
    if name_length > min(length - 40, 16):
        return None
    name = recording.pread(name_length, offset + 41).decode("utf-8", "replace")
    return mcap_records().ChunkIndex(
        message_start_time=begin,
        message_end_time=end,
        chunk_start_offset=offset,
        chunk_length=9 + length,
        message_index_offsets={},
        message_index_length=0,
        compression=name,
        compressed_size=length - 40 - name_length,
        uncompressed_size=size,
    )


def _add_message_index(summary: McapSummary, found: Any, offset: int, length: int) -> None:
    chunk = summary.chunks[-1]
    chunk.message_index_offsets[found.channel_id] = offset
    chunk.message_index_length += 9 + length
    summary.counts[found.channel_id] = summary.counts.get(found.channel_id, 0) + len(found.records)


def _attachment_index(recording: McapRecording, offset: int, length: int) -> Any:
    records = mcap_records()
    found = parsed(records.Attachment, recording.descriptor, offset, length)
    return records.AttachmentIndex(
        offset=offset,
        length=9 + length,
        log_time=found.log_time,
        create_time=found.create_time,
        data_size=len(found.data),
        name=found.name,
        media_type=found.media_type,
    )

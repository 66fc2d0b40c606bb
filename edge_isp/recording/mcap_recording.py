"""A recording that was made with `Recorder`, read bit for bit; cut files up to their last complete chunk."""

from __future__ import annotations

import json
import logging
import os
import struct
import threading
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from edge_isp.errors import FormatError, MissingDependencyError
from edge_isp.frame import RecordedFrame
from edge_isp.recording.mcap_file import mcap_records
from edge_isp.recording.mcap_index import (
    LARGEST_CHUNK,
    ChunkPlace,
    McapIndex,
    mcap_errors,
    open_file,
    read_index,
)
from edge_isp.recording.raw_message import decode_frame
from edge_isp.recording.schemas import METADATA, RAW, VERSION, Kind

_log = logging.getLogger(__name__)

_LARGEST_ATTACHMENT = 1 << 26
_MESSAGE = 0x05
# Among which the last frame is looked for first.
_LAST_CHUNKS = 16


class DamagedChunkError(FormatError):
    """A chunk is damaged; the others can be read."""


class ChunkMessage(NamedTuple):
    """A message of a chunk.

    Attributes:
        channel: its id.
        time_ns: when it was recorded, nanoseconds of UTC.
        published_ns: the time that it is of, nanoseconds of UTC.
        offset: of its record in the chunk, decompressed.
        content: of the message.
    """

    channel: int
    time_ns: int
    published_ns: int
    offset: int
    content: memoryview


class McapRecording:
    """Reads a recording; a context manager.

    Args:
        path: of the file.

    Attributes:
        path: of the file.
        index: what is in it.
        cameras: their names.

    Raises:
        FormatError: it is no recording of edge_isp's, or is damaged where it says what it holds.
        MissingDependencyError: a package of the extra "recording" is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._closing = threading.Lock()
        self._descriptor: int | None = open_file(self.path)
        try:
            self.index: McapIndex = read_index(self.path, self._descriptor)
            version = self.index.metadata.get(METADATA, {}).get("version")
            if version != str(VERSION):
                raise FormatError(
                    f"{self.path}: not a recording of edge_isp (version {VERSION}); found "
                    f"{'no metadata of its kind' if version is None else f'version {version[:20]!r}'}"
                )
        except BaseException:
            self.close()
            raise
        self._kinds = {
            (channel.metadata.get("camera", ""), channel.topic.rpartition("/")[2]): identity
            for identity, channel in self.index.channels.items()
        }
        self.cameras = tuple(camera for camera, kind in self._kinds if kind == RAW.name)

    @property
    def descriptor(self) -> int:
        """The descriptor of the file.

        Raises:
            FormatError: the recording is closed.
        """
        if self._descriptor is None:
            raise FormatError(f"{self.path}: the recording is closed")
        return self._descriptor

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself: texts by name."""
        return self.index.metadata[METADATA]

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Times of the first and the last message, nanoseconds of UTC; None where there is none."""
        if not self.index.chunks:
            return None
        return self.index.chunks[0].begin_ns, max(chunk.end_ns for chunk in self.index.chunks)

    def count(self, kind: Kind, camera: str) -> int:
        """How many messages of a kind there are; of a cut file perhaps one more.

        Args:
            kind: of the messages.
            camera: its name.
        """
        return self.index.counts.get(self._kinds.get((camera, kind.name), -1), 0)

    def attachments(self) -> Mapping[str, bytes]:
        """Content of the attachments by name.

        Raises:
            FormatError: one is damaged.
        """
        from mcap.data_stream import ReadDataStream

        found = {}
        for offset, length in self.index.attachments:
            with mcap_errors(self.path):
                if length > _LARGEST_ATTACHMENT:
                    raise FormatError(f"{self.path}: an attachment of {length} bytes is too large")
                content = self.pread(length - 9, offset + 9)
                attachment = mcap_records().Attachment.read(ReadDataStream(BytesIO(content)))
                found[str(attachment.name)] = bytes(attachment.data)
        return found

    def frames(self, camera: str, begin_ns: int = 0) -> Iterator[tuple[int, RecordedFrame]]:
        """Frames of a camera, with their times of recording (nanoseconds of UTC).

        A chunk that is damaged is passed over, with a warning.

        Args:
            camera: its name.
            begin_ns: of the first one, at the earliest.

        Raises:
            FormatError: a message is no frame, or the file has become shorter, or is closed.
        """
        for message in self._messages(RAW, camera, begin_ns):
            yield message.time_ns, decode_frame(message.content, message.published_ns, str(self.path))

    def last_frame(self, camera: str) -> tuple[int, RecordedFrame] | None:
        """The last frame of a camera with its time of recording; None where there is none.

        Args:
            camera: its name.
        """
        for begin_ns in sorted({chunk.begin_ns for chunk in self.index.chunks[-_LAST_CHUNKS:]}, reverse=True):
            found = list(self.frames(camera, begin_ns))
            if found:
                return found[-1]
        return max(self.frames(camera), key=lambda found: found[0], default=None)

    def json_messages(self, kind: Kind, camera: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Small messages, with their times of recording (nanoseconds of UTC).

        Args:
            kind: of the messages, any but RAW.
            camera: its name.

        Raises:
            FormatError: a message is not what its schema says.
        """
        for time_ns, content in self.messages(kind, camera):
            try:
                message = json.loads(bytes(content))
            except (ValueError, RecursionError) as error:
                raise FormatError(f"{self.path}: a message of '{kind.name}' is no JSON: {error}") from error
            if not isinstance(message, dict):
                raise FormatError(f"{self.path}: a message of '{kind.name}' must be a JSON object")
            yield time_ns, message

    def messages(self, kind: Kind, camera: str, begin_ns: int = 0) -> Iterator[tuple[int, memoryview]]:
        """Content and time (nanoseconds of UTC) of messages of a kind, in the order of their times.

        Args:
            kind: of the messages.
            camera: its name.
            begin_ns: of the first one, at the earliest; nanoseconds of UTC.

        Raises:
            FormatError: the file has become shorter, or is closed.
        """
        for message in self._messages(kind, camera, begin_ns):
            yield message.time_ns, message.content

    def _messages(self, kind: Kind, camera: str, begin_ns: int) -> Iterator[ChunkMessage]:
        """See `messages`."""
        channel = self._kinds.get((camera, kind.name))
        if channel is None:
            return
        chunks = self.index.chunks
        first = bisect_left(chunks, begin_ns, key=lambda chunk: chunk.begin_ns)
        # Chunks of small messages are long: those that began before may reach behind the time.
        before = [chunk for chunk in chunks[max(first - 64, 0) : first] if chunk.end_ns >= begin_ns]
        for chunk in chain(before, islice(chunks, first, None)):
            if chunk.channels is not None and channel not in chunk.channels:
                continue
            try:
                found = [message for message in self.chunk_messages(chunk) if message.channel == channel]
            except DamagedChunkError as error:
                _log.warning("%s: passed over: %s", self.path, error)
                continue
            for message in sorted(found, key=lambda message: message.time_ns):
                if message.time_ns >= begin_ns:
                    yield message

    def close(self) -> None:
        """Closes the file. Idempotent."""
        with self._closing:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, chunk: ChunkPlace) -> bool:
        """Whether a chunk is undamaged.

        Args:
            chunk: of the index.

        Raises:
            FormatError: the file cannot be read.
        """
        try:
            self._chunk(chunk)
        except DamagedChunkError:
            return False
        return True

    def chunk_messages(self, place: ChunkPlace) -> list[ChunkMessage]:
        """The messages of a chunk.

        Args:
            place: of the chunk, of the index.

        Raises:
            DamagedChunkError: the chunk is damaged.
            FormatError: the file is closed, has become shorter, or cannot be read.
        """
        content = self._chunk(place)
        found, at = [], 0
        while at < len(content):
            if at + 9 > len(content):
                raise DamagedChunkError(f"the chunk at {place.offset} ends within a record")
            opcode, length = struct.unpack_from("<BQ", content, at)
            end = at + 9 + length
            if end > len(content) or (opcode == _MESSAGE and length < 22):
                raise DamagedChunkError(f"the chunk at {place.offset} holds a record that does not fit")
            if opcode == _MESSAGE:
                channel, _, time_ns, published_ns = struct.unpack_from("<HIQQ", content, at + 9)
                found.append(ChunkMessage(channel, time_ns, published_ns, at, content[at + 31 : end]))
            at = end
        return found

    def _chunk(self, place: ChunkPlace) -> memoryview:
        """A chunk's records, decompressed and compared with their checksum."""
        if place.length > LARGEST_CHUNK + 1024:
            raise DamagedChunkError(f"the chunk at {place.offset} is too large: {place.length} bytes")
        record = memoryview(self.pread(place.length, place.offset))
        try:
            opcode, length, _, _, size, crc, name_length = struct.unpack_from("<BQQQQII", record)
            name = bytes(record[41 : 41 + name_length]).decode() if name_length < 16 else "?"
            (stored,) = struct.unpack_from("<Q", record, 41 + name_length)
        except (struct.error, UnicodeDecodeError) as error:
            raise DamagedChunkError(f"the chunk at {place.offset} is damaged: {error}") from error
        content = record[49 + name_length : 49 + name_length + stored]
        if opcode != 0x06 or length + 9 != len(record) or len(content) != stored or size > LARGEST_CHUNK:
            raise DamagedChunkError(f"the chunk at {place.offset} is damaged")
        if name:
            content = memoryview(_decompressed(content, name, size, place.offset))
        if len(content) != size or (crc and zlib.crc32(content) != crc):
            raise DamagedChunkError(f"the chunk at {place.offset} is damaged: its checksum is another")
        return content

    def pread(self, length: int, offset: int) -> bytes:
        """Bytes of the file.

        Args:
            length: how many.
            offset: of the first one.

        Raises:
            FormatError: there are fewer, or they cannot be read.
        """
        try:
            content = os.pread(self.descriptor, length, offset)
        except OSError as error:
            raise FormatError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if len(content) != length:
            raise FormatError(f"{self.path}: has become shorter")
        return content


def _decompressed(content: memoryview, name: str, size: int, offset: int) -> bytes:
    if name != "zstd":
        raise DamagedChunkError(f"the chunk at {offset} is compressed with {name!r}; expected zstd or none")
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingDependencyError("reading a compressed recording", "zstandard", "recording") from error
    try:
        return zstandard.ZstdDecompressor().decompress(content, max_output_size=size)
    except (zstandard.ZstdError, MemoryError) as error:
        raise DamagedChunkError(f"the chunk at {offset} is damaged: {error}") from error

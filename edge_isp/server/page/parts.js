"use strict";

// Calls a function with each part of multipart/x-mixed-replace, as the bytes come.
async function eachPart(reader, show) {
  let buffer = new Uint8Array(1 << 20);
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (length + value.length > buffer.length) {
      const larger = new Uint8Array(2 * (length + value.length));
      larger.set(buffer.subarray(0, length));
      buffer = larger;
    }
    buffer.set(value, length);
    length += value.length;
    let used = 0;
    for (;;) {
      const part = nextPart(buffer, used, length);
      if (!part) break;
      show(part);
      used = part.end;
    }
    buffer.copyWithin(0, used, length);
    length -= used;
  }
}

// A part's picture, number and camera, and where the next part begins; null where it has not arrived whole.
function nextPart(buffer, start, length) {
  for (let end = start; end + 3 < length; end += 1) {
    if (buffer[end] !== 13 || buffer[end + 1] !== 10 || buffer[end + 2] !== 13 || buffer[end + 3] !== 10) continue;
    const head = new TextDecoder().decode(buffer.subarray(start, end));
    const size = Number(/content-length: (\d+)/i.exec(head)[1]);
    const first = end + 4;
    if (first + size > length) return null;
    const sequence = Number(/x-sequence: (\d+)/i.exec(head)[1]);
    const camera = (/x-camera: (\S+)/i.exec(head) || [])[1];
    return { camera, jpeg: buffer.slice(first, first + size), sequence, end: first + size };
  }
  return null;
}

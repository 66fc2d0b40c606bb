"use strict";

const RETRY_MS = 1000;
const $ = (id) => document.getElementById(id);
const tiles = new Map();
window.tiles = tiles;

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(kind, name, ...children) {
  const element = document.createElement(kind);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

// A camera: a link to its own view, with its newest picture, its state and its numbers.
class Tile {
  constructor(name) {
    this.pictures = 0;
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Newest picture of ${name}`);
    this.state = make("p", "state");
    this.models = make("div");
    const title = make("h2", "", name);
    this.element = make("a", "tile", this.canvas, make("div", "title", title, this.state), this.models);
    this.element.href = `cameras/${name}/`;
    $("cameras").append(this.element);
  }

  async draw(part) {
    const bitmap = await createImageBitmap(new Blob([part.jpeg], { type: "image/jpeg" }));
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
    }
    this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    this.sequence = part.sequence;
    this.pictures += 1;
  }

  show(status) {
    this.state.dataset.state = status.state;
    put(this.state, status.reason ? `${status.state}: ${status.reason}` : status.state);
    const rows = status.models.map((model) => {
      const age = model.age_ms === null ? "-" : `${model.age_ms.toFixed(0)} ms`;
      const lost = Object.entries(model.dropped).map(([reason, frames]) => `${frames} ${reason}`);
      const counts = `${model.delivered} of ${model.frames} frames`;
      return [model.name, `${model.rate_per_s.toFixed(1)}/s, ${age} old`, [counts, ...lost].join(", ")];
    });
    while (this.models.children.length < rows.length) {
      this.models.append(make("p", "numbers", make("b"), make("span"), make("small")));
    }
    rows.forEach((row, index) => row.forEach((text, part) => put(this.models.children[index].children[part], text)));
  }
}

function showStatus({ cameras }) {
  for (const [name, status] of Object.entries(cameras)) {
    if (!tiles.has(name)) tiles.set(name, new Tile(name));
    tiles.get(name).show(status);
  }
  const states = Object.values(cameras).map((status) => status.state);
  const running = states.filter((state) => state === "running").length;
  $("state").dataset.state = running === states.length ? "running" : "waiting";
  put($("state"), `${running} of ${states.length} cameras run`);
}

let abort = null;
async function follow(signal) {
  while (!signal.aborted) {
    try {
      const answer = await fetch("stream.mjpg", { signal });
      if (answer.ok) {
        await eachPart(answer.body.getReader(), (part) => {
          if (tiles.has(part.camera)) tiles.get(part.camera).draw(part);
        });
      }
    } catch (error) {
      if (signal.aborted) return;
    }
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
}

// A page that nobody sees costs the board nothing.
function followIfSeen() {
  if (abort) abort.abort();
  abort = null;
  if (document.hidden) return;
  abort = new AbortController();
  follow(abort.signal);
}
document.addEventListener("visibilitychange", followIfSeen);

async function watch() {
  for (;;) {
    if (!document.hidden) {
      try {
        const answer = await fetch("api/status");
        const content = await answer.json();
        if (answer.ok) showStatus(content);
        else put($("state"), content.error);
        if (answer.ok && !abort) followIfSeen();
      } catch (error) {
        $("state").dataset.state = "gone";
        put($("state"), "the server does not answer");
      }
    }
    await new Promise((done) => setTimeout(done, 1000));
  }
}
watch();

"use strict";

const KEPT_BOXES = 60;
const BOXES_STAY_MS = 1000;
const RETRY_MS = 1000;

const $ = (id) => document.getElementById(id);
const colour = (number) => `hsl(${((number * 0.618034) % 1) * 360} 100% 62.5%)`;

let status = null;
let mode = null;
let shownBoxes = true;
const boxes = new Map();
let newestBoxes = null;

// One view: its stream of pictures, and the boxes that are drawn over them.
class Player {
  constructor(view) {
    this.view = view;
    this.canvas = $(`picture-${view}`);
    this.overlay = $(`boxes-${view}`);
    this.abort = null;
    this.pending = null;
    this.decoding = false;
    this.sequence = null;
    this.pictures = 0;
  }

  start() {
    if (this.abort) return;
    this.abort = new AbortController();
    this.follow(this.abort.signal);
  }

  stop() {
    if (this.abort) this.abort.abort();
    this.abort = null;
  }

  async follow(signal) {
    while (!signal.aborted) {
      try {
        const answer = await fetch(`stream.mjpg?view=${this.view}`, { signal });
        if (answer.ok) await eachPart(answer.body.getReader(), (part) => this.show(part));
        else say((await answer.json()).error);
      } catch (error) {
        if (signal.aborted) return;
      }
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }

  // Decodes the newest picture; one that comes meanwhile replaces the one that waits.
  async show(part) {
    this.pending = part;
    if (this.decoding) return;
    this.decoding = true;
    while (this.pending) {
      const { jpeg, sequence } = this.pending;
      this.pending = null;
      try {
        const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
        if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
          this.canvas.width = bitmap.width;
          this.canvas.height = bitmap.height;
          this.canvas.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
        }
        this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
        bitmap.close();
        this.sequence = sequence;
        this.pictures += 1;
        this.drawBoxes();
      } catch (error) {
        say(`a picture cannot be shown: ${error.message}`);
      }
    }
    this.decoding = false;
  }

  drawBoxes() {
    const scale = window.devicePixelRatio || 1;
    const width = Math.round(this.overlay.clientWidth * scale);
    const height = Math.round(this.overlay.clientHeight * scale);
    if (this.overlay.width !== width) this.overlay.width = width;
    if (this.overlay.height !== height) this.overlay.height = height;
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, width, height);
    const found = boxes.get(this.sequence) || newestBoxes;
    if (!shownBoxes || !found || !found.width || performance.now() - found.arrived > BOXES_STAY_MS) return;
    // The picture is as large as fits into its canvas, in the middle.
    const fit = Math.min(width / found.width, height / found.height);
    const left = (width - fit * found.width) / 2;
    const top = (height - fit * found.height) / 2;
    const text = 13 * scale;
    context.font = `600 ${text}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    for (const one of [...found.detections].reverse()) {
      const [x0, y0, x1, y1] = one.box.map((edge, index) => (index % 2 ? top : left) + fit * edge);
      context.strokeStyle = context.fillStyle = colour(one.track || one.class_id);
      context.lineWidth = 2.5 * scale;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      const label = `${one.track ? `#${one.track} ` : ""}${one.class_name} ${one.confidence.toFixed(2)}`;
      const box = context.measureText(label).width + text * 0.8;
      const labelTop = y0 >= 1.5 * text ? y0 - 1.5 * text : y0;
      context.fillRect(x0, labelTop, box, 1.5 * text);
      context.fillStyle = "#000";
      context.fillText(label, x0 + 0.4 * text, labelTop + 0.78 * text);
    }
  }
}

const players = { network: new Player("network"), classical: new Player("classical") };
window.players = players;

let events = null;
function listen() {
  // A refused request, as of a server that is busy, closes the stream of events for good.
  if ((events && events.readyState !== EventSource.CLOSED) || !status || !status.detector) return;
  events = new EventSource("detections");
  events.onmessage = (event) => {
    const found = JSON.parse(event.data);
    found.arrived = performance.now();
    boxes.set(found.sequence, found);
    newestBoxes = found;
    if (boxes.size > KEPT_BOXES) boxes.delete(boxes.keys().next().value);
    for (const player of active()) if (player.sequence === found.sequence) player.drawBoxes();
    showCounts(found);
  };
}

function active() {
  return Object.values(players).filter((player) => player.abort);
}

function setMode(next) {
  mode = next;
  for (const [view, player] of Object.entries(players)) {
    const on = mode === view || mode === "both";
    $(`figure-${view}`).hidden = !on;
    if (on && !document.hidden) player.start();
    else player.stop();
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === mode));
  }
  const view = mode === "both" ? status.views[0] : mode;
  $("snapshot-jpg").href = `snapshot.jpg?view=${view}`;
  $("snapshot-png").href = `snapshot.png?view=${view}`;
}

function say(text) {
  if ($("message").textContent !== text) $("message").textContent = text;
}

function put(id, text) {
  const element = typeof id === "string" ? $(id) : id;
  if (element.textContent !== text) element.textContent = text;
}

async function post(path, body) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body || {}),
    });
    const content = await answer.json();
    say(answer.ok ? "" : content.error);
    if (answer.ok) showStatus(content);
  } catch (error) {
    say("the server does not answer");
  }
}

// A slider sends at most ten values a second, and is left alone for a while after it was moved.
class Slider {
  constructor(id, format, send) {
    this.input = $(id);
    this.output = $(`${id}-value`);
    this.format = format;
    this.moved = -Infinity;
    this.waiting = null;
    this.input.addEventListener("input", () => {
      this.moved = performance.now();
      this.showValue(this.value());
      if (!this.waiting) {
        this.waiting = setTimeout(() => {
          this.waiting = null;
          this.moved = performance.now();
          send(this.value());
        }, 100);
      }
    });
  }

  value() {
    return Number(this.input.value);
  }

  set(value) {
    if (performance.now() - this.moved < 1500) return;
    this.place(value);
    this.showValue(value);
  }

  place(value) {
    this.input.value = String(value);
  }

  showValue(value) {
    put(this.output, this.format(value));
    this.input.setAttribute("aria-valuetext", this.format(value));
  }
}

// Equal steps multiply the value by equal factors.
class LogarithmicSlider extends Slider {
  limits = [1, 2];

  value() {
    const [least, greatest] = this.limits;
    return least * (greatest / least) ** (Number(this.input.value) / 1000);
  }

  place(value) {
    const [least, greatest] = this.limits;
    this.input.value = String(Math.round((1000 * Math.log(value / least)) / Math.log(greatest / least)));
  }
}

const seconds = (ns) => (ns >= 1e9 ? `${(ns / 1e9).toFixed(2)} s` : `${(ns / 1e6).toPrecision(3)} ms`);
const exposure = new LogarithmicSlider("exposure", seconds, (value) => {
  post("api/controls", { exposure_ns: Math.round(value) });
});
const gain = new LogarithmicSlider("gain", (value) => `${value.toFixed(2)}`, (value) => {
  post("api/controls", { analogue_gain: value });
});
const sendTone = () => post("api/tone", { brightness_ev: brightness.value(), contrast: contrast.value() });
const brightness = new Slider("brightness", (value) => `${value > 0 ? "+" : ""}${value.toFixed(1)} EV`, sendTone);
const contrast = new Slider("contrast", (value) => `${value > 0 ? "+" : ""}${value.toFixed(2)}`, sendTone);

function showStatus(next) {
  status = next;
  if (mode === null) setMode(status.views[0]);
  for (const button of document.querySelectorAll("[data-view]")) {
    const views = button.dataset.view === "both" ? ["network", "classical"] : [button.dataset.view];
    button.hidden = !views.every((view) => status.views.includes(view));
  }
  $("show-boxes").hidden = !status.detector;
  if (!document.hidden) listen();
  $("state").dataset.state = status.state;
  put("state", status.reason ? `${status.state}: ${status.reason}` : status.state);
  const name = status.camera.split("/").pop();
  put("camera", status.frame ? `${own ? `${own[1]}: ` : ""}${name}, ${status.frame.width} x ${status.frame.height}` : "");
  showControls(status.controls);
  brightness.set(status.tone.brightness_ev);
  contrast.set(status.tone.contrast);
  if (document.activeElement !== $("curve")) $("curve").value = status.tone.curve;
  showModels(status.models);
  showNumbers();
  showRecording(status.recording, status.events);
}

function showControls(controls) {
  const { limits } = controls;
  for (const [slider, value, range] of [
    [exposure, controls.exposure_ns, limits && limits.exposure_ns],
    [gain, controls.analogue_gain, limits && limits.analogue_gain],
  ]) {
    slider.input.disabled = !limits || !(range[1] > range[0]);
    if (range) slider.limits = range;
    if (value !== null) slider.set(value);
    else put(slider.output, "not known");
  }
  $("auto-exposure").checked = controls.auto_exposure;
  $("auto-exposure").disabled = !limits && !controls.auto_exposure;
  $("auto-balance").checked = controls.auto_white_balance;
  put("exposure-problem", controls.problem);
}

// Terms and values of a list, made once and changed in place, so that nothing flickers or loses a selection.
function fill(list, rows) {
  while (list.children.length > 2 * rows.length) list.lastChild.remove();
  while (list.children.length < 2 * rows.length) {
    list.append(document.createElement(list.children.length % 2 ? "dd" : "dt"));
  }
  rows.forEach(([term, value], index) => {
    put(list.children[2 * index], term);
    put(list.children[2 * index + 1], value);
  });
}

function showModels(models) {
  const place = $("models");
  while (place.children.length < models.length) {
    const one = document.createElement("div");
    one.append(document.createElement("h3"), document.createElement("dl"));
    place.append(one);
  }
  models.forEach((model, index) => {
    const [title, list] = place.children[index].children;
    put(title, model.name);
    const lost = Object.entries(model.dropped).map(([reason, frames]) => [`lost: ${reason}`, String(frames)]);
    const parts = model.partitions.map((part) => `${part.executor} ${part.operators}`).join(", ");
    fill(list, [
      ["rate", `${model.rate_per_s.toFixed(1)} frames/s`],
      ["age", model.age_ms === null ? "-" : `${model.age_ms.toFixed(0)} ms`],
      ["frames", `${model.delivered} of ${model.frames}`],
      ...lost,
      ["runs on", model.delegate ? `${model.delegate}, ${model.threads} ${model.threads === 1 ? "thread" : "threads"}` : "-"],
      ...(parts ? [["operators", parts]] : []),
    ]);
  });
}

function showNumbers() {
  const { board, frame, viewers } = status;
  const temperatures = Object.entries(board.temperatures_c).map(([name, value]) => [name, `${value.toFixed(1)} \u00b0C`]);
  fill($("numbers"), [
    ...temperatures,
    ["throttling", board.throttled === null ? "not known" : board.throttled.join(", ") || "none"],
    ["light", frame && frame.colour_temperature_k ? `${Math.round(frame.colour_temperature_k)} K` : "-"],
    ["camera restarts", String(status.restarts)],
    ...Object.entries(viewers).map(([stream, count]) => [`clients: ${stream}`, String(count)]),
  ]);
}

function showCounts(found) {
  const zones = (found.zones || []).map((zone) => [zone.name, `${zone.present} present, ${zone.entered} entered`]);
  const lines = (found.lines || []).map((line) => [line.name, `${line.to_right} to the right, ${line.to_left} left`]);
  $("counts").hidden = !zones.length && !lines.length;
  fill($("count-list"), [...zones, ...lines]);
}

const RECORD = { mcap: "Record RAW", video: "Record video" };
function showRecording(recording, events) {
  const place = $("recording");
  const wanted = [...(recording.running ? ["stop"] : recording.kinds), ...(events ? ["event"] : [])];
  const present = [...place.children].map((button) => button.dataset.kind);
  if (wanted.join() !== present.join()) {
    const focused = place.contains(document.activeElement);
    place.replaceChildren(
      ...wanted.map((kind) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.kind = kind;
        button.classList.toggle("recording", kind === "stop");
        button.textContent = RECORD[kind] || "";
        button.addEventListener("click", () => record(kind));
        return button;
      }),
    );
    if (focused && place.firstChild) place.firstChild.focus();
  }
  if (recording.running) {
    const { file, seconds: passed, frames, lost } = recording.running;
    put(place.firstChild, `Stop ${file}: ${passed.toFixed(0)} s, ${frames} frames${lost ? `, ${lost} lost` : ""}`);
  }
  if (events) {
    const button = place.lastChild;
    button.classList.toggle("recording", events.running);
    const saved = events.files ? ` (${events.files})` : "";
    put(button, events.running ? "Recording an event" : `Keep the last ${events.before_s} s${saved}`);
  }
  if (!recording.running && recording.error) say(`the recording has ended: ${recording.error}`);
}

function record(kind) {
  if (kind === "stop") post("api/recording/stop");
  else if (kind === "event") post("api/recording/trigger");
  else post("api/recording/start", { kind });
}

function toggleBoxes() {
  shownBoxes = !shownBoxes;
  $("show-boxes").setAttribute("aria-pressed", String(shownBoxes));
  for (const player of active()) player.drawBoxes();
}

async function toggleFullscreen() {
  const stage = $("stage");
  if (document.fullscreenElement) await document.exitFullscreen();
  else if (stage.requestFullscreen) await stage.requestFullscreen();
  else stage.classList.toggle("filled"); // iPhones have no full screen for pages
  showFullscreen();
}

function showFullscreen() {
  const on = Boolean(document.fullscreenElement) || $("stage").classList.contains("filled");
  $("fullscreen").setAttribute("aria-pressed", String(on));
}

function nextView() {
  const buttons = [...document.querySelectorAll("[data-view]")].filter((button) => !button.hidden);
  const index = buttons.findIndex((button) => button.dataset.view === mode);
  setMode(buttons[(index + 1) % buttons.length].dataset.view);
}

function clickRecording(kind) {
  const button = $("recording").querySelector(`button${kind}`);
  if (button) button.click();
}

const KEYS = {
  v: nextView,
  b: toggleBoxes,
  f: toggleFullscreen,
  s: () => $("snapshot-jpg").click(),
  a: () => $("auto-exposure").click(),
  w: () => $("auto-balance").click(),
  r: () => clickRecording(":not([data-kind=event])"),
  e: () => clickRecording("[data-kind=event]"),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !status) return;
  if (event.target.tagName === "SELECT") return; // its options are chosen by letters, too
  const action = KEYS[event.key.toLowerCase()];
  if (action) action();
});
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => setMode(button.dataset.view));
}
$("show-boxes").addEventListener("click", toggleBoxes);
$("fullscreen").addEventListener("click", toggleFullscreen);
document.addEventListener("fullscreenchange", showFullscreen);
$("auto-exposure").addEventListener("change", (event) => post("api/controls", { auto_exposure: event.target.checked }));
$("auto-balance").addEventListener("change", (event) => {
  post("api/controls", { auto_white_balance: event.target.checked });
});
$("reset-tone").addEventListener("click", () => {
  brightness.moved = contrast.moved = -Infinity;
  post("api/tone", {});
});
$("curve").addEventListener("change", (event) => {
  post("api/tone", { brightness_ev: brightness.value(), contrast: contrast.value(), curve: event.target.value });
});
window.addEventListener("resize", () => active().forEach((player) => player.drawBoxes()));

// A page that nobody sees costs the board nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    Object.values(players).forEach((player) => player.stop());
    if (events) events.close();
    events = null;
  } else if (mode) {
    setMode(mode);
    listen();
  }
});

// One of several cameras: the link leads back to all of them.
const own = /\/cameras\/([^/]+)\/$/.exec(location.pathname);
if (own) {
  $("all").hidden = false;
  document.title = `${own[1]}: ${document.title}`;
}

async function watch() {
  for (;;) {
    if (!document.hidden) {
      try {
        const answer = await fetch("api/status");
        const content = await answer.json();
        if (answer.ok) showStatus(content);
        else put("state", content.error);
      } catch (error) {
        $("state").dataset.state = "gone";
        put("state", "the server does not answer");
      }
    }
    await new Promise((done) => setTimeout(done, 1000));
  }
}
watch();

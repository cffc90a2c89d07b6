// Runs the script of a latent space's page on a minimal document, and prints what it draws as JSON.
"use strict";
const html = require("fs").readFileSync(process.argv[2], "utf8");
const data = html.match(/id="latent-data">([\s\S]*?)<\/script>/)[1];
const script = html.match(/<script>([\s\S]*?)<\/script>/)[1];
const facts = JSON.parse(data);
const elements = {};
let marks = []; // the middles of what was filled since it was emptied

function element(id) {
  if (elements[id]) return elements[id];
  const listeners = {};
  const pen = {
    setTransform() {}, drawImage() {}, beginPath() {}, fill() {}, clearRect() {},
    fillRect: (x, y, w, h) => marks.push([x + w / 2, y + h / 2]),
    arc: (x, y) => marks.push([x, y]),
  };
  elements[id] = {
    listeners, style: {}, hidden: true, checked: true, complete: true, textContent: "",
    clientWidth: 1000, clientHeight: 700, offsetWidth: 150, offsetHeight: 180,
    addEventListener: (type, listener) => (listeners[type] ??= []).push(listener),
    getBoundingClientRect: () => ({ left: 0, top: 0 }),
    setPointerCapture() {},
    getContext: () => pen,
    querySelector: (query) => element(`${id} ${query}`),
  };
  return elements[id];
}

const boxes = facts.classes.map((_, i) => element(`box ${i}`));
element("latent-data").textContent = data;
global.window = { devicePixelRatio: 2, addEventListener() {} };
global.document = { getElementById: element, querySelectorAll: (q) => (q.includes("img") ? [element("sheet")] : boxes) };
const send = (id, type, event = {}) => {
  marks = [];
  const target = element(id);
  for (const listener of target.listeners[type]) listener({ preventDefault() {}, target, ...event });
  return marks;
};
const canvas = "latent-canvas";
eval(script);
const start = marks;
const [x, y] = start.at(-1); // the last point lies on top
send(canvas, "pointermove", { pointerId: 1, clientX: x, clientY: y });
const tip = [element("latent-tip").hidden, element("latent-tip b").textContent, element("latent-tip span").textContent];
const zoomed = send(canvas, "wheel", { deltaY: -300, clientX: x, clientY: y }).at(-1);
send(canvas, "pointerdown", { pointerId: 1, clientX: 100, clientY: 100 });
const dragged = send(canvas, "pointermove", { pointerId: 1, clientX: 130, clientY: 80 }).at(-1);
send(canvas, "pointerup", { pointerId: 1 });
send(canvas, "dblclick");
send("latent-none", "click");
const none = send("latent-reset", "click").length;
boxes[1].checked = true;
const one = send("box 1", "change").length;
send("latent-all", "click");
const dots = send("latent-pictures", "change", { target: { checked: false } }).length;
console.log(JSON.stringify({ start: start.length, at: [x, y], tip, zoomed, dragged, none, one, dots }));

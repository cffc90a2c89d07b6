// Uses the labelling page as a person would, with just enough of a browser, and prints the requests that it sends.
"use strict";
const listeners = {}, requests = [], elements = {};
const anything = new Proxy(function () {}, {get: (_, key) => key === "width" ? 10 : anything, apply: () => anything, set: () => true});

function element(id) {
  return elements[id] ||= {
    id, value: "", checked: false, hidden: false, textContent: "", children: [], style: {}, width: 0, height: 0,
    dataset: {colours: "#ff0000 #00ff00"},
    classList: {toggle() {}},
    addEventListener(kind, act) { (listeners[`${id} ${kind}`] ||= []).push(act); },
    append(...parts) { this.children.push(...parts); },
    replaceChildren() { this.children = []; },
    getContext: () => anything,
    getBoundingClientRect: () => ({left: 0, top: 0, width: 100, height: 100}),
    setPointerCapture() {}, scrollIntoView() {}, focus() {}, blur() {},
  };
}
let made = 0;
global.document = {
  getElementById: element,
  createElement: () => element(`made${made++}`),
  addEventListener: (kind, act) => { (listeners[`document ${kind}`] ||= []).push(act); },
};
global.window = {devicePixelRatio: 1, addEventListener() {}};
global.HTMLInputElement = class {};
global.HTMLButtonElement = class {};
global.Image = class { set src(_) { setTimeout(() => this.onload(), 0); } };
const state = {classes: ["cat"], images: [{name: "a", labelled: false, objects: 0}, {name: "b", labelled: false, objects: 0}],
  file: "f", suggests: true};
global.fetch = async (path, {method, body}) => {
  const sent = body ? JSON.parse(body) : null;
  if (method !== "GET") requests.push([method, path, sent]);
  let answer = {...state};
  if (path === "classes") state.classes = [...state.classes, sent.name], answer = {...state};
  else if (path.startsWith("shapes") && method === "GET") answer = {shapes: [], labelled: false, width: 100, height: 100};
  else if (path.startsWith("shapes")) answer.shapes = sent.shapes.map((s, i) => ({...s, id: i + 1}));
  else if (path.startsWith("suggest")) answer = {shapes: [{label: "cat", box: [50, 50, 60, 60], outline: null, id: null, fixed: false}]};
  return {ok: true, json: async () => JSON.parse(JSON.stringify(answer))};
};

const rest = () => new Promise(done => setTimeout(done, 20));
const fire = async (name, event = {}) => {
  for (const act of listeners[name] || []) act({preventDefault() {}, target: {}, button: 0, pointerId: 1, ...event});
  await rest();
};
// The image of 100×100 pixels is shown at 0.97 of its size, 1.5 pixels from the border.
const at = (x, y) => ({clientX: x * 0.97 + 1.5, clientY: y * 0.97 + 1.5});
const drag = async (from, to) => {
  await fire("canvas pointerdown", at(...from));
  await fire("canvas pointermove", at(...to));
  await fire("canvas pointerup", at(...to));
};
const key = (name, more = {}) => fire("document keydown", {key: name, ...more});

(async () => {
  require(process.argv[2]);
  await rest();
  await drag([10, 20], [40, 60]);             // a box
  await drag([40, 60], [30, 50]);             // its corner
  await drag([20, 30], [25, 30]);             // the box is moved
  element("added").value = "dog";
  await fire("adding submit");
  await key("o");
  for (const point of [[70, 70], [90, 70], [70, 90]]) await fire("canvas pointerdown", at(...point));
  await key("Enter");                         // an outline
  await key("1");                             // of the first class
  await key("Delete");
  await key("z", {ctrlKey: true});
  await key("s");                             // suggestions
  await key("ArrowRight");
  await key("n");                             // no objects
  const rounded = JSON.parse(JSON.stringify(requests), (_, v) => typeof v === "number" ? Math.round(v * 100) / 100 : v);
  console.log(JSON.stringify({requests: rounded, status: element("status").textContent}));
})();

// The labelling page: objects of one image at a time, written to the label file after each change.
"use strict";

// --- geometry, in pixels of the image; a view maps them to pixels of the canvas -------------------------------------

const toImage = (view, x, y) => [(x - view.x) / view.scale, (y - view.y) / view.scale];
const toCanvas = (view, x, y) => [x * view.scale + view.x, y * view.scale + view.y];
const clip = (value, low, high) => Math.min(Math.max(value, low), high);

/** The view that shows a whole image in the middle of a canvas. */
function fitted(width, height, canvasWidth, canvasHeight) {
  const scale = Math.min(canvasWidth / width, canvasHeight / height) * 0.97;
  return {scale, x: (canvasWidth - width * scale) / 2, y: (canvasHeight - height * scale) / 2};
}

/** The view after zooming by a factor about a point of the canvas. */
function zoomed(view, factor, x, y) {
  const scale = clip(view.scale * factor, 0.02, 64), ratio = scale / view.scale;
  return {scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio};
}

const boxOf = points => [
  Math.min(...points.map(p => p[0])), Math.min(...points.map(p => p[1])),
  Math.max(...points.map(p => p[0])), Math.max(...points.map(p => p[1])),
];

/** The points that change a shape: corners of an outline, or corners of a box (top left, top right, …). */
function handles(shape) {
  if (shape.fixed) return [];
  const [a, b, c, d] = shape.box;
  return shape.outline || [[a, b], [c, b], [c, d], [a, d]];
}

/** The index of the handle nearest to a point, within a distance; -1 if there is none. */
function handleAt(shape, x, y, distance) {
  let best = -1, least = distance;
  handles(shape).forEach(([hx, hy], i) => {
    const away = Math.hypot(hx - x, hy - y);
    if (away <= least) { best = i; least = away; }
  });
  return best;
}

/** Whether a point is inside of a shape (even-odd rule). */
function isInside(shape, x, y) {
  if (!shape.outline) return x >= shape.box[0] && x <= shape.box[2] && y >= shape.box[1] && y <= shape.box[3];
  let inside = false;
  shape.outline.forEach(([x1, y1], i) => {
    const [x2, y2] = shape.outline[(i + 1) % shape.outline.length];
    if ((y1 > y) !== (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) inside = !inside;
  });
  return inside;
}

/** The index of the smallest shape at a point; -1 if there is none. */
function shapeAt(shapes, x, y) {
  const area = s => (s.box[2] - s.box[0]) * (s.box[3] - s.box[1]);
  let best = -1;
  shapes.forEach((shape, i) => {
    if (isInside(shape, x, y) && (best < 0 || area(shape) < area(shapes[best]))) best = i;
  });
  return best;
}

/** A shape moved by (dx, dy), but not out of an image. */
function moved(shape, dx, dy, width, height) {
  const [a, b, c, d] = shape.box;
  const x = clip(dx, -a, Math.max(width - c, -a)), y = clip(dy, -b, Math.max(height - d, -b));
  const outline = shape.outline && shape.outline.map(([px, py]) => [px + x, py + y]);
  return {...shape, outline, box: [a + x, b + y, c + x, d + y]};
}

/** A shape with one handle at another point, clipped to the image. A box may turn over; `upright` mends that. */
function dragged(shape, handle, x, y, width, height) {
  x = clip(x, 0, width); y = clip(y, 0, height);
  if (shape.outline) {
    const outline = shape.outline.map((point, i) => i === handle ? [x, y] : point);
    return {...shape, outline, box: boxOf(outline)};
  }
  const box = [...shape.box];
  box[handle === 0 || handle === 3 ? 0 : 2] = x;
  box[handle < 2 ? 1 : 3] = y;
  return {...shape, box};
}

/** A shape whose box has x1 ≤ x2 and y1 ≤ y2. */
function upright(shape) {
  const [a, b, c, d] = shape.box;
  return {...shape, box: [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)]};
}

/** Whether a shape is too small to be meant. */
const isTiny = shape => Math.abs(shape.box[2] - shape.box[0]) < 1 || Math.abs(shape.box[3] - shape.box[1]) < 1;

const functions = {toImage, toCanvas, fitted, zoomed, boxOf, handles, handleAt, isInside, shapeAt, moved, dragged,
  upright, isTiny};
if (typeof module !== "undefined") module.exports = functions;
if (typeof document !== "undefined") start();

// --- the page --------------------------------------------------------------------------------------------------------

function start() {
  const at = id => document.getElementById(id);
  const canvas = at("canvas"), context = canvas.getContext("2d"), colours = canvas.dataset.colours.split(" ");
  let classes = [], images = [], current = -1, picture = null, size = [1, 1], view = {scale: 1, x: 0, y: 0};
  let shapes = [], labelled = false, chosen = -1, kind = 0, mode = "box", points = [], pointer = null, drag = null;
  let past = [], writing = Promise.resolve();

  const colourOf = label => colours[Math.max(0, classes.indexOf(label)) % colours.length];
  const counted = count => count === 1 ? "1 object" : `${count} objects`;
  const say = (text, bad = false) => { at("status").textContent = text; at("status").className = bad ? "bad" : "soft"; };

  async function ask(path, method = "GET", body) {
    const options = body ? {method, body: JSON.stringify(body), headers: {"Content-Type": "application/json"}} : {method};
    let answer;
    try { answer = await fetch(path, options); }
    catch { throw new Error("the server has stopped; start sightline annotate again"); }
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.detail);
    return value;
  }

  const guarded = action => (...given) => Promise.resolve(action(...given)).catch(error => say(error.message, true));

  function take(overview) {
    ({classes, images} = overview);
    at("about").textContent = `${images.filter(i => i.labelled).length} of ${images.length} images labelled; ` +
      `written to ${overview.file}`;
    if (overview.suggests !== undefined) at("suggest").hidden = !overview.suggests;
    listImages(); listClasses(); listObjects();
  }

  function item(list, text, chosenNow, colour, act) {
    const li = document.createElement("li");
    if (colour) {
      const swatch = document.createElement("span");
      swatch.className = "swatch"; swatch.style.background = colour; li.append(swatch);
    }
    li.append(text);
    li.classList.toggle("chosen", chosenNow);
    li.tabIndex = 0;
    li.addEventListener("click", guarded(act));
    li.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault(); event.stopPropagation();
      li.click();
    });
    list.append(li);
    return li;
  }

  /** Fill a list anew, without taking the keyboard's focus out of it. */
  function filled(list, fill) {
    const focused = [...list.children].indexOf(document.activeElement);
    list.replaceChildren();
    fill(list);
    if (list.children[focused]) list.children[focused].focus({preventScroll: true});
  }

  function listImages() {
    filled(at("images"), list => images.forEach((image, i) => {
      if (at("todo").checked && image.labelled && i !== current) return;
      const li = item(list, image.name, i === current, null, () => open(i));
      li.value = i + 1;
      li.classList.toggle("done", image.labelled);
      if (i === current) li.scrollIntoView({block: "nearest"});
    }));
  }

  function listClasses() {
    filled(at("classes"), list => classes.forEach((name, i) =>
      item(list, name, i === kind, colours[i % colours.length], () => choose(i))));
  }

  function listObjects() {
    filled(at("objects"), list => shapes.forEach((shape, i) =>
      item(list, shape.label + (shape.fixed ? " (only its class)" : ""), i === chosen, colourOf(shape.label),
        () => { chosen = i; refresh(); })));
  }

  function refresh() { listObjects(); draw(); }

  /** Store the objects; requests are sent one after another, so that the last one counts. */
  function store(isLabelled = true) {
    labelled = isLabelled;
    const image = current, sent = shapes;
    writing = writing.then(async () => {
      const stored = await ask(`shapes/${image}`, "PUT", {shapes: sent, labelled: isLabelled});
      if (image === current && sent === shapes) {
        shapes = stored.shapes;  // with their ids
        say(labelled ? `${counted(shapes.length)}, written` : "this image is not in the file");
      }
      take(stored);
    }).catch(error => say(`not written: ${error.message}`, true));
    return writing;
  }

  function change(next, select = chosen) {
    past.push({shapes, labelled}); past = past.slice(-200);
    shapes = next; chosen = select;
    refresh();
    return store();
  }

  function choose(i) {
    if (i >= classes.length) return;
    kind = i;
    if (chosen >= 0 && shapes[chosen].label !== classes[i])
      return listClasses(), change(shapes.map((s, k) => k === chosen ? {...s, label: classes[i]} : s));
    listClasses();
  }

  async function open(i) {
    if (i < 0 || i >= images.length) return;
    current = i; chosen = -1; points = []; past = []; drag = null; shapes = []; picture = null;
    listImages(); refresh();
    say("loading …");
    await writing;
    const known = await ask(`shapes/${i}`);
    const loaded = new Image();
    await new Promise((done, fail) => {
      loaded.onload = done;
      loaded.onerror = () => fail(new Error(`${images[i].name} cannot be shown`));
      loaded.src = `image/${i}`;
    });
    if (i !== current) return;
    ({shapes, labelled} = known);
    size = [known.width, known.height]; picture = loaded;
    show();
    say(labelled ? counted(shapes.length) : "not labelled yet");
    refresh();
  }

  function show() {
    const ratio = window.devicePixelRatio || 1, area = canvas.getBoundingClientRect();
    canvas.width = area.width * ratio; canvas.height = area.height * ratio;
    view = fitted(size[0], size[1], canvas.width, canvas.height);
    draw();
  }

  function trace(list, closed) {
    context.beginPath();
    list.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](...toCanvas(view, x, y)));
    if (closed) context.closePath();
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!picture) return;
    context.imageSmoothingEnabled = view.scale < 4;
    context.drawImage(picture, view.x, view.y, size[0] * view.scale, size[1] * view.scale);
    context.font = `${13 * ratio}px system-ui, sans-serif`;
    shapes.forEach((shape, i) => {
      const colour = colourOf(shape.label);
      trace(handles({...shape, fixed: false}), true);
      context.lineWidth = (i === chosen ? 3 : 2) * ratio;
      context.strokeStyle = colour; context.fillStyle = colour + (i === chosen ? "40" : "20");
      context.setLineDash(shape.fixed ? [6 * ratio, 4 * ratio] : []);
      context.fill(); context.stroke(); context.setLineDash([]);
      const [x, top] = toCanvas(view, shape.box[0], shape.box[1]), width = context.measureText(shape.label).width;
      const y = Math.max(top, 17 * ratio);  // above the object, or inside of it at the top of the canvas
      context.fillStyle = "#000a"; context.fillRect(x, y - 17 * ratio, width + 8 * ratio, 17 * ratio);
      context.fillStyle = "#fff"; context.fillText(shape.label, x + 4 * ratio, y - 4 * ratio);
      if (i === chosen) for (const point of handles(shape)) {
        const [hx, hy] = toCanvas(view, ...point);
        context.fillStyle = "#fff"; context.strokeStyle = colour; context.lineWidth = 2 * ratio;
        context.beginPath(); context.rect(hx - 4 * ratio, hy - 4 * ratio, 8 * ratio, 8 * ratio);
        context.fill(); context.stroke();
      }
    });
    if (points.length) {
      trace(pointer ? [...points, pointer] : points, false);
      context.lineWidth = 2 * ratio; context.strokeStyle = colours[kind % colours.length]; context.stroke();
    }
  }

  function place(event) {
    const ratio = window.devicePixelRatio || 1, area = canvas.getBoundingClientRect();
    const x = (event.clientX - area.left) * ratio, y = (event.clientY - area.top) * ratio;
    return {x, y, image: toImage(view, x, y), near: 9 * ratio / view.scale};
  }

  const within = ([x, y]) => [clip(x, 0, size[0]), clip(y, 0, size[1])];

  function closeOutline() {
    if (points.length < 3) return say("an outline needs three corners or more", true);
    const shape = {label: classes[kind], outline: points, box: boxOf(points), id: null, fixed: false};
    points = [];
    if (isTiny(shape)) return draw();
    return change([...shapes, shape], shapes.length);
  }

  canvas.addEventListener("pointerdown", guarded(event => {
    if (!picture) return;
    canvas.focus(); canvas.setPointerCapture(event.pointerId);
    const {x, y, image, near} = place(event);
    if (event.button === 1 || event.shiftKey) { drag = {what: "view", x, y, view}; event.preventDefault(); return; }
    if (event.button !== 0) return;
    if (mode === "outline") {
      if (!classes.length) throw new Error("add a class first");
      const first = points[0];
      if (points.length > 2 && Math.hypot(first[0] - image[0], first[1] - image[1]) <= near) return closeOutline();
      points = [...points, within(image)];
      return draw();
    }
    const handle = chosen >= 0 ? handleAt(shapes[chosen], ...image, near) : -1;
    if (handle >= 0) { drag = {what: "handle", handle, before: shapes[chosen]}; return; }
    const hit = shapeAt(shapes, ...image);
    if (hit >= 0 && hit === chosen && !shapes[hit].fixed) { drag = {what: "move", image, before: shapes[hit]}; return; }
    drag = {what: "new", image: within(image), hit};
  }));

  canvas.addEventListener("pointermove", event => {
    const {x, y, image} = place(event);
    pointer = within(image);
    if (!drag) { if (points.length) draw(); return; }
    if (drag.what === "view") { view = {...drag.view, x: drag.view.x + x - drag.x, y: drag.view.y + y - drag.y}; return draw(); }
    if (drag.what === "new") drag.box = [...drag.image, ...within(image)];
    else drag.shape = drag.what === "move"
      ? moved(drag.before, image[0] - drag.image[0], image[1] - drag.image[1], ...size)
      : dragged(drag.before, drag.handle, ...image, ...size);
    const kept = shapes;  // what is being dragged is drawn, and stored at the end
    shapes = drag.box ? [...shapes, {label: classes[kind] || "", box: drag.box, outline: null}]
      : shapes.map((s, i) => i === chosen ? drag.shape : s);
    draw();
    shapes = kept;
  });

  canvas.addEventListener("pointerup", guarded(() => {
    const done = drag;
    drag = null;
    if (!done || done.what === "view") return;
    if (done.what !== "new") return done.shape && change(shapes.map((s, i) => i === chosen ? upright(done.shape) : s));
    const shape = done.box && upright({label: classes[kind], box: done.box, outline: null, id: null, fixed: false});
    if (!shape || isTiny(shape)) { chosen = done.hit; return refresh(); }  // a click selects
    refresh();
    if (!classes.length) throw new Error("add a class first");
    return change([...shapes, shape], shapes.length);
  }));

  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const {x, y} = place(event);
    view = zoomed(view, Math.exp(-event.deltaY / 400), x, y);
    draw();
  }, {passive: false});

  function setMode(next) {
    mode = next; points = [];
    for (const one of ["box", "outline"]) {
      at(one).classList.toggle("chosen", mode === one);
      at(one).ariaPressed = String(mode === one);
    }
    draw();
  }

  const remove = () => chosen >= 0 && change(shapes.filter((_, i) => i !== chosen), -1);
  const undo = () => {
    if (points.length) { points = points.slice(0, -1); return draw(); }
    const before = past.pop();
    if (!before) return say("nothing to undo");
    shapes = before.shapes; chosen = -1;
    refresh();
    return store(before.labelled);
  };
  const empty = () => {
    if (shapes.length) throw new Error("this image has objects; delete them first");
    return store().then(() => step(1));
  };
  const unlabel = () => {
    if (shapes.length) past.push({shapes, labelled});
    shapes = []; chosen = -1;
    refresh();
    return store(false);
  };
  const suggest = async () => {
    const image = current;
    say("the model looks at the image …");
    const found = await ask(`suggest/${image}`);
    if (image !== current) return;
    const fresh = found.shapes.filter(a => !shapes.some(b => overlap(a.box, b.box) > 0.7));
    if (!fresh.length) return say("the model finds nothing more");
    await change([...shapes, ...fresh], -1);
  };
  function overlap(a, b) {
    const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (width <= 0 || height <= 0) return 0;
    const area = box => (box[2] - box[0]) * (box[3] - box[1]);
    return width * height / (area(a) + area(b) - width * height);
  }
  function step(by) {
    let next = current + by;
    while (at("todo").checked && images[next] && images[next].labelled) next += by;
    return images[next] ? open(next) : say(by > 0 ? "this is the last image" : "this is the first image");
  }

  const buttons = {
    previous: () => step(-1), next: () => step(1), box: () => setMode("box"), outline: () => setMode("outline"),
    remove, undo, empty, unlabel, suggest,
  };
  for (const [id, act] of Object.entries(buttons)) at(id).addEventListener("click", guarded(act));
  at("todo").addEventListener("change", listImages);
  at("adding").addEventListener("submit", guarded(async event => {
    event.preventDefault();
    const name = at("added").value;
    const overview = await ask("classes", "POST", {name});
    at("added").value = ""; kind = overview.classes.length - 1;
    take(overview);
    say(`new objects are of class ${name.trim()}`);
    at("added").blur();
  }));

  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), b: () => setMode("box"), o: () => setMode("outline"),
    Delete: remove, Backspace: remove, n: empty, s: suggest, 0: show, Enter: () => points.length && closeOutline(),
    Escape: () => { points = []; drag = null; chosen = -1; refresh(); },
  };
  document.addEventListener("keydown", guarded(event => {
    if (event.target instanceof HTMLInputElement && event.target.type !== "checkbox") return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { event.preventDefault(); return undo(); }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^[1-9]$/.test(event.key)) return choose(Number(event.key) - 1);
    if (event.key === "Enter" && event.target instanceof HTMLButtonElement) return;
    if (event.key === "s" && at("suggest").hidden) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) { event.preventDefault(); return act(); }
  }));
  window.addEventListener("resize", show);

  setMode("box");
  guarded(async () => {
    take(await ask("overview"));
    const first = images.findIndex(image => !image.labelled);
    await open(Math.max(0, first));
  })();
}

// The script of the server's page. Everything that a server sends is shown as text or drawn, never read as HTML.
"use strict";

/** Lengths of the runs of a compressed COCO RLE, which alternate between outside and inside, down the columns. */
function runsOf(counts) {
  if (typeof counts !== "string") return counts;
  const runs = [];
  let place = 0;
  while (place < counts.length) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const part = counts.charCodeAt(place++) - 48;
      value |= (part & 31) << shift;
      shift += 5;
      more = (part & 32) !== 0;
      if (!more && part & 16) value |= -1 << shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** Calls paint(x, y, length) for each vertical run of an RLE {size: [height, width], counts} that is inside. */
function eachRun(rle, paint) {
  const height = rle.size[0];
  let place = 0;
  runsOf(rle.counts).forEach((length, i) => {
    let left = length;
    while (i % 2 && left > 0) {
      const y = place % height, part = Math.min(left, height - y);
      paint((place - y) / height, y, part);
      place += part;
      left -= part;
    }
    place += left;
  });
}

/** The annotations that are shown: those without a score, and those whose score is high enough. */
function shown(annotations, threshold) {
  return annotations.filter(one => one.score === undefined || one.score >= threshold);
}

/** What a prediction holds, whatever its task: {annotations, scores, relations, events, width, height}. */
function contentsOf(prediction) {
  const image = (prediction.images || [{}])[0] || {};
  const first = prediction.images ? null : Object.values(prediction)[0];
  const events = first && first.timestamps
    ? first.timestamps.map((times, i) => ({times, text: (first.sentences || [])[i] || "", score: (first.scores || [])[i]}))
    : [];
  const annotations = prediction.annotations || [];
  const name = id => {
    const place = annotations.findIndex(one => one.id === id);
    return place < 0 ? "?" : `${annotations[place].category || "object"} ${place}`;
  };
  const relations = (image.relations || []).map((one, i) => ({
    text: `${name(one[0])} ${one[1]} ${name(one[2])}`, score: (image.relation_scores || [])[i], between: [one[0], one[2]],
  }));
  return {annotations, scores: image.predictions || [], relations, events, width: image.width, height: image.height};
}

/** The relations between objects that are shown. */
function relationsAmong(relations, objects) {
  const ids = new Set(objects.map(one => one.id));
  return relations.filter(one => one.between.every(id => ids.has(id)));
}

/** Whether objects are shown by their numbers, because their captions are long or relations name the numbers. */
function isNumbered(contents) {
  return contents.relations.length > 0 || contents.annotations.some(one => one.caption);
}

/** The colour of an annotation: of its class, or of the object if masks of one class would run together. */
function colourOf(one, position, annotations, colours) {
  const single = annotations.length > 1 && annotations.every(other => other.category_id === one.category_id);
  const masks = single && annotations.every(other => other.segmentation && other.score !== undefined);
  return colours[(masks ? position : one.category_id - 1) % colours.length];
}

if (typeof module !== "undefined") module.exports = {runsOf, eachRun, shown, contentsOf, relationsAmong, isNumbered, colourOf};

if (typeof document !== "undefined") (function () {
  const at = id => document.getElementById(id);
  const colours = at("canvas").dataset.colours.split(" ");
  const state = {file: null, bitmap: null, answer: null, models: [], request: null, drawing: null, address: null, said: ""};

  function element(tag, text, parent, className) {
    const made = document.createElement(tag);
    if (text !== null) made.textContent = text;
    if (className) made.className = className;
    if (parent) parent.appendChild(made);
    return made;
  }

  function say(text, bad) {
    at("status").textContent = text;
    at("status").className = bad ? "bad" : "soft";
    if (bad) at("status").scrollIntoView({block: "nearest"});
  }

  async function ask(path, options) {
    const headers = at("key").value ? {"X-API-Key": at("key").value} : {};
    const answer = await fetch(path, {...options, headers});
    if (answer.status === 401) at("keyed").hidden = false;
    if (!answer.ok) {
      let sentence = `the server answered with status ${answer.status}`;
      try { sentence = (await answer.json()).error || sentence; } catch { /* not JSON */ }
      throw new Error(sentence);
    }
    return answer;
  }

  const current = () => state.models.find(one => one.name === at("model").value) || null;

  async function loadModels() {
    try {
      state.models = await (await ask("models")).json();
    } catch (error) {
      say(error.message, true);
      return;
    }
    at("model").replaceChildren();
    state.models.forEach(one => { element("option", one.name, at("model")).value = one.name; });
    at("models").hidden = state.models.length < 2;
    chooseModel();
    say("", false);
  }

  function chooseModel() {
    const model = current();
    if (!model) return;
    const some = model.classes.slice(0, 8).join(", ");
    at("about").textContent = `${model.model}, ${model.task}` +
      (some ? `: ${some}${model.classes.length > 8 ? ` and ${model.classes.length - 8} more` : ""}` : "");
    at("threshold").value = model.threshold;
    at("value").textContent = Number(model.threshold).toFixed(2);
    at("explain").hidden = model.methods.length === 0;
    if (state.file) predict();
  }

  async function choose(file) {
    if (!file) return;
    state.file = file;
    state.answer = null;
    say("reading …", false);
    let bitmap = null;
    try {
      bitmap = await createImageBitmap(file);
    } catch { /* a format that the browser does not know; the server may */ }
    if (state.file !== file) return; // another one has been chosen meanwhile
    state.bitmap = bitmap;
    predict();
  }

  function query(more) {
    return new URLSearchParams({model: at("model").value, ...more}).toString();
  }

  async function predict() {
    if (state.request) state.request.abort();
    const request = state.request = new AbortController();
    const began = performance.now();
    const model = current();
    withoutPicture();
    say("predicting …", false);
    try {
      const lowest = Math.min(0.05, model ? model.threshold : 0.05);
      const answer = await ask(`predict?${query({threshold: lowest})}`,
        {method: "POST", body: state.file, signal: request.signal});
      state.answer = await answer.json();
      state.said = `${state.file.name || "image"}: ${Math.round(performance.now() - began)} ms`;
      say(state.said, false);
    } catch (error) {
      if (error.name === "AbortError") return;
      state.answer = null;
      say(error.message, true);
    }
    show();
  }

  function show() {
    const list = at("list");
    list.replaceChildren();
    at("result").hidden = !state.answer;
    if (!state.answer) return;
    const contents = contentsOf(state.answer.prediction);
    const threshold = Number(at("threshold").value);
    const objects = shown(contents.annotations, threshold);
    const scored = contents.annotations.some(one => one.score !== undefined);
    at("slider").hidden = !scored;
    paint(contents, objects);
    const numbered = isNumbered(contents);
    objects.forEach((one, i) => {
      const row = element("tr", null, list);
      const dot = element("td", null, row, "l");
      element("span", null, dot, "dot").style.background = colourOf(one, i, contents.annotations, colours);
      const place = contents.annotations.indexOf(one), category = one.category || `class ${one.category_id - 1}`;
      dot.append([numbered ? `${category} ${place}` : category, one.caption].filter(Boolean).join(": "));
      const share = one.area && contents.width ? 100 * one.area / (contents.width * contents.height) : null;
      element("td", one.score === undefined ? share === null ? "" : `${share.toFixed(1)} %` : one.score.toFixed(3), row);
      if (current() && current().methods.length) {
        why(row, one.score === undefined ? `class:${one.category}` : `box:${place}`, category);
      }
    });
    contents.scores.forEach(one => {
      const row = element("tr", null, list);
      element("td", one.category, row, "l");
      const bar = element("span", null, element("td", null, row), "bar");
      element("i", null, bar).style.cssText = `width:${100 * one.score}%;background:var(--accent)`;
      element("td", one.score.toFixed(3), row);
      if (current() && current().methods.length) {
        why(row, one.category, one.category);
      }
    });
    relationsAmong(contents.relations, objects).forEach(one => {
      const row = element("tr", null, list);
      element("td", one.text, row, "l");
      element("td", one.score === undefined ? "" : one.score.toFixed(3), row);
    });
    contents.events.forEach(one => {
      const row = element("tr", null, list);
      element("td", `${one.times.map(t => t.toFixed(1)).join("–")} s: ${one.text}`, row, "l");
      element("td", one.score === undefined ? "" : one.score.toFixed(3), row);
    });
    const nothing = contents.annotations.length ? "nothing of this score; move the slider to the left" : "nothing found";
    if (!list.children.length) element("td", nothing, element("tr", null, list), "l");
  }

  /** The last cell of a row: a button that explains a target. */
  function why(row, target, name) {
    const button = element("button", "why?", element("td", null, row));
    button.setAttribute("aria-label", `why ${name}?`);
    button.addEventListener("click", () => picture(`explain?${query({target})}`));
  }

  function paint(contents, objects) {
    const canvas = at("canvas"), bitmap = state.bitmap;
    const width = contents.width || (bitmap && bitmap.width) || 0, height = contents.height || (bitmap && bitmap.height) || 0;
    canvas.hidden = !width;
    if (!width) return;
    const scale = Math.max(1, Math.ceil(800 / Math.max(width, height))); // so that lines and words are sharp
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.fillStyle = "#888";
    pen.fillRect(0, 0, width, height);
    if (bitmap) pen.drawImage(bitmap, 0, 0, width, height);
    const line = Math.max(width, height) / 400, size = 8.5 * line;
    pen.lineWidth = line;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    pen.textBaseline = "top";
    const numbered = isNumbered(contents);
    objects.forEach((one, i) => {
      const colour = colourOf(one, i, contents.annotations, colours);
      if (one.segmentation && one.segmentation.counts && one.category !== "background") {
        pen.globalAlpha = 0.45;
        pen.fillStyle = colour;
        eachRun(one.segmentation, (x, y, length) => pen.fillRect(x, y, 1, length));
        pen.globalAlpha = 1;
      }
    });
    objects.forEach((one, i) => {
      if (one.score === undefined || !one.bbox) return; // regions of a class map have no boxes of their own
      const colour = colourOf(one, i, contents.annotations, colours);
      const [x, y, w, h] = one.bbox;
      pen.strokeStyle = pen.fillStyle = colour;
      pen.strokeRect(x, y, w, h);
      const points = one.keypoints || [];
      for (let k = 0; k + 2 < points.length; k += 3) {
        if (!points[k + 2]) continue;
        pen.beginPath();
        pen.arc(points[k], points[k + 1], 1.6 * line, 0, 7);
        pen.fill();
      }
      const number = contents.annotations.indexOf(one);
      const text = numbered ? `${number}` : `${one.category || ""} ${one.score.toFixed(2)}`;
      const long = pen.measureText(text).width + 2 * line;
      const top = Math.max(0, y - size - line), left = Math.max(0, Math.min(x, width - long));
      pen.fillRect(left, top, long, size + line);
      pen.fillStyle = bright(colour) ? "#000" : "#fff";
      pen.fillText(text, left + line, top + line / 2);
    });
  }

  /** Whether black is more legible on a colour #rrggbb than white. */
  function bright(colour) {
    const [r, g, b] = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16));
    return 0.299 * r + 0.587 * g + 0.114 * b > 140;
  }

  function hidePicture() {
    at("picture").hidden = true;
    if (state.address) URL.revokeObjectURL(state.address);
    state.address = null;
  }

  /** Hide the picture, and do not wait for one that has been asked for. */
  function withoutPicture() {
    if (state.drawing) state.drawing.abort();
    hidePicture();
  }

  async function picture(path) {
    if (!state.file) return;
    if (state.drawing) state.drawing.abort();
    const drawing = state.drawing = new AbortController();
    say("drawing …", false);
    at("result").setAttribute("aria-busy", "true");
    try {
      const answer = await ask(path, {method: "POST", body: state.file, signal: drawing.signal});
      const blob = await answer.blob();
      hidePicture();
      state.address = URL.createObjectURL(blob);
      at("picture").src = state.address;
      await at("picture").decode();
      at("picture").hidden = false;
      at("picture").scrollIntoView({block: "nearest"});
      say(state.said, false);
    } catch (error) {
      if (!drawing.signal.aborted) say(error.message, true);
    } finally {
      if (state.drawing === drawing) at("result").removeAttribute("aria-busy");
    }
  }

  const zone = at("zone");
  at("file").addEventListener("change", event => choose(event.target.files[0]));
  // The whole page takes drops: a browser opens an image that is dropped elsewhere, and the page would be gone.
  document.addEventListener("dragover", event => { event.preventDefault(); zone.classList.add("over"); });
  document.addEventListener("dragleave", event => { if (!event.relatedTarget) zone.classList.remove("over"); });
  document.addEventListener("drop", event => {
    event.preventDefault();
    zone.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    at("file").files = event.dataTransfer.files; // which shows the name
    choose(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", event => choose([...event.clipboardData.files][0]));
  at("threshold").addEventListener("input", () => {
    at("value").textContent = Number(at("threshold").value).toFixed(2);
    withoutPicture();
    show();
  });
  at("model").addEventListener("change", chooseModel);
  at("keyed").addEventListener("submit", event => event.preventDefault());
  at("key").addEventListener("change", loadModels);
  at("explain").addEventListener("click", () => picture(`explain?${query({})}`));
  at("draw").addEventListener("click", () => picture(`draw?${query({threshold: at("threshold").value})}`));
  loadModels();
})();

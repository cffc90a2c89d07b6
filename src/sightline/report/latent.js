// Draws a latent space on a canvas: hover, zoom, pan, and filter by class. Needs no network and no library.
(() => {
  "use strict";
  const facts = JSON.parse(document.getElementById("latent-data").textContent);
  const canvas = document.getElementById("latent-canvas");
  const tip = document.getElementById("latent-tip");
  const pen = canvas.getContext("2d");
  const sheets = [...document.querySelectorAll("#latent-sheets img")];
  const shown = facts.classes.map(() => true);
  const view = { x: 0, y: 0, scale: 1 }; // the point in the middle of the canvas, and pixels per unit
  const fingers = new Map(); // pressed pointers by id
  let pictures = true;
  let hovered = -1;
  let fitted = 1;

  const width = () => canvas.clientWidth;
  const height = () => canvas.clientHeight;
  const toScreen = (i) => [
    width() / 2 + (facts.x[i] - view.x) * view.scale,
    height() / 2 - (facts.y[i] - view.y) * view.scale,
  ];
  const at = (event) => {
    const place = canvas.getBoundingClientRect();
    return [event.clientX - place.left, event.clientY - place.top];
  };

  function fit() {
    const [left, right] = [Math.min(...facts.x), Math.max(...facts.x)];
    const [low, high] = [Math.min(...facts.y), Math.max(...facts.y)];
    view.x = (left + right) / 2;
    view.y = (low + high) / 2;
    const across = (width() - 80) / Math.max(right - left, 1e-9);
    const down = (height() - 80) / Math.max(high - low, 1e-9);
    view.scale = fitted = Math.max(1e-9, Math.min(across, down));
    draw();
  }

  // Thumbnails grow with the zoom, from half of their size to all of it.
  const side = () => Math.min(facts.side, (facts.side / 2) * Math.max(1, Math.sqrt(view.scale / fitted)));

  function thumbnail(target, i, x, y, size) {
    const place = i % facts.perSheet;
    const left = (place % facts.columns) * facts.side;
    const top = Math.floor(place / facts.columns) * facts.side;
    const sheet = sheets[Math.floor(i / facts.perSheet)];
    if (sheet.complete) target.drawImage(sheet, left, top, facts.side, facts.side, x, y, size, size);
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width() * ratio);
    canvas.height = Math.round(height() * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const size = side();
    for (let i = 0; i < facts.x.length; i++) {
      if (!shown[facts.label[i]] || i === hovered) continue;
      mark(i, size);
    }
    if (hovered >= 0 && shown[facts.label[hovered]]) mark(hovered, size * 1.3); // on top of the others
  }

  function mark(i, size) {
    const [x, y] = toScreen(i);
    if (x < -size || y < -size || x > width() + size || y > height() + size) return;
    pen.fillStyle = facts.classes[facts.label[i]].colour;
    if (pictures) {
      pen.fillRect(x - size / 2 - 2, y - size / 2 - 2, size + 4, size + 4);
      thumbnail(pen, i, x - size / 2, y - size / 2, size);
    } else {
      pen.beginPath();
      pen.arc(x, y, i === hovered ? 7 : 4.5, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  function nearest(x, y) {
    let best = -1;
    let distance = pictures ? side() / 2 + 3 : 9;
    for (let i = facts.x.length - 1; i >= 0; i--) {
      if (!shown[facts.label[i]]) continue;
      const [px, py] = toScreen(i);
      const apart = Math.max(Math.abs(px - x), Math.abs(py - y));
      if (apart < distance) [best, distance] = [i, apart];
    }
    return best;
  }

  function point(x, y) {
    const found = nearest(x, y);
    if (found !== hovered) {
      hovered = found;
      draw();
    }
    tip.hidden = found < 0;
    if (found < 0) return;
    const large = tip.querySelector("canvas");
    const brush = large.getContext("2d");
    brush.clearRect(0, 0, large.width, large.height);
    thumbnail(brush, found, 0, 0, large.width);
    tip.querySelector("b").textContent = facts.classes[facts.label[found]].name || "without a class";
    tip.querySelector("span").textContent = facts.names[facts.name[found]];
    tip.style.left = `${Math.min(x + 16, Math.max(0, width() - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.min(y + 16, Math.max(0, height() - tip.offsetHeight - 4))}px`;
  }

  // Zooms by a factor such that what is at (x, y) stays there.
  function zoom(factor, x, y) {
    const [dx, dy] = [x - width() / 2, height() / 2 - y];
    const scale = Math.min(Math.max(view.scale * factor, fitted / 4), fitted * 200);
    view.x += dx / view.scale - dx / scale;
    view.y += dy / view.scale - dy / scale;
    view.scale = scale;
    draw();
  }

  function pan(dx, dy) {
    view.x -= dx / view.scale;
    view.y += dy / view.scale;
    draw();
  }

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 300), ...at(event));
    point(...at(event));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    point(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    const now = at(event);
    if (!before) return point(...now);
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    if (other) {
      const apart = (place) => Math.hypot(place[0] - other[1][0], place[1] - other[1][1]);
      zoom(apart(now) / Math.max(apart(before), 1), ...other[1]);
    } else {
      pan(now[0] - before[0], now[1] - before[1]);
    }
    fingers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => point(-1e9, -1e9));
  canvas.addEventListener("dblclick", fit);
  canvas.addEventListener("keydown", (event) => {
    const middle = [width() / 2, height() / 2];
    const keys = {
      "+": () => zoom(1.25, ...middle), "=": () => zoom(1.25, ...middle), "-": () => zoom(0.8, ...middle), "0": fit,
      ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.getElementById("latent-reset").addEventListener("click", fit);
  document.getElementById("latent-pictures").addEventListener("change", (event) => {
    pictures = event.target.checked;
    draw();
  });
  const boxes = [...document.querySelectorAll("#latent-classes input")];
  boxes.forEach((box, i) => box.addEventListener("change", () => {
    shown[i] = box.checked;
    draw();
  }));
  for (const [id, value] of [["latent-all", true], ["latent-none", false]]) {
    document.getElementById(id).addEventListener("click", () => {
      boxes.forEach((box, i) => { box.checked = shown[i] = value; });
      draw();
    });
  }
  sheets.forEach((sheet) => sheet.addEventListener("load", draw));
  window.addEventListener("resize", draw);
  fit();
})();

// Runs the functions of the server's page on cases given as JSON, and prints what they return as JSON.
"use strict";
const page = require(process.argv[2]);
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const masks = cases.masks.map(rle => {
  const pixels = [];
  page.eachRun(rle, (x, y, length) => { for (let k = 0; k < length; k++) pixels.push([x, y + k]); });
  return pixels;
});
const contents = cases.predictions.map(page.contentsOf);
const shown = cases.thresholds.map(threshold => page.shown(contents[0].annotations, threshold).length);
const colours = contents[0].annotations.map((one, i, all) => page.colourOf(one, i, all, ["a", "b", "c"]));
const [graph] = contents.slice(-1);
const relations = [graph.annotations, graph.annotations.slice(1)]
  .map(objects => page.relationsAmong(graph.relations, objects).length);
const numbered = contents.map(page.isNumbered);
console.log(JSON.stringify({masks, contents, shown, colours, relations, numbered}));

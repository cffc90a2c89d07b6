// Runs the geometry of the labelling page on cases given as JSON, and prints what it returns as JSON.
"use strict";
const page = require(process.argv[2]);
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(([name, ...given]) => page[name](...given))));

// What the page makes of alerts, without a browser: `node cases.mjs copy.js < alerts-and-rules.json > cases.json`.

import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { asCase } = await import(pathToFileURL(process.argv[2]));
const all = JSON.parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify(all.map(({ alert, rule }) => asCase(alert, rule))));

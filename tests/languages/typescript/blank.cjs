// blank.cjs SOURCE.ts TARGET.js: types are blanked out, not compiled away, so that stacks name the lines of the source.
const { readFileSync, writeFileSync } = require("node:fs");
const { stripTypeScriptTypes } = require("node:module");
const [source, target] = process.argv.slice(2);
writeFileSync(target, stripTypeScriptTypes(readFileSync(source, "utf8")));

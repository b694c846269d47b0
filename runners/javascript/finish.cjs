'use strict';
// Makes freshly installed packages ready: `node finish.cjs FOLDER`, where FOLDER holds package.json and node_modules.
//
// - `import { map } from "lodash"` and `import * as _ from "lodash"`: Node.js finds the names of a CommonJS module by
//   reading its text, and many a package hides them. They are written down where it looks, in a line that is never run.
// - `import yaml from "js-yaml"`: a package of ES modules that has no default export gets all that it exports as one.
// - The compiler of TypeScript: what no program needs of the package is removed, and its bytecode is kept beside it, so
//   that it starts in a third of the time.

const fs = require('fs');
const path = require('path');
const vm = require('vm');
const Module = require('module');
const { fileURLToPath, pathToFileURL } = require('url');

const FURTHER = ['lodash/fp'];
const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;
const PIECE_OF_WORK = 'enum A { B }\n@decorator class C<T> { constructor(private x: T) {} @method m() {} }\nexport { A, C };\n';

async function main(folder) {
  const base = path.join(folder, 'package.json');
  const require = Module.createRequire(base);
  const { dependencies } = JSON.parse(fs.readFileSync(base, 'utf8'));
  const names = Object.keys(dependencies).filter((name) => name !== 'typescript');
  for (const name of names) {
    await tellNames(require, name);
    await offerDefault(pathToFileURL(base).href, name);
  }
  for (const name of FURTHER) if (names.includes(name.split('/')[0])) await tellNames(require, name);
  const compiler = path.join(folder, 'node_modules', 'typescript', 'lib');
  if (fs.existsSync(compiler)) prepareCompiler(compiler);
}

/** Append the names that a CommonJS package exports, where `import` does not see them by itself. */
async function tellNames(require, name) {
  const found = load(require, name);
  if (!found || !['object', 'function'].includes(typeof found.exports)) return;
  const { file, exports } = found;
  const seen = await import(pathToFileURL(file));
  const hidden = Object.keys(exports).filter((key) => !(key in seen) && key !== '__esModule' && isName(key));
  if (hidden.length) fs.appendFileSync(file, `\n0 && (module.exports = { ${hidden.join(', ')} });\n`);
}

/** A package's file and what it exports, where that is CommonJS. */
function load(require, name) {
  try {
    const file = require.resolve(name);
    const exports = require(file);
    return require.cache[file]?.exports === exports && exports ? { file, exports } : undefined;
  } catch (error) {
    console.log(`${name} is for import alone: ${error.message.split('\n')[0]}`);
    return undefined;
  }
}

/** Append a default export to a package of ES modules that has none; `parentURL` is where it is imported from. */
async function offerDefault(parentURL, name) {
  let found;
  const hooks = Module.registerHooks({
    resolve(specifier, context, next) {
      if (specifier !== name || found) return next(specifier, context);
      return (found = next(specifier, { ...context, parentURL }));
    },
  });
  const exported = await import(name).finally(() => hooks.deregister());
  if ('default' in exported || !found.url.startsWith('file:')) return;
  const file = fileURLToPath(found.url);
  fs.appendFileSync(file, `\nexport * as default from './${path.basename(file)}';\n`);
}

/** Whether it can stand in a shorthand: reserved words cannot. */
function isName(key) {
  if (!IDENTIFIER.test(key) || key === 'default') return false;
  try {
    return Boolean(new vm.Script(`'use strict'; ({ ${key} })`));
  } catch {
    return false;
  }
}

function prepareCompiler(folder) {
  for (const name of fs.readdirSync(folder)) {
    if (name !== 'typescript.js') fs.rmSync(path.join(folder, name), { recursive: true });
  }
  const file = path.join(folder, 'typescript.js');
  const text = fs.readFileSync(file, 'utf8').replace(/[^\x00-\x7f]/g, escape); // each byte a character: read at once
  fs.writeFileSync(file, text);
  const script = new vm.Script(Module.wrap(text), { filename: file });
  const module = { exports: {} };
  script.runInThisContext()(module.exports, require, module, file, folder);
  const { transpileModule, ScriptTarget, ModuleKind } = module.exports;
  const compilerOptions = { target: ScriptTarget.ES2024, module: ModuleKind.Preserve, inlineSourceMap: true };
  for (const experimentalDecorators of [true, false]) {
    transpileModule(PIECE_OF_WORK, { reportDiagnostics: true, compilerOptions: { ...compilerOptions, experimentalDecorators } });
  }
  fs.writeFileSync(`${file}.cache`, script.createCachedData());
}

/** Inside literals, where alone they stand in this file, these characters may be written so. */
function escape(character) {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

main(path.resolve(process.argv[2])).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

'use strict';
// Lets a TypeScript program use the whole language, as far as no type has to be checked.
//
// Node.js erases types and refuses what has to be translated. `install` has every TypeScript file of the program pass
// the cheapest of three compilers that will do: Node's erasure, Node's translation (enums, namespaces, parameter
// properties, `import x = require()`), and the package typescript (decorators, `accessor`, `export =`, and what else
// the other two refuse). A file that none of them takes is left to Node, which says what is wrong with it.
//
// Imports find files as TypeScript does: "./util" and "./util.js" are util.ts, "./lib" is lib/index.ts.

const fs = require('fs');
const path = require('path');
const Module = require('module');
const { fileURLToPath, pathToFileURL } = require('url');
const { withoutTypes, exportedNames } = require('./imports.cjs');
const { parses, translate } = require('./compiler.cjs');
const { kindOf, asAwaiting, offerNames } = require('./modules.cjs');

const TYPESCRIPT = /\.[cm]?ts$/;
const IN_A_PACKAGE = /[\\/]node_modules[\\/]/;
const IN_THE_PACKAGE = /^(?:@[^/]+\/)?[^/]+\/.*[^/]$/;
const NOT_FOUND = new Set(['ERR_MODULE_NOT_FOUND', 'ERR_UNSUPPORTED_DIR_IMPORT']);
const ENDINGS = ['.ts', '.mts', '.cts', '.js', '.mjs', '.cjs', '.json', '/index.ts', '/index.js'];
const NEEDS_THE_COMPILER = /(?:^|[\s;{}(,])@[A-Za-z_$(]|\baccessor\s+[\w$#[]|^\s*export\s*=/m;
const COMMENTS = /^\s*\/?\*.*$|\/\/.*$/gm;

/** Have every TypeScript file compiled from here on; `main` is the program's file. */
exports.install = function install(main) {
  const program = new Program(main);
  Module.registerHooks({
    resolve: (specifier, context, next) => unseen(() => resolve(specifier, context, next)),
    load: (url, context, next) => program.load(url, context) ?? next(url, context),
  });
};

/** The JavaScript of `source`, as `translate` has it. */
function compile(file, source) {
  return translate(file, source, NEEDS_THE_COMPILER.test(source.replace(COMMENTS, '')));
}

exports.compile = compile;

/** The files of one program, each compiled once. */
class Program {
  #main;
  #compiled = new Map(); // path -> code, undefined where Node shall see the file itself, null meanwhile
  #mapped = false;
  #isDescribed; // by a package.json, which Node.js would warn of or believe

  constructor(main) {
    this.#main = main;
    this.#isDescribed = fs.existsSync(path.join(path.dirname(main), 'package.json'));
  }

  /** What the loader is given for a file of TypeScript; undefined where Node itself can do it. */
  load(url, context) {
    const file = ownFile(url);
    const code = file && this.#compile(file);
    if (!code) return undefined;
    if (code.mapped && !this.#mapped) process.setSourceMapsEnabled((this.#mapped = true));
    const kind = context.format?.startsWith('module') ? 'module' : kindOf(code.text); // whatever a package.json says of .ts
    if (kind === 'awaiting') return { format: 'commonjs', source: asAwaiting(code.text, file === this.#main), shortCircuit: true };
    if (kind === 'module') offerNames(this.#main);
    const isMisjudged = kind === 'module' && (this.#isDescribed || context.format?.startsWith('commonjs'));
    if (code.erased && !isMisjudged) return undefined;
    return { format: kind, source: code.text, shortCircuit: true };
  }

  #compile(file) {
    if (this.#compiled.has(file)) return this.#compiled.get(file);
    this.#compiled.set(file, null);
    const code = this.#translated(file, readSource(file));
    this.#compiled.set(file, code);
    return code;
  }

  #translated(file, source) {
    const code = compile(file, source);
    if (!code || code.whole) return code;
    const text = withoutTypes(code.text, (specifier) => this.#exportsOf(specifier, file), parses);
    return { ...code, text, erased: code.erased && text === code.text };
  }

  /** The names of values that another file of the program exports; undefined where that cannot be told. */
  #exportsOf(specifier, importer) {
    if (!/^\.\.?(?:\/|$)/.test(specifier)) return undefined;
    const file = locate(path.resolve(path.dirname(importer), specifier));
    const code = file && TYPESCRIPT.test(file) ? this.#compile(file) : undefined;
    return code ? exportedNames(code.text, (further) => this.#exportsOf(further, file)) : undefined;
  }
}

function readSource(file) {
  return fs.readFileSync(file, 'utf8').replace(/^\uFEFF/, '');
}

/** The path of a file of TypeScript that no package holds; undefined for any other address. */
function ownFile(url) {
  if (!url?.startsWith('file:')) return undefined;
  const file = fileURLToPath(url.replace(/[?#].*$/, ''));
  return TYPESCRIPT.test(file) && !IN_A_PACKAGE.test(file) ? file : undefined;
}

function resolve(specifier, context, next) {
  if (!ownFile(context.parentURL)) return next(specifier, context);
  const isImport = context.conditions.includes('import');
  if (/^(?:\.\.?(?:\/|$)|\/)/.test(specifier)) {
    const found = locate(path.resolve(path.dirname(fileURLToPath(context.parentURL)), specifier));
    if (!found) return next(specifier, context);
    const json = isImport && found.endsWith('.json') ? { importAttributes: { type: 'json' } } : {};
    return { ...next(isImport ? pathToFileURL(found).href : found, context), ...json };
  }
  try {
    return next(specifier, context);
  } catch (error) {
    // A file in a package that says nothing of what it exports, as in "dayjs/plugin/utc".
    if (!isImport || !NOT_FOUND.has(error.code) || !IN_THE_PACKAGE.test(specifier)) throw error;
    return firstOf([`${specifier}.js`, `${specifier}/index.js`], (one) => next(one, context), error);
  }
}

function firstOf(candidates, attempt, error) {
  for (const candidate of candidates) {
    try {
      return attempt(candidate);
    } catch {
      // The next one, or the first answer.
    }
  }
  throw error;
}

/** The file that an import without an ending means, or one that names the JavaScript which a .ts would become. */
function locate(place) {
  if (isFile(place)) return place;
  const source = place.replace(/\.([cm]?)js$/, '.$1ts');
  return [source, ...ENDINGS.map((ending) => place + ending)].find(isFile);
}

function isFile(place) {
  return fs.statSync(place, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Run `action`; what it throws tells nothing of this file. */
function unseen(action) {
  try {
    return action();
  } catch (error) {
    if (typeof error?.stack === 'string') {
      error.stack = error.stack.split('\n').filter((line) => !line.includes(__filename)).join('\n');
    }
    throw error;
  }
}

'use strict';
// Runs programs that mix the two kinds of modules, which Node.js refuses: `require`, `module`, `exports`, `__filename`
// or `__dirname` beside a top-level `await`, or beside `import` and `export`.
//
// With `await` alone such a program is CommonJS whose body is an async function. With `import` or `export` it is an ES
// module, and those five names are there for it, made when it first asks.

const fs = require('fs');
const path = require('path');
const vm = require('vm');
const Module = require('module');
const { fileURLToPath, pathToFileURL } = require('url');
const { COMMONJS } = require('./agent.cjs');

const NAMES = ['require', 'module', 'exports', '__filename', '__dirname'];
const IN_A_PACKAGE = /[\\/]node_modules[\\/]/;
const UNSETTLED = 13;
let made; // path -> the names of that file

/** What `source` is: `commonjs`, `module`, or `awaiting`, CommonJS that awaits at its top level. */
exports.kindOf = function kindOf(source) {
  const text = source.replace(/^#!/, '//');
  if (parses(Module.wrap(text))) return 'commonjs';
  const isAwaiting = COMMONJS.test(text) && parses(`(async function (${NAMES}) {${text}\n})`);
  return isAwaiting ? 'awaiting' : 'module';
};

/** The CommonJS whose body is `source` in an async function; the main program tells when it never comes to its end. */
exports.asAwaiting = function asAwaiting(source, isMain) {
  const end = isMain ? `.then(process[Symbol.for('${watchEnd()}')])` : '';
  return `return (async () => {${source.replace(/^#!/, '//')}\n})()${end}`;
};

/** Let the JavaScript program in `file` run, whatever it mixes. */
exports.prepare = function prepare(file, source) {
  const kind = exports.kindOf(source);
  const declared = declaredKind(path.dirname(file));
  if (declared === null) Module.registerHooks({ load: loadModule });
  if (kind === 'commonjs' && declared !== 'module') return;
  if (kind !== 'awaiting' || declared === 'module') return exports.offerNames(file);
  const main = pathToFileURL(file).href;
  Module.registerHooks({
    load(url, context, next) {
      if (url !== main) return next(url, context);
      return { format: 'commonjs', source: exports.asAwaiting(source, true), shortCircuit: true };
    },
  });
};

/**
 * Give every ES module of the program the five names of CommonJS; the one in `main` is the main module.
 *
 * They are global, so that a program may declare them itself, and hidden: only a module that says one of them meets it.
 */
exports.offerNames = function offerNames(main) {
  if (made) return;
  made = new Map();
  for (const name of NAMES) {
    const get = () => {
      const file = callerOf(get);
      if (!file) return undefined;
      if (!made.has(file)) made.set(file, namesOf(file, main));
      return made.get(file)?.[name];
    };
    const set = (value) => Object.defineProperty(globalThis, name, { configurable: true, enumerable: true, value, writable: true });
    Object.defineProperty(globalThis, name, { configurable: true, get, set });
  }
};

/** What a file gets for the names; undefined where it only asks with `typeof` which kind of module it is. */
function namesOf(file, main) {
  if (!COMMONJS.test(fs.readFileSync(file, 'utf8'))) return undefined;
  const module = new Module(file);
  Object.assign(module, { filename: file, paths: Module._nodeModulePaths(path.dirname(file)) });
  const require = Module.createRequire(file);
  if (file === main) {
    module.id = '.';
    require.main = module;
  }
  const { exports } = module;
  return { require, module, exports, __filename: file, __dirname: path.dirname(file) };
}

/** The file of the ES module that called `getter`; undefined for anybody else: a package asks what there is. */
function callerOf(getter) {
  const { stackTraceLimit, prepareStackTrace } = Error;
  const trace = {};
  Error.stackTraceLimit = 1;
  Error.prepareStackTrace = (_, sites) => sites[0]?.getFileName();
  Error.captureStackTrace(trace, getter);
  const caller = trace.stack;
  Object.assign(Error, { stackTraceLimit, prepareStackTrace });
  if (!caller?.startsWith('file:') || IN_A_PACKAGE.test(caller)) return undefined;
  return fileURLToPath(caller);
}

/** Have the process say, and end with the code that Node.js has for it, when the main program waits for nothing. */
function watchEnd() {
  const key = 'codex.settled';
  let isSettled = false;
  let isDrained = false;
  Object.defineProperty(process, Symbol.for(key), {
    configurable: true,
    get() {
      delete process[Symbol.for(key)];
      return () => (isSettled = true);
    },
  });
  process.on('beforeExit', () => (isDrained = true));
  process.on('exit', () => {
    if (isSettled || !isDrained) return;
    process.exitCode ??= UNSETTLED;
    fs.writeSync(2, `Warning: Detected unsettled top-level await at ${process.argv[1]}\n`);
  });
  return key;
}

/** What a package.json there says a .js is; null where it says nothing, undefined where there is none. */
function declaredKind(folder) {
  try {
    return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')).type ?? null;
  } catch {
    return undefined;
  }
}

/** Load ES modules beside a package.json that does not say what they are: Node.js finds out, and warns of the cost. */
function loadModule(url, context, next) {
  if (!url.startsWith('file:') || !/\.js$/.test(url) || IN_A_PACKAGE.test(url)) return next(url, context);
  const source = fs.readFileSync(fileURLToPath(url), 'utf8');
  if (exports.kindOf(source) !== 'module') return next(url, context);
  return { format: 'module', source, shortCircuit: true };
}

function parses(text) {
  try {
    return Boolean(new vm.Script(text));
  } catch {
    return false;
  }
}

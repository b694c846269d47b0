'use strict';
// The interpreter of a session: runs one cell after another, and keeps what they define.
//
// `node --no-force-async-hooks-checks session.cjs [typescript]`: without that option Node.js ends the process when V8
// stops a callback of a timer. Cells come over descriptor 3, see docs/runners.md. Node.js 18 or newer.
//
// A cell ends when its code has come to its end and nothing that it began is left to happen: timers, reading, servers.
// Between cells the process waits in a system call, so nothing of the program runs.

const CHANNEL = 3;
const FIELDS = 4; // of a cell: the path of its standard input, its number, options, code
const INTERRUPTED = 130;
const LEFT_OVER_MS = 10;
const USER_NAMES = ['require', 'module', 'exports', '__filename', '__dirname'];

const fs = require('fs');
const path = require('path');
const vm = require('vm');
const Module = require('module');
const { pathToFileURL } = require('url');
const cells = require('./cells.cjs');
const { Interrupts } = require('./interrupts.cjs');
const { forms } = require('./results.cjs');
const { Streams } = require('./streams.cjs');
const { describe, syntaxError } = require('./uncaught.cjs');

const { process } = globalThis;
const { defineProperty } = Object;
const { parse, stringify } = JSON;

class Session {
  #typescript; // what translates cells, in a session of TypeScript
  #place;
  #import;
  #declared = new Set();
  #sources = new Map();
  #interrupts = new Interrupts();
  #streams = new Streams();
  #cell; // the one that runs
  #wasInterrupted = false; // one was, so that something of it may be left

  constructor(isTypeScript) {
    this.#place = path.resolve(isTypeScript ? 'cell.ts' : 'cell.js');
    this.#import = makeImporter(this.#place);
    if (isTypeScript) this.#typescript = new (require('./typescript-cells.cjs').Translator)(this.#place);
  }

  async start() {
    this.#offerNames();
    this.#keepListening();
    process.setUncaughtExceptionCaptureCallback((error) => this.#uncaught(error));
    await this.#interrupts.start(() => this.#interrupted());
    cells.rewrite('const { a } = await import("fs"); a');
    fs.writeSync(CHANNEL, 'R');
    this.#next();
  }

  /** Wait for a cell, and have it run once this has returned. */
  #next() {
    const [input, number, options, code] = receive();
    const { args = [], env = {} } = parse(options);
    const cell = { name: `cell ${number}`, code, number: Number(number) };
    this.#cell = cell;
    Object.assign(process.env, env);
    process.argv = [process.execPath, this.#place, ...args];
    process.exitCode = undefined;
    this.#streams.renew(input, this.#declared.has('console'));
    this.#listen();
    this.#watchLeftOvers();
    this.#interrupts.begin(cell.number);
    setImmediate(() => this.#run(cell));
  }

  async #run(cell) {
    if (this.#cell !== cell) return; // it was interrupted before it began
    try {
      cell.value = await this.#evaluate(cell);
    } catch (error) {
      process.emit('uncaughtExceptionMonitor', error, 'uncaughtException');
      if (this.#cell === cell) this.#uncaught(error);
    }
    cell.isSettled = true;
    this.#interrupts.release();
    if (cell.look) setImmediate(cell.look);
  }

  /** Run the code; its value comes in an array, so that a promise stays one. */
  async #evaluate({ name, code }) {
    const source = this.#typescript?.translate(name, code) ?? code;
    const cell = cells.rewrite(source);
    this.#sources.set(name, { code, shifted: cell?.shifted });
    if (!cell) return runUnparsed(source, name);
    this.#declare(cell.names);
    for (const wanted of cell.imports) await this.#bind(wanted);
    if (cell.functions !== undefined) await run(cell.functions, name);
    const [value] = await run(cell.body, name, cell.columnsBefore);
    return cell.hasValue ? [cell.isAsync ? await value : value] : [];
  }

  #declare(names) {
    for (const name of names) {
      this.#declared.add(name);
      const found = Object.getOwnPropertyDescriptor(globalThis, name);
      if (found && (found.writable || !found.configurable)) continue;
      defineProperty(globalThis, name, { configurable: true, enumerable: false, value: globalThis[name], writable: true });
    }
  }

  async #bind({ specifier, attributes, bindings }) {
    const found = await this.#import(specifier, { with: attributes });
    for (const { local, name } of bindings) {
      if (name !== '*' && !(name in found)) {
        if (this.#typescript) continue; // a type
        throw new SyntaxError(`The requested module '${specifier}' does not provide an export named '${name}'`);
      }
      globalThis[local] = name === '*' ? found : found[name];
    }
  }

  /** Hear of the end of a cell although the program takes all listeners away. */
  #keepListening() {
    const { removeAllListeners } = process;
    const value = (...types) => {
      removeAllListeners.apply(process, types);
      this.#listen();
      return process;
    };
    defineProperty(process, 'removeAllListeners', { configurable: true, value, writable: true });
  }

  #listen() {
    process.off('beforeExit', this.#drained);
    process.prependListener('beforeExit', this.#drained);
  }

  /** Nothing is left to happen, unless the program's own listeners begin something. */
  #drained = () => {
    const before = countActive();
    process.nextTick(() => hasNoMore(before) && this.#end());
  };

  #end() {
    if (this.#interrupts.wanted) return this.#interrupted();
    if (this.#cell.isSettled) this.#finish(this.#cell.exitCode ?? process.exitCode ?? 0);
    else this.#interrupts.hold(); // its code awaits what nothing can bring about
  }

  /** After an interrupted cell, servers and intervals may go on: what comes next does not wait for them. */
  #watchLeftOvers() {
    if (!this.#wasInterrupted) return;
    const before = countActive();
    const cell = this.#cell;
    cell.look = () => {
      if (this.#cell !== cell) return clearInterval(timer);
      if (cell.isSettled && hasNoMore(before)) this.#end();
    };
    const timer = setInterval(cell.look, LEFT_OVER_MS).unref();
  }

  #uncaught(error) {
    if (this.#interrupts.causedBy(error)) return this.#interrupted();
    if (process.listenerCount('uncaughtException')) return process.emit('uncaughtException', error, 'uncaughtException');
    this.#cell.exitCode = 1;
    print(describe(error, this.#sources));
  }

  #interrupted() {
    print('Interrupted: SIGINT ended this cell; its variables are kept\n');
    this.#wasInterrupted = true;
    this.#cell.value = [];
    this.#finish(INTERRUPTED);
  }

  #finish(exitCode) {
    const reply = { exit_code: exitCode, result: null };
    const [value] = this.#cell.value ?? [];
    try {
      reply.result = forms(value);
    } catch (error) {
      print(describe(error, this.#sources)); // the program says itself how a value is shown
      reply.exit_code ||= 1;
    }
    this.#interrupts.end();
    if (value !== undefined && !this.#declared.has('_')) hide('_', value);
    send(reply);
    this.#next();
  }

  /** Give cells what a file has, and what import statements become. */
  #offerNames() {
    const main = new Module(this.#place);
    Object.assign(main, { id: '.', filename: this.#place, paths: Module._nodeModulePaths(path.dirname(this.#place)) });
    const require = Module.createRequire(this.#place);
    process.mainModule = require.main = main;
    const file = { filename: this.#place, dirname: path.dirname(this.#place), url: pathToFileURL(this.#place).href };
    const names = [require, main, main.exports, file.filename, file.dirname];
    USER_NAMES.forEach((name, i) => hide(name, names[i]));
    hide(cells.IMPORT, this.#import);
    hide(cells.IMPORT_META, file);
  }
}

function hide(name, value) {
  defineProperty(globalThis, name, { configurable: true, enumerable: false, value, writable: true });
}

/** `import()` as a file at `place` would do it; the file need not be there. */
function makeImporter(place) {
  const module = new Module(place);
  module.filename = place;
  module._compile('module.exports = (specifier, options) => import(specifier, options)', place);
  return module.exports;
}

const NOT_IN_SCRIPTS = /\b(?:await|import|export|return)\b/; // V8 would name these, and not what is wrong

/** Run what the parser does not know, where V8 does. */
function runUnparsed(source, name) {
  const complaint = NOT_IN_SCRIPTS.test(source) && cells.complaint(source);
  if (complaint) throw syntaxError(name, complaint);
  return run(source, name);
}

/** Run a script with nothing of this program on the stack below it; its value comes in an array. */
function run(code, filename, columnsBefore = 0) {
  const script = new vm.Script(code, { filename, columnOffset: -columnsBefore });
  const runInThisContext = script.runInThisContext.bind(script);
  const options = { displayErrors: false };
  return new Promise((resolve, reject) => {
    Promise.resolve().then(Array.prototype.map.bind([options], runInThisContext)).then(
      (values) => resolve(values), // V8 would follow `resolve` itself, and name what awaits it in stack traces
      (error) => reject(error),
    );
  });
}

function countActive() {
  const counts = new Map();
  for (const type of process.getActiveResourcesInfo()) counts.set(type, (counts.get(type) ?? 0) + 1);
  return counts;
}

/** Whether nothing is active now that was not in `before`. */
function hasNoMore(before) {
  return [...countActive()].every(([type, count]) => count <= (before.get(type) ?? 0));
}

function print(text) {
  fs.writeSync(2, text);
}

/** The fields of the next cell; the process ends when no more come. */
function receive() {
  const parts = [];
  const buffer = Buffer.alloc(65_536);
  let ends = 0;
  while (ends < FIELDS) {
    const size = readChannel(buffer);
    if (size === 0) process.exit(0);
    const part = Buffer.from(buffer.subarray(0, size));
    for (const byte of part) if (byte === 0) ends++;
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8').split('\0', FIELDS);
}

function readChannel(buffer) {
  for (;;) {
    try {
      return fs.readSync(CHANNEL, buffer);
    } catch (error) {
      if (error.code !== 'EINTR') throw error; // a SIGINT between cells does nothing
    }
  }
}

function send(reply) {
  const bytes = Buffer.from(`${stringify(reply)}\0`);
  for (let sent = 0; sent < bytes.length; ) sent += fs.writeSync(CHANNEL, bytes, sent);
}

process.execArgv.length = 0;
const isTypeScript = process.argv[2] === 'typescript';
for (const file of Object.keys(Module._cache)) delete Module._cache[file];
new Session(isTypeScript).start();

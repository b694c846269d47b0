'use strict';
// Becomes the user's program inside a Node.js that is already started and already confined.
//
// Node loads this file before its main program (`node --require agent.cjs armed`). It warms up, says so with one byte
// on descriptor 3, and blocks there until the request has come. Then it takes every trace of itself away and returns:
// Node goes on to run its main program, which is now the user's file, by Node's own code and on Node's own stack.
//
// The request is one JSON object {"file", "args", "env"}, ended by the end of the stream. Node.js 18 or newer.
// `armed.ts` in the place of `armed` warms up TypeScript too: 12 MiB more, 45 ms less for the program.

const CHANNEL = 3;
const EXIT_MARK = 0x62796500; // above the exit code, whose low byte alone counts: the supervisor hears of the end when it begins
const C_LOCALES = new Set(['C', 'POSIX', 'C.UTF-8', 'C.utf8', 'en_US.UTF-8']);
const COMMONJS = /(?<![\w$]|[^.]\.)(?:require\s*[(.]|module\s*\.\s*\w|exports\s*[.[=]|(?<!typeof\s+)__(?:file|dir)name\b)/;
const ROOM = '/workspace'; // where there is one, the sandbox has a network of its own
const TYPESCRIPT_MAIN = 'main.ts'; // see runner.yaml
const MODULE = /\bawait\b|\bimport\b|\bexport\b/;
const IMPORTS_TYPESCRIPT = /\.[cm]?ts['"`]/;
const OWN_FILES = /['"`]\.\.?\//;
const STARTUP_VARIABLES = /^(?:NODE_(?!ENV$|PATH$)|OPENSSL_CONF$|SSL_CERT_)/;

exports.COMMONJS = COMMONJS; // for modules.cjs

const fs = require('fs');
const path = require('path');
const Module = require('module');
// What only makes programs faster, by name: `make bench ARGS='--only optimizations'` takes each out and measures it.
const OPTIMIZATIONS = new Set(['dry-run', 'quick-exit']);
const parts = {};
let dryRunEnd = () => {};

// A worker thread of the user's program inherits the option `--require`, and has no arguments yet.
const placeholder = path.basename(process.argv[1] ?? '');
forget(__filename);
if (process.cwd() !== ROOM) quietly(offerLoopback);
if (placeholder === 'armed' || placeholder === 'armed.ts') {
  process.title = 'node'; // and /proc/self/cmdline with it
  if (OPTIMIZATIONS.has('quick-exit')) leaveQuickly();
  quietly(warm_up);
  fs.writeSync(CHANNEL, 'R');
  const text = fs.readFileSync(CHANNEL, 'utf8');
  fs.closeSync(CHANNEL); // INVARIANT: the program inherits no channel to the supervisor
  if (text === '') process.exit(0); // the sandbox is not needed any more
  become(JSON.parse(text));
} else if (placeholder === 'anew') {
  process.title = 'node';
  runMain(process.argv[2], process.argv.slice(3));
} else if (placeholder === '' && Module.registerHooks && fs.existsSync(TYPESCRIPT_MAIN)) {
  part('typescript.cjs').install(path.resolve(TYPESCRIPT_MAIN));
}

/** Leave no trace of this file where a program could meet it. */
function forget(...files) {
  for (const file of files) delete Module._cache[file];
  for (const [key, value] of Object.entries(Module._pathCache)) {
    if (files.includes(value)) delete Module._pathCache[key];
  }
  process.execArgv.length = 0;
  if (process._preload_modules) process._preload_modules.length = 0;
}

/**
 * Lose nothing that was written, however the program ends: writing waits until the pipe has taken it all.
 *
 * Not for speed: programs depend on it.
 */
function keepOutput() {
  for (const name of ['stdout', 'stderr']) {
    const property = Object.getOwnPropertyDescriptor(process, name);
    const get = () => {
      Object.defineProperty(process, name, property);
      const stream = process[name];
      stream._handle?.setBlocking?.(true); // a file has no handle, and is written at once anyway
      return stream;
    };
    Object.defineProperty(process, name, { ...property, get });
  }
}

/** Run `action`, whose failure only means that the program starts a little slower; it warns nobody, queues nothing. */
function quietly(action) {
  const kept = ['emitWarning', 'nextTick', 'stdout', 'stderr'].map((name) => [name, Object.getOwnPropertyDescriptor(process, name)]);
  const nothing = () => {};
  for (const [name] of kept) Object.defineProperty(process, name, { configurable: true, get: () => nothing });
  try {
    action();
  } catch {
    // A later Node may have changed what is warmed up.
  } finally {
    for (const [name, property] of kept) Object.defineProperty(process, name, property);
  }
}

/** Tell of the loopback alone where no socket may be made, over which the kernel would be asked for the interfaces. */
function offerLoopback() {
  const os = require('os');
  try {
    os.networkInterfaces();
  } catch {
    const mac = '00:00:00:00:00:00';
    const address = { address: '127.0.0.1', netmask: '255.0.0.0', family: 'IPv4', mac, internal: true, cidr: '127.0.0.1/8' };
    os.networkInterfaces = function networkInterfaces() {
      return { lo: [{ ...address }] };
    };
    Module.syncBuiltinESMExports();
  }
}

/** Load and compile what `console.log` needs, without touching the real streams: 7.4 ms become 1.5 ms (Node 24). */
function warm_up() {
  require('tty');
  const { Socket } = require('net');
  const nothing = () => 0;
  const handle = { close: nothing, getAsyncId: () => 1, shutdown: nothing, readStart: nothing, readStop: nothing };
  for (const name of ['writeUtf8String', 'writeLatin1String', 'writeBuffer', 'writev']) handle[name] = nothing;
  const stream = new Socket({ handle, readable: false, writable: true });
  const dryConsole = new console.Console(stream, stream);
  dryConsole.log('%s', 'text', 1, [1], { a: 1 });
  dryConsole.error(new Error('text'));
  stream.destroy();
  // Beside a package.json `prepare` would install what the program can see.
  if (OPTIMIZATIONS.has('dry-run') && !fs.existsSync('package.json')) dryRun();
  if (placeholder !== 'armed.ts') return;
  part('typescript.cjs');
  Module.stripTypeScriptTypes('const x: number = 1');
}

/** Do what `become` and the end do, with a program that does nothing, so that all of it is compiled; then undo it. */
function dryRun() {
  const file = `${__dirname}/empty.js`;
  const runMain = Object.getOwnPropertyDescriptor(Module, 'runMain');
  const argv = [...process.argv];
  const env = { ...process.env };
  try {
    become(JSON.parse(JSON.stringify({ file, args: [], env: { LANG: 'C.UTF-8' } })));
    void process.stdout;
    // Not by `Module.runMain`: path.resolve would get so hot that V8 optimizes it in the program's time.
    Module._extensions['.js'](new Module(file), file);
    process.mainModule = { loaded: true };
    dryRunEnd();
    needsNewNode(env); // V8 compiles a regular expression at its second use
    prepare(file);
  } finally {
    delete process.mainModule;
    Object.defineProperty(Module, 'runMain', runMain);
    process.argv.splice(0, Infinity, ...argv);
    replaceEnvironment(env);
  }
}

/**
 * Let a program that has come to its end by itself leave as `process.exit` does, without taking the engine's heap apart.
 *
 * The last that Node does then is to look up `process.emit`, for the event `exit`. Where the program listens for
 * nothing and nothing needs the tearing down, this look-up does not come back. It finds `emit` in a proxy that stands
 * before `EventEmitter.prototype`, where only `process` inherits from it; a program that walks up there and compares can
 * tell. (A proxy one step nearer would cut `for ... in` short: V8 looks no further than the first one.)
 */
function leaveQuickly() {
  const code = Object.getOwnPropertyDescriptor(process, 'exitCode')?.get;
  const leaving = Object.getOwnPropertyDescriptor(process, '_exiting')?.get;
  if (!code || !leaving) return; // before Node.js 20 these were no accessors
  const { emit, reallyExit } = process;
  const lookUp = Reflect.get;
  const isDone = makeIsDone();
  const isCalledByNode = makeIsCalledByNode();
  const inherited = Object.getPrototypeOf(process);
  const emitter = Object.getPrototypeOf(inherited);
  const get = (target, name, receiver) => {
    const value = lookUp(target, name, receiver);
    if (name === 'emit' && value === emit && leaving() && isDone() && isCalledByNode(get)) reallyExit(EXIT_MARK | (code() & 0xff));
    return value;
  };
  Object.setPrototypeOf(inherited, new Proxy(emitter, { __proto__: null, get, getPrototypeOf: () => emitter }));
  dryRunEnd = () => process.emit === emit && isDone() && isCalledByNode(get);
}

/** A function that tells whether nobody would see how the process ends; what it calls, no program can replace. */
function makeIsDone() {
  // These act when they are torn down: SQLite puts its journal away, an inspector waits for its client. And a child could
  // send SIGUSR1 while the exit notification waits for its hearer, which Node's handler would make fail.
  const tornDown = { __proto__: null };
  for (const name of ['child_process', 'inspector', 'sqlite', 'trace_events', 'worker_threads']) tornDown[`NativeModule ${name}`] = true;
  const loaded = process.moduleLoadList;
  const before = loaded.length;
  const cache = Module._cache;
  const endsWith = Function.prototype.call.bind(String.prototype.endsWith);
  return () => {
    // An ES module has no `mainModule`: its exit code may depend on an await that never ended.
    if (!process.mainModule?.loaded || process._events?.exit !== undefined) return false;
    for (let i = before; i < loaded.length; i++) if (tornDown[loaded[i]]) return false;
    for (const file in cache) if (endsWith(file, '.node')) return false;
    return true;
  };
}

/** A function that tells whether no JavaScript stands on the stack below its caller, whatever was done to `Error`. */
function makeIsCalledByNode() {
  const { captureStackTrace, prepareStackTrace } = Error;
  const describe = Object.getOwnPropertyDescriptor;
  return (caller) => {
    const limit = describe(Error, 'stackTraceLimit');
    if (!limit?.writable || Error.prepareStackTrace !== prepareStackTrace) return false;
    const trace = { __proto__: null };
    Error.stackTraceLimit = 1;
    captureStackTrace(trace, caller);
    Error.stackTraceLimit = limit.value;
    return trace.stack === 'Error';
  };
}

/** Be `node file args` from here on. */
function become({ file, args, env }) {
  if (needsNewNode(env)) return startNewNode([], file, args, env);
  replaceEnvironment(env);
  if (file.endsWith('.ts') && !process.features.typescript) {
    const why = `this Node.js (${process.version}) cannot run TypeScript; the server needs 22.18 or newer for it\n`;
    fs.writeSync(2, why);
    process.exit(1);
  }
  const flag = flagForModules(file);
  if (flag) return startNewNode([flag], file, args, env);
  runMain(file, args);
}

/** Have Node.js run `file` as its main program. */
function runMain(file, args) {
  keepOutput();
  prepare(file);
  process.argv.splice(1, Infinity, file, ...args);
  const found = Object.getOwnPropertyDescriptor(Module, 'runMain');
  Object.defineProperty(Module, 'runMain', {
    configurable: true,
    get() {
      Object.defineProperty(Module, 'runMain', found);
      return found.value.bind(Module, file); // a bound function has no frame of its own in a stack trace
    },
  });
}

/** Let Node.js take what it would refuse in the program: TypeScript that is not only types, modules of two kinds. */
function prepare(file) {
  if (!Module.registerHooks) return; // before Node.js 22.15
  const source = fs.readFileSync(file, 'utf8');
  const isTypeScript = file.endsWith('.ts');
  if (isTypeScript || IMPORTS_TYPESCRIPT.test(source)) part('typescript.cjs').install(file);
  if (!isTypeScript && mayMix(file, source)) part('modules.cjs').prepare(file, source);
}

/** Whether the program could mix modules of two kinds; cheap, and wrong only by saying yes. */
function mayMix(file, source) {
  if (fs.existsSync('package.json')) return true; // which may say of what kind they are
  if (!MODULE.test(source) || !(COMMONJS.test(source) || OWN_FILES.test(source))) return false;
  return !isCommonJs(file, source);
}

/** Another file of the agent's, which is loaded only for a program that needs it, and unseen by it. */
function part(name) {
  if (parts[name]) return parts[name];
  const known = new Set(Object.keys(Module._cache));
  Module._cache[__filename] = module; // the part may ask for this file, which must not run again
  parts[name] = require(path.join(__dirname, name));
  forget(...Object.keys(Module._cache).filter((file) => !known.has(file)));
  module.children.length = 0;
  return parts[name];
}

/** INVARIANT: the program's environment is `env`; nothing of the agent's is left in it. */
function replaceEnvironment(env) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, env);
  if (env.NODE_PATH) Module._initPaths();
}

/** Whether a variable asks for what only a Node that is about to start can do (options, certificates, locale). */
function needsNewNode(env) {
  const locale = env.LC_ALL || env.LC_MESSAGES || env.LANG || 'C';
  return !C_LOCALES.has(locale) || Object.keys(env).some((name) => env[name] !== '' && STARTUP_VARIABLES.test(name));
}

/** The option that an older Node needs to run this file as an ES module, if it is not CommonJS. */
function flagForModules(file) {
  if (process.features.require_module || !file.endsWith('.js')) return undefined;
  if (isCommonJs(file, fs.readFileSync(file, 'utf8'))) return undefined;
  const known = process.allowedNodeEnvironmentFlags;
  if (known.has('--experimental-detect-module')) return '--experimental-detect-module';
  return known.has('--experimental-default-type') ? '--experimental-default-type=module' : undefined;
}

function isCommonJs(file, source) {
  try {
    return Boolean(new (require('vm').Script)(Module.wrap(source.replace(/^#!/, '//')), { filename: file }));
  } catch {
    return false;
  }
}

/** Start over as `node file args` with that environment. */
function startNewNode(flags, file, args, env) {
  const argv = [...flags, '--require', __filename, 'anew', file, ...args];
  process.emitWarning = () => {};
  if (process.execve) process.execve(process.execPath, [process.execPath, ...argv], env);
  const { spawnSync } = require('child_process');
  const { status, signal, error } = spawnSync(process.execPath, argv, { env, stdio: 'inherit' });
  if (error) throw error;
  if (signal) process.kill(process.pid, signal);
  process.exit(status ?? 1);
}

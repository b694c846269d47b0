'use strict';
// Ends a cell when SIGINT comes, whatever it does: it computes, it awaits, it waits in a system call.
//
// A thread of its own waits for the signal, in the one way that Node.js has without the main thread's help: a script
// that SIGINT may break. It asks the main thread by a message, and if that does not listen, has V8 end what it runs.

const fs = require('fs');
const inspector = require('inspector');
const vm = require('vm');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

// Places in the memory that both threads see.
const RUNNING = 0; // the number of the cell that runs, 0 between cells
const WANTED = 1; // the number of the cell that is to end
const NEVER = 2; // always 0
const PATIENCE_MS = 30;
const REFUSALS = new Set(['EACCES', 'EPERM', 'ENOENT', 'ESRCH', 'ENXIO', 'EAGAIN', 'EPIPE', 'EBADF', 'EROFS']);
const BREAKABLE = { breakOnSigint: true };
const LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 };

/** The main thread's side. */
class Interrupts {
  #shared = new Int32Array(new SharedArrayBuffer(12));
  #worker;

  /** `onInterrupt` is called when the cell that runs is to end; the promise is fulfilled when SIGINT can come. */
  start(onInterrupt) {
    leaveSignalAlone();
    this.#worker = new Worker(__filename, { workerData: this.#shared, execArgv: [], resourceLimits: LIMITS });
    return new Promise((ready) => {
      this.#worker.once('message', () => {
        this.#worker.on('message', () => this.wanted && onInterrupt());
        this.release();
        ready();
      });
    });
  }

  begin(number) {
    this.#shared[WANTED] = 0;
    Atomics.store(this.#shared, RUNNING, number);
  }

  end() {
    this.release();
    Atomics.store(this.#shared, RUNNING, 0);
    Atomics.notify(this.#shared, RUNNING);
  }

  /** Whether the cell that runs is to end. */
  get wanted() {
    const running = Atomics.load(this.#shared, RUNNING);
    return running !== 0 && Atomics.load(this.#shared, WANTED) === running;
  }

  /** The same, by an error of the cell. A child that SIGINT ended can be noticed before the signal itself is. */
  causedBy(error) {
    if (error?.signal === 'SIGINT' && !this.wanted) Atomics.wait(this.#shared, WANTED, 0, PATIENCE_MS);
    return this.wanted || error?.code === 'EINTR';
  }

  /** Keep the process from ending while only an interrupt can come. */
  hold() {
    this.#worker.ref();
  }

  release() {
    this.#worker.unref();
  }
}

/** Have no listener of a program's take the signal from the thread that waits for it. */
function leaveSignalAlone() {
  for (const event of ['newListener', 'removeListener']) {
    for (const listener of process.listeners(event)) {
      process.off(event, listener);
      process.on(event, (type, ...rest) => type === 'SIGINT' || listener.call(process, type, ...rest));
    }
  }
}

/** The other thread: wait for signals. One that comes while the last one is dealt with breaks the outer script. */
function watch(shared) {
  const waitForSignal = breakable(() => Atomics.wait(shared, NEVER, 0));
  const serve = breakable(() => {
    for (;;) {
      endCell(shared);
      waitForSignal();
      Atomics.store(shared, WANTED, Atomics.load(shared, RUNNING));
      Atomics.notify(shared, WANTED);
    }
  });
  parentPort.postMessage('ready');
  for (;;) serve();
}

/** A function that calls `action` until SIGINT breaks it. */
function breakable(action) {
  const script = new vm.Script('(action) => action()');
  const runner = new vm.Script('codexRun()');
  const call = script.runInThisContext();
  return () => {
    const { codexRun } = globalThis;
    globalThis.codexRun = () => call(action);
    try {
      runner.runInThisContext(BREAKABLE);
    } catch (error) {
      if (error.code !== 'ERR_SCRIPT_EXECUTION_INTERRUPTED') throw error;
    } finally {
      globalThis.codexRun = codexRun;
    }
  };
}

/** End the cell that is to end: ask, and insist until it has. */
function endCell(shared) {
  const number = shared[WANTED];
  if (number === 0 || Atomics.load(shared, RUNNING) !== number) return;
  parentPort.postMessage('interrupt');
  if (Atomics.wait(shared, RUNNING, number, PATIENCE_MS) !== 'timed-out') return;
  const session = new inspector.Session();
  session.connectToMainThread();
  do {
    session.post('Runtime.terminateExecution');
    attempt(wakeReader);
    attempt(() => interruptChildren('self'));
  } while (Atomics.wait(shared, RUNNING, number, PATIENCE_MS) === 'timed-out');
  session.disconnect();
}

/** Let a thread that waits for standard input go on: it gets a line, and nobody sees it. */
function wakeReader() {
  const { O_WRONLY, O_NONBLOCK } = fs.constants;
  if (!fs.fstatSync(0, { throwIfNoEntry: false })?.isFIFO()) return;
  const input = fs.openSync('/proc/self/fd/0', O_WRONLY | O_NONBLOCK);
  fs.writeSync(input, '\n');
  fs.closeSync(input);
}

/** Pass the signal on to what was started since it came, and to what that started. */
function interruptChildren(id) {
  for (const thread of readFolder(`/proc/${id}/task`)) {
    for (const child of readText(`/proc/${id}/task/${thread}/children`).match(/\d+/g) ?? []) {
      interruptChildren(child);
      attempt(() => process.kill(Number(child), 'SIGINT'));
    }
  }
}

function readFolder(folder) {
  return fs.existsSync(folder) ? fs.readdirSync(folder) : []; // the process has ended
}

/** The text of a file that may be gone, because its process or thread has ended. */
function readText(file) {
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
}

/** Try what a sandbox may refuse, or what comes too late: the main thread then waits on, until init kills it. */
function attempt(action) {
  try {
    action();
  } catch (error) {
    if (!REFUSALS.has(error.code)) throw error;
  }
}

exports.Interrupts = Interrupts;
if (!isMainThread && workerData instanceof Int32Array) watch(workerData);

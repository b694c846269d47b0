'use strict';
// Gives each cell working standard streams, whatever the one before did to them.

const fs = require('fs');
const net = require('net');

const { defineProperty, getOwnPropertyDescriptor } = Object;
const OUTPUTS = { stdout: 1, stderr: 2 };

class Streams {
  #console = globalThis.console;
  #methods = Object.getOwnPropertyDescriptors(globalThis.console);
  #outputs = {};
  #pipes = {};
  #stdin;

  constructor() {
    for (const [name, descriptor] of Object.entries(OUTPUTS)) {
      this.#pipes[descriptor] = new KeptPipe(descriptor);
      this.#outputs[name] = writer(name, descriptor);
    }
  }

  /** Begin a cell whose standard input is the named pipe `input`, or nothing. */
  renew(input, keepsConsole) {
    this.#openInput(input || '/dev/null');
    for (const [name, descriptor] of Object.entries(OUTPUTS)) {
      this.#pipes[descriptor].restore();
      this.#renewOutput(name, descriptor);
    }
    if (!keepsConsole) globalThis.console = this.#console;
    Object.defineProperties(this.#console, this.#methods);
    for (const name of Object.keys(OUTPUTS)) this.#console[`_${name}`] = this.#outputs[name];
  }

  #renewOutput(name, descriptor) {
    const stream = this.#outputs[name];
    delete stream.write;
    if (!stream.writable) this.#outputs[name] = writer(name, descriptor);
    const value = this.#outputs[name];
    defineProperty(process, name, { configurable: true, enumerable: true, get: () => value });
  }

  #openInput(path) {
    this.#stdin?.destroy();
    this.#stdin = undefined;
    close(0);
    fs.openSync(path, 'r'); // takes the lowest number that is free
    const get = () => (this.#stdin ??= reader());
    defineProperty(process, 'stdin', { configurable: true, enumerable: true, get });
  }
}

/** An output's pipe, kept under a high number for the case that the program closes its own. */
class KeptPipe {
  #descriptor;
  #copy;
  #id;

  constructor(descriptor) {
    this.#descriptor = descriptor;
    this.#id = identify(descriptor);
    try {
      this.#copy = fs.openSync(`/proc/self/fd/${descriptor}`, fs.constants.O_WRONLY);
    } catch (error) {
      if (!['EACCES', 'ENOENT', 'ENXIO'].includes(error.code)) throw error; // where this cannot be had, a closed stream stays closed
    }
  }

  restore() {
    if (this.#copy === undefined || identify(this.#descriptor) === this.#id) return;
    if (identify(this.#copy) !== this.#id) return; // closed too
    close(this.#descriptor);
    fs.openSync(`/proc/self/fd/${this.#copy}`, fs.constants.O_WRONLY);
  }
}

function identify(descriptor) {
  try {
    const { dev, ino } = fs.fstatSync(descriptor);
    return `${dev}:${ino}`;
  } catch (error) {
    if (error.code === 'EBADF') return undefined;
    throw error;
  }
}

function close(descriptor) {
  try {
    fs.closeSync(descriptor);
  } catch (error) {
    if (error.code !== 'EBADF') throw error; // the program closed it
  }
}

/**
 * Like Node's own stream for a standard output that is a pipe: destroying it closes nothing. Writing waits until the pipe
 * has taken it all, so that nothing is lost.
 */
function writer(name, descriptor) {
  if (!fs.fstatSync(descriptor).isFIFO()) return process[name];
  const stream = new net.Socket({ fd: descriptor, readable: false, writable: true });
  stream._type = 'pipe';
  stream._isStdio = true;
  stream.fd = descriptor;
  stream.destroySoon = stream.destroy;
  stream._destroy = (error, callback) => callback(error);
  stream._handle.setBlocking(true);
  return stream;
}

/** Like Node's own stream for a standard input: it reads, and keeps the process alive, only while somebody listens. */
function reader() {
  if (!fs.fstatSync(0).isFIFO()) return new fs.ReadStream(null, { fd: 0, autoClose: false });
  const stream = new net.Socket({ fd: 0, readable: true, writable: false, manualStart: true });
  stream.fd = 0;
  stream.on('pause', () => {
    process.nextTick(() => {
      if (!stream._handle?.reading || stream.readableFlowing) return;
      stream._handle.reading = false;
      stream._handle.readStop();
    });
  });
  return stream;
}

exports.Streams = Streams;

'use strict';
// Prints an error that nobody caught, as Node.js does before it ends.

const { inspect, types } = require('util');

const FRAME = /^\s+(?:at |\.\.\. \d+ lines matching)/;
const PLACE = /^\s+at (?:.* \()?(.+?):(\d+):(\d+)\)?$/m;
const TRANSLATED = /(?<=^\s+at .*)[^\s(]*\/(cell \d+)\.ts(?=:\d+:\d+\)?$)/gm; // by a source map, which names a file
const CELL = /(?<=^\s+at .*)(cell \d+):(\d+):(\d+)(?=\)?$)/gm;
const BELOW = /\b(?:runInThisContext|new Script) \(node:vm:|\(node:internal\/modules\/typescript:/;
const LONGEST_LINE = 500;

/** The text for `error`; `sources` are the cells' code, and what is shifted in it (see cells.cjs), by their names. */
exports.describe = function describe(error, sources) {
  try {
    return textOf(error, sources);
  } catch {
    return 'Uncaught: an error that cannot be shown, because showing it fails\n';
  }
};

/** An error of the syntax at a place in a cell, as V8 makes them. */
exports.syntaxError = function syntaxError(name, { line, column, message }) {
  const error = new SyntaxError(message);
  error.stack = `SyntaxError: ${message}\n    at ${name}:${line}:${column}`;
  return error;
};

function textOf(error, sources) {
  if (!types.isNativeError(error) && !(error instanceof Error)) return `Uncaught ${inspect(error)}\n`;
  const text = inspect(error).replace(TRANSLATED, '$1').replace(CELL, (place, name, line, column) => {
    const { shifted } = sources.get(name) ?? {};
    const isShifted = shifted && Number(line) === shifted.line && column > shifted.column;
    return isShifted ? `${name}:${line}:${column - shifted.by}` : place;
  });
  return `${whereOf(text, sources)}${withoutOurs(text, sources)}\n`;
}

/** The line of the cell that threw, with a mark below; empty where the error was not made in a cell. */
function whereOf(trace, sources) {
  const [, name, line, column] = PLACE.exec(trace) ?? [];
  const text = linesOf(sources.get(name)?.code ?? '')[line - 1];
  if (!text || text.length > LONGEST_LINE) return '';
  return `${name}:${line}\n${text}\n${text.slice(0, column - 1).replace(/[^\t]/g, ' ')}^\n\n`;
}

/** `text` without the frames below the cell, which are those of this program. */
function withoutOurs(text, sources) {
  const kept = [];
  let isOurs = false;
  for (const line of text.split('\n')) {
    isOurs = FRAME.test(line) && (isOurs || line.includes(__dirname) || BELOW.test(line));
    if (!isOurs && !isWrapper(line, sources)) kept.push(line);
    else if (line.endsWith(' {')) kept[kept.length - 1] += ' {'; // its own properties follow
  }
  return kept.join('\n');
}

/** Whether a line of a stack trace names the call of the function around a cell, which is below its last line. */
function isWrapper(frame, sources) {
  const [, name, line] = PLACE.exec(frame) ?? [];
  return sources.has(name) && linesOf(sources.get(name).code).length < line;
}

function linesOf(text) {
  return text.split(/\r\n|[\n\r\u2028\u2029]/);
}

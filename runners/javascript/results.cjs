'use strict';
// Says what the value of a cell looks like.

const util = require('util');
const { EventEmitter } = require('events');

const LONGEST_TEXT = 100_000;
const LONGEST_EMITTER = 400;
const LONGEST_JSON = 50_000;
const MOST_PARTS = 10_000;
const DEEPEST = 50;
const NOTHING_MORE = /^Promise \{\s+(?:undefined \}|<rejected>)/;
const { Timeout, Immediate } = classesOfTimers();
const { inspect, types } = util;
const { stringify } = JSON;

/** The forms of `value` by their media types; null where there is nothing to show. */
exports.forms = function forms(value) {
  if (value === undefined || value instanceof Timeout || value instanceof Immediate) return null;
  let text = inspect(value, { maxStringLength: LONGEST_TEXT });
  if (text.length > LONGEST_EMITTER && value instanceof EventEmitter) text = inspect(value, { depth: -1 }); // `server.listen()`
  if (types.isPromise(value) && NOTHING_MORE.test(text)) return null; // what it was rejected with has been printed
  const result = { 'text/plain': text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT - 1)}…` : text };
  if (isData(value)) {
    const json = stringify(value);
    if (json.length <= LONGEST_JSON) result['application/json'] = value;
  }
  return result;
};

function classesOfTimers() {
  const timeout = setTimeout(() => {}, 0);
  const immediate = setImmediate(() => {});
  clearTimeout(timeout);
  clearImmediate(immediate);
  return { Timeout: timeout.constructor, Immediate: immediate.constructor };
}

/** Whether JSON can express `value` as it is. */
function isData(value) {
  let parts = 0;
  const isPart = (part, depth) => {
    if (++parts > MOST_PARTS || depth > DEEPEST) return false;
    if (part === null || typeof part === 'string' || typeof part === 'boolean') return true;
    if (typeof part === 'number') return Number.isFinite(part) && !Object.is(part, -0);
    if (typeof part !== 'object' || types.isProxy(part)) return false;
    const prototype = Object.getPrototypeOf(part);
    const isArray = Array.isArray(part) && prototype === Array.prototype;
    if (!isArray && prototype !== Object.prototype && prototype !== null) return false;
    return hasDataOnly(part, isArray) && Object.values(part).every((inner) => isPart(inner, depth + 1));
  };
  return isPart(value, 0);
}

function hasDataOnly(part, isArray) {
  const properties = Object.getOwnPropertyDescriptors(part);
  const names = Reflect.ownKeys(properties);
  if (isArray && names.length !== part.length + 1) return false; // it has holes, or names
  return names.every((name) => typeof name === 'string' && 'value' in properties[name] && (properties[name].enumerable || isArray));
}

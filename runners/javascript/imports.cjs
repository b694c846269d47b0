'use strict';
// Takes names of types out of the imports of a file from which all other types are gone already.
//
// TypeScript leaves an import out when it names a type; Node.js, which sees one file at a time, would ask the other
// module for it and fail. What is taken out becomes spaces: every other character stays where it was.

const CLAUSE = /(^|[;\n}])(\s*)(import|export)\s+(?:([\w$]+)(\s*,\s*))?\{([^{}]*)\}(?:(\s*from\s*)(['"])([^'"\n]+)\8)?/g;
const DEFAULT = /(^|[;\n}])(\s*)import\s+([\w$]+)\s+from\s*(['"])([^'"\n]+)\4/g;
const COMMENTS = /\/\*[\s\S]*?\*\/|\/\/.*$/gm;

/**
 * `code` without imports and exports of types; `exportsOf` tells the values that a module exports, or undefined, and
 * `parses` whether a text is a program.
 *
 * Where it cannot be told what a module exports, a name is a type's when nothing uses it.
 */
exports.withoutTypes = function withoutTypes(code, exportsOf, parses) {
  const used = makeIsUsed(code);
  const types = new Set(); // names here that are types, which may be exported further down
  const text = code.replace(DEFAULT, (clause, before, space, name, quote, specifier, at) => {
    if (exportsOf(specifier)?.has('default') !== false || !isStatement(code, clause, at, parses)) return clause;
    types.add(name);
    return blank(clause);
  });
  return text.replace(CLAUSE, (clause, before, space, verb, first, comma, list, from, quote, specifier, at) => {
    if (verb === 'import' && !specifier) return clause;
    const values = specifier && exportsOf(specifier);
    const isType = (name, local) => {
      if (!specifier) return types.has(name);
      return values ? !values.has(name) : verb === 'import' && !used(local);
    };
    const parts = list.split(',').filter((part) => part.trim());
    const erased = parts.filter((part) => isType(...namesIn(part)));
    const isFirstErased = first && values && !values.has('default');
    if (!(erased.length || isFirstErased) || !isStatement(text, clause, at, parses)) return clause;
    for (const name of [...erased.map((part) => namesIn(part)[1]), ...(isFirstErased ? [first] : [])]) types.add(name);
    const isAll = erased.length && erased.length === parts.length && !first;
    if (isAll && specifier && !values) return blank(clause); // of a module that may hold nothing else
    const rest = erased.length ? clause.replace(`{${list}}`, `{${without(erased, list)}}`) : clause;
    return isFirstErased ? rest.replace(first + comma, blank(first + comma)) : rest;
  });
};

/** Whether the clause in `code` is one, and no part of a text or a comment, where nonsense in its place does no harm. */
function isStatement(code, clause, at, parses) {
  return !parses(`${code.slice(0, at)}${clause[0]} @@ ${code.slice(at + clause.length)}`);
}

/** `list` with spaces for the parts that are `erased`, and for the commas behind them. */
function without(erased, list) {
  const parts = list.split(',');
  const last = parts.length - 1;
  const kept = parts.map((part, i) => (erased.includes(part) ? `${blank(part)}${i < last ? ' ' : ''}` : `${part}${i < last ? ',' : ''}`));
  return kept.join('');
}

/** The names under which `code`, an ES module, exports values; undefined where they cannot be told. */
exports.exportedNames = function exportedNames(code, exportsOf) {
  const names = new Set();
  const text = code.replace(COMMENTS, '');
  for (const [, star, alias, specifier] of text.matchAll(/\bexport\s*(\*)(?:\s*as\s+([\w$]+))?\s*from\s*['"]([^'"\n]+)/g)) {
    const further = star && !alias ? exportsOf(specifier) : [alias];
    if (!further) return undefined;
    for (const name of further) if (name !== 'default') names.add(name);
  }
  if (/\bexport\s+(?:const|let|var)\s*[[{]|\bexport\s+(?:const|let|var)\b[^;\n]*,/.test(text)) return undefined;
  for (const [, name] of text.matchAll(/\bexport\s+(?:async\s+)?(?:const|let|var|class|function\s*\*?|enum)\s*([\w$]+)/g)) names.add(name);
  for (const [, list] of text.matchAll(/\bexport\s*\{([^{}]*)\}/g)) {
    for (const part of list.split(',')) if (part.trim()) names.add(namesIn(part)[1]);
  }
  if (/\bexport\s+default\b/.test(text)) names.add('default');
  return names.size || /\bexport\b|\bimport\b/.test(text) ? names : undefined;
};

/** The name in the other module and the one here, of a part of a clause. */
function namesIn(part) {
  const [name, local] = part.replace(COMMENTS, '').trim().split(/\s+as\s+/);
  return [name, local ?? name];
}

/** A function that tells whether a name stands anywhere but in imports and comments. */
function makeIsUsed(code) {
  let rest;
  return (name) => {
    rest ??= code.replace(CLAUSE, (clause, before, space, verb) => (verb === 'import' ? '' : clause)).replace(COMMENTS, '');
    const literal = name.replaceAll('$', '\\$');
    return new RegExp(`(?<![\\w$]|[^.]\\.)${literal}(?![\\w$])`).test(rest);
  };
}

function blank(text) {
  return text.replace(/[^\n]/g, ' ');
}

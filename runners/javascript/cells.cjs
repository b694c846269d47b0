'use strict';
// Rewrites the code of one cell, so that what it declares at its top level outlives it and can be declared again.
//
// A declaration becomes an assignment to a property of the global object, and an import is taken out, to be carried out
// before. Everything stays on its line, and in its column where that can be had: stack traces name the user's places.

const acorn = require('./acorn.cjs');

const SYNTAX = {
  ecmaVersion: 'latest',
  sourceType: 'script',
  allowImportExportEverywhere: true,
  allowAwaitOutsideFunction: true,
  allowReturnOutsideFunction: true,
};
const OWN_SCOPE = /^(?:Function|ArrowFunction|Class)/;
const ASYNC = '(async()=>{';
const RETURN = 'return ';
const IMPORT = 'ımport'; // as long as what it replaces, and nothing that a program would name
const IMPORT_META = 'ımport_meta';

exports.IMPORT = IMPORT;
exports.IMPORT_META = IMPORT_META;

/**
 * What to run for `code`; undefined when it does not parse.
 *
 * `imports`: what to import first; `names`: what it declares; `functions`: a script that defines its functions;
 * `body`: the rest, which is in an async function when it `isAsync`, and has `columnsBefore` of ours in its first line.
 * `shifted`: from which place of one line on its columns are too large, and by how much. `hasValue`: it has one.
 */
exports.rewrite = function rewrite(code) {
  const text = code.replace(/^#!/, '//');
  const tree = parse(isObject(text) ? `(${text}\n)` : text);
  return tree && new Cell(tree.source, tree).result();
};

/** Why `code` does not parse: the line and the column, from 1, and what is wrong. */
exports.complaint = function complaint(code) {
  try {
    acorn.parse(code, SYNTAX);
    return undefined;
  } catch ({ loc, message }) {
    return { line: loc.line, column: loc.column + 1, message: message.replace(/ \(\d+:\d+\)$/, '') };
  }
};

/** Whether it could be a block, but is meant as an object: `{ a: 1 }`. */
function isObject(code) {
  return /^\s*\{/.test(code) && !/;\s*$/.test(code) && parse(`(${code}\n)`) !== undefined;
}

function parse(source) {
  try {
    return Object.assign(acorn.parse(source, SYNTAX), { source });
  } catch {
    return undefined; // V8 says what is wrong with it
  }
}

/** One cell's tree, and the changes to its text. */
class Cell {
  #code;
  #tree;
  #edits = [];
  #functions = [];
  #names = new Set();
  #imports = [];
  #heads = new Set(); // of loops
  #isAsync = false;

  constructor(code, tree) {
    this.#code = code;
    this.#tree = tree;
    for (const node of tree.body) this.#statement(node);
    walk(tree, (node, isInner) => this.#inside(node, isInner));
  }

  result() {
    const statements = this.#tree.body.filter((node) => !isNothing(node));
    const last = statements.at(-1);
    const isValue = last?.type === 'ExpressionStatement';
    const inFunctions = ([start, end]) => this.#functions.some((range) => range[0] <= start && end <= range[1]);
    const inBody = this.#edits.filter((edit) => !inFunctions(edit));
    for (const [start, end] of this.#functions) inBody.push([start, end, this.#blank(start, end)]);
    const isReturned = isValue && this.#isAsync;
    if (isReturned) inBody.push([last.start, last.start, RETURN]);
    const body = apply(this.#code, inBody);
    return {
      imports: this.#imports,
      names: [...this.#names],
      functions: this.#functions.length ? apply(this.#code, [...this.#edits.filter(inFunctions), ...this.#aroundFunctions()]) : undefined,
      body: this.#isAsync ? `${ASYNC}${body}\n})()` : body,
      columnsBefore: this.#isAsync ? ASYNC.length : 0,
      shifted: isReturned ? { ...this.#placeOf(last.start), by: RETURN.length } : undefined,
      isAsync: this.#isAsync,
      hasValue: isValue || this.#isAsync,
    };
  }

  #placeOf(at) {
    const lines = this.#code.slice(0, at).split('\n');
    return { line: lines.length, column: lines.at(-1).length + 1 };
  }

  /** Change a statement of the top level. */
  #statement(node) {
    switch (node.type) {
      case 'VariableDeclaration':
        if (['var', 'let', 'const'].includes(node.kind)) this.#variables(node, ';');
        break;
      case 'FunctionDeclaration':
        this.#function(node);
        break;
      case 'ClassDeclaration':
        this.#names.add(node.id.name);
        this.#edits.push([node.start, node.start, `${node.id.name}=`], [node.end - 1, node.end, '};']);
        break;
      case 'ImportDeclaration':
        this.#import(node);
        break;
      case 'ExportNamedDeclaration':
      case 'ExportDefaultDeclaration':
      case 'ExportAllDeclaration':
        this.#export(node);
        break;
    }
  }

  /** `const x = 1` becomes `      x = 1`; a pattern is kept from the line before it by `guard`. */
  #variables(node, guard) {
    for (const { id } of node.declarations) for (const name of namesIn(id)) this.#names.add(name);
    if (isNothing(node)) return this.#edits.push([node.start, node.end, this.#blank(node.start, node.end)]);
    const [first] = node.declarations;
    const open = { ObjectPattern: `${guard}(`, ArrayPattern: guard }[first.id.type] ?? '';
    this.#edits.push([node.start, node.start + node.kind.length, open.padStart(node.kind.length)]);
    if (open.endsWith('(')) this.#edits.push([node.declarations.at(-1).end, node.declarations.at(-1).end, ')']);
    for (const { init, end } of node.declarations) if (!init && node.kind !== 'var') this.#edits.push([end, end, '=undefined']);
  }

  /** `function f(` becomes `f=function(`: as long, and without a second name that would hide a later `f = wrap(f)`. */
  #function(node) {
    const { name } = node.id;
    const head = this.#code.slice(node.start, node.id.start).replace(/ $/, '');
    this.#names.add(name);
    this.#functions.push([node.start, node.end]);
    this.#edits.push([node.start, node.id.end, `${name}=${head}`], [node.end - 1, node.end, '};']);
  }

  #import(node) {
    const bindings = node.specifiers.map(({ type, local, imported }) => {
      const name = { ImportDefaultSpecifier: 'default', ImportNamespaceSpecifier: '*' }[type] ?? imported.name ?? imported.value;
      this.#names.add(local.name);
      return { local: local.name, name };
    });
    const attributes = Object.fromEntries((node.attributes ?? []).map(({ key, value }) => [key.name ?? key.value, value.value]));
    this.#imports.push({ specifier: node.source.value, attributes, bindings });
    this.#edits.push([node.start, node.end, this.#blank(node.start, node.end)]);
  }

  /** Nobody imports from a cell: what is exported is only declared. */
  #export(node) {
    const { declaration, source } = node;
    if (source) this.#imports.push({ specifier: source.value, attributes: {}, bindings: [] });
    const end = declaration ? declaration.start : node.end;
    const blank = this.#blank(node.start, end);
    if (!declaration) return this.#edits.push([node.start, end, blank]);
    if (declaration.id || declaration.type === 'VariableDeclaration') {
      this.#edits.push([node.start, end, blank]);
      return this.#statement(declaration);
    }
    const last = declaration.end;
    return this.#edits.push([node.start, end, `${blank.slice(0, -1)}(`], [last, last, ')']);
  }

  /** Change what may stand anywhere; `isInner`: within a function or a class. */
  #inside(node, isInner) {
    const { type, start } = node;
    if (/^For\w*Statement$/.test(type)) this.#heads.add(node.init ?? node.left);
    if (type === 'ImportExpression') this.#edits.push([start, start + 'import'.length, IMPORT]);
    if (type === 'MetaProperty' && node.meta.name === 'import') this.#edits.push([start, node.end, IMPORT_META]);
    if (isInner) return;
    if (type === 'AwaitExpression' || (type === 'ForOfStatement' && node.await) || type === 'ReturnStatement') this.#isAsync = true;
    if (type === 'VariableDeclaration' && node.kind.includes('using')) this.#isAsync = true;
    if (type === 'VariableDeclaration' && node.kind === 'var' && !this.#isTopLevel(node)) this.#innerVariables(node);
  }

  #isTopLevel(node) {
    return this.#tree.body.some((statement) => statement === node || statement.declaration === node);
  }

  /** A `var` in a block or a loop; in the head of a loop no parentheses can stand around it, or need to. */
  #innerVariables(node) {
    if (!this.#heads.has(node)) return this.#variables(node, '');
    this.#edits.push([node.start, node.start + 'var'.length, '   ']);
    for (const { id } of node.declarations) for (const name of namesIn(id)) this.#names.add(name);
  }

  /** Blanks for all but the functions and a directive at the start. */
  #aroundFunctions() {
    const directives = this.#tree.body.filter((node) => node.directive).map(({ start, end }) => [start, end]);
    const kept = [...directives, ...this.#functions].sort(([a], [b]) => a - b);
    let from = 0;
    const around = [];
    for (const [start, end] of [...kept, [this.#code.length]]) {
      around.push([from, start, blank(this.#code.slice(from, start))]);
      from = end;
    }
    return around;
  }

  /** What stands for a part that is taken out: what is before it ends there, as it did. */
  #blank(start, end) {
    return `;${blank(this.#code.slice(start + 1, end))}`;
  }
}

function blank(text) {
  return text.replace(/[^\n\r\u2028\u2029]/g, ' ');
}

/** Whether a statement does nothing: `;`, or the `var x;` that a compiler leaves behind. */
function isNothing(node) {
  return node.type === 'EmptyStatement' || (node.kind === 'var' && node.declarations.every(({ init }) => !init));
}

/** `code` with the edits `[start, end, text]`; one within another is left out. */
function apply(code, edits) {
  let at = 0;
  let text = '';
  for (const [start, end, replacement] of edits.sort(byPlace)) {
    if (start < at) continue;
    text += code.slice(at, start) + replacement;
    at = end;
  }
  return text + code.slice(at);
}

/** What is only inserted comes before what is replaced there, and of two parts the longer one. */
function byPlace([start, end], [otherStart, otherEnd]) {
  return start - otherStart || (otherStart === otherEnd) - (start === end) || otherEnd - end;
}

function namesIn(pattern) {
  if (!pattern) return [];
  switch (pattern.type) {
    case 'Identifier':
      return [pattern.name];
    case 'ObjectPattern':
      return pattern.properties.flatMap((property) => namesIn(property.value ?? property.argument));
    case 'ArrayPattern':
      return pattern.elements.flatMap(namesIn);
    default:
      return namesIn(pattern.left ?? pattern.argument);
  }
}

/** Call `visit(node, isInner)` for every node. */
function walk(tree, visit) {
  const waiting = [[tree, false]];
  while (waiting.length) {
    const [node, isInner] = waiting.pop();
    visit(node, isInner);
    const within = isInner || OWN_SCOPE.test(node.type);
    for (const child of Object.values(node).flat()) if (child?.type) waiting.push([child, within]);
  }
}

'use strict';
// Tells which of the two kinds of decorators a file of TypeScript is written for; they look alike where they are used.

const STANDARD = /\bClass\w*DecoratorContext\b|\baddInitializer\b|\baccessor\s/;
const LEGACY =
  /\bPropertyDescriptor\b|\bpropertyKey\b|\bdescriptor\b|\bReflect\s*\.\s*(?:\w*[mM]etadata)\b|\b(?:Class|Method|Property|Parameter)Decorator\b/;
const CONTEXT = /^_?(?:context|ctx|c)$/i;

/**
 * Whether the decorators in `tree` are those of `experimentalDecorators`; `further()` are the program's other files,
 * where they may be defined. Without a sign they are the standard's, as TypeScript has it.
 */
exports.usesLegacyDecorators = function usesLegacyDecorators(ts, tree, further) {
  if (decoratesParameters(ts, tree)) return true;
  const names = decoratorsIn(ts, tree);
  return signIn(ts, tree, names) ?? firstSign(further(), (other) => signIn(ts, other, names)) ?? false;
};

function firstSign(trees, sign) {
  for (const tree of trees) {
    const found = sign(tree);
    if (found !== undefined) return found;
  }
  return undefined;
}

function signIn(ts, tree, names) {
  if (STANDARD.test(tree.text)) return false;
  if (LEGACY.test(tree.text) || takesKeys(ts, tree, names)) return true;
  return undefined;
}

function decoratesParameters(ts, tree) {
  return some(ts, tree, (node) => ts.isParameter(node) && node.modifiers?.some(ts.isDecorator));
}

/** The names of functions that decorate something other than a class. */
function decoratorsIn(ts, tree) {
  const names = new Set();
  some(ts, tree, (node) => {
    if (!ts.isDecorator(node) || ts.isClassDeclaration(node.parent)) return;
    const used = ts.isCallExpression(node.expression) ? node.expression.expression : node.expression;
    if (ts.isIdentifier(used)) names.add(used.text);
  });
  return names;
}

/** Whether one of them, or a function that it returns, has the parameters (target, key) or (target, key, x). */
function takesKeys(ts, tree, names) {
  return some(ts, tree, (node) => names.has(nameOf(ts, node)) && some(ts, node, (inner) => hasKey(ts, inner)));
}

function nameOf(ts, node) {
  const isFunction = ts.isFunctionDeclaration(node) || (ts.isVariableDeclaration(node) && node.initializer);
  return isFunction && node.name && ts.isIdentifier(node.name) ? node.name.text : undefined;
}

function hasKey(ts, node) {
  if (!ts.isFunctionLike(node) || node.parameters.length < 2 || node.parameters.length > 3) return false;
  if (node.parameters.some((parameter) => parameter.dotDotDotToken)) return false;
  const second = node.parameters[1];
  if (node.parameters.length === 3) return true;
  return ts.isIdentifier(second.name) && !CONTEXT.test(second.name.text) && /^(?:string|symbol|any|\s|\|)*$/.test(second.type?.getText() ?? '');
}

/** Whether `found` holds for some node at or below `top`. */
function some(ts, top, found) {
  const visit = (node) => found(node) || ts.forEachChild(node, visit) || false;
  return visit(top);
}

'use strict';
// Translates one file of TypeScript to JavaScript, by the cheapest compiler that can.

const fs = require('fs');
const path = require('path');
const vm = require('vm');
const Module = require('module');
const { pathToFileURL } = require('url');
const { usesLegacyDecorators } = require('./decorators.cjs');

const TYPESCRIPT = /\.[cm]?ts$/;
const IN_A_PACKAGE = /(?:^|\/)node_modules\//;
const MOST_FILES = 100;

/**
 * The JavaScript of `file`, or undefined when it is not TypeScript that anything here can translate.
 *
 * `erased`: every character stands where it stood. `mapped`: it carries a source map. `whole`: imports of types are gone.
 * `needsCompiler`: it looks as if nothing that Node.js has could translate it.
 */
exports.translate = function translate(file, source, needsCompiler) {
  if (needsCompiler) {
    const typescript = loadCompiler(file);
    if (typescript) return byCompiler(typescript, file, source);
    process.once('uncaughtExceptionMonitor', tellWhatIsMissing);
  }
  const erased = byNode(source, { mode: 'strip' });
  if (erased !== undefined) return { text: erased, erased: true };
  const text = byNode(source, { mode: 'transform', sourceMap: true, sourceUrl: pathToFileURL(file).href });
  if (text !== undefined) return { text, mapped: true };
  const typescript = loadCompiler(file);
  return typescript ? byCompiler(typescript, file, source) : undefined;
};

/** Whether Node.js can read `source`. */
exports.parses = (source) => byNode(source, { mode: 'strip' }) !== undefined;

function byNode(source, options) {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // that this function of Node's is an experiment
  try {
    return Module.stripTypeScriptTypes(source, options);
  } catch {
    return undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
}

let compiler;

/** The package typescript beside the workspace; null where it is not installed. */
function loadCompiler(file) {
  if (compiler === undefined) {
    const place = path.join(path.dirname(file), '..', 'node_modules', 'typescript', 'lib', 'typescript.js');
    compiler = fs.existsSync(place) ? evaluate(place) : null;
  }
  return compiler;
}

/** As `require` does, but unseen by the program, and from the bytecode that was kept when it was installed. */
function evaluate(place) {
  const kept = `${place}.cache`;
  const cachedData = fs.existsSync(kept) ? fs.readFileSync(kept) : undefined;
  const text = fs.readFileSync(place, cachedData ? 'latin1' : 'utf8'); // what has a cache is ASCII: see finish.cjs
  const wrapped = Module.wrap(text);
  const script = new vm.Script(wrapped, { filename: place, cachedData });
  const module = { exports: {} };
  script.runInThisContext()(module.exports, require, module, place, path.dirname(place));
  return module.exports.transpileModule ? module.exports : null;
}

function byCompiler(ts, file, source) {
  const settings = readSettings(ts, path.join(path.dirname(file), 'tsconfig.json'));
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const legacy = settings.experimentalDecorators ?? usesLegacyDecorators(ts, tree, () => otherFiles(ts, file));
  const assigned = tree.statements.some((statement) => ts.isExportAssignment(statement) && statement.isExportEquals);
  const { outputText, diagnostics } = ts.transpileModule(source, {
    fileName: path.basename(file),
    reportDiagnostics: true,
    compilerOptions: {
      target: ts.ScriptTarget.ES2024,
      module: assigned ? ts.ModuleKind.CommonJS : ts.ModuleKind.Preserve,
      esModuleInterop: true,
      inlineSourceMap: true,
      experimentalDecorators: legacy,
      emitDecoratorMetadata: settings.emitDecoratorMetadata ?? legacy,
      useDefineForClassFields: settings.useDefineForClassFields ?? !legacy,
    },
  });
  const wrong = diagnostics.find(({ category, code }) => category === ts.DiagnosticCategory.Error && code < 2000);
  if (!wrong) return { text: outputText, mapped: true, whole: true };
  tellWhatIsWrong(ts, file, wrong); // before Node.js, which sees the file next, takes offence at something else in it
  return undefined;
}

function tellWhatIsWrong(ts, file, { file: tree, start, code, messageText }) {
  const { line, character } = tree.getLineAndCharacterOfPosition(start);
  const place = `${path.basename(file)}:${line + 1}:${character + 1}`;
  fs.writeSync(2, `${place} - error TS${code}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}\n`);
}

/** The syntax trees of the TypeScript beside and below `file`, read one after the other. */
function* otherFiles(ts, file) {
  const folder = path.dirname(file);
  const names = fs.readdirSync(folder, { recursive: true }).filter((name) => TYPESCRIPT.test(name) && !IN_A_PACKAGE.test(name));
  for (const name of names.slice(0, MOST_FILES)) {
    const place = path.join(folder, name);
    if (place !== file) yield ts.createSourceFile(place, fs.readFileSync(place, 'utf8'), ts.ScriptTarget.Latest, true);
  }
}

/** What the program's own tsconfig.json says of decorators. */
function readSettings(ts, file) {
  if (!fs.existsSync(file)) return {};
  return ts.parseConfigFileTextToJson(file, fs.readFileSync(file, 'utf8')).config?.compilerOptions ?? {};
}

function tellWhatIsMissing(error) {
  if (!(error instanceof SyntaxError)) return;
  const why = 'decorators, accessor and "export =" are translated by the package typescript, which is not installed here; ';
  fs.writeSync(2, `${why}\`codex-server runners install\` installs it\n`);
}

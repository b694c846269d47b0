'use strict';
// Translates the cells of a TypeScript session, and has the files that they import translated.

const path = require('path');
const Module = require('module');
const { pathToFileURL } = require('url');
const { offerNames } = require('./modules.cjs');
const { compile, install } = require('./typescript.cjs');

const SOURCE_MAP = /^\/\/# sourceMappingURL=.*$/m;

class Translator {
  #folder;
  #maps = []; // Node.js forgets a source map with its module

  /** `place`: the file that cells are taken for. */
  constructor(place) {
    this.#folder = path.dirname(place);
    offerNames(place); // once, so that it does not take the cells' own names away later
    install(place);
    compile(place, 'const warm: number = 1');
  }

  /** The JavaScript of a cell. Throws what Node.js says of a cell that is none. */
  translate(name, code) {
    const file = path.join(this.#folder, `${name}.ts`);
    const translated = compile(file, code);
    if (!translated) return Module.stripTypeScriptTypes(code, { mode: 'transform', sourceUrl: name });
    if (translated.mapped) this.#keepMap(path.join(this.#folder, name), SOURCE_MAP.exec(translated.text)[0]);
    return translated.text.replace(SOURCE_MAP, '');
  }

  /** Have Node.js name the places of the original in stack traces. */
  #keepMap(file, comment) {
    process.setSourceMapsEnabled(true);
    const module = new Module(file);
    module._compile(comment, file);
    this.#maps.push(module);
  }
}

exports.Translator = Translator;

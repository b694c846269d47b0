# ruff: noqa: E501 - programs read better on one line
"""Programs that plain ``node`` refuses, or whose output it loses, and what they print here.

TypeScript that needs a compiler from the packages stands in ``COMPILED``; Node.js itself can do the rest.
"""

from tests.runners.comparison import Program

Cases = dict[str, tuple[Program, str]]


def _case(code: str, printed: str, **files: str) -> tuple[Program, str]:
    """``files``: names without their ending, which is .ts."""
    return Program(code, files={f"{name}.ts": text for name, text in files.items()}), printed


_A_TRACE = "enum Level { Low = 1,\n  High }\n\nfunction fail(): never {\n  throw new Error('level ' + Level.High)\n}\ntry { fail() } catch (e) { console.log(/main.ts:(\\d+):(\\d+)/.exec((e as Error).stack!)![0]) }"

TYPESCRIPT: Cases = {
    "enum": _case("enum A { X = 1, Y }\nconst enum B { Q = 'q' }\ndeclare enum C { Z }\nconsole.log(A[1], A.Y, B.Q, typeof C)", "X 2 q undefined\n"),
    "computed enum": _case("enum F { A = 1 << 0, B = 1 << 1, C = A | B, D = 'abc'.length }\nconsole.log(F.C, F[2], F.D)", "3 B 3\n"),
    "namespace": _case("namespace N { export const x = 1; export namespace M { export const f = () => x } }\nnamespace N { export const y = N.M.f() }\nimport M = N.M;\nconsole.log(N.y, M.f())", "1 1\n"),
    "class and namespace": _case("class A { static x = 1 }\nnamespace A { export const y = 2 }\nconsole.log(A.x + A.y)", "3\n"),
    "parameter properties": _case("class A { constructor(protected readonly n: string, public m = 1) {} }\nclass B extends A { constructor(n: string, private z = 2) { super(n) } s() { return this.n + this.z + this.m } }\nconsole.log(new B('q').s())", "q21\n"),
    "import by require": _case("import fs = require('fs');\nconsole.log(typeof fs.readFileSync)", "function\n"),
    "import by require in a module": _case("import path from 'path';\nimport fs = require('fs');\nimport { deep } from './deep';\nconsole.log(path.sep, typeof fs.readFileSync, deep)", "/ function deep.ts\n", deep="import path = require('path');\nexport const deep: string = path.basename(__filename)"),
    "casts, abstract classes, satisfies": _case("abstract class S<T> { abstract a(): T; b(): T { return this.a() } }\nclass N extends S<number> { a() { return 1 } }\nconst o = { x: 1 } satisfies Record<string, number>;\nconsole.log(new N().b(), (<any>o).x)", "1 1\n"),
    "awaits at the top": _case("enum A { X = 'x' }\nconst fs = require('fs');\nconst v: string = await Promise.resolve(A.X);\nconsole.log(v, typeof fs.readFileSync)", "x function\n"),
    "names the right lines": _case(_A_TRACE, "main.ts:5:9\n"),
    "imports without endings": _case("import { Kind } from './kind';\nimport { deep } from './lib';\nimport { other } from './other.js';\nconsole.log(Kind.A, deep(), other, require('./kind').Kind.A)", "a a 4 a\n", **{"kind": "export enum Kind { A = 'a' }", "lib/index": "export * from './deep'", "lib/deep": "import { Kind } from '../kind';\nexport const deep = (): Kind => Kind.A", "other": "export const other: number = 4"}),
    "types are imported like values": _case("import Plan, { Shape, area } from './shapes';\nimport { Stats, statSync } from 'fs';\nimport { Request } from 'express';\nexport { Shape } from './shapes';\nlet q: Request, p: Plan, t: Stats;\nconst s: Shape = { r: 2 };\nconsole.log(area(s), typeof statSync)", "4 function\n", shapes="export interface Shape { r: number }\nexport default interface Plan { z: 1 }\nexport const area = (s: Shape) => s.r ** 2"),
    "barrels of types": _case("import { Shape, make } from './index';\nconst s: Shape = make();\nconsole.log(s.r)", "3\n", index="import { Other } from './shape';\nexport { Shape, make } from './shape';\nexport { Other }", shape="export interface Shape { r: number }\nexport type Other = 1;\nexport const make = (): Shape => ({ r: 3 })"),
    "imports in a text": _case("import { T, v } from './t';\nconst code = `\nimport { T, v } from './t';\nimport { Gone } from 'gone';\n`;\nlet t: T = v;\nconsole.log(code)", "\nimport { T, v } from './t';\nimport { Gone } from 'gone';\n\n", t="export type T = number;\nexport const v: T = 1"),
    "circles": _case("import { A } from './a';\nconsole.log(new A().b().constructor.name)", "B\n", a="import { B } from './b';\nexport class A { b() { return new B() } }", b="import { A } from './a';\nexport class B { a?: A }"),
    "worker threads": _case("import { Worker, isMainThread, parentPort } from 'worker_threads';\nenum E { A = 3 }\nif (isMainThread) new Worker(__filename).on('message', (m: number) => console.log(m));\nelse parentPort!.postMessage(E.A)", "3\n"),
    "a package.json says nothing": (Program("import { a } from './a';\nconsole.log(a as number)", files={"package.json": "{}", "a.ts": "export const a: number = 1"}), "1\n"),
    "a package.json says commonjs": (Program("import { a } from './a';\nconsole.log(a as number)", files={"package.json": '{"type": "commonjs"}', "a.ts": "export const a: number = 1"}), "1\n"),
    "Windows' line ends": _case("\ufeffenum A { X }\r\nconsole.log(A.X, `a\r\nb`.length)\r\n", "0 3\n"),
}  # fmt: skip

COMPILED: Cases = {
    "decorators of the standard": _case("function twice(f: any, c: ClassMethodDecoratorContext) { return function (this: any, n: number) { return [c.kind, f.call(this, n) * 2] } }\nclass A { @twice f(n: number) { return n } }\nconsole.log(new A().f(4))", "[ 'method', 8 ]\n"),
    "decorators of the standard, no types": _case("const bound = (f: any, ctx: any) => ctx.addInitializer(function (this: any) { this[ctx.name] = this[ctx.name].bind(this) });\nclass A { x = 1; @bound f() { return this.x } }\nconst { f } = new A();\nconsole.log(f())", "1\n"),
    "legacy decorators": _case("function Log(target: any, key: string, d: PropertyDescriptor) { const f = d.value; d.value = (...a: any[]) => key + f(...a) }\nconst Inject = (t: any, k: any, i: number) => console.log('parameter', i);\n@Named('x') class A { constructor(@Inject private n?: number) {} @Log f(n: number) { return n } }\nfunction Named(name: string) { return (c: any) => { c.tag = name } }\nconsole.log(new A().f(4), (A as any).tag)", "parameter 0\nf4 x\n"),
    "legacy property": _case("const min = (n: number) => (t: any, k: string) => { let v: number; Object.defineProperty(t, k, { get: () => v, set: (x) => { v = Math.max(x, n) } }) };\nclass A { @min(3) x: number; constructor(x: number) { this.x = x } }\nconsole.log(new A(1).x)", "3\n"),
    "legacy decorators from a file": _case("import { d } from './d';\nclass A { @d f() { return 'plain' } }\nconsole.log(new A().f())", "decorated\n", d="export function d(t: any, k: string, p: PropertyDescriptor) { p.value = () => 'decorated' }"),
    "accessor": _case("class A { accessor x = 1; static accessor y = 2 }\nconsole.log(new A().x, A.y)", "1 2\n"),
    "export assignment": _case("import F = require('./f');\nimport G from './f';\nconsole.log(new F(3).x, new G(4).x)", "3 4\n", f="import os from 'os';\nclass F { constructor(public x: number) {} }\nnamespace F { export const eol = os.EOL }\nexport = F"),
    "module as namespace": _case("module M { export const y = 2 }\nconsole.log(M.y)", "2\n"),
    "names the right lines": _case("const no = (f: any, c: any) => f;\n\nclass A {\n  @no f() {\n    return new Error('x') } }\nconsole.log(/main.ts:\\d+/.exec(new A().f().stack)![0])", "main.ts:5\n"),
}  # fmt: skip


def _js(code: str, printed: str, **files: str) -> tuple[Program, str]:
    """``files``: names without their ending, which is .js."""
    return Program(code, files={f"{name}.js": text for name, text in files.items()}), printed


MIXED: Cases = {
    "require and await": _js("const fs = require('fs');\nconst x = await Promise.resolve(typeof fs);\nconsole.log(x, require.main === module, __filename.endsWith('main.js'), this === module.exports)", "object true true true\n"),
    "require, await and a loose style": _js("#!/usr/bin/env node\nconst fs = require('fs');\nfor (i = 0; i < 2; i++) await i;\nconsole.log(i);\nreturn;", "2\n"),
    "require and import": _js("import os from 'os';\nimport { b } from './b.js';\nconst fs = require('fs');\nconsole.log(typeof os.cpus, typeof fs.readFileSync, b, require('./c'))", "function function 2 3\n", b="import 'fs';\nconst path = require('path');\nexport const b = path.basename(__dirname) && 2", c="module.exports = 3"),
    "import and module.exports": _js("import os from 'os';\nfunction main() { console.log('ran') }\nmodule.exports = { main };\nif (require.main === module) main()", "ran\n"),
    "export and __dirname": _js("export const a = __dirname.length > 1;\nconsole.log(a, __filename.endsWith('main.js'))", "true true\n"),
    "own require": _js("import { createRequire } from 'module';\nconst require = createRequire(import.meta.url);\nconst __dirname = 'mine';\nconsole.log(typeof require('fs'), __dirname)", "object mine\n"),
    "asks with typeof": _js("import os from 'os';\nconsole.log(typeof require, typeof module, typeof __dirname, 'require' in globalThis)", "undefined undefined undefined false\n"),
    "imports TypeScript": (Program("import { E } from './e.ts';\nconst { F } = require('./e.ts');\nconsole.log(E.A, F)", files={"e.ts": "export enum E { A = 7 }\nexport const F: number = 8"}), "7 8\n"),
    "a package.json says module": (Program("const fs = require('fs');\nconsole.log(typeof fs)", files={"package.json": '{"type": "module"}'}), "object\n"),
    "a package.json says nothing": (Program("import { a } from './a.js';\nconsole.log(a)", files={"package.json": "{}", "a.js": "export const a = 1"}), "1\n"),
    "byte order mark": _js("\ufeffconst fs = require('fs');\r\nawait 1;\r\nconsole.log(typeof fs);\r\n", "object\n"),
}  # fmt: skip

MUCH = 300_000
_LOG = f"console.log('x'.repeat({MUCH}));"

ENDINGS: dict[str, tuple[Program, int]] = {
    "exit": (Program(f"{_LOG} process.exit(3)"), 3),
    "exit at once in a started Node.js": (Program(f"{_LOG} process.exit(3)", env={"NODE_OPTIONS": "--no-warnings"}), 3),
    "exit code": (Program(f"process.exitCode = 4; {_LOG}"), 4),
    "exit in a listener": (Program(f"process.on('exit', () => {{ {_LOG} process.exit(5) }})"), 5),
    "exit in a module": (Program(f"import 'fs'; {_LOG} process.exit(6)"), 6),
    "exception": (Program(f"{_LOG} throw new Error('end')"), 1),
    "rejection": (Program(f"{_LOG} Promise.reject(new Error('end'))"), 1),
    "killed by itself": (Program(f"{_LOG} process.kill(process.pid, 'SIGKILL')"), -9),
    "aborted": (Program(f"{_LOG} process.abort()"), -6),
    "beside a child": (Program(f"require('child_process').spawnSync(process.execPath, ['-e', 'process.stdout.write(\"\")'], {{ stdio: 'inherit' }}); {_LOG} process.exit(7)"), 7),
    "by a child": (Program(f"process.stdout.write(''); require('child_process').execSync(`head -c {MUCH} /dev/zero | tr '\\\\0' x; echo`, {{ stdio: 'inherit' }})"), 0),
}  # fmt: skip
"""Each writes MUCH and a line's end, and then ends with that code."""

// Runs the script of the page /docs before a document without a browser, and prints what it shows, a node a line.
// Input: {"script": ..., "content": the OpenAPI document}. Output: a list of [tag, own text], in the page's order.
import { readFileSync } from "node:fs";

class Node {
  constructor(tag, text = "") { Object.assign(this, { tag, text, children: [] }); }
  set textContent(text) { this.text = text; }
  append(...children) { this.children.push(...children.map((child) => typeof child === "string" ? new Node("#text", child) : child)); }
  addEventListener() {}
  *[Symbol.iterator]() { yield [this.tag, this.text]; for (const child of this.children) yield* child; }
}

const { script, content } = JSON.parse(readFileSync(0, "utf-8"));
const body = { about: new Node("p"), operations: new Node("main"), token: new Node("input") };
globalThis.Option = class extends Node { constructor(text, value) { super("option", text); this.value = value; } };
globalThis.document = {
  createElement: (tag) => tag === "select" ? Object.assign(new Node(tag), { value: 0 }) : new Node(tag),
  getElementById: (id) => body[id],
  querySelector: () => ({}),
};
globalThis.fetch = async () => ({ json: async () => content });
(0, eval)(script);
setImmediate(() => console.log(JSON.stringify([...body.about, ...body.operations])));

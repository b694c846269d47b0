import { readFile } from "node:fs/promises";

const text = await readFile(new URL(import.meta.url), "utf8");
const counts = new Map();
for (const [word] of text.matchAll(/\b(import|const|for|console)\b/g)) {
  counts.set(word, (counts.get(word) ?? 0) + 1);
}
console.log(Object.fromEntries([...counts].sort()));

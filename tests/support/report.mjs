// A section of docs/benchmarks.md, as the run that made it saw it. Other sections stay as they are.
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const document = join(resolve(dirname(fileURLToPath(import.meta.url)), "../.."), "docs/benchmarks.md");

/** Puts a section in the place of the one of that title, or at the end. */
export async function writeSection(title, intro, lines) {
  const text = await readFile(document, "utf8");
  const begin = text.indexOf(`\n${title}\n`);
  const rest = begin < 0 ? "" : text.slice(begin + 1 + title.length);
  const end = rest.search(/\n## /u);
  const before = (begin < 0 ? text : text.slice(0, begin)).trimEnd();
  const after = end < 0 ? "" : `\n${rest.slice(end).trim()}\n`;
  await writeFile(document, `${before}\n\n${title}\n\n${intro.join("\n")}\n${lines.join("\n")}\n${after}`);
}

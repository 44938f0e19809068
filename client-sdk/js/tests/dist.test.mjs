// What is committed in dist is what the sources make.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

function contents(folder) {
  const names = readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

test("dist equals a fresh build (if not: npm run build)", () => {
  const fresh = mkdtempSync(join(tmpdir(), "herenow-dist-"));
  try {
    execFileSync(process.execPath, [join(root, "scripts/build.mjs"), fresh], { stdio: "pipe" });
    assert.deepEqual(contents(join(root, "dist")), contents(fresh));
  } finally {
    rmSync(fresh, { recursive: true });
  }
});

test("the bundle needs nothing else", () => {
  const bundle = readFileSync(join(root, "dist/herenow.js"), "utf8");
  assert.doesNotMatch(bundle, /^import |\brequire\(|\bimport\(/m);
});

test("the lock file names no registry", () => {
  assert.doesNotMatch(readFileSync(join(root, "package-lock.json"), "utf8"), /"resolved"/);
});

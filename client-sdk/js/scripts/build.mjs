// Builds the one file that pages and programs load, and its types, into the folder named on the command line.
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = resolve(root, process.argv[2] ?? "dist");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

await build({
  absWorkingDir: root,
  entryPoints: ["src/index.ts"],
  outfile: join(out, "herenow.js"),
  bundle: true,
  format: "esm",
  target: "es2022",
  platform: "neutral",
  charset: "utf8",
  legalComments: "none",
  banner: { js: "// @herenow/client. Built from client-sdk/js/src by `npm run build`; edit that." },
});

execFileSync(
  process.execPath,
  [join(root, "node_modules/typescript/bin/tsc"), "--emitDeclarationOnly", "--outDir", join(out, "types")],
  { cwd: root, stdio: "inherit" },
);
writeFileSync(join(out, "herenow.d.ts"), 'export * from "./types/index.js";\n');

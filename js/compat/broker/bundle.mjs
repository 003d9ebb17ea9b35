// Bundles a client as its users do: its packages are written for a bundler.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

/** The text of `name` with everything it imports. */
export async function bundle(name, platform = "browser") {
  const done = await build({
    entryPoints: [here(name)],
    bundle: true,
    write: false,
    format: platform === "node" ? "esm" : "iife",
    platform,
    define: { "process.env.NODE_ENV": '"production"' },
    loader: { ".jsx": "jsx" },
    logLevel: "error",
  });
  return done.outputFiles[0].text;
}

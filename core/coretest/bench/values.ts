import { type Context } from "picloud";

// Reads one of a thousand values (GET), or writes one (POST).
export default async function handle(ctx: Context) {
  const values = ctx.kv("bench"), key = String(Math.floor(Math.random() * 1000));
  if (ctx.request.method === "POST") {
    await values.set(key, { name: "Ada" });
    return { ok: true };
  }
  return await values.get(key) ?? {};
}

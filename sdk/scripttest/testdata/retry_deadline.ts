import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.retry(() => ctx.kv("c").get("k"), { backoffMs: 3600_000 });
}

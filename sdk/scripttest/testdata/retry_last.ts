import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.retry(async () => await ctx.kv("c").get("k"), { attempts: 2, backoffMs: 1 });
}

import { Fatal, type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.retry(async () => {
    await ctx.kv("c").get("k");
    throw new Fatal("never");
  });
}

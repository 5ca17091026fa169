import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  let attempts = 0;
  const value = await ctx.retry(() => {
    attempts++;
    return ctx.kv("c").get<number>("k");
  }, { attempts: 5, backoffMs: 1 });
  return [value, attempts];
}

import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const found = await ctx.call("price", { item: 7 });
  const none = await ctx.call("price", "text", { headers: { "X-A": ["1"] }, timeoutMs: 1500 });
  return [found.status, JSON.parse(found.body as string).cents, none.status];
}

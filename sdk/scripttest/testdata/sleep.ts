import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const before = Date.now();
  await ctx.sleep(20);
  return Date.now() - before >= 19;
}

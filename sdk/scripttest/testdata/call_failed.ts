import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.call("price", 1);
}

import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.invoke("bill", { order: 7 });
}

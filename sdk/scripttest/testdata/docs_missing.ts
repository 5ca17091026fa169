import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  await ctx.docs("orders").update("0190", { total: 1 });
}

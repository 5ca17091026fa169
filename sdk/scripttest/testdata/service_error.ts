import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  await ctx.invoke("nobody", null);
}

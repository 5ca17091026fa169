import { PicloudError, type Context } from "picloud";

export default async function handle(ctx: Context) {
  try {
    await ctx.invoke("nobody", null);
  } catch (e) {
    if (!(e instanceof PicloudError)) throw e;
    return [e.code === "overloaded", true, e.message, e.retryAfterMs];
  }
}

import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.invoke("bill", null, {
    delayMs: 1000, expiresInMs: 60_000, priority: -5, maxAttempts: 3, orderingKey: "a", concurrencyKey: "b",
    rateKey: "c", debounceKey: "d", idempotencyKey: "e",
  });
}

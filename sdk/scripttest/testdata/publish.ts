import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return [
    await ctx.pubsub.publish("user.created", { name: "Ada" }),
    await ctx.pubsub.publish("user.gone", null, { delayMs: 1500, priority: -3, idempotencyKey: "k" }),
    await ctx.pubsub.publish("user.gone", 1, {
      runAt: "2030-01-02T03:04:05Z", expiresInMs: 60_000, maxAttempts: 3, orderingKey: "a", concurrencyKey: "b", rateKey: "c",
      debounceKey: "d",
    }),
  ];
}

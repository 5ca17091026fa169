import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return [
    await ctx.pubsub.publish("user.created", { name: "Ada" }),
    await ctx.pubsub.publish("user.gone", null, { delayMs: 1500, priority: -3, idempotencyKey: "k" }),
  ];
}

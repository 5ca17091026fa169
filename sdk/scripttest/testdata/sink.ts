import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const billing = ctx.sink("billing");
  return [
    await billing.send("hello"),
    await billing.send({ order: 7 }, { type: "order.paid", delayMs: 1500, maxAttempts: 3, idempotencyKey: "k" }),
  ];
}

import type { Context } from "picloud";

// Puts a payment into the queue of the ledger: those of one customer are booked one after the other, and each of them once.
export default async function handle(ctx: Context) {
  const payment = ctx.request.json<{ id: string; customer: string }>();
  return await ctx.queue("ledger").send(payment, { orderingKey: payment.customer, idempotencyKey: payment.id });
}

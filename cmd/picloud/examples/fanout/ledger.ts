import type { Context } from "picloud";

interface Payment { id: string; customer: string; amount: number }

// Books a payment (from the queue), or says what a customer has paid (GET /ledger/{customer}).
export default async function handle(ctx: Context) {
  const balances = ctx.kv("balances"), booked = ctx.kv("booked");
  const customer = ctx.request.param("customer");
  if (customer !== "") return { customer, cents: await balances.get<number>(customer) ?? 0 };
  const payment = ctx.request.json<Payment>();
  if (await booked.has(payment.id)) return; // a message may come twice
  const sum = await balances.increment(payment.customer, { by: payment.amount });
  await booked.set(payment.id, true);
  ctx.log.info("booked", payment.id, sum);
}

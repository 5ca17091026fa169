import { Fatal, type Context } from "picloud";

/** What the payment service tells of a payment; the amount is in cents. */
interface Payment { type: string; id: string; customer: string; amount: number }

// Passes on what the payment service has sent, to whoever takes the topic. The platform has checked the signature.
export default async function handle(ctx: Context) {
  const payment = ctx.request.json<Payment>();
  if (!payment.id || !payment.customer) throw new Fatal("a payment has an id and a customer"); // it will not be better the next time
  const told = await ctx.pubsub.publish(payment.type, payment);
  ctx.log.info("passed on", payment.id, told);
}

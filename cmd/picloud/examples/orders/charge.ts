import { Fatal, type Context } from "picloud";

// Charges an order, once, however often it runs. What may pass is tried again: at once by retry, later by the queue.
export default async function handle(ctx: Context) {
  const { order: id } = ctx.request.json<{ order: string }>();
  const orders = ctx.kv("orders");
  const { value: order, version } = await orders.entry<Record<string, unknown>>(id);
  if (order === undefined) throw new Fatal(`there is no order ${id}`);
  if (order["state"] === "paid") return;
  const receipt = await ctx.retry(() => pay(ctx, id, order["cents"]), { attempts: 2, backoffMs: 50 });
  delete order["why"];
  await orders.set(id, { ...order, state: "paid", receipt }, { ifVersion: version });
}

// Asks the payment provider, which knows by the key what it has charged already.
async function pay(ctx: Context, id: string, cents: unknown) {
  const address = await ctx.secrets.get("PAYMENT_URL") ?? "";
  const answer = await ctx.http.post(address, { cents }, { headers: { "Idempotency-Key": id }, timeoutMs: 5000 });
  if (answer.status === 402) throw new Fatal("the payment is refused");
  if (answer.status !== 200) throw new Error(`the payment provider answers ${answer.status}`);
  return JSON.parse(String(answer.body)).receipt as string;
}

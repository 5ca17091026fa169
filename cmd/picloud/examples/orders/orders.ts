import { PicloudError, Response, type Context } from "picloud";

// What is known of an order; it is new, paid or failed, and why.
interface Order { customer: string; item: string; cents: number; state: string; receipt?: string; why?: string }

// Takes an order (PUT /orders/{id}), which may be sent again and again, and says how it stands (GET /orders/{id}).
export default async function handle(ctx: Context) {
  const id = ctx.request.param("id"), orders = ctx.kv("orders");
  if (ctx.request.method === "GET") {
    return await orders.get<Order>(id) ?? Response.json({ error: "there is no such order" }, { status: 404 });
  }
  const { customer, item, cents } = ctx.request.json<Partial<Order>>();
  if (!customer || !item || !(Number(cents) > 0)) {
    return Response.json({ error: "an order has a customer, an item and cents" }, { status: 400 });
  }
  try {
    await orders.set(id, { customer, item, cents, state: "new" }, { ifVersion: 0 });
  } catch (e) { // with a conflict the order is there, and perhaps not in the queue
    if (!(e instanceof PicloudError && e.code === "conflict")) throw e;
  }
  await ctx.queue("charges").send({ order: id }, {
    idempotencyKey: id, // one charge, however often the order is sent
    orderingKey: customer, // one after the other
  });
  return Response.json({ order: id }, { status: 202 });
}

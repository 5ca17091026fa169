import { type Context } from "picloud";

type Order = { total: number; item_count: number };

export default async function handle(ctx: Context) {
  const orders = ctx.docs("orders");
  const made = await orders.create<Order>({ total: 12, item_count: 1 });
  const doc = await orders.get<Order>(made.id);
  const changed = await orders.update<Order>(made.id, { total: 13, item_count: 2 }, { ifVersion: made.version });
  const deleted = await orders.delete(made.id);
  const gone = await orders.get(made.id);
  return [made.id, doc?.version, doc?.data.item_count, changed.version, changed.updatedAt, deleted, gone !== undefined];
}

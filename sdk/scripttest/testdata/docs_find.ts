import { type Context } from "picloud";

type Order = { total: number; item_count: number };

export default async function handle(ctx: Context) {
  const orders = ctx.docs("orders");
  await orders.index("total", "number");
  const filter = { status: "open", total: { $gte: 10 } };
  const page = await orders.find<Order>(filter, { sort: ["-total"], limit: 1 });
  const more = await orders.find(filter, { sort: ["-total"], limit: 1, cursor: page.nextCursor });
  const none = await orders.findOne({ status: "none" });
  return [page.items[0]?.id, page.items[0]?.data.item_count, more.items.length, none !== undefined];
}

import { type Context } from "picloud";

interface Order {
  customer: string;
  lines: { item: string; count: number; cents: number }[];
}

export default function handle(ctx: Context) {
  const orders = ctx.request.json<Order[]>();
  const totals = new Map<string, number>();
  for (const o of orders) {
    for (const l of o.lines) {
      totals.set(o.customer, (totals.get(o.customer) ?? 0) + l.count * l.cents);
    }
  }
  const best = [...totals].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([customer, cents]) => ({ customer, cents }));
  return { orders: orders.length, best };
}

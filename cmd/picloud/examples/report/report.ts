import { csv, time, type Context } from "picloud";

// Where the day begins and ends.
const zone = "Europe/Berlin";

// Adds up the sales of the day before, keeps the table, and sends it.
export default async function handle(ctx: Context) {
  const tick = ctx.request.json<{ scheduled_at: string }>();
  const layout = "2006-01-02";
  const to = time.parse(time.format(time.parse(tick.scheduled_at), { layout, zone }), { layout, zone });
  const day = time.format(new Date(to.getTime() - 1), { layout, zone });
  const from = time.parse(day, { layout, zone });
  const sold = await addUp(ctx, from, to);

  let total = 0;
  const rows = [["product", "sold", "for"]];
  for (const [product, { count, cents }] of [...sold].sort(([a], [b]) => (a < b ? -1 : 1))) {
    rows.push([product, String(count), money(cents)]);
    total += cents;
  }
  const table = csv.format([...rows, ["all", "", money(total)]]);
  await ctx.kv("reports").set(day, table);
  await ctx.email.send({
    to: await ctx.secrets.get("REPORT_TO"), subject: `Sales of ${day}`, text: `${money(total)} were sold on ${day}.\n`,
    attachments: [{ name: `sales-${day}.csv`, content_type: "text/csv", data: table }],
    idempotencyKey: `report-${day}`, // one message, however often this runs
  });
}

// Reads the sales of a time page by page: how many there were of each product, and for how much.
async function addUp(ctx: Context, from: Date, to: Date) {
  const sales = ctx.docs("sales"), sold = new Map<string, { count: number; cents: number }>();
  await sales.index("at", "time"); // there is nothing to do from the second time on
  for (let cursor: string | undefined; cursor !== "";) {
    const page = await sales.find<{ product: string; cents: number }>({ at: { $gte: from, $lt: to } }, { sort: ["at"], limit: 200, cursor });
    for (const { data: { product, cents } } of page.items) {
      const before = sold.get(product) ?? { count: 0, cents: 0 };
      sold.set(product, { count: before.count + 1, cents: before.cents + cents });
    }
    cursor = page.nextCursor;
  }
  return sold;
}

const money = (cents: number) => `${Math.trunc(cents / 100)}.${String(cents % 100).padStart(2, "0")}`;

import { Response, type Context } from "picloud";

// Notes a sale (POST /sales), and gives the report of a day (GET /reports/{day}) as CSV.
export default async function handle(ctx: Context) {
  const day = ctx.request.param("day");
  if (day !== "") {
    const table = await ctx.kv("reports").get<string>(day);
    if (table === undefined) return Response.json({ error: "there is no report of that day" }, { status: 404 });
    return new Response(table, { headers: { "Content-Type": "text/csv" } });
  }
  const { product, cents, at } = ctx.request.json<{ product?: string; cents?: number; at?: string }>();
  if (!product || !(Number(cents) > 0)) return Response.json({ error: "a sale has a product and cents" }, { status: 400 });
  const doc = await ctx.docs("sales").create({ product, cents, at: at === undefined ? new Date() : new Date(at) });
  return Response.json({ id: doc.id }, { status: 201 });
}

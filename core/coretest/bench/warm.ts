import type { Context } from "picloud";

interface Line {
  item: string;
  price: number;
}

// Does a part of what orders do, and takes long enough for two calls to run at one time.
export default async function handle(ctx: Context) {
  const { lines } = ctx.request.json<{ lines: Line[] }>();
  lines.sort((a, b) => b.price - a.price);
  await ctx.sleep(200);
  return lines;
}
